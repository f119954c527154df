import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.data import draw_epochs, draw_minibatches
from fedjax_sl.evaluation import evaluate
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.models import split_vgg
from fedjax_sl.simulation import (
    DRAW,
    ROUND,
    run_rounds,
    run_some_rounds,
    simulate,
    start,
)
from tests.worlds import (
    CLASSES,
    SHAPE,
    TwoBlocks,
    assert_close,
    assert_equal,
    tiny_dataset,
    tiny_model,
    tiny_partition,
)


CONFIG = FedSLConfig(cohort_size=3, interval=2, learning_rate=0.02, prune_end=10)
DATA = tiny_dataset()
TRACES = []


@jax.jit
def run(config, key):
    TRACES.append(config)
    return simulate(
        fedsl(tiny_model(), config),
        DATA,
        tiny_partition(DATA),
        key,
        test=DATA,
        rounds=60,
        batch_size=6,
        eval_every=20,
    )


@pytest.mark.slow
def test_it_learns_the_tiny_world_with_everything_on(key):
    state, history = run(CONFIG, key)
    accuracy = history.evaluation[""].accuracy
    assert accuracy.shape == (3,)
    assert accuracy[-1] > 0.9
    assert history.rounds.loss.shape == (3, 20, 3)
    assert state.round == 60


def test_the_same_key_gives_the_same_bits_and_another_does_not(key):
    first, second = run(CONFIG, key), run(CONFIG, key)
    np.testing.assert_array_equal(first[1].rounds.loss, second[1].rounds.loss)
    other = run(CONFIG, jax.random.key(1))
    assert (other[1].rounds.loss != first[1].rounds.loss).any()


@pytest.mark.slow
def test_rounds_in_one_scan_are_rounds_one_after_another(key):
    """Compared with whole rounds run apart, each by its own number."""
    algorithm = fedsl(tiny_model(), CONFIG)

    @partial(jax.jit, static_argnames="rounds")
    def play(state, first, rounds):
        owners = tiny_partition(DATA)
        given = {"first": first, "rounds": rounds, "batch_size": 6}
        return run_rounds(algorithm, state, DATA, owners, key, **given)

    begin = jax.jit(lambda: start(algorithm, key))()
    at_once, metrics = play(begin, 0, 4)
    state, losses = begin, []
    for number in range(4):
        state, one = play(state, number, 1)
        losses.append(one.loss[0])
    assert_close(at_once, state, tolerance=1e-5)
    assert_close(metrics.loss, jnp.stack(losses), tolerance=1e-5)


@pytest.mark.slow
def test_a_number_of_rounds_that_is_traced_is_compiled_once(key):
    """However rounds are shared out to calls, they are the same to the bit."""
    algorithm = fedsl(tiny_model(), CONFIG)
    owners, traced = tiny_partition(DATA), []

    @jax.jit
    def play(state, first, count):
        traced.append(count)
        return run_some_rounds(
            *(algorithm, state, DATA, owners, key),
            first=first,
            count=count,
            most=5,
            batch_size=6,
        )

    @jax.jit
    def at_once(state):
        return run_rounds(
            *(algorithm, state, DATA, owners, key), first=0, rounds=5, batch_size=6
        )

    begin = jax.jit(lambda: start(algorithm, key))()
    whole, losses = play(begin, jnp.int32(0), jnp.int32(5))
    for counts in ([1, 1, 3], [4, 1], [2, 0, 3]):
        state, first, found = begin, 0, []
        for count in counts:
            state, some = play(state, jnp.int32(first), jnp.int32(count))
            assert not np.asarray(some.loss[count:]).any()
            found.append(some.loss[:count])
            first += count
        assert_equal(state, whole)
        np.testing.assert_array_equal(np.concatenate(found), losses.loss)
    assert len(traced) == 1
    assert_close(at_once(begin), (whole, losses), tolerance=1e-5)


def test_a_cohort_is_drawn_anew_only_when_a_period_begins(key):
    _, history = run(CONFIG, key)
    ids = np.asarray(history.rounds.client_id).reshape(30, 2, 3)
    assert (ids[:, 0] == ids[:, 1]).all()
    assert len(np.unique(ids[:, 0], axis=0)) > 1
    assert all(len(set(row)) == 3 for row in ids[:, 0])


@pytest.mark.slow
def test_a_sweep_is_one_program_and_equals_its_single_runs(key):
    settings = [
        dataclasses.replace(CONFIG, bits=b, prune_ratio=r)
        for b, r in ((4, 0.2), (32, 0.0))
    ]
    stacked = jax.tree.map(lambda *x: jnp.array(x), *settings)
    _, together = jax.jit(lambda c: jax.lax.map(lambda one: run(one, key), c))(stacked)
    before = len(TRACES)
    for place, one in enumerate(settings):
        _, alone = run(one, key)
        row = jax.tree.map(lambda x, p=place: x[p], together.rounds.loss)
        assert_close(row[0, :5], alone.rounds.loss[0, :5], tolerance=1e-3)
    assert len(TRACES) <= before + 1


