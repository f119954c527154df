"""A sweep in parts is the sweep, however its parts come and go."""

import dataclasses
import json
import random
import signal
from contextlib import suppress

import pyarrow.parquet as pq
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.methods import presets
from fedjax_sl.records import opening
from fedjax_sl.records.sweep_folder import SweepFolder
from fedjax_sl.runs import sweep
from fedjax_sl.runs.parts import Part, runs_of, spans
from fedjax_sl.runs.sweep import alike_by_configuration
from tests import dry
from tests.commands import refused
from tests.interruptions import Killed, full_disk, killed, send
from tests.runs.test_sweep_resume import SWEEP, calls_of, undisturbed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return undisturbed(tmp_path_factory)


def part(number, of, folder):
    main([*SWEEP, "--folder", str(folder), "--part", f"{number}/{of}"])


def merge(folder):
    main([*SWEEP, "--folder", str(folder), "--merge"])


def assert_merged(folder, whole):
    """Every file of every run, the table and what describes the sweep."""

    def files(base):
        found = [p for p in base.rglob("*") if p.is_file() and p.parent != base]
        return {str(path.relative_to(base)): path.read_bytes() for path in found}

    assert files(folder) == files(whole) and len(list(folder.glob("run-*"))) == 6
    for name in ("sweep.json", "data.json"):
        here, there = (json.loads((f / name).read_text()) for f in (folder, whole))
        assert here == there
    table, other = (pq.read_table(f / "sweep.parquet") for f in (folder, whole))
    assert table.equals(other)
    assert not (folder / "unfinished").exists()


def configurations():
    """Fourteen runs of four structures, which come in turn."""
    small = {"name": "mlp", "width": 0.05}
    usual, averaged = (presets()[name][1].run for name in ("fedsl", "fedavg"))
    split = dataclasses.replace(usual.model, **small, cut=1)
    usual = dataclasses.replace(usual, model=split)
    whole = dataclasses.replace(averaged.model, **small)
    kinds = [
        usual,
        dataclasses.replace(usual, batch_size=8),
        dataclasses.replace(
            usual, method=dataclasses.replace(usual.method, cohort_size=5)
        ),
        dataclasses.replace(averaged, model=whole),
    ]
    return [dataclasses.replace(kinds[n % 4], seed=n) for n in range(14)]


@pytest.mark.parametrize("of", [1, 2, 3, 4, 5, 13, 14, 16])
def test_parts_are_the_whole_and_disjoint_and_share_few_structures(of):
    configs = configurations()
    parts = [runs_of(Part(number, of), configs) for number in range(1, of + 1)]
    assert sorted(run for runs in parts for run in runs) == list(range(14))
    sizes = {len(runs) for runs in parts}
    assert max(sizes) - min(sizes) <= 1
    kinds = alike_by_configuration(configs)
    assert sorted(map(len, kinds)) == [3, 3, 4, 4]
    # Each cut through the runs in a row adds a structure to those that are compiled.
    compiled = sum(not set(runs).isdisjoint(kind) for runs in parts for kind in kinds)
    assert compiled <= len(kinds) + of - 1


def test_grouped_as_the_programs_are(monkeypatch):
    """By configuration alone, and by the arguments of the programs."""
    monkeypatch.setattr(sweep, "programs_of_points", lambda *_, **__: None)
    configs = configurations()
    made = sweep.alike(sweep.jobs_of(dict(enumerate(configs))), at_a_time=1)
    assert [list(here.jobs) for here in made] == alike_by_configuration(configs)


@pytest.mark.parametrize(
    "text", ["0/16", "17/16", "a/b", "3", "3/", "/3", "-1/3", "1/0", "1/3/5", "1.5/3"]
)
def test_what_is_no_part(tmp_path, capsys, text):
    said = refused([*SWEEP, "--folder", tmp_path / "new", f"--part={text}"], capsys)
    assert f"part='{text}': expected K/N with K from 1 to N" in said
    assert not (tmp_path / "new").exists()


def test_parts_need_one_folder_and_no_merge(tmp_path, capsys):
    assert "--part: expected --folder" in refused([*SWEEP, "--part", "1/2"], capsys)
    assert "--merge: expected --folder" in refused([*SWEEP, "--merge"], capsys)
    both = [*SWEEP, "--folder", tmp_path / "new", "--merge", "--part", "1/2"]
    assert "--merge: expected no --part" in refused(both, capsys)


@pytest.mark.slow
def test_they_are_merged_once_all_are_finished(whole, tmp_path, monkeypatch, capsys):
    dry.use(monkeypatch)
    folder = tmp_path / "sweep"
    merging = [*SWEEP, "--folder", folder, "--merge"]
    said = refused(merging, capsys)
    assert "0 of 6 runs are finished; missing: run-0000 to run-0005." in said
    assert not folder.exists()
    for number in (3, 1):
        part(number, 3, folder)
    out = capsys.readouterr().out
    assert "part 1/3 is finished; 4 of 6 runs are in" in out
    said = refused(merging, capsys)
    assert "4 of 6 runs are finished; missing: run-0002 to run-0003." in said
    assert not (folder / "sweep.parquet").exists()
    part(2, 3, folder)
    merge(folder)
    assert f"{folder}/sweep.parquet" in capsys.readouterr().out
    assert_merged(folder, whole)


