"""Each tensor takes as many bits as its error allows, and these are what is counted."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.quantization_error import exact_variance
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.bit_allocation import ALLOCATION_BITS, allocated, tensor_bits
from fedjax_sl.fedsl.quantizer import levels_of, quantized
from fedjax_sl.traffic import bits as bits_of
from tests.worlds import assert_close, assert_equal, played, tiny_model


CONFIG = FedSLConfig(
    cohort_size=4, interval=2, learning_rate=0.05, prune_ratio=0.5, prune_end=0, bits=12
)


def tensors(key):
    """Even entries, a normal tensor, one entry that stands out, and zeros."""
    normal = jax.random.normal(key, (40, 30))
    return {
        "even": jnp.sign(normal),
        "normal": normal,
        "spiked": normal.at[0, 0].set(300.0),
        "zero": jnp.zeros(7),
    }


@pytest.mark.parametrize("error", [0.3, 0.01, 1e-4])
@pytest.mark.parametrize("norm", ["max", "l2"])
def test_the_error_is_kept(key, error, norm):
    config = replace(CONFIG, quantizer_error=error, quantizer_norm=norm)
    tree = tensors(key)
    found = tensor_bits(config, tree, jnp.int32(30))
    for name, x in tree.items():
        levels = levels_of(config, found[name])
        variance = exact_variance(x, levels=levels, norm=norm)
        assert variance <= error * (x * x).sum()


def test_no_bit_too_many(key):
    """One bit fewer, and the bound of the error passes what is allowed."""
    config = replace(CONFIG, quantizer_error=0.01)
    x = tensors(key)["normal"]
    found = tensor_bits(config, {"x": x}, jnp.int32(30))["x"]
    bound = [
        x.size * (jnp.abs(x).max() / levels_of(config, found - fewer)) ** 2 / 4
        for fewer in (0, 1)
    ]
    assert bound[0] <= 0.01 * (x * x).sum() < bound[1]


def test_a_tensor_asks_for_bits_by_its_shape_not_its_size(key):
    config = replace(CONFIG, quantizer_error=0.01)
    tree = tensors(key)
    found = tensor_bits(config, tree, jnp.int32(30))
    assert found["zero"] == 2
    assert found["even"] < found["normal"] < found["spiked"]
    scaled = jax.tree.map(lambda x: 1e-3 * x, tree)
    assert_equal(found, tensor_bits(config, scaled, jnp.int32(30)))
    capped = tensor_bits(config, tree, jnp.int32(4))
    assert_equal(capped, jax.tree.map(lambda b: jnp.minimum(b, 4), found))
    assert_equal(
        jax.tree.map(lambda _: 32, tree), tensor_bits(config, tree, jnp.int32(32))
    )


def test_a_tree_of_bits_is_each_tensor_with_its_own(key):
    tree = tensors(key)
    bits = {"even": 3, "normal": 8, "spiked": 32, "zero": 5}
    bits = jax.tree.map(jnp.int32, bits)
    mixed = quantized(CONFIG, key, tree, bits)
    for name, width in bits.items():
        np.testing.assert_array_equal(
            mixed[name], quantized(CONFIG, key, tree, width)[name]
        )


def test_widths_add_up():
    tree = {"a": jnp.ones((3, 4)), "b": jnp.ones(5)}
    mask = {"a": jnp.array([True, False, True, True]), "b": None}
    least, more = allocated({"a": jnp.int32(7), "b": jnp.int32(4)}, mask, tree)
    assert least * (9 + 5) + more == 9 * 7 + 5 * 4


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("error, bits", [(1e9, 2), (1e-12, 12)])
def test_the_limits_are_fixed_bits(key, error, bits, interval):
    """Any error allowed is 2 bits, none is b, but for saying how wide tensors are."""
    config = replace(CONFIG, interval=interval)
    state, adapted = played(key, replace(config, quantizer_error=error))
    fixed_state, fixed = played(key, replace(config, bits=bits))
    # Two programs round apart, by which a draw may fall to the next of 2^11 levels.
    assert_close(state, fixed_state, 1e-3)
    tensors = len(jax.tree.leaves(tiny_model().init(key).client["params"]))
    extra = bits_of(adapted[-1].links.updates_up) - bits_of(fixed[-1].links.updates_up)
    np.testing.assert_array_equal(extra, ALLOCATION_BITS * tensors)


@pytest.mark.parametrize("interval", [1, 2])
def test_bits_in_between_cost_what_lies_between(key, interval):
    config = replace(CONFIG, interval=interval)
    costs = [
        bits_of(played(key, one)[1][-1].links.updates_up)
        for one in (
            replace(config, bits=2),
            replace(config, quantizer_error=0.05),
            config,
        )
    ]
    assert (costs[0] < costs[1]).all() and (costs[1] < costs[2]).all()


def test_a_bad_error_is_refused():
    with pytest.raises(ValueError, match="quantizer_error=0: expected a number > 0"):
        FedSLConfig(quantizer_error=0)
