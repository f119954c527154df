"""Private heads: kept from round to round, or begun anew in each."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation import memory
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq, spec
from fedjax_sl.fedlpq.estimates.memory import feedback_bytes, head_bytes
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints
from tests.fedlpq.test_fedlpq import EXACT, SHAPE, N, cohort_of, networks
from tests.worlds import assert_close, assert_equal


KEPT = dataclasses.replace(EXACT, preference="u")
RESET = dataclasses.replace(KEPT, head="reset")
SHAPE_OF_CIFAR = (32, 32, 3)


@pytest.fixture(scope="module")
def played():
    """`{head: (before, after one round, after another)}`, and the compiled round."""
    key, found, rounds = jax.random.key(0), {}, {}
    for config in (KEPT, RESET):
        algorithm = fedlpq(networks("u"), config, num_clients=N, input_shape=SHAPE)
        rounds[config.head] = jax.jit(
            lambda s, a=algorithm: a.round(s, cohort_of(key), key)[0]
        )
        state = jax.jit(algorithm.init)(key)
        assert len(set(np.minimum(state.complexity, 4).tolist())) > 2
        one = rounds[config.head](state)
        found[config.head] = (state, one, rounds[config.head](one))
    return found, rounds


@pytest.mark.slow
def test_heads_that_are_reset_take_nothing(played):
    found, _ = played
    for state in found["reset"]:
        assert state.head.shape == (N, 0) and state.head_key.shape == (2,)
    assert all(state.head_key is None for state in found["kept"])


def test_the_first_round_is_the_same(played):
    """The heads are those that they would have been kept from."""
    found, _ = played
    assert_close(found["reset"][1].variables, found["kept"][1].variables, 1e-6)


def test_only_heads_that_are_kept_are_remembered(played):
    """A round that follows another, against the same with heads as they were first."""
    found, rounds = played
    for head, remembered in (("kept", True), ("reset", False)):
        first, one, two = found[head]
        again = rounds[head](one._replace(head=first.head))
        leaves = zip(
            *map(jax.tree.leaves, (again.variables, two.variables)), strict=True
        )
        assert any((a != b).any() for a, b in leaves) == remembered


def test_a_run_whose_heads_reset_goes_on(played, tmp_path):
    state = jax.device_get(played[0]["reset"][1])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Checkpoint(1, state, {}))
    checkpoints.wait()
    back = checkpoints.newest(state)
    checkpoints.close()
    assert_equal(back.state, state)


def test_memory_of_heads_is_as_the_formula_says(played):
    first = played[0]["kept"][0]
    assert first.head.nbytes == head_bytes(networks("u"), SHAPE, N, "kept")
    models = [cifar_cnn(complexity=one) for one in COMPLEXITIES]
    largest = 32 * 16 * 16 * 128 + 128 + 128 * 10 + 10
    assert head_bytes(models, SHAPE_OF_CIFAR, 100, "kept") == 4 * 100 * largest
    assert head_bytes(models, SHAPE_OF_CIFAR, 100, "reset") == 0
    assert head_bytes(models[-1:], SHAPE_OF_CIFAR, 100, "kept") == 0


def test_heads_that_do_not_fit_are_refused(monkeypatch):
    models = [cifar_cnn(complexity=one) for one in COMPLEXITIES]
    kept = FedLPQRun(method=FedLPQConfig(preference="5"))
    needed = head_bytes(models, SHAPE_OF_CIFAR, 10, "kept")
    monkeypatch.setattr(memory, "device_bytes", lambda: needed)
    spec._check_kept(kept, models, SHAPE_OF_CIFAR)
    monkeypatch.setattr(memory, "device_bytes", lambda: needed - 1)
    with pytest.raises(
        ValueError, match=f"num_clients=10: .*{needed} bytes.*head='reset"
    ):
        spec._check_kept(kept, models, SHAPE_OF_CIFAR)
    reset = FedLPQRun(method=FedLPQConfig(preference="5", head="reset"))
    spec._check_kept(reset, models, SHAPE_OF_CIFAR)


def test_residuals_that_do_not_fit_are_refused(monkeypatch):
    models = [cifar_cnn(complexity=5)]
    updates = CompressorConfig(kind="top_k", feedback="error")
    kept = FedLPQRun(method=FedLPQConfig(updates=updates))
    needed = feedback_bytes(models[0], SHAPE_OF_CIFAR, kept.method, num_clients=10)
    monkeypatch.setattr(memory, "device_bytes", lambda: needed)
    spec._check_kept(kept, models, SHAPE_OF_CIFAR)
    monkeypatch.setattr(memory, "device_bytes", lambda: needed - 1)
    with pytest.raises(ValueError, match=f"residuals take {needed} bytes.*feedback='n"):
        spec._check_kept(kept, models, SHAPE_OF_CIFAR)
