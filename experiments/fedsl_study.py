"""The study of FedSL: each technique alone, all together, and how much of each.

    python -m experiments.fedsl_study --scale short
    python -m experiments.fedsl_study --scale converged techniques cuts

Runs are resumed where they stopped, and a row is stored for each that has finished.
"""

import argparse
from collections.abc import Iterable

from rich.console import Console

from experiments.cells import FOLDERS, Cell, rows_of
from experiments.claims import verdicts
from experiments.fedsl_claims import claims
from experiments.fedsl_reading import write_reading
from experiments.fedsl_setting import (
    QUESTIONS,
    SCALES,
    Scale,
    config_of,
    name_of,
    settings,
)
from experiments.script import RESULTS, run_main


NAME = "fedsl_study"


def cells(scale: Scale, questions: Iterable[str] = QUESTIONS) -> list[Cell]:
    """Returns the runs of these questions, all settings of a seed one after another."""
    found = {
        (name_of(chosen), seed): chosen
        for question in questions
        for seed in range(scale.seeds)
        for chosen in map(settings, QUESTIONS[question].values())
    }
    return [
        Cell(name, {"settings": chosen}, config_of(scale, chosen, seed))
        for (name, seed), chosen in found.items()
    ]


def main() -> None:
    """Runs what is missing, then writes tables and figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("questions", nargs="*", help=", ".join(QUESTIONS))
    parser.add_argument("--scale", choices=tuple(SCALES), default="short")
    options = parser.parse_args()
    scale = SCALES[options.scale]
    folder, console = RESULTS / scale.name, Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    path, folders = folder / f"{NAME}.jsonl", FOLDERS / f"{NAME}-{scale.name}"
    wanted = cells(scale, options.questions or QUESTIONS)
    for rows in rows_of(wanted, path, folders=folders, console=console):
        write_reading(scale, rows, folder, NAME)
        console.print(f"{folder / NAME}.md", verdicts(claims(rows)), sep="\n\n")


if __name__ == "__main__":
    run_main(main)
