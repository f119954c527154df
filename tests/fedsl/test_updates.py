"""Compressed updates and gradients: what is sent, its bits, and what residuals keep."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers
from fedjax_sl.federation import clients
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.memory import feedback_bytes
from fedjax_sl.fedsl.message import entries_of, sent
from fedjax_sl.fedsl.period_start import masks
from fedjax_sl.fedsl.round_kinds import expected, most
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.traffic import sizes_of
from fedjax_sl.reports.labels import labels
from fedjax_sl.sweep import groups
from fedjax_sl.traffic import traffic
from tests.compressors.family import FAMILY, bits_of
from tests.worlds import (
    assert_close,
    assert_equal,
    played,
    tiny_cohort,
    tiny_model,
)


CLIENTS = 6
SOME = ("qsgd-rice", "top_k-qsgd", "random_k", "eden", "power_sgd")
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


@pytest.mark.parametrize("link", ["updates", "gradients"])
def test_everything_sent_is_the_plain_scheme(link, key):
    plain, _ = played(key, PLAIN)
    everything = CompressorConfig(kind="top_k", keep=1.0)
    found, _ = played(key, dataclasses.replace(PLAIN, **{link: everything}))
    assert_close(plain.client, found.client, 1e-6)
    sparse, _ = played(key, dataclasses.replace(PLAIN, **{link: TOP}))
    with pytest.raises(AssertionError):
        assert_close(plain.client, sparse.client, 1e-6)


@pytest.mark.parametrize("name", SOME)
def test_an_update_takes_the_bits_of_its_layers_messages(name, key):
    params = tiny_model().init(key).client["params"]
    config = dataclasses.replace(PLAIN, prune_ratio=0.5)
    mask = masks(config, magnitude_scores(params), 0.5)
    tree = apply_mask(jax.tree.map(lambda x: x + 0.1, params), mask)
    message = sent(config, FAMILY[name], key, tree, mask=mask, bits=jnp.int32(32))
    how, length = FAMILY[name].compressor(), 0
    pairs = zip(
        jax.tree.leaves(tree), jax.tree.leaves(entries_of(mask, tree)), strict=True
    )
    for number, (leaf, keep) in enumerate(pairs):
        payload, _ = how.compress(jax.random.fold_in(key, number), leaf, keep, ())
        length += how.wire.encode(payload, keep).num_bits
    assert bits_of(message.link) == length
    pruned = jax.tree.map(
        lambda x, keep: x[~keep], message.values, entries_of(mask, tree)
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(pruned))


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


@pytest.mark.parametrize("feedback", ["error", "ef21"])
def test_what_is_sent_and_what_is_kept_add_up(feedback, key):
    """w + C(w_k - w + e) + e' = w_k + e, for a cohort of one."""
    one = dataclasses.replace(PLAIN, cohort_size=1)
    how = dataclasses.replace(TOP, feedback=feedback)
    config = dataclasses.replace(one, updates=how)
    (_, middle, end), _ = periods(config, key, [[3], [3]])
    # The same period once more, from the same start, with float32 updates.
    plain = jax.jit(algorithm(one).round)
    state = middle._replace(residual=None)
    for step in range(2):
        own = jax.random.fold_in(key, 10 + step)
        state, _ = plain(state, tiny_cohort(own, ids=[3]), own)
    whole = [leaf[0] for leaf in jax.tree.leaves(state.client["params"])]
    start = [leaf[0] for leaf in jax.tree.leaves(middle.client["params"])]
    found = [leaf[0] for leaf in jax.tree.leaves(end.client["params"])]
    for leaf, before, after, old, new in zip(
        whole, start, found, middle.residual, end.residual, strict=True
    ):
        assert np.asarray(old.kept[3]).any()
        if feedback == "error":
            np.testing.assert_allclose(
                after - before + new.kept[3], leaf - before + old.kept[3], atol=1e-6
            )
        else:
            np.testing.assert_allclose(after - before, new.kept[3], atol=1e-6)
            gap = np.abs((leaf - before) - new.kept[3]).sum()
            assert gap < np.abs((leaf - before) - old.kept[3]).sum()


def test_residuals_follow_the_client_not_its_slot(key):
    cohorts = [[4, 1], [2, 4], [1, 5]]
    states, _ = periods(with_updates(FEEDBACK, cohort_size=2), key, cohorts)
    assert not any(leaf.kept.any() for leaf in states[0].residual)
    for before, after, ids in zip(states[:-1], states[1:], cohorts, strict=True):
        pairs = zip(before.residual, after.residual, strict=True)
        gaps = [np.abs(new.kept - old.kept).reshape(CLIENTS, -1) for old, new in pairs]
        changed = np.concatenate(gaps, axis=1).any(axis=1)
        assert np.flatnonzero(changed).tolist() == sorted(ids)


def test_a_client_whose_message_is_not_used_keeps_its_residual(key):
    config = with_updates(FEEDBACK, interval=1)
    made = algorithm(config)
    round, state = jax.jit(made.round), jax.jit(made.init)(key)
    cohort = tiny_cohort(key)
    state, _ = round(state, cohort, key)
    broken = cohort._replace(
        fault=jnp.asarray([1.0, jnp.nan, 1.0, 1.0]),
        num_examples=cohort.num_examples.at[3].set(0),
    )
    after, metrics = round(state, broken, jax.random.fold_in(key, 1))
    assert metrics.rejected.tolist() == [False, True, False, False]
    for old, new in zip(state.residual, after.residual, strict=True):
        same = [bool((old.kept[k] == new.kept[k]).all()) for k in range(CLIENTS)]
        assert same == [False, True, False, True, True, True]