def test_evaluation_counts_every_example_once():
    def predict(state, images):
        del state
        bright = images.mean(axis=(2, 3))
        thirds = jnp.stack(
            [bright[:, 3 * c : 3 * c + 2].mean(axis=1) for c in range(3)]
        )
        return 100 * thirds.T

    exact = evaluate(predict, None, DATA)
    assert exact.accuracy == exact.balanced_accuracy == 1
    assert_close(evaluate(predict, None, DATA, batch_size=7), exact)

    def constant(state, images):
        del state
        return jnp.zeros((len(images), CLASSES)).at[:, 1].set(1.0)

    result = evaluate(constant, None, DATA, batch_size=7)
    np.testing.assert_allclose(result.accuracy, (DATA.label == 1).mean(), rtol=1e-6)
    np.testing.assert_allclose(result.balanced_accuracy, 1 / 3, rtol=1e-6)


def test_evaluations_must_divide_the_rounds(key):
    with pytest.raises(ValueError, match="eval_every=7"):
        simulate(
            fedsl(tiny_model(), CONFIG),
            DATA,
            tiny_partition(DATA),
            key,
            test=DATA,
            rounds=20,
            batch_size=6,
            eval_every=7,
        )


LAYERS = FedLPQConfig(cohort_size=2, bits=32, optimizer="sgd", keep_probability=1.0)
FEW = tiny_dataset(12)


def layers(config=LAYERS, num_clients=2, **change):
    """FedLP-Q on a network for the tiny images."""
    network = TwoBlocks()
    config = dataclasses.replace(config, **change)
    return fedlpq(network, config, num_clients=num_clients, input_shape=SHAPE)


def one_round(algorithm, key, data=FEW, **options):
    """A round of two clients who own three batches each."""
    owners = tiny_partition(FEW, 2)
    given = {"test": FEW, "rounds": 1, "batch_size": 2, "eval_every": 1, **options}
    return simulate(algorithm, data, owners, key, **given)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1, 2])
def test_fedlpq_trains_on_every_image_of_its_clients_without_being_told(key, epochs):
    @jax.jit
    def trained(image):
        data = dataclasses.replace(FEW, image=image)
        state, _ = one_round(layers(local_epochs=epochs), key, data)
        return state.variables["params"]

    plain = trained(FEW.image)
    for number in range(len(FEW.label)):
        blanked = FEW.image.copy()
        blanked[number] = 0
        same = jax.tree.map(lambda a, b: (a == b).all(), plain, trained(blanked))
        assert not all(jax.tree.leaves(same)), number


@pytest.mark.slow
def test_a_draw_of_ones_own_takes_the_place_of_the_methods(key):
    """FedLP-Q on one mini-batch a round: one step, whatever else a client owns."""
    draw = partial(draw_minibatches, cohort_size=2)

    @jax.jit
    def both():
        algorithm, owners = layers(), tiny_partition(FEW, 2)
        numbers = {"round": 0, "period": 0, "batch_size": 2}
        cohort = draw(jax.random.fold_in(key, DRAW), FEW, owners, **numbers)
        # Each client as if it owned nothing but this batch.
        alone = cohort._replace(num_examples=jnp.full(2, 2))
        round_key = jax.random.fold_in(jax.random.fold_in(key, ROUND), 0)
        new, metrics = algorithm.round(start(algorithm, key), alone, round_key)
        state, history = one_round(algorithm, key, draw=draw)
        found = (state.variables, history.rounds.loss[0, 0])
        return found, (new.variables, metrics.loss)

    assert_close(*both())


TWO = FedSLConfig(cohort_size=2)
LARGE = partial(split_vgg, 11, cut=1, width=0.02)
BATCHES = {"draw": draw_minibatches, "cohort_size": 2}
EPOCHS = {"draw": draw_epochs, "cohort_size": 2, "epochs": 1}


@pytest.mark.parametrize(
    "make, how, named",
    [
        (
            partial(layers, local_epochs=2),
            BATCHES,
            "cohort of 1 steps a client: expected a multiple of local_epochs=2",
        ),
        (lambda: fedsl(tiny_model(), TWO), EPOCHS, r"= \(2, 3\): expected \(2, 1\)"),
        (
            lambda: fedsl(tiny_model(), TWO),
            {**BATCHES, "cohort_size": 1},
            r"= \(1, 1\): expected \(2, 1\)",
        ),
        (
            partial(layers, num_clients=3),
            {},
            "partition of 2 clients: expected num_clients=3",
        ),
        (
            lambda: fedsl(LARGE(), TWO),
            {},
            r"images of shape \(8, 8, 2\): expected \(32, 32, 3\)",
        ),
    ],
)
def test_a_cohort_of_the_wrong_shape_is_refused_by_name(key, make, how, named):
    sizes = {name: value for name, value in how.items() if name != "draw"}
    draw = partial(how["draw"], **sizes) if how else None
    with pytest.raises(ValueError, match=named):
        jax.eval_shape(lambda: one_round(make(), key, draw=draw))
