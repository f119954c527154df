"""However a run is stopped, gone on with it is the run undisturbed, bit for bit."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.records.run_folder import held, read_lines
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.programs import programs_of
from fedjax_sl.runs.restore import begin
from tests.commands import PERCEPTRON, refused


TINY = [
    *("fedsl", *PERCEPTRON, "--model.cut", "1", "--batch-size", "4"),
    *("--data.num-clients", "3", "--method.cohort-size", "2", "--method.interval", "3"),
    *("--method.prune-end", "2"),  # by itself it depends on the number of rounds
    # Far more than may be trained before all signals have come.
    *("--rounds", "120", "--eval-every", "2", "--data.test-examples", "50"),
    *("--checkpoint-seconds", "0"),
]
SMALL = [
    *("fedlpq", *PERCEPTRON, "--batch-size", "50", "--method.bits", "6"),
    *("--data.num-clients", "4", "--method.cohort-size", "3"),
    *("--eval-every", "1", "--data.train-examples", "300"),
    *("--data.test-examples", "100"),
]
CNN = [*SMALL, "--model.name", "fedlp-cnn", "--model.lowering", "xla"]


def of(folder):
    """The command's arguments."""
    return ["run", *TINY, "--folder", str(folder), "--resume"]


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "fedjax_sl.cli.main", *of(folder)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(jax.device_count())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def disturbed(folder, number, progress, delay):
    """Starts or goes on, and sends a signal a while after some more evaluations."""
    process, path = start(folder), folder / "metrics.jsonl"
    before = path.read_text().count("\n") if path.exists() else 0
    while process.poll() is None:
        here = path.read_text().count("\n") if path.exists() else 0
        if here >= before + progress:
            time.sleep(delay)
            process.send_signal(number)
            break
        time.sleep(0.01)
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def lines_of(folder):
    """The record, but for how long it took."""
    lines = read_lines(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k != "wall_seconds"} for line in lines]


def arrays_of(folder):
    """Every array of the last checkpoint."""
    with ocp.CheckpointManager(
        folder / "checkpoints", item_names=("state", "progress")
    ) as manager:
        items = ocp.args.Composite(state=ocp.args.StandardRestore())
        step = manager.latest_step()
        return step, manager.restore(step, args=items)["state"]


def assert_same_run(folder, other):
    assert lines_of(folder) == lines_of(other)
    rounds = [(f / "rounds.jsonl").read_bytes() for f in (folder, other)]
    assert rounds[0] == rounds[1]
    (step, arrays), (other_step, others) = arrays_of(folder), arrays_of(other)
    assert step == other_step and arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype
        np.testing.assert_array_equal(array, others[name], err_msg=name)


KILLS = int(os.environ.get("FEDJAX_SL_KILLS", "3"))


@pytest.mark.slow
def test_killed_and_gone_on_with_it_is_the_same_run(tmp_path, capsys):
    quiet, shaken = tmp_path / "quiet", tmp_path / "shaken"
    main(of(quiet))
    capsys.readouterr()
    chance = random.Random(0)
    for _ in range(KILLS):
        most = max(1, 12 // KILLS)
        code, said = disturbed(
            shaken, signal.SIGKILL, chance.randint(0, most), chance.uniform(0, 0.3)
        )
        assert code == -signal.SIGKILL, said
    for number in (signal.SIGTERM, signal.SIGINT):
        code, said = disturbed(shaken, number, 1, 0.0)
        assert code == 128 + number, said
        assert "stopping after these rounds" in said and "stopped after round" in said
        assert "Traceback" not in said
    main(of(shaken))
    said = capsys.readouterr().out
    assert "resuming after round" in said and "test accuracy" in said
    assert_same_run(shaken, quiet)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four rounds without a stop."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    main(["run", *SMALL, "--rounds", "4", "--folder", str(folder)])
    return folder


@pytest.fixture(scope="module")
def first_two(tmp_path_factory):
    """The first two of them."""
    folder = tmp_path_factory.mktemp("runs") / "half"
    main(["run", *SMALL, "--rounds", "2", "--folder", str(folder)])
    return folder


@pytest.fixture
def half(first_two, tmp_path):
    """A copy of them, to go on with or to damage."""
    return shutil.copytree(first_two, tmp_path / "half")


@pytest.mark.slow
def test_a_run_may_be_made_longer(whole, half, capsys):
    main(["run", "--resume", "--folder", str(half), "--rounds", "4"])
    assert "resuming after round 2" in capsys.readouterr().out
    assert_same_run(half, whole)
    assert json.loads((half / "config.json").read_text())["rounds"] == 4
    summary = json.loads((half / "summary.json").read_text())
    assert summary["final"] == read_lines(half / "metrics.jsonl")[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "rounds"), [(TINY, 8), (SMALL, 4)])
