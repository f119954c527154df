"""Compressors in an optimiser: what a training loop with optax has of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

from fedjax_sl.compressors import ef21, error_feedback, identity, qsgd, top_k
from fedjax_sl.compressors.gradient_transformation import (
    CompressedState,
    compressed_gradients,
)
from tests.compressors.family import FAMILY, bits_of


STEPS, RATE = 400, 0.5


def digits():
    """Half of scikit-learn's digits to train on, half to test."""
    data = load_digits()
    image, label = data.data.astype(np.float32) / 16, data.target
    return (image[:900], label[:900]), (image[900:], label[900:])


def loss(params, image, label):
    logits = image @ params["kernel"] + params["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()


def trained(compressor, steps=STEPS):
    """Accuracy of a linear classifier, and its optimiser's last state."""
    (image, label), (test, truth) = digits()
    optimizer = optax.chain(
        compressed_gradients(compressor, jax.random.key(0)), optax.sgd(RATE)
    )
    params = {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)}

    @jax.jit
    def step(carry, _):
        params, state = carry
        grad = jax.grad(loss)(params, image, label)
        updates, state = optimizer.update(grad, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    (params, state), _ = jax.lax.scan(step, start, length=steps)
    found = (test @ params["kernel"] + params["bias"][None]).argmax(axis=1)
    return float((found == truth).mean()), state[0]


def test_float32_leaves_gradients_as_they_are(key):
    transformation = compressed_gradients(identity(), key)
    grads = {"a": jax.random.normal(key, (3, 4)), "b": jnp.ones(2)}
    updates, state = transformation.update(grads, transformation.init(grads))
    jax.tree.map(np.testing.assert_array_equal, updates, grads)
    assert isinstance(state, CompressedState)
    assert bits_of(state.bits) == 32 * 14 and state.count == 1


@pytest.mark.parametrize("name", FAMILY)
def test_every_compressor_may_be_scanned(name):
    _, state = trained(FAMILY[name].compressor(), steps=3)
    assert state.count == 3 and bits_of(state.bits) > 0


def test_messages_are_drawn_anew():
    transformation = compressed_gradients(qsgd(bits=2), jax.random.key(0))
    grads = {"a": jax.random.normal(jax.random.key(1), (100,))}
    first, state = transformation.update(grads, transformation.init(grads))
    second, _ = transformation.update(grads, state)
    assert (first["a"] != second["a"]).any()


@pytest.mark.slow
def test_error_feedback_trains_with_a_hundredth_of_the_entries():
    whole, _ = trained(identity())
    # 6 of 640 weights, and one of 10 biases.
    sparse, plain = top_k(keep=0.01), trained(top_k(keep=0.01))[0]
    for feedback in (error_feedback, ef21):
        accuracy, state = trained(feedback(sparse))
        assert bits_of(state.bits) < 32 * 650 / 50
        assert whole - accuracy < 0.01
    assert whole - plain > 0.05
