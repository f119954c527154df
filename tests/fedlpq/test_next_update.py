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
from tests.fedlpq.test_fedlpq import TwoBlocks
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


def seen_and_links(config):
    """The checkpoint of a round, and by link the bits of each client in the next."""
    run = FedLPQRun(method=config, batch_size=3)
    made = fedlpq(TwoBlocks(), config, num_clients=4, input_shape=SHAPE)
    key, how = jax.random.key(run.seed), {"rounds": 1, "batch_size": run.batch_size}

    @jax.jit
    def one(state, first):
        return run_rounds(made, state, TRAIN, OWNED, key, first=first, **how)

    middle, _ = one(start(made, key), 0)
    _, metrics = one(middle, 1)
    restored = Restored(made, middle, TRAIN, OWNED)
    seen = LastCheckpoint(run, {"round": middle.round}, lambda: restored)
    ids, bits = metrics.client_id[0].tolist(), traffic(metrics.links)
    return seen, {
        "updates": dict(zip(ids, bits.updates_up[0], strict=True)),
        "models": dict(zip(ids, bits.model_down[0], strict=True)),
    }


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
    seen, links = seen_and_links(config)
    bits = links["updates"]
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


@pytest.mark.slow
def test_the_model_is_as_long_as_the_round_counts():
    models = dataclasses.replace(RANGE, feedback="error")
    seen, links = seen_and_links(dataclasses.replace(USUAL, models=models))
    sent = sent_next(seen, "models")
    assert sent is not None and sent.what == "the server's model"
    wire = sent.compressor.wire
    messages = [wire.encode(x, sent.masks[name]) for name, x in sent.layers.items()]
    length = sum(message.num_bits for message in messages)
    assert length == links["models"][sent.client] > 0
    assert sent_next(seen._replace(config=FedLPQRun(method=USUAL)), "models") is None
