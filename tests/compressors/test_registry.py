"""A compressor of another package has what those of this one have."""

import dataclasses

import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.compressors import ENTRY_POINTS, Compressor, _installed, sign
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.serialization import from_json, to_json
from fedjax_sl.fedsl.run_config import FedSLRun
from tests.commands import refused
from tests.packages import install


def both(*, bits: int) -> Compressor:
    """Signs, whatever the bits; that it takes them makes them an option of its own."""
    return sign()


@pytest.fixture
def installs(tmp_path, monkeypatch):
    def installs(**points):
        install(tmp_path / "site", ENTRY_POINTS, points)
        _installed.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield installs
    _installed.cache_clear()


def with_updates(**options):
    run = FedSLRun()
    updates = CompressorConfig(**options)
    return dataclasses.replace(
        run, method=dataclasses.replace(run.method, updates=updates)
    )


def test_another_package_registers_its_own(installs, tmp_path, capsys):
    installs(both=f"{__name__}:both")
    config = with_updates(kind="both", bits=4)
    assert config.method.updates.compressor().wire is not None
    assert "bits" not in config.method.updates.idle
    path = tmp_path / "config.json"
    path.write_text(to_json(config))
    assert from_json(path) == config
    main(["list"])
    assert "both" in capsys.readouterr().out
    # Its runs are understood where it is installed.
    installs()
    with pytest.raises(ValueError, match="kind='both': expected one of"):
        from_json(path)


def test_its_name_is_its_own(installs, capsys):
    installs(sign=f"{__name__}:both")
    assert "compressor 'sign': expected a name of its own" in refused(["list"], capsys)
    installs(both="no_such_module:both")
    said = refused(["run", "fedsl"], capsys)
    assert "compressor 'both' of no_such_module:both: cannot be loaded" in said
