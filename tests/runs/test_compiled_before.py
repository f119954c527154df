"""A run finds the programs of an earlier one, whatever its seed."""

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from fedjax_sl.cli.main import main
from tests.commands import PERCEPTRON


RUN = [
    *("run", "fedlpq", *PERCEPTRON, "--rounds", "2", "--eval-every", "1"),
    *("--data.num-clients", "4", "--method.cohort-size", "3", "--batch-size", "50"),
    *("--data.train-examples", "300", "--data.test-examples", "100"),
]


@pytest.fixture
def programs(tmp_path):
    """Files of the cache, of programs of any length of compilation."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    for name, value in zip(names, (str(tmp_path / "programs"), 0.0), strict=True):
        jax.config.update(name, value)
    jax.clear_caches(), reset_cache()
    yield lambda: {path.name for path in (tmp_path / "programs").glob("*-cache")}
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.mark.slow
def test_another_seed_compiles_nothing(programs, tmp_path):
    main([*RUN, "--folder", str(tmp_path / "first")])
    earlier = programs()
    assert any("some_rounds" in name for name in earlier)
    jax.clear_caches()
    main([*RUN, "--seed", "1", "--folder", str(tmp_path / "second")])
    assert programs() == earlier
