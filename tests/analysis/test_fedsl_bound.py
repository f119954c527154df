"""The bound, its table, its limits, and constants that are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjax_sl.algorithm import Cohort, Examples
from fedjax_sl.analysis.fedsl_bound import Constants, Setting, bound, rounds_needed
from fedjax_sl.theory.bound_constants import estimate
from tests.worlds import CLASSES, SHAPE, tiny_model


LAYERS = 19
ONES = np.ones(LAYERS)
CONSTANTS = Constants(1.0, 2.3, ONES, 0.1 * ONES, 0.01 * ONES)
USUAL = Setting(rounds=1000, learning_rate=0.01, clients=10, interval=5, cut=4)


@pytest.mark.parametrize(
    ("interval", "cut", "q", "rho", "kappa", "expected"),
    [
        (1, 4, 0, 0, 0, (0.46, 0.019, 0, 0, 0)),
        (5, 4, 0, 0, 0, (0.46, 0.019, 0.004, 0, 0)),
        (5, 8, 0, 0, 0, (0.46, 0.019, 0.008, 0, 0)),
        (5, 4, 0.1, 0, 0, (0.46, 0.01904, 0.0044, 0, 0)),
        (5, 4, 0.1, 0.35, 0.05, (0.46, 0.01904, 0.0132, 0.042, 0.06)),
    ],
)
def test_the_worked_table(interval, cut, q, rho, kappa, expected):
    setting = USUAL._replace(
        interval=interval, cut=cut, quantization=q, pruned=rho, masked=kappa
    )
    terms = bound(CONSTANTS, setting)
    np.testing.assert_allclose(terms[:5], expected, rtol=1e-12)
    assert terms.total == pytest.approx(sum(expected))


def test_uploads_and_dropout_add_terms():
    setting = USUAL._replace(quantization=0.1, upload=0.2, dropout=0.3)
    terms = bound(CONSTANTS, setting)
    assert terms.upload == pytest.approx(0.001 * 0.2 * 5 * 1.1 * 0.4)
    assert terms.dropout == 0.3
    assert bound(CONSTANTS, setting._replace(interval=1)).upload == 0


RISING = {
    "interval": st.integers(1, 20),
    "cut": st.integers(1, LAYERS),
    "quantization": st.floats(0, 2),
    "pruned": st.floats(0, 0.9),
    "masked": st.floats(0, 1),
    "upload": st.floats(0, 2),
}


@given(
    st.fixed_dictionaries(RISING), st.sampled_from(sorted(RISING)), st.floats(1.1, 3)
)
def test_it_rises_with_whatever_makes_training_harder(chosen, name, factor):
    more = chosen[name] * factor
    if name == "interval":
        more = int(more) + 1
    if name == "cut":
        more = min(LAYERS, int(more))
    before = bound(CONSTANTS, USUAL._replace(**chosen)).total
    after = bound(CONSTANTS, USUAL._replace(**{**chosen, name: more})).total
    assert after >= before * (1 - 1e-12)


def test_rounds_needed_are_those_after_which_the_bound_holds():
    for interval in (1, 5, 7):
        here = USUAL._replace(interval=interval)
        needed = rounds_needed(CONSTANTS, here, 0.1)
        assert needed % interval == 0
        assert bound(CONSTANTS, here._replace(rounds=needed)).total <= 0.1
        before = here._replace(rounds=needed - interval)
        assert bound(CONSTANTS, before).total > 0.1
    assert rounds_needed(CONSTANTS, USUAL, 0.02) == np.inf


def test_what_is_needed_at_least_is_a_period():
    """Were it less, nothing would ever be aggregated, or charged for."""
    loose = USUAL._replace(interval=20)
    assert rounds_needed(CONSTANTS, loose, 1000.0) == 20


def test_a_rate_that_the_theorem_does_not_cover():
    with pytest.raises(ValueError, match="learning_rate=1.5: .* 1 / beta, 1"):
        bound(CONSTANTS, USUAL._replace(learning_rate=1.5))
    with pytest.raises(ValueError, match="smoothness=0: expected more than 0"):
        bound(CONSTANTS._replace(smoothness=0.0), USUAL)


@pytest.mark.slow
def test_estimated_constants_are_what_the_gradients_show(key):
    """Two batches a client: mean square and variance by hand, at one of two points."""
    model = tiny_model()
    points = [model.init(jax.random.fold_in(key, n)) for n in range(2)]
    image = jax.random.normal(key, (12, *SHAPE))
    label = jax.random.randint(key, (12,), 0, CLASSES)
    cohort = Cohort(
        client_id=jnp.arange(2),
        index=jnp.arange(12).reshape(2, 2, 3),
        weight=jnp.ones((2, 2, 3)),
        num_examples=jnp.full((2,), 6),
        examples=Examples(image, label),
    )
    found, measured = estimate(model, points, cohort)
    assert measured.shape == (2,)

    def grad(point, rows):
        def loss(point):
            logits = model.predict(point, image[rows])
            picked = jax.nn.log_softmax(logits)[jnp.arange(3), label[rows]]
            return -picked.mean()

        both = jax.grad(loss)(point)
        return {**both.client["params"], **both.server["params"]}

    layer, square, variance, weight = "stage_01", [], [], []
    for point in points:
        params = {**point.client["params"], **point.server["params"]}
        weight.append(sum(float((w**2).sum()) for w in jax.tree.leaves(params[layer])))
        for client in range(2):
            pair = [
                jnp.concatenate(
                    [x.reshape(-1) for x in jax.tree.leaves(grad(point, rows)[layer])]
                )
                for rows in cohort.index[client]
            ]
            square.append(float(sum((g**2).sum() for g in pair) / 2))
            variance.append(float(((pair[0] - pair[1]) ** 2).sum() / 2))
    np.testing.assert_allclose(found.gradient[1], max(square), rtol=1e-3)
    np.testing.assert_allclose(found.variance[1], max(variance), rtol=1e-3)
    np.testing.assert_allclose(found.weight[1], max(weight), rtol=1e-4)
    assert len(found.gradient) == 4 and found.smoothness > 0 and found.gap > 0


def test_one_point_is_not_enough(key):
    model = tiny_model()
    cohort = Cohort(
        jnp.arange(1),
        jnp.zeros((1, 2, 3), jnp.int32),
        jnp.ones((1, 2, 3)),
        jnp.full((1,), 6),
        Examples(jnp.zeros((1, *SHAPE)), jnp.zeros(1, jnp.int32)),
    )
    with pytest.raises(ValueError, match="1 points"):
        estimate(model, [model.init(key)], cohort)
