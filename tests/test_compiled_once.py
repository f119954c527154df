"""What is called outside a program, as in a notebook, is compiled at the first call."""

import jax
import jax.numpy as jnp
import pytest

from fedjax_sl.compression.pruning import lowest
from fedjax_sl.layers.im2col import im2col, kernel_gradient
from fedjax_sl.layers.winograd import winograd
from tests.worlds import tiny_model


IMAGE, WIDE = jnp.ones((2, 4, 4, 8)), jnp.ones((2, 4, 4, 32))
NARROW_KERNEL, KERNEL = jnp.ones((3, 3, 8, 4)), jnp.ones((3, 3, 8, 32))

CALLS = {
    "lowest": lambda: lowest(jnp.arange(7.0), jnp.int32(3)),
    "im2col": lambda: im2col(IMAGE, NARROW_KERNEL),
    "kernel gradient": lambda: kernel_gradient(IMAGE, WIDE, KERNEL.shape),
    "winograd": lambda: winograd(IMAGE, KERNEL),
    "its gradient": lambda: jax.vjp(winograd, IMAGE, KERNEL)[1](WIDE),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name, compiled):
    jax.jit(lambda x: x + 1)(1.0)
    assert len(compiled) == 1
    CALLS[name]()
    compiled.clear()
    CALLS[name]()
    assert not compiled


def test_a_network_is_drawn_by_one_program(key, compiled):
    model = tiny_model.__wrapped__()
    jax.clear_caches()
    compiled.clear()
    model.init(key)
    assert len(compiled) == 1
