"""Presets run with several seeds, and what they reach.

    python -m experiments.presets niid-bench-dir05 --seeds 3

Runs are resumed where they stopped, and a row is stored for each that has finished.
"""

import argparse
from dataclasses import replace

from experiments.cells import Cell
from experiments.finals import keep_table
from experiments.script import run_main
from fedjax_sl.methods import presets


PUBLISHED = {
    "niid-bench-dir05": "0.682 (NIID-Bench's README)",
}
"""Final accuracies of others, where their setting is the same."""

AGAINST = {"cifar10-fedsl": "splitfed-v1", "splitfed-v1-coded": "splitfed-v1"}
"""Presets that are compared with another one, seed by seed."""

HEAD = """# Presets

Final accuracy on the test split, mean and 95 % t-interval over seeds; hours of one run.
Below, what a preset saves and loses against another one, paired over seeds.
`python -m experiments.presets NAME --seeds N` computes a row.
"""


def main() -> None:
    """Runs the seeds that are missing, and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    known = presets()
    parser.add_argument("preset", choices=tuple(known))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    name = options.preset
    cells = [
        Cell(name, {"preset": name}, replace(known[name][1].run, seed=seed))
        for seed in range(options.seeds)
    ]
    keep_table(
        "presets", cells, by="preset", head=HEAD, published=PUBLISHED, pairs=AGAINST
    )


if __name__ == "__main__":
    run_main(main)