def test_pruned_entries_neither_go_nor_change_their_residual(key):
    config = with_updates(FEEDBACK, prune_ratio=0.5, prune_end=0)
    states, _ = periods(config, key, [range(4), range(4), range(4)])
    before, after = states[-2:]
    leaves = jax.tree.leaves(before.client["params"])
    masks = jax.tree.leaves(
        jax.vmap(entries_of, in_axes=(0, None))(
            after.mask, jax.tree.map(lambda x: x[0], before.client["params"])
        )
    )
    pruned = 0
    for leaf, mask, old, new in zip(
        leaves, masks, before.residual, after.residual, strict=True
    ):
        assert leaf.shape == mask.shape
        pruned += (~mask).sum()
        np.testing.assert_array_equal(old.kept[:4][~mask], new.kept[:4][~mask])
        assert (old.kept[:4][mask] != new.kept[:4][mask]).any()
    assert pruned > 0


def test_mappings_agree(key):
    config = with_updates(dataclasses.replace(FEEDBACK, kind="sign"), interval=1)
    ends = [
        periods(config, key, [range(4), [5, 0, 1, 2]], over_clients=mapping)[0][-1]
        for mapping in (clients.scan, clients.vmap, clients.chunks(3))
    ]
    for other in ends[1:]:
        assert_close(ends[0].client, other.client, 1e-4)
        assert_close(ends[0].residual, other.residual, 1e-4)


@pytest.mark.parametrize("link", ["updates", "gradients"])
@pytest.mark.parametrize("name", SOME)
def test_no_round_takes_more_than_the_most(name, link):
    interval = {"updates": 2, "gradients": 1}[link]
    config = dataclasses.replace(PLAIN, cohort_size=2, interval=interval)
    config = dataclasses.replace(config, **{link: FAMILY[name]})
    kinds = expected(tiny_model(), config, batch_size=5).traffic.updates_up
    bound = most(tiny_model(), config, np.array([5, 5]), batch_size=5)
    assert (kinds <= bound.traffic.updates_up).all() and (kinds[[1, 3]] > 0).all()


def test_a_gradient_that_is_the_message_is_bounded(key):
    config = dataclasses.replace(PLAIN, interval=1, gradients=TOP)
    _, metrics = played(key, config, rounds=1)
    up = np.asarray(traffic(metrics[0].links).updates_up)
    bound = most(tiny_model(), config, np.array([5] * 4), batch_size=5)
    whole = most(tiny_model(), PLAIN, np.array([5] * 4), batch_size=5)
    assert (up > 0).all() and (up <= bound.traffic.updates_up[3]).all()
    assert (bound.traffic.updates_up[3] < 0.2 * whole.traffic.updates_up[3]).all()


def test_each_class_of_devices_has_its_own_share(key):
    classes = dataclasses.replace(FEEDBACK, keep=(0.05, 0.5))
    (_, state), metrics = periods(with_updates(classes), key, [range(4)])
    few, many, *rest = metrics.links.updates_up.entries.tolist()
    assert many > 5 * few and rest == [few, many]
    assert len(state.residual) == len(jax.tree.leaves(state.anchor))


def test_memory_is_that_of_the_state(key):
    config = with_updates(FEEDBACK)
    state = jax.eval_shape(algorithm(config).init, key)
    kept = sum(4 * leaf.size for leaf in jax.tree.leaves(state.residual))
    assert feedback_bytes(tiny_model(), config, CLIENTS) == kept > 0
    assert feedback_bytes(tiny_model(), with_updates(TOP), CLIENTS) == 0


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


def test_random_k_is_sent_without_its_factor_under_feedback(key):
    how = CompressorConfig(kind="random_k", keep=0.1, feedback="error").compressor()
    x, mask = jnp.ones(50), jnp.ones(50, bool)
    (state,) = init_layers(how, [x])
    payload, state = how.compress(key, x, mask, state)
    found = np.asarray(how.decompress(key, payload, mask))
    assert sorted(set(found.tolist())) == [0.0, 1.0] and found.sum() == 5
    np.testing.assert_array_equal(state.kept, 1.0 - found)


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


def test_feedback_needs_clients_and_a_contraction(key):
    with pytest.raises(ValueError, match="num_clients=None: expected the number of cl"):
        fedsl(tiny_model(), with_updates(FEEDBACK)).init(key)
    with pytest.raises(ValueError, match="feedback='error' with kind='terngrad'"):
        CompressorConfig(kind="terngrad", feedback="error")
    with pytest.raises(ValueError, match="feedback='ef21' with values='terngrad'"):
        CompressorConfig(kind="top_k", values="terngrad", feedback="ef21")
    CompressorConfig(kind="sign", values="terngrad", feedback="error")
    # Without a compressor there is nothing to keep.
    idle = with_updates(CompressorConfig(feedback="error"))
    assert fedsl(tiny_model(), idle).init(key).residual is None


@pytest.mark.parametrize(
    "updates", [RANDOM, dataclasses.replace(RANDOM, feedback="error")]
)
def test_an_update_that_is_no_number_is_rejected_whatever_is_drawn(updates, key):
    """Of one entry, which random-k hardly ever draws."""

    def spoilt(rate):
        def update(grads, state, params=None):
            leaves, structure = jax.tree.flatten(jax.tree.map(jnp.zeros_like, grads))
            leaves[1] = leaves[1].at[0].set(jnp.nan)
            return structure.unflatten(leaves), state

        return optax.GradientTransformation(lambda params: (), update)

    config = with_updates(updates, interval=1)
    made = algorithm(config, client_optimizer=spoilt)
    state, cohort = jax.jit(made.init)(key), tiny_cohort(key)
    after, metrics = jax.jit(made.round)(state, cohort, key)
    assert metrics.rejected.all()
    assert_equal(after.anchor, state.anchor)
    for leaf in jax.tree.leaves(after.residual):
        assert not leaf.any()


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
