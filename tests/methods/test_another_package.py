"""A method of another package has all that the methods of this one have."""

import json
import shutil

import numpy as np
import pytest

from fedjax_sl import methods
from fedjax_sl.cli.main import main
from fedjax_sl.errors import InputError
from fedjax_sl.records.finished_run import read
from tests.commands import refused
from tests.methods.fedavgm import SPEC
from tests.packages import install


RUN = [
    *("fedavgm", "--data.num-clients", "5", "--data.train-examples", "200"),
    *("--data.test-examples", "60", "--eval-every", "2"),
]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a package that calls this object its method."""

    def installs(target):
        site = tmp_path / "site"
        install(site, methods.ENTRY_POINTS, {"fedavgm": target})
        monkeypatch.syspath_prepend(str(site))
        methods.installed.cache_clear()

    yield installs
    methods.installed.cache_clear()


@pytest.fixture
def fedavgm(installed):
    installed("tests.methods.fedavgm:SPEC")


def run(folder, *options, rounds=4):
    main(["run", *RUN, "--rounds", str(rounds), "--folder", str(folder), *options])
    return read(folder)


@pytest.mark.slow
@pytest.mark.usefixtures("fedavgm")
def test_it_is_run_resumed_compared_and_reported(tmp_path, capsys):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", rounds=2)
    parts = run(tmp_path / "parts", "--resume")
    for one, other in zip(whole.lines, parts.lines, strict=True):
        del one["wall_seconds"], other["wall_seconds"]
        assert one == other
    np.testing.assert_array_equal(whole.record.traffic, parts.record.traffic)
    sizes = whole.record.traffic.updates_up
    assert (sizes > 0).all() and (sizes == whole.record.traffic.model_down).all()
    # An epoch over 40 images by a layer from 32 x 32 pixels to 10 logits.
    np.testing.assert_array_equal(whole.record.client_macs, 40 * 32 * 32 * 10)
    main(["compare", str(tmp_path / "whole")])
    assert f"{whole.lines[-1]['test_accuracy']:.4f}" in capsys.readouterr().out
    main(["report", str(tmp_path / "whole")])
    assert "fedavgm" in (tmp_path / "whole" / "report.html").read_text()


@pytest.mark.usefixtures("fedavgm")
@pytest.mark.slow
def test_it_is_swept(tmp_path):
    # With the usual rate a last bit grows to a tenth in four rounds.
    slow = ["--method.learning-rate", "0.002"]
    sweep = ["sweep", *RUN, "--rounds", "4", "--folder", str(tmp_path / "sweep")]
    main([*sweep, *slow, "--grid", "method.server_momentum=0,0.9"])
    plain, heavy = (read(tmp_path / "sweep" / f"run-000{n}") for n in (0, 1))
    assert plain.lines[-1]["train_loss"] != heavy.lines[-1]["train_loss"]
    alone = run(tmp_path / "alone", *slow, "--method.server-momentum", "0")
    assert alone.record.client_id.tolist() == plain.record.client_id.tolist()
    np.testing.assert_allclose(
        alone.lines[-1]["train_loss"], plain.lines[-1]["train_loss"], rtol=1e-4
    )


@pytest.mark.usefixtures("fedavgm")
@pytest.mark.slow
def test_its_clients_fail_and_send_nonsense(tmp_path):
    faults = ["--failure-probability", "0.5", "--corruption-probability", "0.5"]
    found = run(tmp_path / "faults", *faults)
    sent = found.record.traffic.uplink > 0
    assert sent.any() and not sent.all()
    assert found.lines[-1]["left_out"] > 0
    assert np.isfinite(found.lines[-1]["test_loss"])


def test_it_may_not_take_the_name_of_another(installed):
    """Silently, runs of FedSL would become its runs."""
    installed("fedjax_sl.fedsl.spec:FEDSL")
    with pytest.raises(InputError, match="'cifar10-fedsl' is the name of another"):
        methods.methods()


@pytest.mark.slow
def test_a_method_is_resumed_whatever_its_presets_are_called(tmp_path, monkeypatch):
    """There is no preset of the method's own name here."""
    spec = SPEC._replace(presets={"momentum": SPEC.presets["fedavgm"]})
    monkeypatch.setattr(methods, "_registered", {"fedavgm": spec})
    options = [*RUN[1:], "--folder", str(tmp_path / "run")]
    main(["run", "momentum", "--rounds", "2", *options])
    main(["run", "--rounds", "4", *options, "--resume"])
    assert read(tmp_path / "run").lines[-1]["round"] == 4


@pytest.mark.usefixtures("fedavgm")
def test_it_is_in_the_help(capsys):
    for command in ([], ["run", "fedavgm"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "server momentum" in shown and "--method.server-momentum" in shown


@pytest.mark.usefixtures("fedavgm")
def test_its_folder_is_understood_only_where_it_is_installed(tmp_path, capsys):
    folder = tmp_path / "whole"
    run(folder, rounds=2)
    assert json.loads((folder / "config.json").read_text())["algorithm"] == "fedavgm"
    shutil.rmtree(tmp_path / "site")
    methods.installed.cache_clear()
    assert "algorithm='fedavgm': expected one of" in refused(
        ["compare", folder], capsys
    )


@pytest.mark.slow
@pytest.mark.usefixtures("fedavgm")
def test_what_it_does_not_have_is_said(tmp_path, capsys):
    late = ["--channel.deadline-s", "1", "--drop-late", "--folder", tmp_path / "x"]
    assert "drop_stragglers=True: fedavgm" in refused(["run", *RUN, *late], capsys)
    run(tmp_path / "whole", rounds=2)
    said = refused(["bound", "--folder", tmp_path / "whole"], capsys)
    assert "a run of fedavgm: expected a method that has a convergence bound" in said


@pytest.mark.parametrize("target", ["no_such_module:SPEC", "json:dumps"])
def test_one_that_cannot_be_loaded_is_named(installed, target, capsys):
    installed(target)
    said = refused(["run", "fedavgm"], capsys)
    assert "method 'fedavgm'" in said and target in said


def test_a_program_registers_one(monkeypatch):
    monkeypatch.setattr(methods, "_registered", {})
    assert "fedavgm" not in methods.methods()
    methods.register(SPEC)
    assert methods.spec_of(SPEC.presets["fedavgm"].run) is SPEC
    other = SPEC._replace(build=print)
    with pytest.raises(InputError, match="method 'fedavgm': expected a name"):
        methods.register(other)
    taken = {"fedsl": SPEC.presets["fedavgm"]}
    monkeypatch.setattr(methods, "_registered", {})
    with pytest.raises(InputError, match="preset 'fedsl': expected a name"):
        methods.register(SPEC._replace(presets=taken))
