import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression import (
    keep_mask,
    magnitude_scores,
    random_scores,
    taylor_scores,
)


def test_taylor_scores_of_a_worked_example():
    params = {"unit": {"kernel": jnp.array([[1.0], [-2.0], [3.0], [0.5]])}}
    grads = {"unit": {"kernel": jnp.array([[0.2], [0.1], [-0.01], [0.0]])}}
    scores = taylor_scores(params, grads)
    expected = np.array([[0.04], [0.04], [0.0009], [0.0]])
    np.testing.assert_allclose(scores["unit"]["kernel"], expected, rtol=1e-5)
    for ranking, kept_places in (
        (scores, [True, True, False, False]),
        (magnitude_scores(params), [False, True, True, False]),
    ):
        mask = keep_mask(ranking, 0.5, granularity="weight")
        np.testing.assert_array_equal(mask["unit"]["kernel"][:, 0], kept_places)


def test_taylor_score_is_the_squared_loss_change_of_a_linear_loss(key):
    slopes, w = jax.random.normal(key, (2, 6, 1))

    def loss(w):
        return (slopes * w).sum()

    tree = {"unit": {"kernel": w}}
    scores = taylor_scores(tree, jax.grad(lambda t: loss(t["unit"]["kernel"]))(tree))
    for place in range(6):
        change = loss(w) - loss(w.at[place].set(0.0))
        np.testing.assert_allclose(
            scores["unit"]["kernel"][place, 0], change**2, rtol=1e-3, atol=1e-6
        )


def test_random_scores_differ_between_keys_and_kernels(key):
    tree = {unit: {"kernel": jnp.ones((3, 3, 3, 3))} for unit in ("first", "second")}
    first, second = jax.tree.leaves(random_scores(key, tree))
    assert (first != second).any()
    assert (first != jax.tree.leaves(random_scores(jax.random.key(1), tree))[0]).any()
