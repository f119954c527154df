"""Cost of checkpoints: a run with one at every evaluation against a run without.

    python -m benchmarks.checkpoint

A checkpoint is written in the background, so its cost is the time by which the run gets
longer, not the time of the write. At the default interval the relative cost is this
time over the interval.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints
from fedjax_sl.runs.build import Job, prepare
from fedjax_sl.runs.programs import programs_of
from fedjax_sl.runs.recorder import Keeping
from fedjax_sl.runs.segments import segments


def megabytes(folder: Path) -> float:
    """Returns the size of all files of a folder, megabytes."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def seconds(job: Job, programs, folder: Path, *, store: bool) -> tuple[float, float]:
    """Returns seconds of a run after its first evaluation, and of its calls to save."""
    checkpoints, waited = Checkpoints(folder), 0.0
    started = None
    for segment in segments(job, programs, Checkpoint(0, programs.initial(), {})):
        if segment.line is None:
            continue
        # Programs are compiled up to the first evaluation.
        if started is None:
            started = time.perf_counter()
        if store:
            before = time.perf_counter()
            checkpoints.save(segment.reached)
            waited += time.perf_counter() - before
    assert started is not None
    checkpoints.close()
    return time.perf_counter() - started, waited


def measure(name: str, config: RunConfig, turns: int) -> None:
    """Prints a line of the table."""
    job = prepare(config)
    programs = programs_of(job)
    saves = config.rounds // config.eval_every
    longer, calls, size = [], [], 0.0
    with tempfile.TemporaryDirectory() as base:
        for turn in range(turns):
            quiet, _ = seconds(job, programs, Path(base) / f"{turn}-no", store=False)
            folder = Path(base) / f"{turn}-yes"
            storing, waited = seconds(job, programs, folder, store=True)
            longer.append((storing - quiet) / saves)
            calls.append(waited / saves)
            size = megabytes(folder) / len(Checkpoints(folder).rounds())
    usual = Keeping().checkpoint_seconds
    cost, least, most = median(longer), min(longer), max(longer)
    print(
        f"| {name} | {size:.1f} | {1000 * median(calls):.0f} | {1000 * cost:.0f} "
        f"({1000 * least:.0f} to {1000 * most:.0f}) | {100 * cost / usual:.2f} % |"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--turns", type=int, default=3)
    turns = parser.parse_args().turns
    print("| run | MB | call, ms | longer by, ms | share of the time, every 30 s |")
    print("|---|---|---|---|---|")
    measure("FedSL, the demo", FedSLRun(rounds=24, eval_every=2), turns)
    wide = ModelConfig(width=1.0)
    measure("FedSL, whole VGG-11", FedSLRun(model=wide, rounds=6, eval_every=1), turns)
    measure("FedLP-Q", FedLPQRun(rounds=8, eval_every=1), turns)


if __name__ == "__main__":
    main()
