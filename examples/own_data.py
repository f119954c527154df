"""FedSL on arrays of your own, each example with its owner.

python examples/own_data.py [--rounds 60]
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

from fedjax_sl import Dataset
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.runs.own_data import run_on


def main() -> None:
    """Trains on arrays, and prints what the run's folder tells, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds

    # Any arrays: images [n, H, W] or [n, H, W, Ch], uint8 or floats; integer labels.
    image, label = load_digits(return_X_y=True)
    image = np.uint8(image.reshape(-1, 8, 8) * (255 / 16))
    # Who owns which example: here five people who prefer two digits each.
    rng = np.random.default_rng(0)
    usual = rng.random(len(label)) < 0.7
    owner = np.where(usual, label // 2, rng.integers(0, 5, len(label)))

    train = Dataset.from_arrays(image, label, client=owner, image_size=32, name="mine")
    data = DataConfig(num_clients=5, partition="natural", held_out=400)
    config = FedSLRun(
        data=data,
        model=ModelConfig(name="simple-cnn", cut=1, width=0.5),
        method=FedSLConfig(cohort_size=5, bits=8, prune_ratio=0.0),
        rounds=rounds,
        eval_every=max(1, rounds // 3),
    )
    summary = run_on(config, "runs/own-data", train=train, overwrite=True)
    assert summary is not None  # only of several processes, to all but the first
    print(f"test accuracy {summary['final']['test_accuracy']:.3f}")
    print(f"examples of each client: {np.sum(summary['label_histogram'], axis=1)}")


if __name__ == "__main__":
    main()
