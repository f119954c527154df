"""A run that is killed again and again against one that is left alone.

    python -m benchmarks.soak --rounds 1000 --kills 20
    python -m benchmarks.soak --rounds 1000 --kills 20 --vary

With `--vary` each start has another number of devices and of clients at a time, so that
sums change their order. Counts of bits must stay the same. Losses and accuracies may
drift apart, since a value that the stochastic quantiser rounds the other way changes
the trajectory; the difference is printed. Without `--vary` everything must be equal.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fedjax_sl.records.run_folder import read_lines


RUN = [
    *("fedsl", "--model.cut", "1", "--model.width", "0.03", "--batch-size", "4"),
    *("--data.num-clients", "6", "--method.cohort-size", "5", "--eval-every", "5"),
    *("--data.test-examples", "50", "--checkpoint-seconds", "0", "--resume"),
]


def start(folder: Path, rounds: int, devices: int, chunk: int) -> subprocess.Popen:
    """Starts a process that begins or resumes the run."""
    arguments = [*RUN, "--rounds", str(rounds), "--folder", str(folder)]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "fedjax_sl", "run", *arguments),
            *("--chunk", str(chunk)),
        ],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.DEVNULL,
    )


def evaluations(folder: Path) -> int:
    """Returns the number of evaluations on record."""
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


class Memory(NamedTuple):
    """Memory of a process after so many rounds: now and at its peak, megabytes."""

    rounds: int
    now: float
    peak: float


def memory(process: subprocess.Popen, folder: Path) -> Memory | None:
    """Returns the memory of a process; None before its record and after its end."""
    done = 5 * evaluations(folder)
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    lines = (line.partition(":") for line in status.splitlines())
    found = {name: value.split()[0] for name, _, value in lines if value.strip()}
    if not done or "VmRSS" not in found:
        return None
    return Memory(done, int(found["VmRSS"]) / 1000, int(found["VmHWM"]) / 1000)


def left_alone(folder: Path, rounds: int) -> list[Memory]:
    """Runs to the end without interruption, and samples its memory."""
    process, seen = start(folder, rounds, 2, 2), []
    while process.poll() is None:
        if found := memory(process, folder):
            seen.append(found)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"the quiet run ended with {process.returncode}")
    return seen


def shaken(folder: Path, rounds: int, kills: int, vary: bool, chance) -> list[int]:
    """Runs to the end with so many kills; returns the evaluations before each."""
    killed: list[int] = []
    for number in itertools.count():
        devices, chunk = (
            (chance.randint(1, 4), chance.randint(1, 5)) if vary else (2, 2)
        )
        process = start(folder, rounds, devices, chunk)
        if number == kills:
            if process.wait():
                sys.exit(f"going on ended with {process.returncode}")
            return killed
        left = rounds // 5 - evaluations(folder)
        target = evaluations(folder) + chance.randint(
            0, max(0, left // (kills - number))
        )
        while evaluations(folder) < target and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed.append(evaluations(folder))
    return killed


def compared(folder: Path, other: Path, *, exact: bool) -> dict[str, float]:
    """Returns the largest relative difference of each column of two records."""
    worst: dict[str, float] = {}
    names = (("metrics.jsonl", ("wall_seconds",)), ("rounds.jsonl", ()))
    for name, ignored in names:
        lines, others = read_lines(folder / name), read_lines(other / name)
        if len(lines) != len(others):
            sys.exit(f"{name}: {len(lines)} lines and {len(others)}")
        for line, expected in zip(lines, others, strict=True):
            for key in line.keys() - set(ignored):
                if isinstance(line[key], list):
                    apart = float(line[key] != expected[key])
                else:
                    scale = max(abs(expected[key]), 1e-9)
                    apart = abs(line[key] - expected[key]) / scale
                worst[key] = max(worst.get(key, 0.0), apart)
    transmitted = [key for key in worst if key.endswith("_bits")]
    wrong = [key for key in worst if worst[key] and (exact or key in transmitted)]
    if wrong:
        sys.exit(f"the runs differ in {', '.join(sorted(wrong))}")
    return worst


def main() -> None:
    """Prints the differences, and memory over time."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vary", action="store_true", help="devices and chunks too")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        quiet, other = Path(base) / "quiet", Path(base) / "shaken"
        seen = left_alone(quiet, chosen.rounds)
        killed = shaken(
            other, chosen.rounds, chosen.kills, chosen.vary, random.Random(chosen.seed)
        )
        worst = compared(other, quiet, exact=not chosen.vary)
    print(f"killed with {', '.join(map(str, killed))} evaluations on record")
    print("largest relative differences:", {k: v for k, v in worst.items() if v} or 0)
    print("rounds  MB now  MB at most")
    for part in (0.03, 0.1, 0.3, 0.6, 1.0):
        here = [now for now in seen if now.rounds <= max(part * chosen.rounds, 5)]
        if here:
            print(f"{here[-1].rounds:6}  {here[-1].now:6.0f}  {here[-1].peak:10.0f}")


if __name__ == "__main__":
    main()