def test_residuals_go_on_with_their_clients(run, rounds, tmp_path):
    updates = ["--method.updates.kind", "top_k", "--method.updates.feedback", "error"]
    models = ["--method.models.kind", "qsgd", "--method.models.feedback", "error"]
    asked = ["run", *run, *updates, *models]
    whole, parts = tmp_path / "whole", tmp_path / "two"
    main([*asked, "--folder", str(whole), "--rounds", str(rounds)])
    main([*asked, "--folder", str(parts), "--rounds", str(rounds // 2)])
    arrays = arrays_of(parts)[1]
    for start in ("residual/", "model_residual/"):
        kept = [array for name, array in arrays.items() if name.startswith(start)]
        assert any(array.any() for array in kept)
    main(["run", "--resume", "--folder", str(parts), "--rounds", str(rounds)])
    assert_same_run(parts, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "rounds"), [(TINY, 8), (SMALL, 4)])
def test_levels_go_on_from_where_they_were(run, rounds, tmp_path):
    """At a learning rate of 0 the loss does not fall for long, so that they double."""
    updates = ["--method.updates.kind", "qsgd", "--method.learning-rate", "0"]
    levels = ["--method.levels.adapt", "both", "--method.levels.patience", "1"]
    weights = ["--method.levels.smoothing", "0.1", "--method.client-weight", "examples"]
    asked = ["run", *run, *updates, *levels, *weights]
    whole, parts = tmp_path / "whole", tmp_path / "two"
    main([*asked, "--folder", str(whole), "--rounds", str(rounds)])
    main([*asked, "--folder", str(parts), "--rounds", str(rounds // 2)])
    assert np.isfinite(arrays_of(parts)[1]["levels/losses"]).all()
    assert arrays_of(whole)[1]["levels/level"] > 1
    main(["run", "--resume", "--folder", str(parts), "--rounds", str(rounds)])
    assert_same_run(parts, whole)


@pytest.mark.slow
def test_clients_go_on_with_their_own_models(tmp_path):
    own = ["--method.client-update", "local", "--method.cohort-size", "3"]
    asked, whole, parts = ["run", *TINY, *own], tmp_path / "whole", tmp_path / "two"
    main([*asked, "--folder", str(whole), "--rounds", "8"])
    main([*asked, "--folder", str(parts), "--rounds", "4"])
    kernel = arrays_of(parts)[1]["client/params/stage_00/dense/kernel"]
    assert (kernel[0] != kernel[1]).any()
    main(["run", "--resume", "--folder", str(parts), "--rounds", "8"])
    assert_same_run(parts, whole)
    accuracy = read_lines(whole / "metrics.jsonl")[-1]["test_accuracy"]
    assert accuracy * 150 == pytest.approx(round(accuracy * 150), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("run", "rounds"), [(TINY, 8), (CNN, 2)])
def test_moments_go_on_from_where_they_were(run, rounds, tmp_path):
    """With the statistics of norms, too, which the second network has."""
    asked = ["run", *run, "--method.aggregator.kind", "yogi"]
    whole, parts = tmp_path / "whole", tmp_path / "two"
    main([*asked, "--folder", str(whole), "--rounds", str(rounds)])
    main([*asked, "--folder", str(parts), "--rounds", str(rounds // 2)])
    arrays = arrays_of(parts)[1]
    first = [array for name, array in arrays.items() if name.startswith("moments/fir")]
    assert any(array.any() for array in first)
    main(["run", "--resume", "--folder", str(parts), "--rounds", str(rounds)])
    assert_same_run(parts, whole)


@pytest.mark.slow
def test_what_is_on_record_and_not_kept_is_done_again(whole, half, capsys):
    """Lines that no checkpoint reaches are cut off, half-written ones too."""
    main(["run", "--resume", "--folder", str(half), "--rounds", "4"])
    shutil.rmtree(half / "checkpoints/4")
    with (half / "metrics.jsonl").open("a") as file:
        file.write('{"round": 5, "st')
    main(["run", "--resume", "--folder", str(half)])
    assert "resuming after round 2" in capsys.readouterr().out
    assert_same_run(half, whole)


@pytest.mark.slow
def test_a_checkpoint_ahead_of_the_record_is_not_used(whole, half, capsys):
    """As where the last lines were lost with the machine."""
    main(["run", "--resume", "--folder", str(half), "--rounds", "4"])
    lines = (half / "rounds.jsonl").read_text().splitlines(keepends=True)
    (half / "rounds.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    main(["run", "--resume", "--folder", str(half)])
    assert "resuming after round 2" in capsys.readouterr().out
    assert_same_run(half, whole)


@pytest.mark.slow
def test_a_run_stopped_before_its_first_evaluation_is_gone_on_with(
    whole, tmp_path, monkeypatch
):
    folder = tmp_path / "early"
    command = ["run", *SMALL, "--rounds", "4", "--folder", str(folder), "--resume"]

    def killed(*_):
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr("fedjax_sl.runs.run.segments", killed)
            main(command)
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["0"]
    main(command)
    assert_same_run(folder, whole)


def test_going_on_with_a_finished_run_changes_nothing(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    main(["run", "--resume", "--folder", str(copy)])
    assert_same_run(copy, whole)
    assert (copy / "summary.json").exists()


def test_another_run_is_not_gone_on_with(half, capsys):
    before = (half / "metrics.jsonl").read_bytes()
    resume = ["run", "--resume", "--folder", half]
    said = refused([*resume, "--method.bits", "8"], capsys)
    assert "method.bits=8: expected 6" in said
    assert "rounds=1: expected at least 2" in refused(
        [*resume, "--rounds", "1"], capsys
    )
    said = refused(["run", "fedsl", *resume[1:]], capsys)
    assert "is of a run of fedlpq" in said
    assert "expected --folder" in refused(["run", "--resume"], capsys)
    shutil.rmtree(half / "checkpoints")
    assert "expected a checkpoint" in refused(resume, capsys)
    assert (half / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("lost", ["metrics.jsonl", "rounds.jsonl"])
@pytest.mark.slow
def test_a_record_that_ends_before_every_checkpoint_is_begun_anew(
    whole, half, capsys, lost
):
    """As after a loss of power; what had not reached the disk may be zeros."""
    shutil.rmtree(half / "checkpoints/0", ignore_errors=True)
    (half / lost).write_bytes(bytes((half / lost).stat().st_size))
    with pytest.warns(match="starting again at round 0"):
        main(["run", "--resume", "--folder", str(half), "--rounds", "4"])
    assert "resuming after" not in capsys.readouterr().out
    assert_same_run(half, whole)


@pytest.mark.slow
def test_a_run_starts_from_the_models_of_another(whole, tmp_path, capsys):
    """With a learning rate of 0 its parameters stay what the other's came to."""
    warm = ["run", *SMALL, "--rounds", "1", "--init-from", str(whole)]
    still = ["--method.learning-rate", "0", "--method.bits", "32"]
    main([*warm, *still, "--folder", str(tmp_path / "warm")])
    found, source = arrays_of(tmp_path / "warm")[1], arrays_of(whole)[1]
    params = [name for name in source if name.startswith("variables/params")]
    assert params and found["round"] == 1
    for name in params:  # up to the rounding of a mean of equal values
        np.testing.assert_allclose(found[name], source[name], rtol=1e-6, atol=1e-7)
    other = ["--folder", tmp_path / "other", "--model.width", "0.1"]
    said = refused([*warm, *other], capsys)
    assert "init_from=" in said and "expected float32" in said
    assert not (tmp_path / "other").exists()
    split = ["run", "fedsl", *warm[-2:], "--folder", tmp_path / "other"]
    assert "of a run of fedlpq, not of fedsl" in refused(split, capsys)
    said = refused([*warm[:-1], tmp_path, "--folder", tmp_path / "other"], capsys)
    assert "expected a run with checkpoints" in said


@pytest.mark.slow
def test_private_heads_stay_with_their_run(tmp_path):
    """With another seed a client is of another complexity, and a head is of one."""
    one = tmp_path / "one"
    main(["run", *CNN, "--method.preference", "u", "--rounds", "1", f"--folder={one}"])
    config = from_json(one / "config.json")
    job = prepare(dataclasses.replace(config, seed=1, init_from=str(one)))
    programs = programs_of(job)
    first = jax.device_get(begin(job, programs, tmp_path, resume=False).state)
    fresh = jax.device_get(programs.initial())
    np.testing.assert_array_equal(first.head, fresh.head)
    source = arrays_of(one)[1]
    assert not np.array_equal(source["complexity"], fresh.complexity)
    name = "variables/params/block1/conv/kernel"
    found = first.variables["params"]["block1"]["conv"]["kernel"]
    np.testing.assert_array_equal(found, source[name])


@pytest.mark.slow
def test_a_run_starts_from_models_between_two_aggregations(tmp_path):
    """As they were evaluated: a step of length 0 leaves that as it is."""
    one, other = tmp_path / "one", tmp_path / "other"
    main(["run", *TINY, "--rounds", "4", "--folder", str(one)])
    still = ["--method.learning-rate", "0", "--init-from", str(one)]
    main(["run", *TINY, *still, "--rounds", "1", "--folder", str(other)])
    last, first = (read_lines(path / "metrics.jsonl")[-1] for path in (one, other))
    assert last["round"] == 4 and first["round"] == 1
    assert first["test_loss"] == pytest.approx(last["test_loss"], rel=1e-5)
    clients = {n: a for n, a in arrays_of(other)[1].items() if n.startswith("client/")}
    assert clients and all((a == a[:1]).all() for a in clients.values())


@pytest.mark.slow
def test_a_folder_that_another_process_writes_to_is_left_alone(half, capsys):
    """A lock ends with its process: killed, it leaves nothing in the way."""
    code = (
        "import sys, time; from pathlib import Path; "
        "from fedjax_sl.records.run_folder import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(half)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    before = {p: p.stat().st_mtime_ns for p in half.rglob("*")}
    longer = ["run", "--folder", half, "--rounds", "4"]
    for how in ("--resume", "--overwrite"):
        assert f"{half} is in use" in refused([*longer, how], capsys)
    assert {p: p.stat().st_mtime_ns for p in half.rglob("*")} == before
    process.kill()
    process.communicate()
    main(["run", "--resume", "--folder", str(half)])
    with held(half), pytest.raises(ValueError, match="is in use"), held(half):
        pass


def test_sums_of_another_version_are_not_gone_on_with(half, capsys):
    for path in half.glob("checkpoints/2/progress/metadata"):
        progress = json.loads(path.read_text())
        del progress["totals"]["left_out"]
        path.write_text(json.dumps(progress))
    before = (half / "metrics.jsonl").read_bytes()
    resume = ["run", "--resume", "--folder", half, "--rounds", "3"]
    assert "it is of another version" in refused(resume, capsys)
    assert (half / "metrics.jsonl").read_bytes() == before
