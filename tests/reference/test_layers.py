"""The reference's own gradients against differences of its losses."""

import numpy as np
import pytest

from tests.reference import network


def loss_of(net, params, x, label, weight, running=None):
    logits, back, _ = network.forward(net, params, x, weight, running)
    loss, gradient = network.mean_loss(logits, label, weight)
    return loss, back(gradient)


def drawn(net, rng):
    """Parameters for the layers of a small network."""
    shapes, channels, side = {}, 2, 6
    for kind, name in net:
        if kind == "conv":
            shapes |= {f"{name}/kernel": (3, 3, channels, 3), f"{name}/bias": (3,)}
            channels = 3
        if kind in ("group", "batch"):
            shapes |= {f"{name}/scale": (channels,), f"{name}/bias": (channels,)}
        side = side // 2 if kind.startswith("pool") else side
        if kind == "dense":
            shapes |= {f"{name}/kernel": (channels * side**2, 3), f"{name}/bias": (3,)}
    return {n: rng.normal(size=s) for n, s in shapes.items()}


POOLED = (False, True)
NETWORKS = {
    norm: [layer for stage in network.vgg(norm, POOLED) for layer in stage]
    for norm in ("group", "batch", "none")
} | {"cnn": network.cnn(POOLED, ["fc"])}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_slopes(name):
    net, rng = NETWORKS[name], np.random.default_rng(0)
    params = drawn(net, rng)
    x, label = rng.normal(size=(4, 6, 6, 2)), np.array([0, 1, 2, 0])
    weight = np.array([1.0, 1.0, 1.0, 0.0])
    _, (dx, grads) = loss_of(net, params, x, label, weight)
    assert not dx[3].any()
    for leaf, gradient in [*((params[n], g) for n, g in grads.items()), (x, dx)]:
        for place in list(np.ndindex(leaf.shape))[:: max(leaf.size // 20, 1)]:
            kept, ends = leaf[place], []
            for step in (1e-6, -1e-6):
                leaf[place] = kept + step
                ends.append(loss_of(net, params, x, label, weight)[0])
            leaf[place] = kept
            slope = (ends[0] - ends[1]) / 2e-6
            assert gradient[place] == pytest.approx(slope, abs=1e-7, rel=1e-5)


def test_padding_counts_nothing():
    net, rng = NETWORKS["batch"], np.random.default_rng(0)
    params, x = drawn(net, rng), rng.normal(size=(4, 6, 6, 2))
    label, weight = np.array([0, 1, 2, 0]), np.array([1.0, 1.0, 1.0, 0.0])
    padded, short = (network.forward(net, params, x[:n], weight[:n]) for n in (4, 3))
    np.testing.assert_allclose(padded[0][:3], short[0], rtol=1e-12)
    for name, statistic in padded[2].items():
        np.testing.assert_allclose(statistic, short[2][name], rtol=1e-12)
    assert loss_of(net, params, x, label, weight)[0] == pytest.approx(
        loss_of(net, params, x[:3], label[:3], weight[:3])[0]
    )
