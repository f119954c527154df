import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.models.split import apply
from fedjax_sl.models.vgg import BLOCKS, split_vgg


def size_of(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "cut, params, activations",
    [
        (2, 38_720, 16_384),
        (4, 260_160, 8_192),
        (8, 2_325_568, 4_096),
        (12, 10_585_152, 2_048),
        (16, 20_024_384, 512),
    ],
)
def test_vgg19_sizes_at_the_ends_of_its_blocks(key, cut, params, activations):
    model = split_vgg(19, cut=cut, norm="none")
    shapes = jax.eval_shape(model.init, key)
    assert size_of(shapes.client) == params
    assert np.prod(model.cut_shape()) == activations
    assert size_of(shapes.server) + params == 20_024_384 + 530_442


def test_inside_a_block_the_cut_comes_before_its_pooling():
    assert split_vgg(19, cut=1).cut_shape() == (32, 32, 64)
    assert split_vgg(19, cut=3).cut_shape() == (16, 16, 128)


@pytest.mark.parametrize("depth", BLOCKS)
@pytest.mark.parametrize("norm", ["group", "batch", "none"])
def test_every_cut_is_the_same_network(key, depth, norm):
    image = jax.random.normal(key, (2, 32, 32, 1))
    outputs = []
    for cut in (1, 4, sum(BLOCKS[depth])):
        model = split_vgg(
            depth, cut=cut, norm=norm, width=0.03, input_shape=(32, 32, 1)
        )
        params = jax.eval_shape(model.init, key)
        filled = jax.tree_util.tree_map_with_path(_fill, params)
        outputs.append(model.predict(filled, image))
    assert jnp.isfinite(outputs[0]).all()
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs[2], outputs[0], rtol=1e-5, atol=1e-6)


def _fill(path, leaf):
    """Values that depend on a leaf's name in the network, not on the side it is on."""
    name = "/".join(str(part.key) for part in path if hasattr(part, "key"))
    seed = jax.random.key(sum(map(ord, name)))
    return jax.random.uniform(seed, leaf.shape, minval=0.05, maxval=0.5)


def test_batch_statistics_move_in_training_only(key):
    model = split_vgg(11, cut=1, norm="batch", width=0.05, input_shape=(32, 32, 1))
    client = model.init(key).client
    image = jax.random.normal(key, (4, 32, 32, 1))
    _, same = apply(model.client, client, image, train=False)
    _, moved = apply(model.client, client, image, train=True)
    before, after = (jax.tree.leaves(v["batch_stats"]) for v in (same, moved))
    assert all(
        (a == b).all()
        for a, b in zip(before, jax.tree.leaves(client["batch_stats"]), strict=True)
    )
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"depth": 12, "cut": 1}, "depth=12"),
        ({"depth": 11, "cut": 9}, "cut=9"),
        ({"depth": 11, "cut": 0}, "cut=0"),
        ({"cut": 1, "norm": "layer"}, "norm='layer'"),
        ({"cut": 1, "width": 0.0}, "width=0.0"),
        ({"cut": 1, "num_classes": 1}, "num_classes=1"),
        ({"cut": 1, "input_shape": (28, 28, 1)}, "at least 32"),
    ],
)
def test_arguments_out_of_range(arguments, named):
    with pytest.raises(ValueError, match=named):
        split_vgg(**arguments)
