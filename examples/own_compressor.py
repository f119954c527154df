"""A compressor of one's own for the activations of FedSL, beside others.

python examples/own_compressor.py [--rounds 100]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl import FedSLConfig, fedsl, load, simulate, split_vgg
from fedjax_sl.compressors import COMPRESSORS, Compressor
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.fixed import fixed_wire
from fedjax_sl.data import iid
from fedjax_sl.traffic import traffic


def float16() -> Compressor:
    """Sends half-precision numbers, 16 bits each."""

    def compress(key, x, mask, state):
        return jnp.where(mask, x, 0.0).astype(jnp.float16), state

    def decompress(key, payload, mask):
        return payload.astype(jnp.float32)

    wire = fixed_wire(
        bits=16,
        scales=0,
        to_codes=lambda payload: ([], payload.view(np.uint16)),
        of_codes=lambda scales, codes: codes.astype(np.uint16).view(np.float16),
        num_codes=2**16,
    )
    return Compressor(compress, decompress, wire)


# From here on `--method.activations.kind float16` is an option, too.
COMPRESSORS["float16"] = float16


def main() -> None:
    """Prints accuracy and bits of each compressor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds

    train = load("digits", split="train", image_size=32)
    test = load("digits", split="test", image_size=32)
    clients = iid(np.random.default_rng(0), train.label, 4)
    model = split_vgg(11, cut=2, width=0.1, input_shape=train.image.shape[1:])
    for kind in ("float32", "float16", "top_k"):
        activations = CompressorConfig(kind=kind, keep=0.1)
        config = FedSLConfig(
            cohort_size=4, prune_ratio=0.0, dropout_rate=0.0, activations=activations
        )
        _, history = simulate(
            fedsl(model, config),
            train,
            clients,
            jax.random.key(0),
            test=test,
            rounds=rounds,
            batch_size=16,
            eval_every=rounds,
        )
        accuracy = float(history.evaluation[""].accuracy[-1])
        # Counts of all rounds, evaluation by evaluation, become bits on the host.
        sent = traffic(history.rounds.links).activations_up.sum() / 1e6
        print(f"{kind}: accuracy {accuracy:.3f}, activations {sent:.1f} Mbit")


if __name__ == "__main__":
    main()
