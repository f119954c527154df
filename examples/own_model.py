"""FedSL with a Flax network of your own, cut where you like.

python examples/own_model.py [--rounds 60]
"""

import argparse

import jax
import numpy as np
from flax import linen as nn

from fedjax_sl import FedSLConfig, SplitModel, fedsl, load, simulate
from fedjax_sl.data import dirichlet


class Block(nn.Module):
    """A convolution; kernels of the client's half are what is pruned."""

    features: int

    @nn.compact
    def __call__(self, x, train):
        """`[B, H, W, Ch]` -> `[B, H / 2, W / 2, features]`."""
        x = nn.relu(nn.Conv(self.features, (3, 3), name="conv")(x))
        return nn.max_pool(x, (2, 2), strides=(2, 2))


class Client(nn.Module):
    """What devices hold."""

    @nn.compact
    def __call__(self, x, train):
        """Images to activations at the cut."""
        return Block(8, name="block1")(x, train)


class Server(nn.Module):
    """What the server holds."""

    @nn.compact
    def __call__(self, x, train):
        """Activations at the cut to logits."""
        x = Block(16, name="block2")(x, train)
        return nn.Dense(10, name="head")(x.reshape(len(x), -1))


def main() -> None:
    """Trains on the embedded digits, and prints accuracy and megabits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds

    train, test = load("digits", split="train"), load("digits", split="test")
    clients = dirichlet(np.random.default_rng(0), train.label, 10, alpha=0.5)
    model = SplitModel(
        client=Client(),
        server=Server(),
        input_shape=train.image.shape[1:],
        num_classes=train.num_classes,
    )
    config = FedSLConfig(prune_ratio=0.35, prune_end=rounds // 2, bits=8)
    state, history = jax.jit(
        lambda key: simulate(
            fedsl(model, config),
            train,
            clients,
            key,
            test=test,
            rounds=rounds,
            batch_size=16,
            eval_every=rounds // 3 if rounds % 3 == 0 else rounds,
        )
    )(jax.random.key(0))
    for accuracy in history.evaluation[""].accuracy:
        print(f"test accuracy {accuracy:.3f}")
    kept = float(history.rounds.kept_ratio[-1, -1].mean())
    print(f"kept of the client's half: {kept:.2f}, after {int(state.round)} rounds")


if __name__ == "__main__":
    main()
