"""Products and channels, found in a program that knows nothing of layers."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from fedjax_sl.models.trace import trace


def traced(module, shape=(8, 8, 3)):
    def function(variables, x):
        return module.apply(variables, x)

    x = jnp.zeros((1, *shape))
    return trace(function, jax.eval_shape(module.init, jax.random.key(0), x), shape)


def together(found, *axes):
    """Whether axes `(path, number)` of parameters index channels of one group."""
    atoms = {
        found.atoms.group(found.leaves["params", *path.split("/")][number])
        for path, number in axes
    }
    return len(atoms) == 1 and None not in atoms


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3), name="stem")(x)
        for n in range(2):
            y = nn.relu(nn.Conv(4, (3, 3), name=f"first{n}")(x))
            x = nn.relu(x + nn.Conv(6, (1, 1), name=f"second{n}")(y))
        return nn.Dense(5, name="head")(x.reshape(len(x), -1))


def test_filters_behind_a_sum_go_together_and_those_inside_a_branch_do_not():
    found = traced(Residual())
    trunk = [("stem/kernel", 3), ("stem/bias", 0), ("second0/kernel", 3)]
    trunk += [("second1/kernel", 3), ("first0/kernel", 2), ("first1/kernel", 2)]
    assert together(found, *trunk)
    inside = [("first0/kernel", 3), ("first0/bias", 0), ("second0/kernel", 2)]
    assert together(found, *inside)
    assert not together(found, trunk[0], inside[0])
    assert not together(found, inside[0], ("first1/kernel", 3))


def test_a_flattened_image_is_rows_columns_and_channels():
    found = traced(Residual())
    *space, channels = found.atoms.resolve(found.leaves["params", "head", "kernel"][0])
    assert [part.size for part in space] == [8, 8]
    assert found.atoms.group((channels,)) == found.atoms.group(
        found.leaves["params", "stem", "bias"][0]
    )
    assert not any(found.atoms.group((part,)) is not None for part in space)


def test_of_the_input_nothing_may_be_removed():
    found = traced(Residual())
    assert found.atoms.group(found.leaves["params", "stem", "kernel"][2]) is None


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(12, name="embed")(x.reshape(1, 64, 3))
        return x + nn.MultiHeadDotProductAttention(3, name="attention")(x)


def test_heads_go_together_and_their_products_are_counted():
    found = traced(Attention())
    heads = [(f"attention/{name}/kernel", 1) for name in ("query", "key", "value")]
    assert together(found, *heads, ("attention/out/kernel", 0))
    assert together(found, ("embed/kernel", 1), ("attention/out/kernel", 2))
    head = found.atoms.group(found.leaves["params", "attention", "key", "bias"][0])
    between = [product for product in found.products if product.leaf is None]
    assert [product.macs for product in between] == [64 * 64 * 12] * 2
    for product in between:
        assert head in [found.atoms.group(axis) for axis in product.axes]
    projections = sum(p.macs for p in found.products if p.leaf is not None)
    assert projections == 64 * 12 * (3 + 4 * 12)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2), nn.LayerNorm(), nn.RMSNorm()])
def test_a_norm_keeps_its_channels(norm):
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = norm.copy(name="norm")(nn.Conv(4, (3, 3), name="conv")(x))
            return nn.Conv(2, (3, 3), name="next")(nn.max_pool(y, (2, 2), (2, 2)))

    found = traced(Normed())
    assert together(found, ("conv/kernel", 3), ("norm/scale", 0), ("next/kernel", 2))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x[..., ::-1],
        lambda x: jnp.take(x, jnp.array([1, 0, 3, 2]), axis=-1),
        lambda x: jnp.concatenate([x[..., 2:], x[..., :2]], axis=-1),
        lambda x: jnp.cumsum(x, axis=-1),
        lambda x: x.reshape(1, 8, 8, 2, 2).swapaxes(3, 4).reshape(1, 8, 8, 4),
        lambda x: jnp.sort(x, axis=-1),
        lambda x: jax.lax.fori_loop(0, 2, lambda _, y: y[..., ::-1], x),
        lambda x: jax.lax.scan(lambda y, _: (y[..., ::-1], None), x, None, 1)[0],
        lambda x: jax.lax.cond(x.sum() > 0, lambda y: y[..., ::-1], lambda y: y, x),
        lambda x: jax.lax.top_k(x, 4)[0],
        lambda x: x @ jnp.eye(4)[jnp.array([1, 0, 3, 2])],
        lambda x: x * x.max(axis=-1, keepdims=True),
        lambda x: jax.nn.softmax(x, axis=-1),
        lambda x: x + jnp.arange(4.0).reshape(1, 1, 1, 4),
    ],
)
def test_channels_that_change_places_stay(mixed):
    """Removing channel i before would not be removing channel i after."""

    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Conv(4, (3, 3), name="conv")(x)
            return y + mixed(y)

    found = traced(Mixed())
    assert found.atoms.group(found.leaves["params", "conv", "kernel"][3]) is None


def test_each_channel_may_have_a_filter_of_its_own():
    class Depthwise(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Conv(4, (1, 1), name="point")(x)
            y = nn.Conv(4, (3, 3), feature_group_count=4, name="depth")(y)
            return nn.Conv(2, (1, 1), name="next")(y)

    found = traced(Depthwise())
    assert together(found, ("point/kernel", 3), ("depth/kernel", 3), ("next/kernel", 2))
    assert [p.macs for p in found.products] == [64 * 12, 64 * 36, 64 * 8]


def test_a_group_of_filters_is_none_of_channels():
    class Grouped(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Conv(4, (1, 1), name="point")(x)
            return nn.Conv(4, (3, 3), feature_group_count=2, name="next")(y)

    found = traced(Grouped())
    for name in ("point", "next"):
        kernel = found.leaves["params", name, "kernel"]
        assert found.atoms.group(kernel[3]) is None


def test_a_kernel_may_read_the_channels_that_it_writes():
    """x + conv(x): only the outputs of its kernel are written."""
    found = traced(Residual())
    written = {part.atom for p in found.products for axis in p.written for part in axis}
    second = found.leaves["params", "second0", "kernel"]
    assert together(found, ("second0/kernel", 3), ("stem/kernel", 3))
    assert {part.atom for part in second[3]} <= written
    assert not {part.atom for part in second[2]} & written


def turns(x, w):
    return jax.lax.fori_loop(0, 3, lambda _, y: y @ w, x)


def either(x, w):
    return jax.lax.cond(x.sum() > 0, lambda: x, lambda: x @ w @ w)


def until(x, w):
    return jax.lax.while_loop(lambda y: y.sum() < 0, lambda y: y @ w, x)


@pytest.mark.parametrize(("loop", "times"), [(turns, 3), (either, 2), (until, 1)])
def test_products_in_a_loop_count_as_often_as_it_turns(loop, times):
    """It is not followed, but computed: nothing of its weights is pruned."""
    weights = jax.ShapeDtypeStruct((5, 5), jnp.float32)
    found = trace(
        lambda w, x: loop(x @ w["w"], w["in"]),
        {"w": jax.ShapeDtypeStruct((4, 5), jnp.float32), "in": weights},
        (4,),
    )
    assert sum(product.macs for product in found.products) == 4 * 5 + times * 5 * 5
    assert found.atoms.group(found.leaves[("in",)][0]) is None
