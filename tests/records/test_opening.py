"""However the start of a run ends, the same command works, and nothing else is lost."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from functools import partial

import pytest

from fedjax_sl.cli.exit_codes import DISK
from fedjax_sl.cli.main import main
from fedjax_sl.records import disk, opening
from fedjax_sl.records.run_folder import held, read_lines
from tests import dry
from tests.commands import refused
from tests.hanging import in_good_time  # noqa: F401
from tests.interruptions import Killed, full_disk, killed


RUN = ["run", *dry.OPTIONS, "--rounds", "3", "--eval-every", "2"]
RECORD = ("config.json", "metrics.jsonl", "rounds.jsonl", "summary.json")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without training."""
    dry.use(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        dry.use(patch)
        main([*RUN, "--folder", str(folder)])
    return folder


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Another run, finished, and somebody's notes beside it."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    with pytest.MonkeyPatch.context() as patch:
        dry.use(patch)
        main([*RUN, "--rounds", "1", "--seed", "7", "--folder", str(folder)])
    (folder / "notes.txt").write_text("it works")
    return folder


def lines_of(folder, name="metrics.jsonl"):
    lines = read_lines(folder / name)
    return [{k: v for k, v in line.items() if k != "wall_seconds"} for line in lines]


def assert_same_record(folder, whole):
    for name in ("metrics.jsonl", "rounds.jsonl"):
        assert lines_of(folder, name) == lines_of(whole, name)


def assert_same(folder, whole):
    assert_same_record(folder, whole)
    assert (folder / "checkpoints/3").is_dir() and (folder / "summary.json").exists()
    assert not (folder / ".replaced").exists()


def copied(folder, copy):
    """Copies a folder; threads end with a killed process, but here they go on."""
    for _ in range(100):
        try:
            shutil.copytree(folder, copy)
            return
        except shutil.Error:
            shutil.rmtree(copy)
            time.sleep(0.1)
    shutil.copytree(folder, copy)


def test_an_earlier_result_goes_after_the_new_one_is_on_the_disk(
    earlier, tmp_path, monkeypatch
):
    """No checkpoint is due at the first evaluation, which flushes lines itself."""
    copied(earlier, tmp_path / "run")
    sync, release, flushed, seen = disk.sync, opening.release, [], []

    def noted(path):
        flushed.append(path.name)
        sync(path)

    def released(folder):
        seen.append([name for name in flushed if name.endswith(".jsonl")])
        release(folder)

    monkeypatch.setattr(disk, "sync", noted)
    monkeypatch.setattr(opening, "release", released)
    main([*RUN, "--overwrite", "--folder", str(tmp_path / "run")])
    assert {"metrics.jsonl", "rounds.jsonl"} <= set(seen[0])


def assert_goes_on(folder, whole, tmp_path, hows=("--resume", "--overwrite")):
    """The same command with each of these options gives the whole run."""
    for how in hows:
        copy = tmp_path / f"copy{how}"
        if folder.exists():
            copied(folder, copy)
        main([*RUN, "--folder", str(copy), how])
        assert_same(copy, whole)
        shutil.rmtree(copy)


def shows(folder, earlier):
    """Whether there is a new run that has come to an evaluation."""
    metrics = folder / "metrics.jsonl"
    old = (earlier / "metrics.jsonl").read_text()
    text = metrics.read_text() if metrics.exists() else ""
    return "\n" in text and text != old and (folder / "config.json").exists()


def assert_kept(folder, earlier):
    """All of the earlier run is there, in its place or aside."""
    assert (folder / "notes.txt").read_text() == "it works"
    if shows(folder, earlier):
        return
    for path in earlier.rglob("*"):
        name = path.relative_to(earlier)
        if path.is_file() and path.name != ".lock":
            here = [folder / name, folder / ".replaced" / name]
            assert any(p.exists() and p.read_bytes() == path.read_bytes() for p in here)


def every_step(tmp_path, make, interruption):
    """Folders made alike, and what interrupts at the n-th step on each."""
    for last in itertools.count():
        folder = tmp_path / f"run-{last}"
        make(folder)
        yield folder, partial(interruption, folder, last)
        shutil.rmtree(folder, ignore_errors=True)


def ended(command):
    """The command, which a kill may end."""
    with suppress(Killed):
        main(command)


@pytest.mark.slow
def test_a_first_start_killed_at_any_step(whole, tmp_path):
    for folder, killing in every_step(tmp_path, lambda folder: None, killed):
        with killing() as kill:
            ended([*RUN, "--folder", str(folder), "--resume"])
        if not kill.failed:
            break
        assert_goes_on(folder, whole, tmp_path)
    assert len(kill.events) > 20


@pytest.mark.slow
def test_an_overwriting_start_killed_at_any_step(whole, earlier, tmp_path):
    """The earlier run had another seed, which cannot be gone on with as this one."""

    def make(folder):
        shutil.copytree(earlier, folder)

    for folder, killing in every_step(tmp_path, make, killed):
        with killing() as kill:
            ended([*RUN, "--folder", str(folder), "--overwrite"])
        if not kill.failed:
            break
        assert_kept(folder, earlier)
        config = folder / "config.json"
        ours = not config.exists() or json.loads(config.read_text())["seed"] == 0
        hows = ("--resume", "--overwrite") if ours else ("--overwrite",)
        assert_goes_on(folder, whole, tmp_path, hows)
    assert len(kill.events) > 40


@pytest.mark.slow
def test_a_full_disk_at_any_write(whole, earlier, tmp_path, capsys):
    """Whatever the system says, the sentence has the path; the earlier run is back."""

    def make(folder):
        shutil.copytree(earlier, folder)

    for folder, filling in every_step(tmp_path, make, full_disk):
        capsys.readouterr()
        with filling() as disk, suppress(SystemExit):
            main([*RUN, "--folder", str(folder), "--overwrite"])
        if not disk.failed:
            break
        said = capsys.readouterr().err
        assert_said(said, folder)
        assert_kept(folder, earlier)
        if not shows(folder, earlier):
            old = (earlier / "config.json").read_text()
            begun = (folder / "checkpoints/0").is_dir()
            assert begun or (folder / "config.json").read_text() == old
        assert_goes_on(folder, whole, tmp_path, ("--overwrite",))
    assert len(disk.events) > 20


def assert_said(said, folder):
    assert said.startswith("error: ") and said.count("\n") == 1, said
    assert str(folder) in said and "No space left on device" in said, said


def test_what_is_still_being_written_is_removed(tmp_path):
    """A thread of a checkpoint that failed goes on for a moment after it was told."""
    folder, count = tmp_path / "checkpoints", itertools.count()
    folder.mkdir()

    def removed(path, *_, **__):
        if next(count) < 2:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        rmtree(path)

    rmtree = shutil.rmtree
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening.shutil, "rmtree", removed)
        opening._remove(folder)
    assert not folder.exists()


