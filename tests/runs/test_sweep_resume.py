"""However a sweep is stopped, gone on with it is the sweep undisturbed, bit for bit."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import jax
import pyarrow.parquet as pq
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.runs import calls as train
from fedjax_sl.runs import sweep
from tests import dry
from tests.commands import PERCEPTRON, refused
from tests.interruptions import Killed, full_disk, heed_signals, killed, send


SWEEP = [
    *("sweep", *dry.OPTIONS, "--rounds", "10", "--eval-every", "5"),
    *("--grid", "method.bits=6,32", "--seeds", "3", "--at-a-time", "2"),
]


def calls_of(monkeypatch, before):
    """Sweeps whose programs do something before each call of two rounds at the most."""

    def side_by_side(*structure, **rest):
        make = dry.side_by_side(*structure, **rest)

        def programs(jobs):
            usual = make(jobs)

            def advance(state, first, count):
                before(first)
                return usual.advance(state, first, count)

            return usual._replace(advance=advance)

        return programs

    dry.use(monkeypatch)
    heed_signals(monkeypatch)
    monkeypatch.setattr(sweep, "programs_of_points", side_by_side)
    monkeypatch.setattr(train, "MOST_ROUNDS", 2)


def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        dry.use(patch)
        main([*SWEEP, "--folder", str(folder)])
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


def assert_same(folder, whole):
    def files(base):
        found = [p for p in base.rglob("*") if p.is_file() and p.suffix != ".parquet"]
        return {str(path.relative_to(base)): path.read_bytes() for path in found}

    assert files(folder) == files(whole)
    table, other = (pq.read_table(f / "sweep.parquet") for f in (folder, whole))
    assert table.equals(other)
    assert len(list(folder.glob("run-*"))) == 6
    assert not (folder / "unfinished").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_it_stops_after_the_call_that_runs_and_goes_on(
    whole, tmp_path, monkeypatch, capsys, number
):
    folder, chance, rounds = tmp_path / "sweep", random.Random(number), []
    command = [*SWEEP, "--folder", str(folder), "--checkpoint-seconds", "1000"]
    for _ in range(100):
        calls, last = itertools.count(1), chance.randint(2, 9)

        def before(first, calls=calls, last=last):
            rounds.append(first)
            if next(calls) == last:
                send(number)

        calls_of(monkeypatch, before)
        try:
            main(command)
        except SystemExit as stop:
            assert stop.code == 128 + number
            assert f"resume it with --folder {folder}" in capsys.readouterr().out
            continue
        break
    assert_same(folder, whole)
    undisturbed = 3 * 10 / 2
    assert undisturbed <= len(rounds) <= undisturbed + 2 * 10  # calls begin small


@pytest.mark.slow
def test_a_kill_costs_what_came_after_the_last_checkpoints(
    whole, tmp_path, monkeypatch
):
    """At any step on the folder: runs at different rounds go on from a common one."""
    begun = []
    calls_of(monkeypatch, begun.append)
    command = [*SWEEP, "--checkpoint-seconds", "0", "--folder"]
    chance, last = random.Random(0), 0
    for number in range(6):
        folder = tmp_path / str(number)
        last = chance.randint(1, 900)
        with suppress(Killed), killed(folder, last):
            main([*command, str(folder)])
        main([*command, str(folder)])
        assert_same(folder, whole)


@pytest.mark.slow
def test_a_full_disk_in_a_sweep(whole, tmp_path, monkeypatch, capsys):
    calls_of(monkeypatch, lambda first: None)
    folder = tmp_path / "sweep"
    command = [*SWEEP, "--checkpoint-seconds", "0", "--folder", str(folder)]
    for last in (0, 1, 2, 5, 20, 60, 150):
        with full_disk(folder, last), pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 74
        said = capsys.readouterr().err
        assert str(folder) in said and said.count("\n") == 1
    main(command)
    assert_same(folder, whole)


@pytest.mark.slow
def test_more_at_a_time_than_before_loses_nothing(whole, tmp_path, monkeypatch):
    def stop(first):
        if first >= 6:
            send(signal.SIGTERM)

    calls_of(monkeypatch, stop)
    folder, begun = tmp_path / "sweep", []
    with pytest.raises(SystemExit):
        main([*SWEEP, "--folder", str(folder)])
    calls_of(monkeypatch, begun.append)
    main([*SWEEP, "--folder", str(folder), "--at-a-time", "6"])
    assert begun[0] > 6 and begun.count(0) == 1  # the fresh ones together
    assert_same(folder, whole)


def test_what_an_unfinished_sweep_holds_is_not_compared(tmp_path, monkeypatch, capsys):
    def stop(first):
        send(signal.SIGTERM)

    calls_of(monkeypatch, stop)
    folder = tmp_path / "sweep"
    with pytest.raises(SystemExit):
        main([*SWEEP, "--folder", str(folder)])
    assert (folder / "unfinished/run-0001/rounds.jsonl").exists()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["compare", str(folder)])
    assert "no run of this sweep has finished yet" in capsys.readouterr().err


def test_one_begun_before_a_field_was_there_goes_on(
    whole, tmp_path, monkeypatch, capsys
):
    """The field had its default, and must not be given another value now."""
    dry.use(monkeypatch)
    folder = tmp_path / "sweep"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "run-0005")
    described = json.loads((folder / "sweep.json").read_text())
    for point in described:
        del point["failure_probability"]
    (folder / "sweep.json").write_text(json.dumps(described))
    other = ["--failure-probability", "0.1"]
    assert "holds another sweep" in refused(
        [*SWEEP, *other, "--folder", folder], capsys
    )
    main([*SWEEP, "--folder", str(folder)])
    assert_same(folder, whole)


REAL = [
    *("fedsl", *PERCEPTRON, "--model.cut", "1", "--batch-size", "4"),
    *("--data.num-clients", "3", "--method.cohort-size", "2", "--method.interval", "3"),
    # Far more than may be trained before both signals have come.
    *("--rounds", "240", "--eval-every", "12", "--data.test-examples", "50"),
    *("--seeds", "2", "--at-a-time", "2", "--checkpoint-seconds", "0"),
]


@pytest.mark.slow
def test_a_real_one_that_is_stopped_and_killed(tmp_path):
    quiet, shaken = tmp_path / "quiet", tmp_path / "shaken"
    main(["sweep", *REAL, "--folder", str(quiet)])
    command = ["sweep", *REAL, "--folder", str(shaken)]

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "fedjax_sl.cli.main", *command],
            env=os.environ | {"JAX_NUM_CPU_DEVICES": str(jax.device_count())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    rounds = shaken / "unfinished/run-0000/rounds.jsonl"
    for number in (signal.SIGTERM, signal.SIGKILL):
        process, before = start(), rounds.exists() and rounds.stat().st_size
        while process.poll() is None:
            if rounds.exists() and rounds.stat().st_size > before:
                process.send_signal(number)
                break
            time.sleep(0.01)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == (143 if number == 15 else -number), said
        assert "Traceback" not in said
    main(command)
    for name in ("run-0000", "run-0001"):
        for file in ("metrics.jsonl", "rounds.jsonl"):
            here, there = (folder / name / file for folder in (shaken, quiet))
            assert here.read_bytes() == there.read_bytes()
