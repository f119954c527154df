"""Bit widths and seeds as one compiled program.

python examples/sweep_bits.py [--rounds 100]
"""

import argparse
import dataclasses

import jax
import numpy as np

from fedjax_sl import FedSLConfig, fedsl, load, simulate, split_vgg, sweep
from fedjax_sl.data import iid


def main() -> None:
    """Prints mean and range of the accuracy of each width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds

    source = {"image_size": 32}
    train = load("digits", split="train", **source)
    test = load("digits", split="test", **source)
    clients = iid(np.random.default_rng(0), train.label, 4)
    model = split_vgg(11, cut=2, width=0.1, input_shape=train.image.shape[1:])

    def accuracy(point):
        config, seed = point
        _, history = simulate(
            fedsl(model, config),
            train,
            clients,
            jax.random.key(seed),
            test=test,
            rounds=rounds,
            batch_size=16,
            eval_every=rounds,
        )
        return history.evaluation[""].accuracy[-1]

    widths, seeds = (2, 4, 8), range(2)
    # Bits alone: with pruning and dropout, too, so few rounds would teach it little.
    alone = FedSLConfig(cohort_size=4, prune_ratio=0.0, dropout_rate=0.0)
    points = [
        (dataclasses.replace(alone, bits=bits), np.uint32(seed))
        for bits in widths
        for seed in seeds
    ]
    print(f"{len(points)} runs of {rounds} rounds; the program compiles first ...")
    found = np.array(sweep(accuracy, points)).reshape(len(widths), len(seeds))
    for bits, accuracies in zip(widths, found, strict=True):
        low, high = accuracies.min(), accuracies.max()
        print(f"{bits} bits: {accuracies.mean():.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
