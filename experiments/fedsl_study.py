"""The study of FedSL: each technique alone, all together, and how much of each.

    python -m experiments.fedsl_study            # reduced, on a CPU
    python -m experiments.fedsl_study --full     # as published

Runs that differ only in values share a program. Each run is stored once it is known,
and not computed again.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.fedsl_reading import verdicts, write_reading
from experiments.fedsl_setting import FULL, REDUCED, Scale, config_of, points
from experiments.script import RESULTS, run_main
from fedjax_sl.records.run_folder import append_lines, resume_lines
from fedjax_sl.runs.side_by_side import Outcome, outcomes


NAME = "fedsl_study"


def row_of(chosen: dict[str, Any], seed: int, outcome: Outcome) -> dict[str, Any]:
    """Returns the stored row of a run: its settings, and its learning curve."""

    def column(name: str) -> list:
        return [line[name] for line in outcome.lines]

    return {
        "settings": chosen,
        "seed": seed,
        "rounds": column("round"),
        "accuracy": column("test_accuracy"),
        "pruned_accuracy": column("pruned_test_accuracy"),
        "uplink_bits": column("uplink_bits"),
        "downlink_bits": column("downlink_bits"),
        "seconds": column("sim_seconds"),
        "joules": column("sim_joules"),
        "updates_up_bits": sum(sum(r["updates_up_bits"]) for r in outcome.rounds),
    }


def run_missing(scale: Scale, path: Path, console: Console) -> list[dict[str, Any]]:
    """Runs what the file lacks, appends a line for each run, and returns all lines."""
    rows = resume_lines(path)
    known = [(row["settings"], row["seed"]) for row in rows]
    missing = [
        (chosen, seed)
        for chosen in points()
        for seed in range(scale.seeds)
        if (chosen, seed) not in known
    ]
    if not missing:
        return rows
    started, configs = time.monotonic(), [config_of(scale, *point) for point in missing]
    for count, (index, outcome) in enumerate(outcomes(configs), start=1):
        row = row_of(*missing[index], outcome)
        append_lines(path, [row])
        rows.append(row)
        left = (time.monotonic() - started) * (len(missing) / count - 1)
        console.print(
            f"{count}/{len(missing)}: {row['accuracy'][-1]:.3f}, about "
            f"{left / 60:.0f} min left"
        )
    return rows


def main() -> None:
    """Runs what is missing, then writes tables and figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--full", action="store_true", help="the published setting")
    scale = FULL if parser.parse_args().full else REDUCED
    folder, console = RESULTS / scale.name, Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    rows = run_missing(scale, folder / f"{NAME}.jsonl", console)
    write_reading(scale, rows, folder, NAME)
    console.print(f"{folder / NAME}.md", verdicts(rows), sep="\n\n")


if __name__ == "__main__":
    run_main(main)
