"""Memory of a sweep over structures, each of which compiles its own program.

    python -m benchmarks.structures

FedSL on random images: two convolutions and a dense layer, cut after the first; four
clients, two rounds, two learning rates, and from one structure to the next an image
more that clients own.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np

from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.models.dense_stage import DenseStage
from fedjax_sl.models.split import SplitModel, Stages
from fedjax_sl.models.vgg import ConvStage
from fedjax_sl.simulation import simulate
from fedjax_sl.sweep import results


CLIENTS, SHAPE, CLASSES = 4, (8, 8, 2), 3


def world() -> tuple[Dataset, SplitModel]:
    """Returns random images, and a network for them."""
    rng = np.random.default_rng(0)
    dataset = Dataset(
        image=rng.integers(256, size=(400, *SHAPE), dtype=np.uint8),
        label=rng.integers(CLASSES, size=400, dtype=np.int32),
        name="noise",
        class_names=("a", "b", "c"),
    )
    stages = (
        partial(ConvStage, 4, "group", False, "auto"),
        partial(ConvStage, 6, "group", True, "auto"),
        partial(DenseStage, CLASSES, last=True),
    )
    model = SplitModel(
        client=Stages(stages[:1]),
        server=Stages(stages[1:], first=1),
        input_shape=SHAPE,
        num_classes=CLASSES,
    )
    return dataset, model


def run(model: SplitModel, dataset: Dataset, point):
    """Returns the losses of one point."""
    config, seed, partition = point
    _, history = simulate(
        fedsl(model, config),
        dataset,
        partition,
        jax.random.key(seed),
        test=dataset,
        rounds=2,
        batch_size=4,
        eval_every=2,
    )
    return history.rounds.loss


def points_of(structures: int):
    """Yields two learning rates for each number of images that clients own."""
    for owned in range(10, 10 + structures):
        index = np.arange(CLIENTS * owned, dtype=np.int32).reshape(CLIENTS, owned)
        partition = Partition(index, np.full(CLIENTS, owned, np.int32))
        for rate in (0.01, 0.02):
            config = FedSLConfig(cohort_size=CLIENTS, interval=1, learning_rate=rate)
            yield config, np.uint32(0), partition


def taken() -> tuple[int, int]:
    """Returns bytes in memory and mapped regions of this process, on Linux."""
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    maps = Path("/proc/self/maps").read_text().count("\n")
    return 1024 * int(lines["VmRSS"].split()[0]), maps


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--structures", type=int, default=40)
    chosen = parser.parse_args()
    dataset, model = world()
    points = list(points_of(chosen.structures))
    client = jax.local_devices()[0].client
    print("| structures | programs | memory MB | maps |\n|---|---|---|---|")
    found = results(partial(run, model), points, shared=(dataset,), at_a_time=2)
    for place, _ in found:
        if place % 2:
            memory, maps = taken()
            programs = len(client.live_executables())
            row = f"| {place // 2 + 1} | {programs} | {memory / 1e6:.0f} | {maps} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
