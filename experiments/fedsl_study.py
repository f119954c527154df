"""The study of FedSL: each technique alone, all together, and how much of each.

    python -m experiments.fedsl_study --scale converged    # or reduced, or full

Runs are resumed where they stopped, and a row is stored for each that has finished.
"""

import argparse

from rich.console import Console

from experiments.cells import FOLDERS, Cell, rows_of
from experiments.claims import verdicts
from experiments.fedsl_claims import claims
from experiments.fedsl_reading import write_reading
from experiments.fedsl_setting import SCALES, Scale, config_of, name_of, points
from experiments.script import RESULTS, run_main


NAME = "fedsl_study"


def cells(scale: Scale) -> list[Cell]:
    """Returns the runs of every question, all seeds of a setting one after another."""
    return [
        Cell(name_of(chosen), {"settings": chosen}, config_of(scale, chosen, seed))
        for chosen in points()
        for seed in range(scale.seeds)
    ]


def main() -> None:
    """Runs what is missing, then writes tables and figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="converged")
    scale = SCALES[parser.parse_args().scale]
    folder, console = RESULTS / scale.name, Console(highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    path, folders = folder / f"{NAME}.jsonl", FOLDERS / f"{NAME}-{scale.name}"
    for rows in rows_of(cells(scale), path, folders=folders, console=console):
        write_reading(scale, rows, folder, NAME)
        console.print(f"{folder / NAME}.md", verdicts(claims(rows)), sep="\n\n")


if __name__ == "__main__":
    run_main(main)
