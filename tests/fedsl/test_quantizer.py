"""What the quantiser promises: bits that hold its values, and a bound of its error."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import differential_evolution

from fedjax_sl.compression.quantization_error import exact_variance
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.bit_allocation import tensor_bits
from fedjax_sl.fedsl.estimates.traffic import expected
from fedjax_sl.fedsl.quantizer import (
    coded_bits,
    levels_of,
    quantized,
    variance_factor,
)
from tests.draws import examples
from tests.worlds import tiny_model


FORMS = [
    *itertools.product(("max", "l2"), ("2^(b-1)-1", "2^b-1", "2^b")),
    ("range", "2^(b-1)-1"),
]
every_form = pytest.mark.parametrize(("norm", "levels"), FORMS)


def config_of(norm, levels, **rest):
    return FedSLConfig(quantizer_norm=norm, quantizer_levels=levels, **rest)


def values_of(config, bits):
    """How many values a number can take, s as the arithmetic has it, in float32."""
    intervals = int(np.float32(levels_of(config, jnp.int32(bits))))
    return intervals + 1 if config.quantizer_norm == "range" else 2 * intervals + 1


@every_form
def test_the_bits_charged_tell_all_values_apart(norm, levels):
    config = config_of(norm, levels)
    for bits in range(2, 32):
        charged = int(coded_bits(config, jnp.int32(bits)))
        needed = (values_of(config, bits) - 1).bit_length()
        assert charged == max(needed, min(bits, charged)), bits
        if bits <= 30:
            assert charged == needed, bits
    assert coded_bits(config, jnp.int32(32)) == 32


@pytest.mark.parametrize(
    ("norm", "levels", "values", "charged"),
    [
        ("max", "2^(b-1)-1", 15, 4),
        ("max", "2^b-1", 31, 5),
        ("l2", "2^b", 33, 6),
        ("range", "2^b", 16, 4),
    ],
)
def test_four_bits(key, norm, levels, values, charged):
    """The values that a fine ramp takes, counted; a ramp of two entries for the l2."""
    config = config_of(norm, levels)
    ramp = jnp.linspace(-1.0, 1.0, 4001)
    taken = np.asarray(quantized(config, key, ramp, jnp.int32(4)))
    if norm == "l2":
        # Of two entries one may be nearly all of the norm.
        pairs = jnp.stack([ramp, 1e-6 * jnp.ones_like(ramp)], axis=1)
        taken = jax.vmap(lambda x: quantized(config, key, x, jnp.int32(4)))(pairs)
        taken = np.asarray(taken[:, 0] / jnp.linalg.norm(pairs, axis=1))
        # Each pair has its own norm, so that only the ends are sure to be levels.
        assert values == values_of(config, 4)
        assert taken.max() == pytest.approx(1) and taken.min() == pytest.approx(-1)
    else:
        assert len(np.unique(taken.round(5))) == values
    assert coded_bits(config, jnp.int32(4)) == charged


@pytest.mark.parametrize(
    ("norm", "levels", "more", "norms"),
    [("max", "2^b-1", 1, 1), ("l2", "2^b", 2, 1), ("range", "2^b", 0, 2)],
)
def test_updates_and_gradients_take_what_their_values_need(norm, levels, more, norms):
    """Recounted by hand: numbers times bits, and the norms beside them."""
    config = config_of(
        norm,
        levels,
        cohort_size=2,
        interval=1,
        prune_ratio=0.0,
        dropout_rate=0.0,
        bits=4,
        down_bits=3,
    )
    sent = expected(tiny_model(), config, batch_size=5).traffic
    entries, tensors = (9 * 2 * 4 + 4) + (9 * 4 * 6 + 6), 4
    update = (4 + more) * entries + 32 * norms * tensors
    np.testing.assert_array_equal(sent.updates_up[3], [update] * 2)
    gradient = (3 + more) * 5 * 4 * 4 * 6 + 32 * norms
    np.testing.assert_array_equal(sent.gradients_down[0], [gradient] * 2)


@every_form
def test_wider_tensors_are_charged_as_much_more_as_they_are_wider(key, norm, levels):
    """What `widths` counts as more, b by b, is what the bits charged are apart."""
    config = config_of(norm, levels, quantizer_error=1e-30)
    bits = jnp.arange(2, 31)
    assert (jnp.diff(coded_bits(config, bits)) == 1).all()
    widest = tensor_bits(config, {"x": jax.random.normal(key, (9,))}, jnp.int32(31))
    assert widest["x"] == bits.max()


def intervals_of(config, bits):
    """s, of a form and b, as in the words of the options."""
    if config.quantizer_norm == "range":
        return 2**bits - 1
    return {"2^(b-1)-1": 2 ** (bits - 1) - 1, "2^b-1": 2**bits - 1, "2^b": 2**bits}[
        config.quantizer_levels
    ]


def error_of(config, x, bits):
    """E|Q(x) - x|^2 in float64, from where the entries lie between the levels."""
    x, intervals = np.asarray(x, np.float64), intervals_of(config, bits)
    if config.quantizer_norm == "range":
        step, offset = (x.max() - x.min()) / intervals, x - x.min()
    else:
        norm = np.abs(x).max() if config.quantizer_norm == "max" else np.sqrt(x @ x)
        step, offset = norm / intervals, np.abs(x)
    if step == 0:
        return 0.0
    place = offset / step
    share = place - np.floor(place)
    return step**2 * float((share * (1 - share)).sum())


@pytest.mark.parametrize(("size", "bits"), [(3, 2), (9, 4), (1000, 2)])
@every_form
def test_no_tensor_errs_by_more_than_the_factor_says(norm, levels, bits, size):
    """Searched for: two extreme entries, zeros, and others all alike."""
    config = config_of(norm, levels)
    allowed = variance_factor(config, [size], bits)

    def tensor(found):
        low, high, other, zeros = found
        middle = np.full(size - 2, other)
        middle[: int(zeros * (size - 2))] = 0.0
        return np.array([low, high, *middle])

    def excess(found):
        x = tensor(found)
        return -error_of(config, x, bits) / max(x @ x, 1e-30)

    bounds = [(-1, 1), (-1, 1), (-1, 1), (0, 1)]
    worst = differential_evolution(
        excess, bounds, seed=0, popsize=10, maxiter=30, polish=False
    )
    assert -worst.fun <= allowed * (1 + 1e-9)


def test_the_factor_of_the_range_is_reached():
    """Two entries apart, the rest at 0, half-way between two levels."""
    config = config_of("range", "2^b")
    for size, bits in ((3, 2), (1000, 2), (1000, 4)):
        x = np.zeros(size)
        x[:2] = 1.0, -1.0
        reached = error_of(config, x, bits) / (x @ x)
        assert reached == pytest.approx(variance_factor(config, [size], bits))
    assert variance_factor(config, [1, 2], 2) == 0
    assert variance_factor(config, [1000], 32) == 0


@every_form
@settings(max_examples=examples(40))
@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12),
    bits=st.integers(2, 8),
)
def test_the_factor_holds_for_any_tensor(norm, levels, values, bits):
    config, x = config_of(norm, levels), np.array(values)
    allowed = variance_factor(config, [x.size], bits) * (x @ x)
    assert error_of(config, x, bits) <= allowed * (1 + 1e-6) + 1e-12


def test_the_error_here_is_that_of_the_quantiser(key):
    config, x = config_of("max", "2^b"), jax.random.normal(key, (20,))
    levels = levels_of(config, jnp.int32(3))
    expected = exact_variance(x, levels=levels, norm="max")
    np.testing.assert_allclose(error_of(config, x, 3), expected, rtol=1e-3)
