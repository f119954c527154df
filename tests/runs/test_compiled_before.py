"""A run finds the programs of an earlier one, whatever its numbers."""

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from fedjax_sl.cli.main import main
from tests.commands import PERCEPTRON


RUN = [
    *(*PERCEPTRON, "--rounds", "6", "--eval-every", "6"),
    *("--data.num-clients", "4", "--method.cohort-size", "3", "--batch-size", "50"),
    *("--data.train-examples", "300", "--data.test-examples", "100"),
]

METHODS = {"fedlpq": ["fedlpq"], "fedsl": ["fedsl", "--model.cut", "1"]}

OTHER = {
    "fedlpq": [
        *("--seed", "1", "--rounds", "7", "--method.learning-rate", "0.02"),
        *("--method.bits", "7", "--method.keep-probability", "0.6"),
    ],
    "fedsl": [
        *("--seed", "1", "--rounds", "9", "--method.learning-rate", "0.02"),
        *("--method.bits", "7", "--method.prune-ratio", "0.2"),
        *("--method.interval", "3", "--method.dropout-rate", "0.4"),
    ],
}
"""Numbers that differ, all at once."""


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
@pytest.mark.parametrize("method", OTHER)
def test_other_numbers_compile_nothing(method, programs, tmp_path):
    main(["run", *METHODS[method], *RUN, "--folder", str(tmp_path / "first")])
    earlier = programs()
    assert any("some_rounds" in name for name in earlier)
    jax.clear_caches()
    command = ["run", *METHODS[method], *RUN, *OTHER[method]]
    main([*command, "--folder", str(tmp_path / "second")])
    assert programs() == earlier


@pytest.mark.slow
def test_what_is_off_is_another_program(programs, tmp_path):
    main(["run", *METHODS["fedsl"], *RUN, "--folder", str(tmp_path / "first")])
    earlier = programs()
    jax.clear_caches()
    command = ["run", *METHODS["fedsl"], *RUN, "--method.prune-ratio", "0"]
    main([*command, "--folder", str(tmp_path / "second")])
    assert any("some_rounds" in name for name in programs() - earlier)
