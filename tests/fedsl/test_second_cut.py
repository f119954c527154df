"""Compressors at the second cut of a U-shaped network."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors import send
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.errors import InputError
from fedjax_sl.federation import clients
from fedjax_sl.federation.server_pass import mean_loss, to_tails
from fedjax_sl.fedsl import fedsl
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.estimates.traffic import at_rounds, expected, most
from fedjax_sl.fedsl.second_cut import second_cut
from fedjax_sl.fedsl.state import FEATURE_GRADIENTS, FEATURES
from fedjax_sl.models.split import apply
from fedjax_sl.traffic import record_of
from tests.fedsl.test_u_shape import ON, PLAIN, cut, played
from tests.worlds import (
    assert_close,
    assert_equal,
    batches_of,
    tiny_cohort,
    with_batches,
)


TOP = CompressorConfig(kind="top_k", keep=0.3)
RANDOM = CompressorConfig(kind="random_k", keep=0.5)
COARSE = CompressorConfig(kind="uniform", bits=4)
BATCH = 5
VALUES = math.prod(cut(1, 2).tail_shape())


def compressed(config, features=None, gradients=None):
    given = {"features": features, "feature_gradients": gradients}
    given = {name: how for name, how in given.items() if how is not None}
    return dataclasses.replace(config, **given)


def record(reports):
    return record_of(jax.tree.map(lambda *x: np.stack(x), *reports))


@pytest.mark.slow
@pytest.mark.parametrize(
    "features", [None, TOP, RANDOM], ids=["whole", "top", "random"]
)
@pytest.mark.parametrize("gradients", [None, COARSE], ids=["whole", "coarse"])
def test_a_step_by_hand(key, features, gradients):
    """The tail sees what arrives; the server has the gradient of what it sent."""
    config, model = compressed(PLAIN, features, gradients), cut(1, 2)
    batch = jax.tree.map(
        lambda x: x[:, 0], batches_of(tiny_cohort(key, 3, batch=BATCH))
    )
    batch = batch._replace(weight=batch.weight.at[1, 3:].set(0.0))
    real, ids = batch.weight > 0, jnp.arange(3)
    params = model.init(key)
    _, tail = model.parts(params.client)
    activations = jax.random.normal(key, (3, BATCH, *model.cut_shape()))
    own = client_configs(config, ids)

    def found():
        return to_tails(
            model,
            params.server,
            activations,
            batch,
            weights=jnp.full((3,), 1 / 3),
            layers=model.tail,
            tail=jax.tree.map(lambda x: jnp.stack([x] * 3), tail),
            each=clients.at_once,
            second=second_cut(config, own, ids, key, real=real),
        )

    def by_hand():
        def forward(server, k):
            half = {**params.server, "params": server}
            return apply(model.server, half, activations[k], train=True)[0]

        total = jax.tree.map(jnp.zeros_like, params.server["params"])
        losses, of_tails = [], []
        for k in range(3):
            at = jax.tree.map(lambda x, k=k: x[k], batch)
            own_keys = [
                clients.client_keys(key, ids, use)[k]
                for use in (FEATURES, FEATURE_GRADIENTS)
            ]
            sent, back = jax.vjp(lambda p, k=k: forward(p, k), params.server["params"])
            mask = jnp.broadcast_to(real[k].reshape(-1, 1, 1, 1), sent.shape)

            def down(x, mask=mask, keys=own_keys):
                if features is None:
                    return x, mask
                received = send(features.compressor(), keys[0], x, mask)
                return received.values, received.sent

            arrived, through, mask = jax.vjp(down, sent, has_aux=True)

            def loss(variables, x, at=at):
                half = {**tail, "params": variables}
                logits, _ = apply(model.tail, half, x, at.weight, train=True)
                return mean_loss(logits, at)

            value, (of_tail, grad) = jax.value_and_grad(loss, argnums=(0, 1))(
                tail["params"], arrived
            )
            if gradients is not None:
                grad = send(gradients.compressor(), own_keys[1], grad, mask).values
            (grad,) = through(jnp.where(mask, grad, 0.0) / 3)
            total = jax.tree.map(jnp.add, total, back(grad)[0])
            losses.append(value)
            of_tails.append(of_tail)
        return jnp.stack(losses), total, of_tails

    with jax.numpy_rank_promotion("allow"):
        losses, server, of_tails = jax.jit(by_hand)()
        served = jax.jit(found)()
    assert_close(served.loss, losses, 1e-5)
    assert_close(served.server, server, 1e-5)
    for k, expected_tail in enumerate(of_tails):
        mine = jax.tree.map(lambda x, k=k: x[k], served.tail)
        assert_close(mine, expected_tail, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["features", "gradients", "both"])
def test_every_bit_by_hand(key, how):
    """4 bits a value and two ends of a range; top-k as a compressor counts it."""
    features = COARSE if how != "gradients" else None
    gradients = COARSE if how != "features" else None
    config, model = compressed(PLAIN, features, gradients), cut(1, 2)
    cohort = tiny_cohort(key, 3, batch=BATCH)
    batches = batches_of(cohort)
    # The second client has two examples of padding.
    weight = batches.weight.at[1, :, 3:].set(0.0)
    cohort = with_batches(cohort, batches._replace(weight=weight))
    _, reports = played(model, config, cohort)
    bits, entries = record(reports).traffic, np.array([5, 3, 5]) * VALUES
    whole, coarse = 32 * entries, 4 * entries + 64
    down = whole if features is None else coarse
    up = whole if gradients is None else coarse
    np.testing.assert_array_equal(bits.features_down, np.tile(down, (3, 1)))
    np.testing.assert_array_equal(bits.gradients_up, np.tile(up, (3, 1)))
    assert (bits.labels_up == 0).all()


@pytest.mark.slow
def test_gradients_go_up_only_for_the_features_that_were_sent(key):
    _, reports = played(cut(1, 2), compressed(PLAIN, TOP), tiny_cohort(key, 3))
    bits = record(reports).traffic
    kept = round(0.3 * BATCH * VALUES)
    assert (bits.gradients_up == 32 * kept).all()


@pytest.mark.slow
def test_more_bits_come_closer_to_whole_features(key):
    cohort = tiny_cohort(key, 3)
    plain, _ = played(cut(1, 2), PLAIN, cohort)

    def distance(bits):
        how = CompressorConfig(kind="uniform", bits=bits)
        state, _ = played(cut(1, 2), compressed(PLAIN, how, how), cohort)
        gaps = jax.tree.map(
            jnp.subtract, state.server["params"], plain.server["params"]
        )
        return float(sum((leaf**2).sum() for leaf in jax.tree.leaves(gaps)) ** 0.5)

    coarse, middle, fine = (distance(bits) for bits in (3, 7, 12))
    assert coarse > 5 * middle > 25 * fine > 0


@pytest.mark.slow
def test_absent_clients_change_nothing(key):
    config = compressed(ON, TOP, COARSE)
    cohort = tiny_cohort(key, 3)
    gone = cohort._replace(num_examples=cohort.num_examples.at[2].set(0))
    batches = batches_of(gone)
    other = with_batches(gone, batches._replace(image=batches.image.at[2].add(1.0)))
    found = [played(cut(1, 1), config, cohort)[0] for cohort in (gone, other)]
    assert_equal(*found)


@pytest.mark.slow
def test_what_is_expected_is_what_a_plain_run_sends(key):
    """And nobody sends more than the bound."""
    config = compressed(PLAIN, COARSE, CompressorConfig(kind="qsgd", bits=6))
    cohort = tiny_cohort(key, 3, batch=BATCH)
    found = record(played(cut(1, 2), config, cohort)[1]).traffic
    kinds = expected(cut(1, 2), config, BATCH)
    told = at_rounds(kinds, np.arange(3), config.interval).traffic
    assert_equal(told, found)
    bounds = most(cut(1, 2), config, np.full(3, BATCH), batch_size=BATCH)
    bounds = at_rounds(bounds, np.arange(3), config.interval).traffic
    assert all((a <= b).all() for a, b in zip(found, bounds, strict=True))


@pytest.mark.slow
def test_each_class_of_devices_has_its_own_bits(key):
    how = dataclasses.replace(COARSE, bits=(4, 8, 4))
    _, reports = played(cut(1, 2), compressed(PLAIN, how, how), tiny_cohort(key, 3))
    bits = record(reports).traffic
    expected_bits = [b * BATCH * VALUES + 64 for b in (4, 8, 4)]
    np.testing.assert_array_equal(bits.features_down[0], expected_bits)
    np.testing.assert_array_equal(bits.gradients_up[0], expected_bits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(features=COARSE),
            "features.kind='uniform': expected 'float32' of",
        ),
        (
            dict(feature_gradients=TOP),
            "feature_gradients.kind='top_k': expected",
        ),
    ],
)
def test_without_a_tail_there_is_nothing_to_compress(options, message):
    config = dataclasses.replace(PLAIN, **options)
    with pytest.raises(InputError, match=message):
        fedsl(cut(1), config)
    fedsl(cut(1, 1), config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(features=dataclasses.replace(TOP, feedback="error")), "expected 'none'"),
        (
            dict(features=TOP, prune_ratio=0.5, scoring="pass"),
            "expected 'float32' with scoring='pass'",
        ),
    ],
)
def test_what_it_cannot_go_with_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(PLAIN, **options)
