"""Costs against the numbers of the published tables."""

import numpy as np
import pytest
from flax import linen as nn

from fedjax_sl.analysis.complexity import cut_costs
from fedjax_sl.fedlpq.estimates.savings import heterogeneous, homogeneous, networks
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.estimates.traffic import expected
from fedjax_sl.models import cifar_cnn, split_vgg
from fedjax_sl.models.cost import layer_costs
from fedjax_sl.models.network import network
from fedjax_sl.models.options import Options
from fedjax_sl.models.vgg import vgg


def test_networks_of_the_published_table():
    found = networks()
    assert found.shared.tolist() == [10272, 28896, 65952, 140064, 551466]
    np.testing.assert_allclose(
        found.mflops, [11.634, 15.894, 25.396, 29.886, 39.356], atol=6e-4
    )


@pytest.mark.parametrize(
    "p, moved, saved",
    [(0.2, 661.7592, 40.0), (0.5, 827.199, 25.0), (0.8, 992.6388, 10.0)],
)
def test_homogeneous_rows(p, moved, saved):
    row = homogeneous(p)
    assert row.moved / 1e3 == pytest.approx(moved)
    assert round(100 * row.params, 1) == saved
    assert row.flops == row.flops_published == 0


@pytest.mark.parametrize(
    "preference, moved, saved, mflops, published, counted",
    [
        ("1", 169.602, 84.6, 17.73, 51.2, 54.2),
        ("3", 225.282, 79.6, 24.62, 32.3, 36.7),
        ("u", 318.660, 71.1, 23.83, 34.5, 37.9),
        ("5", 710.796, 35.6, 30.10, 17.2, 19.0),
    ],
)
def test_heterogeneous_rows(preference, moved, saved, mflops, published, counted):
    row = heterogeneous(preference)
    assert row.moved / 1e3 == pytest.approx(moved)
    assert round(100 * row.params, 1) == saved
    assert round(row.mflops_published, 2) == mflops
    assert round(100 * row.flops_published, 1) == published
    assert round(100 * row.flops, 1) == counted


def test_what_is_unknown_is_refused():
    with pytest.raises(ValueError, match="keep_probability=0"):
        homogeneous(0)
    with pytest.raises(ValueError, match="preference='2'"):
        heterogeneous("2")  # type: ignore[arg-type]


def test_layers_add_up_to_the_network():
    layers = layer_costs(cifar_cnn(), (32, 32, 3))
    assert len(layers) == 14
    assert layers[0] == ("block1/conv", 896, 32 * 32 * 27 * 32, 0)
    assert sum(layer.params for layer in layers) == 551466


def test_what_cannot_be_pruned_at_a_cut_is_sent():
    """Behind a flattened image an entry is no channel, and a run sends all."""
    parts = [
        nn.Conv(4, (3, 3)),
        lambda x: x.reshape(x.shape[0], -1),
        nn.Dense(6),
        nn.Dense(3),
    ]
    whole = network(parts, input_shape=(5, 5, 1), num_classes=3)
    rows = cut_costs(whole, prune_ratio=0.5)
    assert [row.activations for row in rows] == [5 * 5 * 2, 5 * 5 * 4, 3]
    config = FedSLConfig(cohort_size=1, prune_ratio=0.5, bits=32, dropout_rate=0.0)
    for row in rows:
        found = expected(whole.at(row.cut), config, 1)
        sent = found.traffic.activations_up - found.side.activations_up
        assert (sent == 32 * row.activations).all()


@pytest.mark.slow
def test_cuts_of_a_vgg():
    rows = cut_costs(vgg(11, Options(width=0.25)))
    assert [row.cut for row in rows] == list(range(1, 9))
    for row in rows:
        model = split_vgg(11, cut=row.cut, width=0.25)
        assert row.activations == np.prod(model.cut_shape())
        assert row.client_params + row.server_params == 612810
        assert (
            row.client_macs + row.server_macs
            == rows[0].client_macs + rows[0].server_macs
        )
    assert cut_costs(vgg(19))[3].client_params == 260928
