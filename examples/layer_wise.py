"""FedLP-Q against FedAvg: the accuracy reached, and the bits that clients send.

python examples/layer_wise.py [--rounds 6]
"""

import argparse

import jax
import numpy as np

from fedjax_sl import FedLPQConfig, cifar_cnn, fedavg, fedlpq, load, simulate
from fedjax_sl.data import iid
from fedjax_sl.traffic import traffic


def main() -> None:
    """Trains both on the embedded digits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds

    source = {"image_size": 32}
    train = load("digits", split="train", **source)
    test = load("digits", split="test", **source)
    clients = iid(np.random.default_rng(0), train.label, 20)
    network = cifar_cnn(width=0.1)
    config = FedLPQConfig(cohort_size=5, keep_probability=0.5, bits=8)
    for name, method in (("FedLP-Q", fedlpq), ("FedAvg", fedavg)):
        algorithm = method(
            network, config, num_clients=20, input_shape=train.image.shape[1:]
        )
        _, history = jax.jit(
            lambda key, algorithm=algorithm: simulate(
                algorithm,
                train,
                clients,
                key,
                test=test,
                rounds=rounds,
                batch_size=10,
                eval_every=rounds,
            )
        )(jax.random.key(0))
        sent = traffic(history.rounds.links).uplink.sum()
        accuracy = float(history.evaluation[""].accuracy[-1])
        print(f"{name}: test accuracy {accuracy:.3f}, {1e-6 * sent:.2f} Mbit up")


if __name__ == "__main__":
    main()
