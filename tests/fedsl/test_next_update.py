"""The update seen from a checkpoint is the one that ends the period."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.next_update import sent_next
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.traffic import sizes_of
from fedjax_sl.method_spec import LastCheckpoint, Restored
from fedjax_sl.records.finished_run import read
from fedjax_sl.reports.panels import last_checkpoint
from fedjax_sl.runs.build import prepare
from fedjax_sl.simulation import run_rounds, start
from fedjax_sl.traffic import traffic
from tests.worlds import tiny_dataset, tiny_model, tiny_partition


TRAIN = tiny_dataset()
OWNED = tiny_partition(TRAIN)
RANGE = CompressorConfig(kind="qsgd", bits=6, coder="range", feedback="error")
CONFIG = FedSLConfig(
    cohort_size=4, interval=3, prune_ratio=0.4, prune_end=0, updates=RANGE
)


@pytest.fixture(scope="module")
def rounds():
    """The method, its state after each of six rounds, and the updates of each."""
    made = fedsl(tiny_model(), CONFIG, num_clients=4)
    key, how = jax.random.key(FedSLRun().seed), {"rounds": 1, "batch_size": 5}

    @jax.jit
    def one(state, first):
        return run_rounds(made, state, TRAIN, OWNED, key, first=first, **how)

    states, updates = [start(made, key)], []
    for number in range(6):
        state, metrics = one(states[-1], number)
        states.append(state)
        bits = traffic(metrics.links).updates_up[0]
        updates.append(dict(zip(metrics.client_id[0].tolist(), bits, strict=True)))
    return made, states, updates


@pytest.mark.parametrize("done", [3, 4, 5])
def test_it_is_as_long_as_the_period_s_last_round_counts(rounds, done):
    """Seen from any round of the second period, whose residuals are of the first."""
    made, states, updates = rounds
    restored = Restored(made, states[done], TRAIN, OWNED)
    run = FedSLRun(method=CONFIG, batch_size=5)
    sent = sent_next(LastCheckpoint(run, {"round": done}, lambda: restored))
    assert sent is not None and sent.rounds == 5
    assert sorted(sent.layers)[0] == "stage_00/conv/bias"
    masks = {name: np.asarray(mask) for name, mask in sent.masks.items()}
    assert not all(mask.all() for mask in masks.values())
    lengths = [
        sent.compressor.wire.encode(payload, masks[name]).num_bits
        for name, payload in sent.layers.items()
    ]
    mask_bits = sizes_of(CONFIG, tiny_model()).mask.up
    assert sum(lengths) + mask_bits == updates[5][sent.client] > 0


def test_residuals_in_the_host_s_memory_are_found_there(rounds):
    _, states, _ = rounds
    run, messages = FedSLRun(method=CONFIG, batch_size=5), []
    for store in ("device", "host"):
        made = fedsl(tiny_model(), CONFIG, num_clients=4, residuals=store)
        # As read from a checkpoint.
        restored = Restored(made, jax.device_get(states[5]), TRAIN, OWNED)
        seen = LastCheckpoint(run, {"round": 5}, partial(Restored, *restored))
        sent = sent_next(seen)
        assert sent is not None
        encode = sent.compressor.wire.encode
        pairs = [(sent.layers[name], sent.masks[name]) for name in sent.layers]
        messages.append([encode(*pair) for pair in pairs])
    assert messages[0] == messages[1]


def test_without_a_compressor_of_updates_there_is_none():
    plain = dataclasses.replace(CONFIG, updates=CompressorConfig())
    seen = LastCheckpoint(FedSLRun(method=plain), {"round": 1}, dict)
    assert sent_next(seen) is None


def test_stragglers_send_nothing(tmp_path):
    """The client that is shown is one that the run would wait for."""
    main(
        [
            *("run", "fedsl", "--data.name", "digits", "--model.name", "mlp"),
            *("--model.cut", "1", "--model.width", "0.25", "--rounds", "2"),
            *("--method.interval", "1", "--method.updates.kind", "qsgd"),
            *("--drop-stragglers", "--channel.deadline-s", "0.12"),
            *("--folder", str(tmp_path)),
        ]
    )
    run = read(tmp_path)
    longer = dataclasses.replace(run.config, rounds=run.config.rounds + 1)
    prompt = prepare(longer).in_time[-1]
    assert prompt.any() and not prompt.all()
    seen = last_checkpoint(run)
    assert prompt[sent_next(seen).client]
