"""The quantisers of both methods are members of the family, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.algorithm import Link
from fedjax_sl.compressors import qsgd, send
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.upload import quantized_layers
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.message import sent


def values(key):
    return jax.random.normal(jax.random.fold_in(key, 1), (37, 5))


@pytest.mark.parametrize("rounding", ["stochastic", "nearest", "floor"])
@pytest.mark.parametrize("bits", [2, 8])
def test_fedsl_s_message_is_mask_then_qsgd_by_the_largest(key, bits, rounding):
    """Of a single tensor: several share one call of the generator there."""
    config = FedSLConfig(rounding=rounding)
    x, mask = values(key), jnp.arange(37)[:, None] % 3 > 0
    kept = jnp.where(mask, x, 0.0)
    own = jax.tree.map(lambda v: v[0], client_configs(config, jnp.arange(1), None))
    found = sent(
        config, own.updates, key, {"w": kept}, mask={"w": mask}, bits=jnp.int32(bits)
    )
    member = qsgd(bits=bits, norm="max", rounding=rounding)
    expected = send(member, key, x, jnp.broadcast_to(mask, x.shape))
    np.testing.assert_array_equal(found.values["w"], expected.values)
    assert total(found.link) == total(expected.bits) > 0


@pytest.mark.parametrize("code", ["omega", "gamma", "delta", "range"])
@pytest.mark.parametrize("bits", [1, 10])
def test_fedlpq_s_layer_is_qsgd_by_the_2_norm_in_a_code(key, bits, code):
    config = FedLPQConfig(code=code)
    x = values(key).reshape(-1)
    found = quantized_layers(config, key, {"layer": x}, jnp.int32(bits))["layer"]
    member = qsgd(levels=2**bits, norm="l2", coder=code)
    payload, _ = member.compress(key, x, jnp.ones(x.shape, bool), ())
    np.testing.assert_array_equal(found.level, payload.level)
    assert found.norm == payload.norm and np.abs(found.level).max() > 0


def total(link: Link) -> int:
    """All bits of a link."""
    return int(link.entries * link.bits + link.more + link.side)
