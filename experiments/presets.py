"""Presets run with several seeds, and what they reach.

    python -m experiments.presets niid-bench-dir05 --seeds 3

Runs are resumed where they stopped, and a row is stored for each that has finished.
"""

import argparse
from dataclasses import replace

from rich.console import Console

from experiments.cells import FOLDERS, Cell, rows_of
from experiments.finals import final_table
from experiments.script import RESULTS, run_main
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import write_text


PUBLISHED = {
    "niid-bench-dir05": "0.682 (NIID-Bench's README)",
}
"""Final accuracies of others, where their setting is the same."""

HEAD = """# Presets

Final accuracy on the test split, mean and 95 % t-interval over seeds; hours of one run.
`python -m experiments.presets NAME --seeds N` computes a row.
"""


def main() -> None:
    """Runs the seeds that are missing, and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    known = presets()
    parser.add_argument("preset", choices=tuple(known))
    parser.add_argument("--seeds", type=int, default=3)
    options, console = parser.parse_args(), Console(highlight=False)
    name = options.preset
    cells = [
        Cell(name, {"preset": name}, replace(known[name][1].run, seed=seed))
        for seed in range(options.seeds)
    ]
    path, folders = RESULTS / "presets.jsonl", FOLDERS / "presets"
    for rows in rows_of(cells, path, folders=folders, console=console):
        table = final_table(rows, "preset", PUBLISHED)
        write_text(RESULTS / "presets.md", f"{HEAD}\n{table}")
        console.print(table)


if __name__ == "__main__":
    run_main(main)
