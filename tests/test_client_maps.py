"""The same parameters after several rounds, however clients are mapped."""

import jax
import numpy as np
import pytest

from fedjax_sl.federation import clients
from fedjax_sl.fedsl import FedSLConfig, fedsl
from tests.worlds import assert_close, tiny_cohort, tiny_model


CONFIG = FedSLConfig(cohort_size=4, interval=2, learning_rate=0.02, prune_ratio=0.5)


def play(over_clients, key):
    algorithm = fedsl(tiny_model(), CONFIG, over_clients=over_clients)
    round = jax.jit(algorithm.round)
    state, cohort = jax.jit(algorithm.init)(key), tiny_cohort(key)
    for number in range(3):
        state, _ = round(state, cohort, jax.random.fold_in(key, number))
    return state.client["params"], state.server["params"]


@pytest.fixture(scope="module")
def one_by_one():
    return play(clients.scan, jax.random.key(0))


@pytest.mark.parametrize(
    "mapping",
    [
        clients.vmap,
        clients.sharded(clients.mesh(4)),
        clients.sharded(clients.mesh(2), inner=clients.vmap),
    ],
    ids=["vmap", "mesh of scans", "mesh of vmaps"],
)
def test_mappings_agree(key, one_by_one, mapping):
    assert_close(play(mapping, key), one_by_one, tolerance=1e-3)


def test_the_mesh_takes_devices_that_divide_the_cohort():
    assert jax.device_count() == 4
    assert [clients.mesh(k).size for k in (1, 2, 3, 4, 6, 7, 8)] == [
        1,
        2,
        3,
        4,
        3,
        1,
        4,
    ]


def test_a_mesh_really_spreads_the_clients(key):
    mapped = clients.sharded(clients.mesh(4))(lambda x: x + 1)
    result = jax.jit(mapped)(np.zeros((8, 3), np.float32))
    assert len(result.sharding.device_set) == 4
