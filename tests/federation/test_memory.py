import jax
import jax.numpy as jnp
import pytest

from fedjax_sl.algorithm import Cohort, Examples
from fedjax_sl.federation import clients
from fedjax_sl.federation.memory import (
    device_bytes,
    fitting,
    mapping_named,
    residual_bytes,
)
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.estimates.memory import client_bytes
from fedjax_sl.models.fedlp_cnn import cifar_cnn


def test_residuals_are_what_autodiff_keeps():
    """Of sin, one array: its cosine; of a sum, nothing."""
    x = jax.ShapeDtypeStruct((10, 7), jnp.float32)
    assert residual_bytes(jnp.sin, x) == 4 * 70
    assert residual_bytes(jnp.sum, x) == 0


def test_the_fitting_number_of_clients():
    assert fitting(100, 4000) == 10
    assert fitting(100, 3999) == 9
    assert fitting(10**12, 4000) == 1
    assert device_bytes() > 2**28


@pytest.mark.slow
def test_the_formula_is_what_a_compiled_round_takes_for_each_client(key):
    """Four clients at a time instead of two: what that adds, within a factor of two."""
    model, batch, steps, size = cifar_cnn(), 10, 2, 4
    places = jnp.zeros((size, steps, batch), jnp.int32)
    examples = Examples(jnp.zeros((1, 32, 32, 3), jnp.uint8), jnp.zeros(1, jnp.int32))
    counts = jnp.full((size,), steps * batch)
    cohort = Cohort(jnp.arange(size), places, 1.0 + places, counts, examples)

    def temporary(chunk):
        algorithm = fedlpq(
            model,
            FedLPQConfig(cohort_size=size),
            num_clients=size,
            over_clients=clients.chunks(chunk),
        )
        state = jax.eval_shape(algorithm.init, key)
        compiled = jax.jit(algorithm.round).lower(state, cohort, key).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    measured = (temporary(4) - temporary(2)) / 2
    assert measured / 2 < client_bytes(model, (32, 32, 3), batch) < 2 * measured


@pytest.mark.parametrize(
    "name, devices, group",
    [
        ("scan", 1, 1),
        ("vmap", 1, None),
        ("chunks", 1, 3),
        ("pmap", 4, 3),
        ("mesh", 4, 3),
        ("auto", 4, 3),
    ],
)
def test_names(name, devices, group):
    mapping = mapping_named(name, cohort_size=12, client_bytes=1, chunk=3)
    assert (mapping.devices, mapping.group) == (devices, group)


def test_without_a_chunk_as_many_as_fit():
    half = device_bytes() // 2
    for name in ("chunks", "mesh"):
        mapping = mapping_named(name, cohort_size=12, client_bytes=half)
        assert mapping.group == 1


def test_the_mesh_takes_no_more_devices_than_clients():
    assert mapping_named("auto", cohort_size=3, client_bytes=1).devices == 3


def test_a_chunk_of_nobody_is_refused():
    with pytest.raises(ValueError, match="^chunk=0: expected"):
        mapping_named("mesh", cohort_size=3, client_bytes=1, chunk=0)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="mapping='xmap': expected one of"):
        mapping_named("xmap", cohort_size=3, client_bytes=1)
