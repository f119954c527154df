"""Every mapping gives the same rounds, whether clients divide evenly or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.federation import clients, devices
from fedjax_sl.fedsl import FedSLConfig, fedsl
from tests.worlds import assert_close, tiny_cohort, tiny_model


def everywhere(count, inner=clients.scan):
    return devices.sharded(devices.mesh(count), inner)


MAPPINGS = {
    "vmap": clients.vmap,
    "chunks of 2": clients.chunks(2),
    "groups of 3, one by one": clients.ClientMap(clients.one_by_one, group=3),
    "mesh of scans": everywhere(4),
    "mesh of 2, vmap in each": everywhere(2, clients.vmap),
    "mesh of chunks": everywhere(4, clients.chunks(2)),
    "pmap": devices.pmap(jax.devices()[:3]),
}


def play(over_clients, key, cohort_size=5, norm="none"):
    """Parameters after three rounds; five clients divide by none of the mappings."""
    config = FedSLConfig(
        cohort_size=cohort_size, interval=2, learning_rate=0.02, prune_ratio=0.5
    )
    algorithm = fedsl(tiny_model(norm=norm), config, over_clients=over_clients)
    state, round = jax.jit(algorithm.init)(key), jax.jit(algorithm.round)
    cohort = tiny_cohort(key, clients=cohort_size)
    for number in range(3):
        state, metrics = round(state, cohort, jax.random.fold_in(key, number))
    return state.client, state.server, metrics.loss


@pytest.fixture(scope="module")
def one_by_one():
    return play(clients.scan, jax.random.key(0))


# Between them every part of a mapping; the others' sums are those of a short function.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vmap", "groups of 3, one by one", "mesh of chunks", "pmap"]
)
def test_mappings_agree(key, one_by_one, name):
    assert_close(play(MAPPINGS[name], key), one_by_one, tolerance=1e-3)


@pytest.mark.slow
def test_a_server_with_batch_statistics_sees_all_clients(key):
    together = play(clients.vmap, key, norm="batch")
    assert_close(play(everywhere(4), key, norm="batch"), together, tolerance=1e-3)


def weigh(scale, x):
    """A term of one client, and what is its own."""
    return {"sum": scale * x, "count": jnp.int32(1)}, scale + x


@pytest.mark.parametrize("size", [1, 4, 6, 7])
@pytest.mark.parametrize("name", MAPPINGS)
def test_totals_leave_padding_out(name, size):
    x = jnp.arange(1.0, size + 1)
    mapping = MAPPINGS[name]
    if mapping.devices > size:
        pytest.skip("fewer clients than devices")
    term, own = jax.jit(mapping.total(weigh, jnp.float32(2)))(x)
    np.testing.assert_allclose(term["sum"], 2 * x.sum())
    assert term["count"] == size
    np.testing.assert_array_equal(own, 2 + x)
    np.testing.assert_array_equal(mapping.map(weigh, jnp.float32(2))(x)[1], own)


def test_what_padding_holds_never_enters_a_total():
    """Client 0 is repeated to fill the devices; its term would be counted again."""

    def term(x):
        return jnp.where(x == 0, jnp.inf, x), x

    total, _ = everywhere(4).total(term)(jnp.array([1.0, 2, 3, 4, 5]))
    assert total == 15


@pytest.mark.slow
def test_groups_fill_devices_evenly():
    sizes = []

    def group(each, real, x):
        del each
        sizes.append(len(x))
        return real.sum(), x

    for group_size, expected in [(None, 5), (4, 3), (2, 2), (1, 1)]:
        mapping = everywhere(2, clients.ClientMap(clients.at_once, group_size))
        sizes.clear()
        total, _ = mapping.fold(group)(jnp.arange(9.0))
        assert total == 9
        assert set(sizes) == {expected}


def test_the_mesh_has_no_more_devices_than_clients():
    assert jax.device_count() == 4
    assert [devices.mesh(k).size for k in (1, 2, 3, 4, 7)] == [1, 2, 3, 4, 4]


def test_a_mesh_really_spreads_the_clients():
    mapped = everywhere(4).map(lambda x: x + 1)
    result = jax.jit(mapped)(np.zeros((8, 3), np.float32))
    assert len(result.sharding.device_set) == 4


@pytest.mark.parametrize("group", [1, 8, None])
def test_one_term_is_held_at_a_time(group):
    """The memory of a sum over clients does not grow with their number."""

    def term(x):
        return jnp.sin(jnp.arange(100_000.0) * x), x

    mapping = clients.ClientMap(clients.one_by_one, group)

    def temporary(size):
        program = jax.jit(mapping.total(term))
        compiled = program.lower(jnp.zeros(size)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(400) < 2 * 400_000


def test_an_empty_chunk_is_refused():
    with pytest.raises(ValueError, match="chunk=0"):
        clients.chunks(0)
