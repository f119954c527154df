"""What parameters start from, by its law."""

import jax
import numpy as np
import pytest

from fedjax_sl.models.fedlp_cnn import cifar_cnn
from fedjax_sl.models.vgg import split_vgg


def of_cnn(key, **options):
    model = cifar_cnn(width=0.25, **options)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    draw = jax.jit(lambda key: model.init(key, np.zeros(image.shape), False))
    return [draw(key)["params"]]


def of_vgg(key, **options):
    model = split_vgg(11, cut=2, width=0.125, **options)
    halves = jax.jit(model.init)(key)
    return [halves.client["params"], halves.server["params"]]


def layers(trees):
    """Kernel and bias of every convolution and dense layer, and its fan-in."""
    for tree in trees:
        for name, layer in tree.items():
            inner = layer.get("conv", layer.get("dense", layer))
            assert "kernel" in inner, name
            fan_in = int(np.prod(inner["kernel"].shape[:-1]))
            yield np.asarray(inner["kernel"]), np.asarray(inner["bias"]), fan_in


@pytest.mark.parametrize("network", [of_cnn, of_vgg])
def test_as_pytorchs_layers_start(network, key):
    """Uniform within 1 / sqrt(fan-in): kernels, and biases, too."""
    scaled = []
    for kernel, bias, fan_in in layers(network(key, init="torch")):
        bound = fan_in**-0.5
        for array in (kernel, bias):
            assert (abs(array) <= bound).all() and len(np.unique(array)) > 1
        size = kernel.size
        # Of U(-1, 1) the variance of x^2 is 4 / 45.
        deviation = (kernel**2).mean() / bound**2 - 1 / 3
        assert abs(deviation) < 5 * (4 / 45 / size) ** 0.5
        assert abs(kernel.mean()) / bound < 5 * (1 / 3 / size) ** 0.5
        scaled.append(bias / bound)
    biases = np.concatenate(scaled)
    assert abs((biases**2).mean() - 1 / 3) < 5 * (4 / 45 / biases.size) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("network", [of_cnn, of_vgg])
def test_by_default_as_he_with_zero_biases(network, key):
    for kernel, bias, fan_in in layers(network(key)):
        gain = 2 if kernel.ndim == 4 else 1
        assert (bias == 0).all()
        # A truncated normal's fourth moment is below the 3 of a normal one.
        deviation = (kernel**2).mean() * fan_in / gain - 1
        assert abs(deviation) < 5 * (2 / kernel.size) ** 0.5
    for one, other in zip(network(key), network(key, init="he"), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_others_are_refused():
    for network in (cifar_cnn, lambda **rest: split_vgg(cut=2, **rest)):
        with pytest.raises(ValueError, match="init='xavier': expected one of"):
            network(init="xavier")
