"""SplitFed v1 on a ResNet-18 with group norm over four cuts, ten epochs each.

    python -m experiments.resnet_cuts --seeds 2

Cut after the blocks of each number of channels: who computes what changes, and no
result but by the clients' halves, which are averaged every five steps, the server's at
every step. Runs are resumed where they stopped.
"""

import argparse
from dataclasses import replace

from experiments.cells import Cell
from experiments.fedsl_setting import NOTHING, SHORT, config_of
from experiments.finals import keep_table
from experiments.script import run_main
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig


CUTS = (5, 9, 13, 17)
"""L_c: the last blocks of 64, 128, 256 and 512 channels."""

HEAD = """# SplitFed v1 on ResNet-18 over cuts

ResNet-18 with group norm, a quarter of its width, CIFAR-10, ten clients, ten epochs;
final accuracy on the test split, mean and 95 % t-interval over seeds.
`python -m experiments.resnet_cuts --seeds N`.
"""


def splitfed(cut: int, seed: int) -> FedSLRun:
    """The plain scheme of the study of FedSL on another network."""
    model = ModelConfig(name="resnet18", width=SHORT.width, cut=cut)
    return replace(config_of(SHORT, NOTHING, seed), model=model)


def cells(seeds: int) -> list[Cell]:
    """Returns all runs, those of a seed one after another."""
    return [
        Cell(f"cut-{cut}", {"scheme": f"cut {cut}"}, splitfed(cut, seed))
        for seed in range(seeds)
        for cut in CUTS
    ]


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    found = cells(parser.parse_args().seeds)
    keep_table("resnet_cuts", found, by="scheme", head=HEAD, published={})


if __name__ == "__main__":
    run_main(main)
