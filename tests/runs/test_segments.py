"""Where calls end, and where a run is stopped between them, changes nothing."""

import itertools
import random
import shutil
import signal

import jax
import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.runs import calls as train
from tests import dry
from tests.interruptions import heed_signals, send
from tests.records.test_opening import assert_same_record, lines_of


RUN = ["run", *dry.OPTIONS, "--rounds", "23", "--eval-every", "5"]


def ends_at(monkeypatch, rounds, stop_after=None):
    """Calls of so many rounds at a time; SIGTERM while the n-th of them runs."""
    calls = itertools.count(1)

    def advance(state, first, count):
        if next(calls) == stop_after:
            send(signal.SIGTERM)
        return dry.advance(state, first, count)

    heed_signals(monkeypatch)
    dry.use(monkeypatch, dry.PROGRAMS._replace(advance=advance))
    monkeypatch.setattr(train, "MOST_ROUNDS", rounds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        ends_at(patch, 100)
        main([*RUN, "--folder", str(folder)])
    assert [x["round"] for x in lines_of(folder)] == [5, 10, 15, 20, 23]
    return folder


@pytest.mark.slow
def test_lengths_of_calls_change_nothing(whole, tmp_path, monkeypatch):
    for rounds in (1, 2, 3, 7):
        ends_at(monkeypatch, rounds)
        main([*RUN, "--folder", str(tmp_path / str(rounds))])
        assert_same_record(tmp_path / str(rounds), whole)


@pytest.mark.slow
def test_it_stops_after_the_call_that_runs_and_goes_on(
    whole, tmp_path, monkeypatch, capsys
):
    """Between evaluations, too, with sums of floats that depend on their order."""
    folder, chance, seen = tmp_path / "run", random.Random(1), []
    command = [*RUN, "--folder", str(folder), "--resume"]
    command += ["--checkpoint-seconds", "1000"]
    for _ in range(100):
        ends_at(monkeypatch, chance.randint(1, 3), stop_after=chance.randint(1, 3))
        try:
            main(command)
        except SystemExit as stop:
            assert stop.code == 128 + signal.SIGTERM
            newest = max(int(p.name) for p in (folder / "checkpoints").iterdir())
            assert len(lines_of(folder, "rounds.jsonl")) == newest
            assert f"stopped after round {newest}" in capsys.readouterr().out
            seen.append(newest)
            continue
        break
    assert any(done % 5 for done in seen) and seen == sorted(set(seen))
    assert_same_record(folder, whole)


@pytest.mark.slow
def test_a_kill_at_any_call_costs_what_came_after_a_checkpoint(
    whole, tmp_path, monkeypatch
):
    """Those between evaluations are gone on from, whatever the record holds more."""
    full = tmp_path / "full"
    ends_at(monkeypatch, 2)
    main(
        [*RUN, "--folder", str(full), "--checkpoint-seconds", "0"]
        + ["--checkpoints", "50"]
    )
    kept = sorted(int(path.name) for path in (full / "checkpoints").iterdir())
    assert {1, 2, 3, 4, 5} & {n for n in kept if n % 5} and 23 in kept
    begun = []

    def advance(state, first, count):
        begun.append(first)
        return dry.advance(state, first, count)

    for done in kept[:-1]:
        folder = tmp_path / str(done)
        shutil.copytree(full, folder)
        for later in kept:
            if later > done:
                shutil.rmtree(folder / "checkpoints" / str(later))
        begun.clear()
        dry.use(monkeypatch, dry.PROGRAMS._replace(advance=advance))
        main([*RUN, "--folder", str(folder), "--resume"])
        assert begun[0] == done
        assert_same_record(folder, whole)


@pytest.mark.parametrize("seconds", [0.001, 1.0, 30.0, 4000.0])
def test_a_call_takes_about_a_second_or_a_round(monkeypatch, seconds):
    """By a clock that says that each round takes so long, compiling a minute more."""
    now, sizes = [0.0], []

    def advance(state, first, count):
        now[0] += seconds * count + 60 * (not sizes)
        sizes.append(count)
        return dry.advance(state, first, count)

    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    programs = dry.PROGRAMS._replace(advance=advance)
    for _ in train.calls(programs, dry.start(), 0, 1000, eval_every=500):
        pass
    assert sum(sizes) == 1000 and sizes[0] == 1
    longest = max(sizes)
    assert longest == 1 or longest * seconds <= 1.0
    assert longest >= min(100, 0.5 / seconds)


@pytest.mark.slow
def test_a_checkpoint_every_so_many_rounds_and_the_best_stay(tmp_path, monkeypatch):
    ends_at(monkeypatch, 100)
    folder = tmp_path / "run"
    command = [*RUN, "--folder", str(folder), "--keep-every", "4", "--keep-best"]
    main([*command, "--checkpoint-seconds", "1000"])
    lines = lines_of(folder)
    best = lines[int(np.argmax([line["test_accuracy"] for line in lines]))]["round"]
    kept = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    last = [20, 23]
    assert kept == sorted({4, 8, 12, 16, 20, best, *last})


def test_a_client_that_is_absent_does_not_hide_that_all_others_diverged(
    tmp_path, monkeypatch, capsys
):
    """Its loss of padding is 0. Of one that answers a finite loss is enough."""

    def advance(losses):
        def run(state, first, count):
            state, rounds = dry.advance(state, first, count)
            # The first client of the cohort sends nothing.
            links = jax.tree.map(lambda x: x * np.array([0, 1, 1]), rounds.links)
            loss = np.tile(np.float32(losses), (count, 1))
            return state, rounds._replace(links=links, loss=loss)

        dry.use(monkeypatch, dry.PROGRAMS._replace(advance=run))

    advance([0.0, np.nan, np.inf])
    with pytest.raises(SystemExit) as stop:
        main([*RUN, "--folder", str(tmp_path / "diverged")])
    client = dry.advance(dry.start(), 0, 1)[1].client_id[0, 1]
    assert stop.value.code == 3
    said = f"round 0, client {client} and all others: the loss is nan"
    assert said in capsys.readouterr().err.replace("\n", " ")
    advance([0.0, np.nan, 1.0])
    main([*RUN, "--folder", str(tmp_path / "goes-on")])
