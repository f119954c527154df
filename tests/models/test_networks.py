"""Every network, cut anywhere, is the network uncut."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from fedjax_sl.compression.groups import leaf_masks
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.compute import kept_macs
from fedjax_sl.models.cost import macs as counted
from fedjax_sl.models.network import network
from fedjax_sl.models.options import Options
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.registry import NETWORKS
from fedjax_sl.models.resnet import resnet
from fedjax_sl.models.split import apply, recut
from fedjax_sl.models.vit import vit
from tests.worlds import assert_close


NARROW = Options(width=0.05, lowering="xla", num_classes=3)
SOME = {
    "vgg11": (1, 5, 8),
    "simple-cnn": (1, 2),
    "mlp": (1, 2),
    "resnet18": (1, 7, 17),
    "vit-tiny": (1, 12),
}
"""Of the cuts of each network; all of them are the same code."""


def joined(params):
    return {
        kind: {**params.client.get(kind, {}), **params.server.get(kind, {})}
        for kind in params.server | params.client
    }


def of_split(model, params, image):
    """Loss and gradients of both halves, backwards through the cut as a client and a
    server compute them."""

    def client(half):
        return apply(model.client, half, image, train=True)[0]

    def server(half, activations):
        logits, _ = apply(model.server, half, activations, train=True)
        return (logits**2).mean()

    def of_params(half):
        return {"params": half["params"]}, {
            k: v for k, v in half.items() if k != "params"
        }

    (own, fixed), (theirs, kept) = of_params(params.client), of_params(params.server)
    activations, back = jax.vjp(lambda p: client({**p, **fixed}), own)
    loss, (grads, at_cut) = jax.value_and_grad(
        lambda p, x: server({**p, **kept}, x), argnums=(0, 1)
    )(theirs, activations)
    return loss, {**back(at_cut)[0]["params"], **grads["params"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_split_is_whole(name, key):
    found = NETWORKS[name].build(NARROW)
    assert set(SOME[name]) <= set(found.cuts)
    image = jax.random.normal(key, (2, 32, 32, 3))
    first = found.at(SOME[name][0])
    params = first.init(key)
    whole, variables = found.whole, joined(params)

    def loss(half):
        logits, _ = apply(whole, {**variables, "params": half}, image, train=True)
        return (logits**2).mean()

    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(jax.value_and_grad(loss))(variables["params"])
        for cut in SOME[name]:
            model = found.at(cut)
            assert_close(
                jax.jit(lambda p, m=model: of_split(m, p, image))(recut(params, model)),
                expected,
                1e-5,
            )


def test_halves_without_norms_or_weights_are_cut_elsewhere(key):
    vgg11 = NETWORKS["vgg11"].build(dataclasses.replace(NARROW, norm="batch"))
    deepest, shallow = vgg11.at(8), vgg11.at(2)
    params = deepest.init(key)
    moved = recut(params, shallow)
    assert "batch_stats" not in params.server and "batch_stats" in moved.server
    assert_close(recut(moved, deepest).client, params.client)
    parts = [lambda x: x.reshape(len(x), -1), nn.Dense(3), lambda x: 2 * x]
    found = network(parts, input_shape=(4, 4, 1), num_classes=3)
    method = fedsl(found.at(2), FedSLConfig(cohort_size=2))
    state = jax.eval_shape(method.init, key)
    assert not state.server["params"] and state.client["params"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found", "params", "macs"),
    [
        # 11,173,962 with batch norm (K. Liu's pytorch-cifar), and 4800 biases more.
        (resnet(18, Options(norm="batch")), 11_178_762, 555_422_720),
        (resnet(34, Options(norm="batch")), 21_282_122 + 8_512, 1_159_402_496),
        # 12 blocks of 12 d^2 weights, and of attention between 64 tokens.
        (
            vit("tiny"),
            None,
            64 * 48 * 192 + 12 * 64 * (12 * 192**2 + 2 * 64 * 192) + 1920,
        ),
    ],
)
def test_sizes_are_those_of_their_papers(found, params, macs):
    model = found.at(found.cuts[0])
    halves = jax.eval_shape(model.init, jax.random.key(0))
    size = sum(leaf.size for half in halves for leaf in jax.tree.leaves(half["params"]))
    if params is not None:
        assert size == params
    assert counted(found.whole, (32, 32, 3)) == macs


def test_a_cut_inside_a_block_is_refused_by_naming_those_outside():
    with pytest.raises(InputError, match="cut=2: expected 1, 3, 5, 7, .* or 17 layers"):
        resnet(18).at(2)


def test_a_residual_network_prunes_as_one(key):
    """The channels of a sum are one group, those inside a block are another."""
    model = resnet(18, NARROW).at(7)
    can = prunable(model)
    assert [group.name.split("/")[0] for group in can.groups] == [
        *("stage_00", "stage_01", "stage_02", "stage_03", "stage_03"),
    ]
    trunk = can.groups[0]
    assert {member.path[0] for member in trunk.kernels} == {
        *("stage_00", "stage_01", "stage_02"),
    }
    # Behind the stride, a shortcut and a second convolution make the sum at the cut.
    assert can.at_cut == 4
    assert {member.path[1] for member in can.groups[4].kernels} == {
        *("second", "shortcut"),
    }


def test_of_attention_heads_are_pruned(key):
    model = vit("tiny", NARROW).at(2)
    groups = {group.name: group for group in prunable(model).groups}
    heads = groups["stage_01/attention/query/kernel"]
    assert heads.size == 3
    assert {member.path[2] for member in heads.kernels} == {"query", "key", "value"}
    assert ("stage_01", "attention", "out", "kernel") in {m.path for m in heads.others}
    assert "stage_02/hidden/kernel" in groups


@pytest.mark.slow
def test_a_head_that_is_pruned_takes_its_products_along(key):
    """Queries, keys, values, outputs and both products of activations, by a third."""
    model = vit("tiny", NARROW).at(1)
    can, params = prunable(model), model.init(key).client["params"]
    heads = [group.name.endswith("query/kernel") for group in can.groups]
    keeps = [
        jnp.arange(g.size) > 0 if h else jnp.ones(g.size, bool)
        for g, h in zip(can.groups, heads, strict=True)
    ]
    mask = leaf_masks(can.groups, keeps, params)
    of_heads = sum(
        product.macs
        for product in can.products
        if product.kernel is None or "attention" in product.kernel
    )
    dense = sum(product.macs for product in can.products)
    found = kept_macs(FedSLConfig(), can, mask)
    np.testing.assert_allclose(found, dense - of_heads / 3, rtol=1e-6)


def test_running_statistics_belong_to_their_channels():
    can = prunable(resnet(18, Options(width=0.05, norm="batch")).at(3))
    groups = {path: can.groups[n].name for path, n in can.statistics.items()}
    trunk, inside = "stage_00/first/conv/kernel", "stage_01/first/conv/kernel"
    expected = {("stage_00", "first"): trunk, ("stage_01", "first"): inside}
    expected[("stage_01", "second")] = trunk
    assert groups == {
        ("batch_stats", *path, "norm", kind): name
        for path, name in expected.items()
        for kind in ("mean", "var")
    }


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        del train
        y = nn.Conv(3, (3, 3), name="conv")(x)
        return nn.relu(x + y)


class NNXBlock(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 3, (3, 3), rngs=rngs)

    def __call__(self, x, train):
        del train
        return nnx.relu(x + self.conv(x))


@pytest.mark.slow
def test_an_nnx_module_is_as_good_as_a_linen_one(key):
    options = {"input_shape": (8, 8, 3), "num_classes": 3}
    head = (lambda x: x.mean(axis=(1, 2)), nn.Dense(3))
    linen = network([LinenBlock(), LinenBlock(), *head], **options).at(1)
    other = nnx.bridge.ToLinen(NNXBlock)
    bridged = network([other, other, *head], **options).at(1)
    params = linen.init(key)
    assert jax.tree.structure(params) == jax.tree.structure(bridged.init(key))
    image = jax.random.normal(key, (2, 8, 8, 3))
    with jax.numpy_rank_promotion("allow"):
        assert_close(
            of_split(bridged, params, image), of_split(linen, params, image), 1e-6
        )
        assert prunable(linen) == prunable(bridged)


@pytest.mark.slow
def test_what_a_stage_does_not_take_it_is_not_given(key):
    parts = [nn.Conv(2, (3, 3)), nn.relu, lambda x: x.mean(axis=(1, 2)), nn.Dense(3)]
    found = network(parts, input_shape=(8, 8, 3), num_classes=3)
    assert found.cuts == (1, 2, 3)
    image = jnp.ones((2, 8, 8, 3))
    for cut in found.cuts:
        model = found.at(cut)
        assert np.isfinite(model.predict(model.init(key), image)).all()
    # Names of more stages than a hundred would not sort in their order.
    for wrong in (parts[:1], [nn.relu] * 101):
        with pytest.raises(InputError, match="1 stages: expected 2 to 100"):
            network(wrong, input_shape=(8, 8, 3), num_classes=3)