def test_what_is_still_being_written_does_not_keep_the_earlier_run_away(
    earlier, tmp_path, monkeypatch
):
    """A folder is made again between its removal and the move into its place."""
    folder = tmp_path / "run"
    shutil.copytree(earlier, folder)
    opening.make_way(folder)
    shutil.copytree(earlier, folder, dirs_exist_ok=True)
    remove_own = opening._remove_own

    def late(folder):
        remove_own(folder)
        (folder / "checkpoints/0.tmp").mkdir(parents=True)

    monkeypatch.setattr(opening, "_remove_own", late)
    opening.put_back(folder)
    for path in earlier.rglob("*"):
        if path.is_file() and path.name != ".lock":
            here = folder / path.relative_to(earlier)
            assert here.read_bytes() == path.read_bytes()
    assert not (folder / "checkpoints/0.tmp").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_full_for_real(whole, small_disk, tmp_path, capsys):
    """A page more is free each time, until the run goes through."""
    page, reached = os.sysconf("SC_PAGE_SIZE"), set()
    for free in range(128):
        folder, filler = small_disk / "run", small_disk / "filler"
        with filler.open("wb") as file:
            left = os.statvfs(small_disk).f_bavail * page
            file.write(bytes(left - free * page))
        capsys.readouterr()
        try:
            main([*RUN, "--folder", str(folder), "--resume"])
            break
        except SystemExit as stop:
            assert stop.code == DISK
        assert_said(capsys.readouterr().err, folder)
        reached.update(path.name for path in folder.rglob("*"))
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        main([*RUN, "--folder", str(copy), "--resume"])
        assert_same(copy, whole)
        shutil.rmtree(copy), shutil.rmtree(folder), filler.unlink()
    assert_same(folder, whole)
    assert {"config.json", "checkpoints", "rounds.jsonl", "metrics.jsonl"} <= reached


def test_other_files_are_never_taken_for_leftovers(tmp_path, capsys):
    for name in ("thesis.tex", "plots", "metrics.jsonl"):
        folder = tmp_path / name.partition(".")[0]
        (folder / name).mkdir(parents=True)
        for how in ([], ["--resume"], ["--overwrite"]):
            said = refused([*RUN, "--folder", folder, *how], capsys)
            assert "is not empty and holds no run" in said
        assert [path.name for path in folder.iterdir()] == [name]


def test_what_an_older_version_left_is_begun_anew(whole, tmp_path):
    """It removed config.json first, and made plots/."""
    for how in ("--resume", "--overwrite"):
        folder = tmp_path / how
        (folder / "plots").mkdir(parents=True)
        for name in (".lock", "metrics.jsonl", "config.json.part"):
            (folder / name).touch()
        main([*RUN, "--folder", str(folder), how])
        assert_same(folder, whole)


def test_a_run_that_was_set_aside_is_not_replaced_unasked(earlier, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(earlier, folder)
    (folder / ".replaced").mkdir()
    (folder / "config.json").rename(folder / ".replaced/config.json")
    assert "give --overwrite" in refused([*RUN, "--folder", folder], capsys)
    assert_kept(folder, earlier)


@pytest.mark.usefixtures("in_good_time")
def test_a_pipe_in_place_of_the_lock_is_refused(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ValueError, match="expected a regular file"), held(tmp_path):
        pass
