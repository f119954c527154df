"""Clients chosen by their channel, against a uniform draw: accuracy and seconds.

python examples/own_selection.py [--rounds 20]
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl import FedLPQConfig, cifar_cnn, fedavg, load, simulate
from fedjax_sl.analysis.channel import Channel, gains
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.data import shards
from fedjax_sl.traffic import record_of


CLIENTS, CHOSEN = 20, 5
CHANNEL = Channel()


def best_channel(rounds: int):
    """Who has the largest gains in each round; FedAvg's period is a round."""
    everyone = np.tile(np.arange(CLIENTS), (rounds, 1))
    table = jnp.asarray(gains(CHANNEL, everyone), jnp.float32)

    def choose(key, period):
        # By the key a rule may draw at random; this one does not.
        return jax.lax.top_k(table[period], CHOSEN)[1]

    return choose


def main() -> None:
    """Trains on the embedded digits, of which each client has two classes or so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds

    train, test = (load("digits", split=s, image_size=32) for s in ("train", "test"))
    clients = shards(np.random.default_rng(0), train.label, CLIENTS)
    algorithm = fedavg(
        cifar_cnn(width=0.1),
        FedLPQConfig(cohort_size=CHOSEN),
        num_clients=CLIENTS,
        input_shape=train.image.shape[1:],
    )
    lengths = dict(rounds=rounds, batch_size=10, eval_every=rounds)
    for name, choose in (("uniform", None), ("best channel", best_channel(rounds))):
        chosen = algorithm._replace(draw=partial(algorithm.draw, choose=choose))
        run = partial(simulate, chosen, train, clients, test=test, **lengths)
        _, history = jax.jit(run)(jax.random.key(0))
        accuracy = float(history.evaluation[""].accuracy[-1])
        # `[evaluations, rounds, K]` to `[rounds, K]`.
        done = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), history.rounds)
        seconds = round_costs(CHANNEL, record_of(done)).seconds.sum()
        asked = len(np.unique(done.client_id))
        print(f"{name}: accuracy {accuracy:.3f}, {seconds:.2f} s, {asked} clients")


if __name__ == "__main__":
    main()