@pytest.mark.slow
def test_more_parts_than_runs(whole, tmp_path, monkeypatch, capsys):
    dry.use(monkeypatch)
    for number in range(1, 10):
        part(number, 9, tmp_path / "sweep")
    merge(tmp_path / "sweep")
    assert_merged(tmp_path / "sweep", whole)


@pytest.mark.slow
def test_without_a_part_the_rest_is_trained(whole, tmp_path, monkeypatch):
    dry.use(monkeypatch)
    part(2, 4, tmp_path / "sweep")
    main([*SWEEP, "--folder", str(tmp_path / "sweep")])
    assert_merged(tmp_path / "sweep", whole)


@pytest.mark.slow
def test_two_at_the_same_time(whole, tmp_path, monkeypatch, capsys):
    """While one trains others are trained, but neither the same nor the whole."""
    folder, seen = tmp_path / "sweep", []

    def meanwhile(first):
        if seen:
            return
        seen.append(first)
        command = [*SWEEP, "--folder", folder]
        for of_all in ([], ["--merge"]):
            assert f"{folder} is in use" in refused([*command, *of_all], capsys)
        # The same part, and a part of another division that has a run of it.
        for same in ("1/2", "1/3"):
            said = refused([*command, "--part", same], capsys)
            assert "run-0000 is in use: expected no other process" in said
        part(2, 2, folder)

    calls_of(monkeypatch, meanwhile)
    part(1, 2, folder)
    assert seen
    merge(folder)
    assert_merged(folder, whole)


@pytest.mark.slow
def test_what_another_division_has_finished_is_not_trained_again(
    whole, tmp_path, monkeypatch
):
    folder, begun = tmp_path / "sweep", []

    def meanwhile(first):
        begun.append(first)
        if len(begun) == 1:
            part(2, 3, folder)

    calls_of(monkeypatch, meanwhile)
    part(1, 1, folder)
    # Each pair once: the other's was the second of three.
    assert begun.count(0) == 3
    merge(folder)
    assert_merged(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("last", [2, 7, 10])
def test_a_part_is_stopped_and_goes_on(whole, tmp_path, monkeypatch, capsys, last):
    folder, rounds = tmp_path / "sweep", []

    def stop(first):
        rounds.append(first)
        if len(rounds) == last:
            send(signal.SIGTERM)

    calls_of(monkeypatch, stop)
    with pytest.raises(SystemExit) as end:
        part(1, 2, folder)
    assert end.value.code == 143
    said = capsys.readouterr().out
    assert f"resume it with --folder {folder} --part 1/2" in said
    part(2, 2, folder)
    part(1, 2, folder)
    merge(folder)
    assert_merged(folder, whole)


@pytest.mark.slow
def test_a_part_is_killed_and_goes_on(whole, tmp_path, monkeypatch):
    """At any step on the folder, while the other part is there or not."""
    calls_of(monkeypatch, lambda first: None)
    monkeypatch.setitem(globals(), "SWEEP", [*SWEEP, "--checkpoint-seconds", "0"])
    chance = random.Random(0)
    for number in range(4):
        folder = tmp_path / str(number)
        if number % 2:
            part(2, 2, folder)
        with suppress(Killed), killed(folder, chance.randint(1, 400)):
            part(1, 2, folder)
        if number % 2 == 0:
            part(2, 2, folder)
        part(1, 2, folder)
        merge(folder)
        assert_merged(folder, whole)


@pytest.mark.slow
def test_a_full_disk_in_a_part(whole, tmp_path, monkeypatch, capsys):
    calls_of(monkeypatch, lambda first: None)
    folder = tmp_path / "sweep"
    for last in (0, 1, 2, 3, 5, 9, 20, 60):
        with full_disk(folder, last), pytest.raises(SystemExit) as stop:
            part(1, 2, folder)
        assert stop.value.code == 74
        said = capsys.readouterr().err
        assert str(folder) in said and said.count("\n") == 1
    for number in (1, 2):
        part(number, 2, folder)
    merge(folder)
    assert_merged(folder, whole)


def test_a_part_that_begins_while_another_describes_the_sweep(tmp_path, monkeypatch):
    """It may find a folder without sweep.json that has one a moment later."""
    folder = SweepFolder(tmp_path / "sweep", configurations())
    again = SweepFolder(folder.path, configurations())
    usual = opening.check

    def late(path, **options):
        monkeypatch.setattr(opening, "check", usual)
        with folder.open(shared=True):
            pass
        usual(path, **options)

    folder.path.mkdir()
    monkeypatch.setattr(opening, "check", late)
    again.check()
    with folder.open(shared=True), again.open(shared=True):
        again.check()


def test_runs_are_listed_in_spans():
    assert spans([3]) == "run-0003"
    assert spans([0, 1, 2, 5, 7, 8]) == (
        "run-0000 to run-0002, run-0005, run-0007 to run-0008"
    )
