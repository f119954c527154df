"""The update seen from a checkpoint is the one that the next round sends."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.data import Partition
from fedjax_sl.federation.level_config import LevelConfig
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.next_update import sent_next
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.method_spec import LastCheckpoint, Restored
from fedjax_sl.simulation import run_rounds, start
from fedjax_sl.traffic import traffic
from tests.compressors.family import FAMILY
from tests.fedlpq.test_fedlpq import Tiny
from tests.worlds import SHAPE, tiny_dataset, tiny_partition


TRAIN = tiny_dataset()
# Client 2 has the most examples.
COUNT = np.array([3, 6, 12, 9])
INDEX = tiny_partition(TRAIN).index
OWNED = Partition(np.where(np.arange(12) < COUNT[:, None], INDEX, -1), COUNT)
USUAL = FedLPQConfig(
    cohort_size=4, keep_probability=1.0, bits=5, code="delta", charge_statistics=False
)
RANGE = CompressorConfig(kind="qsgd", bits=6, coder="range")


def with_updates(updates, **change):
    return dataclasses.replace(USUAL, updates=updates, **change)


def seen_and_sent(config):
    """The checkpoint of a round, and the bits of each client's next update."""
    run = FedLPQRun(method=config, batch_size=3)
    made = fedlpq(Tiny(), config, num_clients=4, input_shape=SHAPE)
    key, how = jax.random.key(run.seed), {"rounds": 1, "batch_size": run.batch_size}

    @jax.jit
    def one(state, first):
        return run_rounds(made, state, TRAIN, OWNED, key, first=first, **how)

    middle, _ = one(start(made, key), 0)
    _, metrics = one(middle, 1)
    restored = Restored(made, middle, TRAIN, OWNED)
    seen = LastCheckpoint(run, {"round": middle.round}, lambda: restored)
    ids = metrics.client_id[0].tolist()
    return seen, dict(zip(ids, traffic(metrics.links).updates_up[0], strict=True))


@pytest.mark.parametrize(
    "config",
    [
        USUAL,
        dataclasses.replace(USUAL, code="range"),
        with_updates(dataclasses.replace(RANGE, feedback="error")),
        with_updates(dataclasses.replace(FAMILY["top_k-qsgd"], feedback="ef21")),
        with_updates(
            RANGE, levels=LevelConfig(adapt="client"), client_weight="examples"
        ),
    ],
    ids=["elias", "range", "error", "ef21", "levels"],
)
def test_it_is_as_long_as_the_round_counts(config):
    """In codes whose length depends on the levels, and these on the residual."""
    seen, bits = seen_and_sent(config)
    sent = sent_next(seen)
    assert sent is not None and (sent.rounds, sent.client) == (1, 2)
    length, wire = 0, sent.compressor.wire
    for name, payload in sent.layers.items():
        message = wire.encode(payload, sent.masks[name])
        read = wire.decode(jax.random.key(0), message, sent.masks[name])
        assert wire.encode(read, sent.masks[name]) == message
        # And a flag for each layer.
        length += message.num_bits + 1
    assert length == bits[2]
    if config.levels.active:
        # The client with most examples has more levels than the 31 of 6 bits.
        said = dict(part.split("=") for part in sent.said.split(", "))
        assert {"kind": "qsgd", "coder": "range"}.items() <= said.items()
        assert int(said["levels"]) > 31 and "keep" not in said
