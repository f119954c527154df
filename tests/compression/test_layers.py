import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compression.layers import (
    draw_layers,
    from_units,
    per_leaf,
    to_units,
    unit_names,
)


TREE = {
    "block1": {
        "bn": {"bias": jnp.array([5.0]), "scale": jnp.array([4.0])},
        "conv": {"bias": jnp.array([3.0]), "kernel": jnp.array([[1.0], [2.0]])},
    },
    "fc": {"bias": jnp.array([7.0]), "kernel": jnp.array([[6.0]])},
}


@pytest.mark.parametrize(
    "by, units",
    [
        ("module", {"block1/conv": [1, 2, 3], "block1/bn": [4, 5], "fc": [6, 7]}),
        ("block", {"block1": [1, 2, 3, 4, 5], "fc": [6, 7]}),
        (
            "tensor",
            {
                "block1/conv/kernel": [1, 2],
                "block1/conv/bias": [3],
                "block1/bn/scale": [4],
                "block1/bn/bias": [5],
                "fc/kernel": [6],
                "fc/bias": [7],
            },
        ),
    ],
)
def test_units_hold_kernels_before_biases_and_come_back(by, units):
    vectors = to_units(TREE, by=by)
    assert {name: v.tolist() for name, v in vectors.items()} == units
    assert unit_names(TREE, by=by) == sorted(units)
    back = from_units(vectors, TREE, by=by)
    for layer in ("bn", "conv"):
        for name, leaf in TREE["block1"][layer].items():
            np.testing.assert_array_equal(back["block1"][layer][name], leaf)
    numbers = {name: place for place, name in enumerate(units)}
    spread = per_leaf(numbers, TREE, by=by)
    assert (
        spread["fc"]["kernel"] == numbers[next(n for n in units if n.startswith("fc"))]
    )


def test_layers_are_kept_with_the_given_probability(key):
    keys = jax.random.split(key, 2000)
    drawn = jax.vmap(lambda k: draw_layers(k, 14, 0.2))(keys)
    spread = np.sqrt(0.2 * 0.8 / drawn.size)
    assert abs(drawn.mean() - 0.2) < 5 * spread
