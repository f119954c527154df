"""The study of FedLP-Q: its table, the readings of its quantiser, and private heads.

    python -m experiments.fedlpq_study --scale short --seeds 5
    python -m experiments.fedlpq_study --scale full order readings

Runs are resumed where they stopped, and a row is stored for each that has finished.
"""

import argparse
from collections.abc import Iterable

from rich.console import Console

from experiments.cells import FOLDERS, Cell, rows_of
from experiments.fedlpq_reading import write_reading
from experiments.fedlpq_setting import (
    QUESTIONS,
    SCALES,
    USUAL,
    Scale,
    config_of,
    name_of,
)
from experiments.script import RESULTS, run_main


NAME = "fedlpq_study"


def cells(scale: Scale, seeds: int, questions: Iterable[str] = QUESTIONS) -> list[Cell]:
    """Returns the runs of these questions, one after another, each run once."""
    found = {
        (name_of(labels), seed): labels
        for question in questions
        for seed in range(seeds)
        for labels in (USUAL | change for change in QUESTIONS[question])
    }
    return [
        Cell(name, labels, config_of(scale, labels, seed))
        for (name, seed), labels in found.items()
    ]


def main() -> None:
    """Runs what is missing, and writes tables after each run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("questions", nargs="*", help=", ".join(QUESTIONS))
    parser.add_argument("--scale", choices=tuple(SCALES), default="short")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    scale, console = SCALES[options.scale], Console(highlight=False)
    folder = RESULTS / scale.name
    folder.mkdir(parents=True, exist_ok=True)
    path, folders = folder / f"{NAME}.jsonl", FOLDERS / f"{NAME}-{scale.name}"
    wanted = cells(scale, options.seeds, options.questions or QUESTIONS)
    for rows in rows_of(wanted, path, folders=folders, console=console):
        write_reading(scale, rows, folder, NAME)
        console.print(f"{folder / NAME}.md: {len(rows)} runs")


if __name__ == "__main__":
    run_main(main)
