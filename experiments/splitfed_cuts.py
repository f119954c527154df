"""SplitFed v1 over four cuts, beside FedAvg on the same data and network.

    python -m experiments.splitfed_cuts --seeds 3

Where a network is cut changes who computes what, and no result but by the order of
sums: with all halves averaged, SplitFed v1 is FedAvg. Here it averages the
clients' halves every five steps, and the server's at every step; FedAvg averages after
an epoch. Runs are resumed where they stopped.
"""

import argparse
from dataclasses import replace
from typing import Any

from experiments.cells import Cell
from experiments.finals import keep_table
from experiments.script import run_main
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.presets import WHOLE
from fedjax_sl.fedlpq.run_config import CNNConfig, FedLPQRun
from fedjax_sl.fedsl.presets import PRESETS, RECIPE


CUTS = (2, 4, 6, 8)
"""L_c, of the eight convolutions of a VGG-11."""

EPOCHS = 30
"""Passes over the training images, as in the preset."""

HEAD = """# SplitFed v1 over cuts

VGG-11, a quarter of its width, CIFAR-10, ten clients; final accuracy on the test split,
mean and 95 % t-interval over seeds. `python -m experiments.splitfed_cuts --seeds N`.
"""


def splitfed(cut: int) -> RunConfig:
    """The preset, cut elsewhere."""
    run = PRESETS["splitfed-v1"].run
    return replace(run, model=replace(run.model, cut=cut))  # type: ignore[call-arg]


def fedavg() -> RunConfig:
    """The same network, data and recipe, a round being an epoch of every client.

    A step is of one client's batch, not of ten clients', and so a tenth as long, as in
    the presets that step client by client; at the full rate nothing is learned.
    """
    run = PRESETS["splitfed-v1"].run
    epochs: dict[str, Any] = {"warmup_rounds": 1, "cosine_rounds": EPOCHS}
    return FedLPQRun(
        data=run.data,
        model=CNNConfig(name="vgg11", width=run.model.width),
        method=FedLPQConfig(
            **WHOLE | RECIPE | epochs | {"learning_rate": RECIPE["learning_rate"] / 10},
            optimizer="sgd",
            momentum=0.9,
        ),
        rounds=EPOCHS,
        batch_size=run.batch_size,
        eval_every=3,
    )


def cells(seeds: int) -> list[Cell]:
    """Returns all runs, those of a seed one after another."""
    configs = {f"cut {cut}": splitfed(cut) for cut in CUTS} | {"FedAvg": fedavg()}
    return [
        Cell(name.replace(" ", "-"), {"scheme": name}, replace(config, seed=seed))
        for seed in range(seeds)
        for name, config in configs.items()
    ]


def main() -> None:
    """Runs what is missing, and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    found = cells(parser.parse_args().seeds)
    keep_table("splitfed_cuts", found, by="scheme", head=HEAD, published={})


if __name__ == "__main__":
    run_main(main)
