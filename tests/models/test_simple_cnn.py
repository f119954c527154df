"""The simple CNN against the numbers of NIID-Bench's, and its uncut form."""

import jax
import numpy as np
import pytest
from jax import lax

from fedjax_sl.models.cost import layer_costs
from fedjax_sl.models.cost import macs as traced_macs
from fedjax_sl.models.simple_cnn import ValidConv, split_simple_cnn
from fedjax_sl.models.split import SplitModel
from tests.worlds import assert_close


def test_parameters_and_macs_are_those_of_the_published_network():
    model = split_simple_cnn(cut=2)
    costs = layer_costs(model.whole, (32, 32, 3))
    assert [c.params for c in costs] == [456, 2416, 48_120, 10_164, 850]
    macs = [28 * 28 * 75 * 6, 10 * 10 * 150 * 16, 400 * 120, 120 * 84, 840]
    assert [c.macs for c in costs] == macs
    assert traced_macs(model.whole, (32, 32, 3)) == sum(macs)
    assert model.cut_shape() == (5, 5, 16)


def test_a_convolution_without_padding_is_that_of_lax(key):
    x = jax.random.normal(key, (2, 9, 7, 3))
    module = ValidConv(4, size=5, lowering="auto", initial="torch")
    variables = module.init(key, x)
    kernel, bias = (variables["params"][name] for name in ("kernel", "bias"))
    expected = lax.conv_general_dilated(
        *(x, kernel, (1, 1), "VALID"), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert_close(module.apply(variables, x), expected + bias.reshape(1, 1, 1, -1))


@pytest.mark.parametrize("cut", [1, 2])
def test_uncut_it_is_the_same_function(key, cut):
    model = split_simple_cnn(cut=cut, width=0.5)
    halves = model.init(key)
    joined = {"params": {**halves.client["params"], **halves.server["params"]}}
    image = jax.random.normal(key, (2, 32, 32, 3))
    np.testing.assert_array_equal(
        model.whole.apply(joined, image, False), model.predict(halves, image)
    )


def test_what_it_does_not_take_is_refused():
    with pytest.raises(ValueError, match="cut=3: expected 1 or 2 layers"):
        split_simple_cnn(cut=3)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        split_simple_cnn(cut=1, input_shape=(8, 8, 3))
    half = split_simple_cnn(cut=1)
    other = SplitModel(
        client=ValidConv(4, size=5, lowering="auto"),
        server=half.server,
        input_shape=(32, 32, 3),
        num_classes=10,
    )
    with pytest.raises(ValueError, match="`Stages`"):
        _ = other.whole
