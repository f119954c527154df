"""Checkpoints come back whole, or are skipped; nothing takes the one before."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp
import pytest

from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints, Unusable
from tests.commands import PATIENCE


class State(NamedTuple):
    """As that of a method: arrays of many kinds, one of them without entries."""

    round: Any
    weights: Any
    mask: Any
    nothing: Any


def state(seed, size=5):
    rng = np.random.default_rng(seed)
    return State(
        round=np.int32(seed),
        weights={"a": rng.normal(size=(size, 3)).astype(np.float32), "b": np.ones(2)},
        mask={"a": rng.random(size) < 0.5, "b": None},
        nothing=np.zeros((4, 0), np.float32),
    )


def saved(folder, rounds, keep=3):
    checkpoints = Checkpoints(folder, keep=keep)
    for number in rounds:
        totals = {"uplink_bits": 2**60 + number, "sim_seconds": 0.1 * number}
        checkpoints.save(Checkpoint(number, state(number), totals))
    checkpoints.close()


def newest(folder, like=None, **options):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.newest(state(0) if like is None else like, **options)
    finally:
        checkpoints.close()


def test_everything_comes_back_bit_for_bit(tmp_path):
    saved(tmp_path / "c", [3])
    found = newest(tmp_path / "c")
    assert found.round == 3
    assert found.totals == {"uplink_bits": 2**60 + 3, "sim_seconds": 0.1 * 3}
    expected = state(3)
    for name in ("round", "nothing"):
        a, b = getattr(found.state, name), getattr(expected, name)
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
    for key in ("a", "b"):
        np.testing.assert_array_equal(found.state.weights[key], expected.weights[key])
    assert found.state.mask["a"].dtype == bool and found.state.mask["b"] is None
    np.testing.assert_array_equal(found.state.mask["a"], expected.mask["a"])


def test_the_last_few_are_kept(tmp_path):
    saved(tmp_path / "c", [0, 5, 10, 15], keep=2)
    assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [10, 15]
    assert newest(tmp_path / "c", most=14).round == 10
    assert newest(tmp_path / "c", most=9) is None
    assert newest(tmp_path / "other") is None


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


# Orbax drops what its threads still want to say of a read that failed.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    """Whichever of its files is damaged, what is read is what was written."""
    saved(tmp_path / "c", [1])
    names = [
        path.relative_to(tmp_path / "c/1")
        for path in sorted((tmp_path / "c/1").rglob("*"))
        if path.is_file()
    ]
    passed = 0
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        saved(folder, [1, 2])
        broken = folder / "2" / name
        if not broken.exists():  # data files have random names
            broken = next(p for p in broken.parent.iterdir() if p.is_file())
        damage(broken)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = newest(folder)
        assert (found.round == 1) == any("is skipped" in str(w.message) for w in said)
        passed += found.round == 1
        expected = state(found.round)
        np.testing.assert_array_equal(found.state.weights["a"], expected.weights["a"])
    assert passed >= 2


def test_another_structure_is_named(tmp_path):
    saved(tmp_path / "c", [1])
    with pytest.raises(Unusable, match=r"mask/a: expected bool\[6\], found bool\[5"):
        newest(tmp_path / "c", state(0, size=6))
    wanted = {"weights": {"a": state(0).weights["a"]}}
    with pytest.raises(Unusable, match="weights/b: expected nothing"):
        newest(tmp_path / "c", wanted)


def test_some_fields_alone_can_be_read(tmp_path):
    saved(tmp_path / "c", [1])
    found = newest(tmp_path / "c", {"weights": state(0).weights})
    assert set(found.state) == {"weights"}
    np.testing.assert_array_equal(found.state["weights"]["a"], state(1).weights["a"])


def test_something_else_is_refused(tmp_path):
    (tmp_path / "c/7").mkdir(parents=True)
    (tmp_path / "c/7/model.pkl").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with (
        pytest.warns(match="damaged checkpoint is skipped"),
        pytest.raises(Unusable, match="no checkp"),
    ):
        newest(tmp_path / "c")


def test_another_format_is_named_with_its_path(tmp_path):
    saved(tmp_path / "c", [1])
    path = tmp_path / "c/1/progress/metadata"
    progress = json.loads(path.read_text()) | {"format": 9}
    path.write_text(json.dumps(progress))
    with pytest.raises(Unusable, match=r"c/1: format 9: expected 1 to 2"):
        newest(tmp_path / "c")


def test_one_of_the_format_before_is_of_an_evaluation(tmp_path):
    saved(tmp_path / "c", [4])
    path = tmp_path / "c/4/progress/metadata"
    progress = json.loads(path.read_text()) | {"format": 1}
    del progress["evaluated"]
    path.write_text(json.dumps(progress))
    assert newest(tmp_path / "c").evaluated == 4


def test_a_damaged_one_is_said_in_one_line(tmp_path, capfd):
    """Not in those of the library that reads it."""
    saved(tmp_path / "c", [1])
    for path in (tmp_path / "c/1/state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with (
        pytest.warns(match="damaged checkpoint is skipped"),
        pytest.raises(Unusable, match="c/1: it is"),
    ):
        newest(tmp_path / "c")
    assert not capfd.readouterr().err


def test_the_one_before_goes_when_the_new_one_would_outlast_a_loss_of_power(
    tmp_path, monkeypatch
):
    saved(tmp_path / "c", [1], keep=1)
    events, fsync, delete = [], os.fsync, ocp.CheckpointManager.delete

    def synced(descriptor):
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def deleted(manager, step):
        events.append(step)
        delete(manager, step)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(ocp.CheckpointManager, "delete", deleted)
    saved(tmp_path / "c", [2], keep=1)
    assert events.pop() == 1
    written = {str(path) for path in (tmp_path / "c/2").rglob("*")}
    assert {*written, str(tmp_path / "c/2"), str(tmp_path / "c")} == set(events)


def test_some_are_kept_for_good(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=1, for_good=lambda n: n % 4 == 0)
    for number in (3, 4, 5, 8, 9):
        checkpoints.save(Checkpoint(number, state(number), {}))
    checkpoints.close()
    assert sorted(int(p.name) for p in (tmp_path / "c").iterdir()) == [4, 8, 9]


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    saved(tmp_path / "c", [1])
    (tmp_path / "c/2.orbax-checkpoint-tmp/state").mkdir(parents=True)
    assert newest(tmp_path / "c").round == 1
    checkpoints = Checkpoints(tmp_path / "c")
    checkpoints.forget_after(1)
    checkpoints.close()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["1"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.records.test_checkpoint import Checkpoint, Checkpoints, newest, state
folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder)
checkpoints.save(Checkpoint(1, state(1), {}))
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    checkpoints.save(Checkpoint(2, state(2), {}))
    checkpoints.wait()
except OSError as error:
    print("said:", str(error).count(chr(10)), error)
print("left:", newest(folder).round)
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_one_before_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "c")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "said: 0" in done.stdout and "cannot be written" in done.stdout, done
    assert "left: 1" in done.stdout
    assert "Traceback" not in done.stderr and "ERROR" not in done.stderr
