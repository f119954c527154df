"""Presets run with several seeds, and what they reach.

    python -m experiments.presets niid-bench-dir05 --seeds 3

Runs are resumed where they stopped, and a row is stored for each that has finished.
"""

import argparse
from dataclasses import replace
from typing import Any

from rich.console import Console

from experiments.cells import FOLDERS, Cell, rows_of
from experiments.script import RESULTS, run_main
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import write_text
from fedjax_sl.reports.groups import interval


PUBLISHED = {
    "niid-bench-dir05": "0.682 (NIID-Bench's README)",
}
"""Final accuracies of others, where their setting is the same."""


def table(rows: list[dict[str, Any]]) -> str:
    """Final accuracy, epochs and hours of each preset, over its seeds."""
    lines = [
        "# Presets\n",
        "Final accuracy on the test split, mean and 95 % t-interval over seeds; hours "
        "of one run. `python -m experiments.presets NAME --seeds N` computes a row.\n",
        "| preset | seeds | accuracy | epochs | hours | published | code |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["preset"] for row in rows):
        mine = [row for row in rows if row["preset"] == name]
        mean, half = interval([row["accuracy"][-1] for row in mine])
        spread = f" ± {half:.3f}" if len(mine) > 1 else ""
        hours = max(row["hours"] for row in mine)
        codes = ", ".join(dict.fromkeys(row["code"] for row in mine))
        lines.append(
            f"| {name} | {len(mine)} | {mean:.3f}{spread} "
            f"| {mine[0]['epochs'][-1]:.3g} | {hours:.2f} "
            f"| {PUBLISHED.get(name, '')} | {codes} |"
        )
    return "\n".join(lines) + "\n"


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
        write_text(RESULTS / "presets.md", table(rows))
        console.print(table(rows))


if __name__ == "__main__":
    run_main(main)
