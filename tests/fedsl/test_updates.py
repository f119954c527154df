"""Compressed updates and gradients: what is sent, its bits, and what residuals keep."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.traffic import sizes_of
from fedjax_sl.reports.labels import labels
from fedjax_sl.sweep import groups
from fedjax_sl.traffic import traffic
from tests.worlds import (
    assert_close,
    assert_equal,
    played,
    tiny_cohort,
    tiny_model,
)


CLIENTS = 6
PLAIN = FedSLConfig(
    cohort_size=4, interval=2, prune_ratio=0.0, bits=32, dropout_rate=0.0, momentum=0.0
)
TOP = CompressorConfig(kind="top_k", keep=0.05)
RANDOM = CompressorConfig(kind="random_k", keep=0.02)
FEEDBACK = dataclasses.replace(TOP, feedback="error")


def with_updates(updates, **change):
    return dataclasses.replace(PLAIN, updates=updates, **change)


def algorithm(config, **options):
    return fedsl(tiny_model(), config, num_clients=CLIENTS, **options)


def periods(config, key, cohorts, **options):
    """The states after each of some periods of these clients."""
    made = algorithm(config, **options)
    round, state = jax.jit(made.round), jax.jit(made.init)(key)
    states = [state]
    for number, ids in enumerate(cohorts):
        for step in range(int(config.interval)):
            own = jax.random.fold_in(key, number * 10 + step)
            state, metrics = round(state, tiny_cohort(own, ids=ids), own)
        states.append(state)
    return states, metrics


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("link", ["updates", "gradients"])
def test_qsgd_is_the_quantiser(link, interval, key):
    """Rounded to the nearest level, which draws nothing: to the bit, and bits alike."""
    usual = dataclasses.replace(
        PLAIN, rounding="nearest", prune_ratio=0.4, interval=interval
    )
    bits = {"updates": "upload_bits", "gradients": "grad_bits"}[link]
    how = CompressorConfig(kind="qsgd", bits=5, rounding="nearest")
    one, ours = played(key, dataclasses.replace(usual, **{bits: 5}))
    other, theirs = played(key, dataclasses.replace(usual, **{link: how}))
    assert_equal(one.client, other.client)
    assert_equal(one.server, other.server)
    for mine, its in zip(ours, theirs, strict=True):
        assert_equal(traffic(mine.links), traffic(its.links))


@pytest.mark.slow
@pytest.mark.parametrize("link", ["updates", "gradients"])
def test_everything_sent_is_the_plain_scheme(link, key):
    plain, _ = played(key, PLAIN)
    everything = CompressorConfig(kind="top_k", keep=1.0)
    found, _ = played(key, dataclasses.replace(PLAIN, **{link: everything}))
    assert_close(plain.client, found.client, 1e-6)
    sparse, _ = played(key, dataclasses.replace(PLAIN, **{link: TOP}))
    with pytest.raises(AssertionError):
        assert_close(plain.client, sparse.client, 1e-6)


def test_masks_and_statistics_come_on_top(key):
    config = with_updates(TOP, prune_ratio=0.4)
    _, metrics = played(key, config)
    sizes = sizes_of(config, tiny_model())
    up = metrics[-1].links.updates_up
    params = sizes.params * np.asarray(metrics[-1].kept_ratio)
    assert (np.asarray(up.entries) <= 0.05 * params + sizes.tensors).all()
    assert (np.asarray(up.entries) > 0).all() and (up.side > sizes.mask.up).all()
    # Nothing is sent where no period ends.
    assert not np.asarray(metrics[0].links.updates_up.side).any()


@pytest.mark.slow
def test_each_class_of_devices_has_its_own_share(key):
    classes = dataclasses.replace(FEEDBACK, keep=(0.05, 0.5))
    (_, state), metrics = periods(with_updates(classes), key, [range(4)])
    few, many, *rest = metrics.links.updates_up.entries.tolist()
    assert many > 5 * few and rest == [few, many]
    assert len(state.residual) == len(jax.tree.leaves(state.anchor))


def test_numbers_are_traced_and_feedback_is_not():
    kinds = [
        with_updates(TOP),
        with_updates(dataclasses.replace(TOP, keep=0.3)),
        with_updates(FEEDBACK),
    ]
    assert groups(kinds) == [[0, 1], [2]]


def test_only_options_of_its_kind_are_in_a_label():
    runs = [FedSLRun(method=with_updates(how)) for how in (TOP, FEEDBACK)]
    assert labels(runs) == [{"feedback": "none"}, {"feedback": "error"}]
    runs[0] = FedSLRun(method=PLAIN)
    assert labels(runs)[1]["updates"] == "top_k"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activations": FEEDBACK}, "activations.feedback='error': expected 'none'"),
        ({"gradients": FEEDBACK}, "gradients.feedback='error': expected 'none'"),
        ({"updates": TOP, "upload_bits": 8}, "upload_bits=8: expected 32 with updates"),
        ({"gradients": TOP, "grad_bits": 8}, "grad_bits=8: expected 32 with gradients"),
        ({"updates": TOP, "client_update": "relay"}, "updates.kind='top_k': expected"),
        (
            {"updates": FEEDBACK, "noise_multiplier": 1.0, "clip_norm": 1.0},
            "updates.feedback='error' with noise_multiplier: expected 'none'",
        ),
    ],
)
def test_what_excludes_each_other_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(PLAIN, **change)


def test_bits_that_a_compressor_replaces_have_no_effect():
    def idle(**change):
        return set(FedSLRun(method=FedSLConfig(**change)).idle)

    bits = {"bits", "grad_bits", "upload_bits", "down_bits"}
    assert idle() & bits == set()
    assert idle(updates=TOP) & bits == {"upload_bits"}
    assert idle(updates=TOP, gradients=TOP) & bits == {
        "bits",
        "grad_bits",
        "upload_bits",
    }
    assert idle(gradients=TOP, interval=5) & bits == {"grad_bits"}
    one = idle(gradients=TOP, interval=1) & bits
    assert one == {"bits", "grad_bits", "upload_bits"}
    noisy = {"noise_multiplier": 1.0, "clip_norm": 1.0}
    assert idle(gradients=TOP, interval=1, **noisy) & bits == {"grad_bits"}
    assert idle(cut_gradients=TOP) & bits == {"down_bits"}
