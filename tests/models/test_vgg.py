from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.layers.batch_norm import BatchNorm
from fedjax_sl.models.split import Stages, apply
from fedjax_sl.models.vgg import BLOCKS, ConvStage, split_vgg
from tests.worlds import assert_close, assert_equal


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_batch_norm_is_that_of_flax_on_the_real_examples(key):
    keys = jax.random.split(key, 3)
    x = 1 + 2 * jax.random.normal(keys[0], (6, 4, 5, 3))
    scale, bias = (jax.random.normal(k, (3,)) for k in keys[1:])
    real = np.array([0, 1, 3, 5])
    weight = jnp.zeros(6).at[real].set(1.0)
    stats = {"mean": jnp.arange(3.0), "var": 1 + jnp.arange(3.0)}

    def reference(x, params):
        norm = nn.BatchNorm(use_running_average=False, momentum=0.9)
        variables = {"params": params, "batch_stats": stats}
        return norm.apply(variables, x[real], mutable=["batch_stats"])

    def actual(x, params):
        variables = {"params": params, "batch_stats": stats}
        y, new = BatchNorm().apply(variables, x, True, weight, mutable=["batch_stats"])
        return y[real], new

    params = {"scale": scale, "bias": bias}
    with jax.numpy_rank_promotion("allow"):
        expected, back, new = jax.vjp(reference, x, params, has_aux=True)
        dy = jax.random.normal(keys[0], expected.shape)
        gradients = back(dy)
    y, back, found = jax.vjp(actual, x, params, has_aux=True)
    assert_close(y, expected, 1e-4)
    assert_close(found, new)
    assert_close(back(dy), gradients, 1e-4)


def test_a_batch_of_padding_alone_teaches_a_norm_nothing(key):
    x = jax.random.normal(key, (4, 2, 2, 3))
    variables = {
        "params": {"scale": jnp.ones(3), "bias": jnp.zeros(3)},
        "batch_stats": {"mean": jnp.arange(3.0), "var": 1 + jnp.arange(3.0)},
    }
    y, new = BatchNorm().apply(
        variables, x, True, jnp.zeros(4), mutable=["batch_stats"]
    )
    assert_equal(new["batch_stats"], variables["batch_stats"])
    assert np.isfinite(y).all()


class Doubled(nn.Module):
    """A stage that knows nothing of weights."""

    @nn.compact
    def __call__(self, x, train):
        del train
        return 2 * x


def test_only_stages_that_ask_for_weights_are_given_them(key):
    norm = partial(ConvStage, 4, "batch", False, "auto")
    half = Stages((Doubled, norm))
    x = jax.random.normal(key, (3, 4, 4, 2))
    variables = dict(half.init(key, x, False))
    weight = jnp.array([1.0, 1.0, 0.0])
    some, stats = apply(half, variables, x, weight, train=True)
    two, same = apply(half, variables, x[:2], train=True)
    assert_close(some[:2], two)
    assert_close(stats, same)
    plain, _ = apply(Doubled(), {}, x, weight, train=True)
    assert_equal(plain, 2 * x)


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
