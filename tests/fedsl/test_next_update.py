"""Messages seen from a checkpoint are those of the rounds that follow."""

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
from fedjax_sl.reports.last_checkpoint import last_checkpoint
from fedjax_sl.runs.build import prepare
from fedjax_sl.simulation import run_rounds, start
from fedjax_sl.traffic import bits, traffic
from tests.fedsl.test_u_shape import cut
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


@pytest.mark.slow
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


CODED = CompressorConfig(kind="qsgd", bits=5, coder="rice")
ON_LINKS = dataclasses.replace(
    CONFIG,
    cohort_size=3,
    dropout_rate=0.3,
    activations=CODED,
    cut_gradients=dataclasses.replace(CODED, bits=7),
    models=dataclasses.replace(CODED, bits=6, feedback="error"),
)
COLUMNS = {
    "activations": "activations_up",
    "cut_gradients": "gradients_down",
    "models": "model_down",
}


@pytest.fixture(scope="module")
def on_links():
    """The method, its state before each of four rounds, and their links."""
    made = fedsl(tiny_model(), ON_LINKS, num_clients=4)
    key, how = jax.random.key(FedSLRun().seed), {"rounds": 1, "batch_size": 16}

    @jax.jit
    def one(state, first):
        return run_rounds(made, state, TRAIN, OWNED, key, first=first, **how)

    states, links = [start(made, key)], []
    for number in range(4):
        state, metrics = one(states[-1], number)
        states.append(state)
        links.append((metrics.client_id[0].tolist(), metrics.links))
    return made, states, links


@pytest.mark.slow
@pytest.mark.parametrize("link", COLUMNS)
@pytest.mark.parametrize("done", [1, 3])
def test_on_every_link_it_is_as_long_as_the_round_counts(on_links, link, done):
    """Padding, dropped activations and pruned channels are in no message."""
    made, states, links = on_links
    restored = Restored(made, states[done], TRAIN, OWNED)
    run = FedSLRun(method=ON_LINKS, batch_size=16)
    seen = LastCheckpoint(run, {"round": done}, lambda: restored)
    sent = sent_next(seen, link)
    # A model is sent when a period begins, the others in every round.
    assert sent is not None and sent.rounds == (3 if link == "models" else done)
    ids, counted = links[sent.rounds]
    counted = getattr(counted, COLUMNS[link])
    counted = jax.tree.map(lambda leaf: int(leaf[0][ids.index(sent.client)]), counted)
    lengths = [
        sent.compressor.wire.encode(payload, np.asarray(sent.masks[name])).num_bits
        for name, payload in sent.layers.items()
    ]
    # Which filters are pruned goes up beside the activations when a period begins.
    begins = link == "activations" and done == 3
    mask_bits = sizes_of(ON_LINKS, tiny_model()).mask.at_cut if begins else 0
    assert sum(lengths) + mask_bits == counted.more + counted.side > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("link", "column"),
    [("features", "features_down"), ("feature_gradients", "gradients_up")],
)
def test_so_it_is_at_a_second_cut(link, column):
    top = CompressorConfig(kind="top_k", keep=0.4)
    method = dataclasses.replace(ON_LINKS, features=CODED, feature_gradients=top)
    made = fedsl(cut(1, 1), method, num_clients=4)
    key, how = jax.random.key(FedSLRun().seed), {"rounds": 1, "batch_size": 16}
    first = start(made, key)
    _, metrics = jax.jit(
        lambda state: run_rounds(made, state, TRAIN, OWNED, key, first=0, **how)
    )(first)
    restored = Restored(made, first, TRAIN, OWNED)
    run = FedSLRun(method=method, batch_size=16)
    sent = sent_next(LastCheckpoint(run, {"round": 0}, lambda: restored), link)
    assert sent is not None
    slot = metrics.client_id[0].tolist().index(sent.client)
    counted = jax.tree.map(lambda x: int(x[0][slot]), getattr(metrics.links, column))
    ((name, payload),) = sent.layers.items()
    length = sent.compressor.wire.encode(payload, np.asarray(sent.masks[name])).num_bits
    assert length == bits(counted) > 100


def test_at_the_cut_clients_that_go_one_after_another_are_refused():
    relay = dataclasses.replace(ON_LINKS, server_update="sequential")
    seen = LastCheckpoint(FedSLRun(method=relay), {"round": 1}, dict)
    with pytest.raises(ValueError, match="link='activations': expected clients side"):
        sent_next(seen, "activations")


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


@pytest.mark.slow
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
