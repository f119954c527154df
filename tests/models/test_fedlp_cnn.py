import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.layers.batch_norm import relu_batch_norm
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from tests.worlds import assert_close


def variables_of(model, shape=(32, 32, 3)):
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, False), jax.random.key(0), image
    )


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameters_of_the_published_network():
    params = variables_of(cifar_cnn())["params"]
    conv = [size(params[f"block{n}"]["conv"]) for n in range(1, 7)]
    bn = [size(params[f"block{n}"]["bn"]) for n in range(1, 7)]
    assert conv == [896, 9248, 18496, 36928, 73856, 147584]
    assert bn == [64, 64, 128, 128, 256, 256]
    assert (size(params["fc1"]), size(params["fc2"])) == (262272, 1290)
    assert size(params) == 551466


@pytest.mark.parametrize(
    "complexity, flat", [(1, 32 * 16 * 16), (2, 64 * 64), (3, 64 * 64), (4, 128 * 16)]
)
def test_sub_models_stop_early_and_have_a_private_head(complexity, flat):
    params = variables_of(cifar_cnn(complexity=complexity))["params"]
    shared = {f"block{n}" for n in range(1, complexity + 2)}
    assert set(params) == shared | {"private_fc1", "private_fc2"}
    assert params["private_fc1"]["kernel"].shape == (flat, 128)


@pytest.mark.slow
@pytest.mark.parametrize("complexity", COMPLEXITIES)
def test_every_complexity_gives_logits(complexity, key):
    model = cifar_cnn(complexity=complexity, width=0.1, num_classes=7)
    x = jax.random.normal(key, (2, 32, 32, 1))
    logits = jax.jit(lambda: model.init_with_output(key, x, False)[0])()
    assert logits.shape == (2, 7) and np.isfinite(logits).all()


@pytest.mark.parametrize(
    "options, named",
    [
        ({"complexity": 6}, "complexity=6"),
        ({"width": 0}, "width=0"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        cifar_cnn(**options)


@pytest.mark.slow
@pytest.mark.parametrize("pool", [False, True])
def test_relu_batch_norm_agrees_with_flax_and_its_autodiff(key, pool):
    keys = jax.random.split(key, 5)
    x = 1 + 2 * jax.random.normal(keys[0], (6, 4, 5, 3))
    offset, scale, bias = (jax.random.normal(k, (3,)) for k in keys[1:4])
    weight = jnp.array([1.0, 1, 0, 1, 0, 1])
    real = np.flatnonzero(weight)

    def reference(x, offset, scale, bias):
        norm = nn.BatchNorm(use_running_average=False)
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": jnp.zeros(3), "var": jnp.ones(3)},
        }
        h = nn.relu(x + offset)
        y = norm.apply(variables, h, mutable=["batch_stats"])[0]
        return nn.max_pool(y, (2, 2), strides=(2, 2)) if pool else y

    def actual(x, offset, scale, bias):
        return relu_batch_norm(x, offset, weight, scale, bias, pool)[0]

    with jax.numpy_rank_promotion("allow"):
        expected, back = jax.vjp(reference, x[real], offset, scale, bias)
        dy = jax.random.normal(keys[4], (6, *expected.shape[1:]))
        expected_gradients = back(dy[real])
    y, back = jax.vjp(actual, x, offset, scale, bias)
    dx, *rest = back(dy * weight.reshape(-1, 1, 1, 1))
    assert_close(y[real], expected, tolerance=1e-4)
    assert_close((dx[real], *rest), expected_gradients, tolerance=1e-4)
    assert (dx[np.array([2, 4])] == 0).all()


@pytest.mark.slow
def test_padding_has_no_influence(key):
    model = cifar_cnn(width=0.1)
    x = jax.random.normal(key, (3, 8, 8, 1))
    weight = jnp.array([1.0, 1, 0])
    variables = jax.jit(lambda: model.init(key, x, False))()

    @jax.jit
    def run(x):
        return model.apply(variables, x, True, weight, mutable=["batch_stats"])

    logits, stats = run(x)
    other_logits, other_stats = run(x.at[2].set(99.0))
    np.testing.assert_array_equal(logits[:2], other_logits[:2])
    assert_close(stats, other_stats, tolerance=0)
