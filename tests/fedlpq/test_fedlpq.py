"""Laws of FedLP-Q's round, on a network small enough to follow."""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.algorithm import Batch
from fedjax_sl.compression import Quantized, draw_layers, encode
from fedjax_sl.compression.layers import leaves_of, unit_of
from fedjax_sl.compressors.qsgd import narrowest_wire, qsgd
from fedjax_sl.config_base import optimizer_named
from fedjax_sl.federation import clients
from fedjax_sl.federation.aggregation import weighted_mean
from fedjax_sl.federation.devices import mesh, sharded
from fedjax_sl.federation.local_epochs import local_epochs
from fedjax_sl.fedlpq import FedLPQConfig, fedavg, fedlpq
from fedjax_sl.fedlpq import client as client_module
from fedjax_sl.fedlpq import upload as upload_module
from fedjax_sl.fedlpq.config import PREFERENCES
from fedjax_sl.fedlpq.traffic import layers_of
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.traffic import side_information, traffic
from tests.worlds import TwoBlocks, assert_close, batches_of, with_batches
from tests.worlds import cohort_of as cohort_from


N, SHAPE, BATCH, STEPS = 6, (8, 8, 1), 4, 2
EXACT = FedLPQConfig(
    cohort_size=N,
    bits=32,
    optimizer="sgd",
    learning_rate=0.05,
    keep_probability=1.0,
)


def networks(preference):
    if preference is None:
        return TwoBlocks()
    return [
        cifar_cnn(complexity=c, width=0.06, num_classes=3, lowering="xla")
        for c in COMPLEXITIES
    ]


@partial(jax.jit, static_argnums=1)
def _batches(key, ids):
    def one(client):
        image, label = jax.random.split(jax.random.fold_in(key, client))
        return Batch(
            jax.random.normal(image, (STEPS, BATCH, *SHAPE)),
            jax.random.randint(label, (STEPS, BATCH), 0, 3),
            jnp.ones((STEPS, BATCH)),
        )

    return jax.vmap(one)(jnp.array(ids))


def cohort_of(key, ids=tuple(range(N)), counts=None):
    """A cohort with full batches, or with the first n examples of each client."""
    batches = _batches(key, ids)
    counts = jnp.full(len(ids), STEPS * BATCH) if counts is None else jnp.array(counts)
    place = jnp.arange(STEPS * BATCH).reshape(1, STEPS, BATCH)
    weight = (place < counts.reshape(-1, 1, 1)).astype(jnp.float32)
    return cohort_from(ids, batches._replace(weight=weight), counts)


@cache
def programs(preference=None, unit="module"):
    """Compiled `init` and `round`, the configuration's numbers being arguments."""

    def algorithm(config):
        return fedlpq(networks(preference), config, num_clients=N, input_shape=SHAPE)

    init = jax.jit(lambda config, key: algorithm(config).init(key))
    return init, jax.jit(lambda config, *rest: algorithm(config).round(*rest))


def play(config, key, cohort=None, preference=None):
    init, step = programs(preference, config.unit)
    state = init(config, key)
    return state, *step(config, state, cohort or cohort_of(key), key)


def alone(key, config=EXACT, counts=None):
    """What each client makes of the first model, trained outside the round."""
    init, _ = programs()
    state, cohort = init(config, key), cohort_of(key, counts=counts)
    optimizer = optimizer_named(config.optimizer, config.momentum)(config.learning_rate)

    @jax.jit
    def train(index, weight):
        return local_epochs(
            TwoBlocks(), optimizer, state.variables, cohort.examples, index, weight
        )[0]

    one_each = [train(cohort.index[k], cohort.weight[k]) for k in range(N)]
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_each)


@pytest.mark.slow
def test_all_layers_unquantised_is_fedavg_to_the_last_bit(key):
    start, after, _ = play(EXACT, key)
    state, trained = alone(key)
    mean = jax.jit(lambda trees: weighted_mean(trees, jnp.full(N, 1 / N)))(trained)
    assert_close(start.variables, state.variables, tolerance=0)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), after.variables, mean)
    assert all(leaf < 1e-6 for leaf in jax.tree.leaves(moved))

    both = [
        jax.jit(make(TwoBlocks(), config, num_clients=N, input_shape=SHAPE).round)(
            start, cohort_of(key), key
        )[0].variables
        for make, config in (
            (fedlpq, EXACT),
            (fedavg, dataclasses.replace(EXACT, bits=8, keep_probability=0.3)),
        )
    ]
    assert_close(both[0], both[1], tolerance=0)


@pytest.mark.slow
def test_proximal_steps_are_drawn_back_to_the_model_received(key):
    """The second of two steps is shorter by gamma mu (w_1 - w_0), the first is not."""
    first = cohort_of(key, counts=[BATCH] * N)
    start, one, _ = play(EXACT, key, first)
    config = dataclasses.replace(EXACT, proximal=0.7)
    _, same, _ = play(config, key, first)
    assert_close(same.variables, one.variables, tolerance=1e-6)
    _, plain, _ = play(EXACT, key)
    _, drawn, _ = play(config, key)
    expected = jax.tree.map(
        lambda w, w0, w1: w - EXACT.learning_rate * 0.7 * (w1 - w0),
        *(state.variables["params"] for state in (plain, start, one)),
    )
    assert_close(drawn.variables["params"], expected, tolerance=1e-5)
    gap = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), drawn.variables, plain.variables
    )
    assert max(jax.tree.leaves(gap)) > 1e-4


def test_more_bits_come_closer_to_fedavg(key):
    _, exact, _ = play(EXACT, key)

    def distance(bits):
        config = dataclasses.replace(EXACT, bits=bits)
        _, state, _ = play(config, key)
        gaps = jax.tree.map(jnp.subtract, state.variables, exact.variables)["params"]
        return float(sum((leaf**2).sum() for leaf in jax.tree.leaves(gaps)) ** 0.5)

    coarse, middle, fine = (distance(bits) for bits in (4, 8, 14))
    assert coarse > 5 * middle > 25 * fine > 0


def with_flags(monkeypatch, table):
    """Sends what the table `[N, U]` says; client k is told by its own probability."""
    rows = jnp.asarray(table)

    def look_up(key, num_layers, keep_probability):
        assert num_layers == rows.shape[1]
        return rows[jnp.round(keep_probability * 100).astype(int)]

    monkeypatch.setattr(client_module, "draw_layers", look_up)
    return tuple(k / 100 if k else 0.001 for k in range(len(rows)))


def round_of(config, state, cohort, key, model=None):
    algorithm = fedlpq(
        model or networks(config.preference), config, num_clients=N, input_shape=SHAPE
    )
    return jax.jit(algorithm.round)(state, cohort, key)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["module", "block", "tensor"])
@pytest.mark.parametrize("weighted_by", ["equal", "examples"])
def test_layers_are_averaged_over_their_senders_as_in_numpy(
    key, by, weighted_by, monkeypatch
):
    counts = [8, 3, 8, 5, 8, 1]
    state, trained = alone(key, counts=counts)
    names = layers_of([state.variables], by).names
    table = np.random.default_rng(0).random((N, len(names))) < 0.4
    table[:, 0], table[:, 1], table[:, 2] = False, True, np.arange(N) == 4
    config = dataclasses.replace(
        EXACT,
        unit=by,
        client_weight=weighted_by,
        keep_probability=with_flags(monkeypatch, table),
    )
    after, _ = round_of(config, state, cohort_of(key, counts=counts), key)
    weights = np.ones(N) if weighted_by == "equal" else np.array(counts)
    for collection in ("params", "batch_stats"):
        old, mine = (leaves_of(x[collection]) for x in (state.variables, trained))
        for path, leaf in leaves_of(after.variables[collection]).items():
            sent = table[:, names.index(unit_of(path, by))]
            if not sent.any():
                np.testing.assert_array_equal(leaf, old[path])
                continue
            chosen = np.asarray(mine[path], np.float64)[sent]
            mean = np.average(chosen, axis=0, weights=weights[sent])
            np.testing.assert_allclose(leaf, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_flags_of_one_layer_leave_the_others_alone(key, monkeypatch):
    state, _ = alone(key)
    names = layers_of([state.variables], "module").names
    table = np.random.default_rng(1).random((N, len(names))) < 0.5
    results = []
    for row in (np.arange(N) < 2, np.arange(N) > 3):
        table[:, 3] = row
        config = dataclasses.replace(
            EXACT, keep_probability=with_flags(monkeypatch, table)
        )
        after, _ = round_of(config, state, cohort_of(key), key)
        results.append(leaves_of(after.variables["params"]))
    for path, leaf in results[0].items():
        same = (leaf == results[1][path]).all()
        assert same == (unit_of(path, "module") != names[3])


@pytest.mark.slow
def test_the_server_judges_the_layers_that_it_gets(key, monkeypatch):
    """An update is too long if all of it is sent, and not if one of its layers is."""
    state, trained = alone(key)
    names = layers_of([state.variables], "module").names
    gap = jax.tree.map(  # leaves [N, ...]
        lambda new, old: new - old[None], trained["params"], state.variables["params"]
    )

    def length(tree):
        leaves = [leaf.reshape(N, -1) for leaf in jax.tree.leaves(tree)]
        return np.linalg.norm(np.concatenate(leaves, axis=1), axis=1)

    most = 1.001 * length(gap["fc"]).max()
    assert (length(gap) > most).any()
    limited = dataclasses.replace(EXACT, max_update_norm=most)
    for names_sent, expected in ((["fc"], 0), (names, 1)):
        table = np.tile([name in names_sent for name in names], (N, 1))
        keep = with_flags(monkeypatch, table)
        config = dataclasses.replace(limited, keep_probability=keep)
        _, metrics = round_of(config, state, cohort_of(key), key)
        assert metrics.rejected.any() == expected


def test_who_comes_first_does_not_matter(key):
    config = dataclasses.replace(EXACT, keep_probability=0.5, bits=6)
    _, forward, _ = play(config, key)
    backward = cohort_of(key, ids=tuple(range(N))[::-1])
    _, other, _ = play(config, key, backward)
    assert_close(forward.variables, other.variables, tolerance=1e-5)


def test_participation_follows_the_keep_probability(key):
    p, clients_, layers = 0.2, 10, 4000
    draws = jax.vmap(lambda k: draw_layers(k, layers, p))(
        jax.random.split(key, clients_)
    )
    count = draws.size
    assert abs(draws.mean() - p) < 5 * (p * (1 - p) / count) ** 0.5
    nobody = (~draws).all(axis=0).mean()
    expected = (1 - p) ** clients_
    assert abs(nobody - expected) < 5 * (expected * (1 - expected) / layers) ** 0.5


def emitted(norm, level, code):
    """The message of a layer at b = 5."""
    layer = Quantized(norm, level)
    if code == "range":
        wire = qsgd(levels=2**5, norm="l2", coder="range").wire
        return wire.encode(layer, np.ones(level.shape, bool))
    return encode(layer, bits=5, code=code)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["omega", "gamma", "delta", "range"])
@pytest.mark.parametrize("charged", [True, False])
def test_uplink_is_what_the_encoder_emits(key, code, charged, monkeypatch):
    config = dataclasses.replace(EXACT, bits=5, code=code, charge_statistics=charged)
    state = programs()[0](config, key)
    layers = layers_of([state.variables], "module")
    messages = []

    def keep(norm, level):
        messages.append((level.size, emitted(norm, level, code)))

    def intercept(levels, *, coder):
        wire = narrowest_wire(levels, coder=coder)

        def count(payload, mask):
            jax.debug.callback(keep, payload.norm, payload.level)
            return wire.count(payload, mask)

        return wire._replace(count=count)

    monkeypatch.setattr(upload_module, "narrowest_wire", intercept)
    _, metrics = round_of(config, state, cohort_of(key), key)
    jax.effects_barrier()
    assert sorted(size for size, _ in messages) == sorted(layers.params.tolist() * N)
    rounds = jax.tree.map(lambda x: x[None], metrics)
    up, beside = traffic(rounds.links), side_information(rounds.links)
    uplink, side = up.uplink.sum(), beside.uplink.sum()
    statistics = 32 * N * int(layers.statistics.sum()) if charged else 0
    assert up.downlink.sum() == 32 * N * int(layers.params.sum()) + statistics
    flags = N * len(layers.names)
    assert uplink == sum(m.num_bits for _, m in messages) + flags + statistics
    header = 32 + 4
    if code != "range":
        zero = emitted(np.float32(0), np.zeros(1, np.int32), code)
        header = zero.num_bits - 2
    assert side == header * len(messages) + flags + statistics


@pytest.mark.slow
def test_layers_left_out_cost_their_flag_alone(key, monkeypatch):
    state = programs()[0](EXACT, key)
    layers = layers_of([state.variables], "module")
    names = layers.names
    table = np.zeros((N, len(names)), bool)
    table[2, 3] = True
    keep = with_flags(monkeypatch, table)
    for bits in (32, 7):
        config = dataclasses.replace(EXACT, bits=bits, keep_probability=keep)
        _, metrics = round_of(config, state, cohort_of(key), key)
        up = traffic(jax.tree.map(lambda x: x[None], metrics.links)).uplink[0]
        np.testing.assert_array_equal(np.delete(up, 2), len(names))
        message = up[2] - len(names) - 32 * layers.statistics[3]
        size = int(layers.params[3])
        if bits == 32:
            assert message == 32 * size
            side = side_information(jax.tree.map(lambda x: x[None], metrics.links))
            assert up[2] - side.uplink[0, 2] == 32 * size
        else:
            assert 32 + 2 * size < message < 32 * size
        assert metrics.kept_ratio[2] == pytest.approx(size / layers.params.sum())
    down = traffic(jax.tree.map(lambda x: x[None], metrics.links)).downlink[0]
    assert (down == 32 * (layers.params.sum() + layers.statistics.sum())).all()


@pytest.fixture(scope="module")
def sub_models():
    """A round in which each complexity takes part, and what was before it."""
    key = jax.random.key(0)
    config = dataclasses.replace(EXACT, preference="u")
    state = programs("u")[0](config, key)
    state = state._replace(complexity=jnp.array([0, 1, 2, 3, 4, 4]))
    return config, state, key


@pytest.mark.slow
def test_clients_change_only_what_their_network_has(sub_models):
    config, state, key = sub_models
    before = leaves_of(state.variables["params"])
    for client, complexity in ((0, 1), (1, 2), (3, 4), (4, 5)):
        cohort = cohort_of(key, ids=(client,))
        config_one = dataclasses.replace(config, cohort_size=1)
        after, metrics = programs("u")[1](config_one, state, cohort, key)
        shared = {f"block{n}" for n in range(1, complexity + 2)}
        shared |= {"fc1", "fc2"} if complexity == 5 else set()
        for path, leaf in leaves_of(after.variables["params"]).items():
            assert (leaf != before[path]).any() == (path[0] in shared), path
        others = np.arange(N) != client
        np.testing.assert_array_equal(after.head[others], state.head[others])
        if complexity < 5:
            assert (after.head[client] != state.head[client]).any()
        sizes = layers_of([state.variables], "block")
        own = [n in shared for n in sizes.names]
        down = metrics.links.model_down
        assert down.entries[0] == sizes.params[own].sum()
        assert down.side[0] == 32 * sizes.statistics[own].sum()


@pytest.mark.slow
def test_private_heads_survive_and_shared_ones_stay_where_nobody_has_them(sub_models):
    config, state, key = sub_models
    init, step = programs("u")
    first, _ = step(config, state, cohort_of(key), key)
    some = dataclasses.replace(config, cohort_size=3)
    second, _ = step(some, first, cohort_of(key, ids=(1, 2, 3)), key)
    for name in ("fc1", "fc2"):
        assert_close(
            second.variables["params"][name],
            first.variables["params"][name],
            tolerance=0,
        )
    np.testing.assert_array_equal(second.head[0], first.head[0])
    assert (second.head[1] != first.head[1]).any()


@pytest.mark.parametrize("preference, chances", PREFERENCES.items())
def test_complexities_follow_the_preference_and_stay(key, preference, chances):
    algorithm = fedlpq(
        networks(preference),
        dataclasses.replace(EXACT, preference=preference),
        num_clients=2000,
        input_shape=SHAPE,
    )
    complexity = jax.jit(lambda key: algorithm.init(key).complexity)(key)
    shares = np.bincount(complexity, minlength=5) / 2000
    p = np.array(chances)
    assert (abs(shares - p) < 5 * np.sqrt(p * (1 - p) / 2000)).all()


def test_batches_that_are_padding_are_no_steps(key):
    """Momentum or norm statistics would tell."""
    counts = [3] * N
    cohort = cohort_of(key, counts=counts)
    _, padded, metrics = play(EXACT, key, cohort)
    short = jax.tree.map(lambda x: x[:, :1], batches_of(cohort))
    _, exact, same = play(EXACT, key, with_batches(cohort, short))
    assert_close(padded.variables, exact.variables, tolerance=1e-5)
    assert_close(metrics.loss, same.loss, tolerance=1e-5)


@pytest.mark.slow
def test_views_of_a_client_do_not_depend_on_how_much_another_owns(key):
    """In a sweep all partitions are padded to the largest client of any run."""
    config = dataclasses.replace(EXACT, local_epochs=2, crop_pixels=1, flip=True)
    counts = [3] * N
    batches = batches_of(cohort_of(key, counts=counts))
    # Two epochs of two batches, of which the first is real; and of that alone.
    both = jax.tree.map(lambda x: jnp.concatenate([x, x], axis=1), batches)
    long = with_batches(cohort_of(key, counts=counts), both)
    short = long._replace(index=long.index[:, ::2], weight=long.weight[:, ::2])
    one, other = (play(config, key, cohort) for cohort in (short, long))
    assert_close(one[1].variables, other[1].variables, tolerance=1e-6)
    unchanged = dataclasses.replace(config, crop_pixels=0, flip=False)
    assert not np.allclose(play(unchanged, key, short)[2].loss, one[2].loss)


def test_padded_examples_are_not_trained_on(key):
    counts = [3] * N
    cohort = cohort_of(key, counts=counts)
    batches = batches_of(cohort)
    real = batches.weight[..., None, None, None] > 0
    image = jnp.where(real, batches.image, 1e3)
    poisoned = with_batches(cohort, batches._replace(image=image))
    _, clean, metrics = play(EXACT, key, cohort)
    _, other, _ = play(EXACT, key, poisoned)
    assert_close(clean.variables, other.variables, tolerance=1e-5)
    assert np.isfinite(metrics.loss).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "mapping",
    [clients.vmap, sharded(mesh(N))],
    ids=["vmap", "mesh"],
)
@pytest.mark.parametrize("preference", [None, "u"])
def test_mappings_agree(key, mapping, preference):
    config = dataclasses.replace(EXACT, preference=preference)
    start, after, _ = play(config, key, preference=preference)
    algorithm = fedlpq(
        networks(preference),
        config,
        num_clients=N,
        input_shape=SHAPE,
        over_clients=mapping,
    )
    other, _ = jax.jit(algorithm.round)(start, cohort_of(key), key)
    assert_close(other.variables, after.variables, tolerance=1e-4)
    assert_close(other.head, after.head, tolerance=1e-4)


@pytest.mark.slow
def test_numbers_do_not_compile_again(key):
    traces = []

    @jax.jit
    def step(config, state, cohort, key):
        traces.append(config)
        algorithm = fedlpq(TwoBlocks(), config, num_clients=N, input_shape=SHAPE)
        return algorithm.round(state, cohort, key)

    state = programs()[0](EXACT, key)
    for change in (
        {},
        {"bits": 4},
        {"keep_probability": 0.3},
        {"learning_rate": 0.5, "momentum": 0.9},
    ):
        step(dataclasses.replace(EXACT, **change), state, cohort_of(key), key)
    assert len(traces) == 1


@pytest.mark.slow
def test_classes_of_devices_have_their_own_numbers(key):
    config = dataclasses.replace(EXACT, bits=(32, 3), keep_probability=(1.0, 0.001))
    _, _, metrics = play(config, key)
    assert metrics.kept_ratio[::2] == pytest.approx(1)
    assert (metrics.kept_ratio[1::2] < 0.5).all()


@pytest.mark.parametrize(
    "change, named",
    [
        ({"keep_probability": 0.0}, "keep_probability=0.0"),
        ({"keep_probability": 1.1}, "keep_probability=1.1"),
        ({"bits": 0}, "bits=0"),
        ({"bits": 17}, "bits=17"),
        ({"preference": "2"}, "preference='2'"),
        ({"code": "rice"}, "code='rice'"),
        ({"local_epochs": 0}, "local_epochs=0"),
    ],
)
def test_settings_out_of_range_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(EXACT, **change)


def test_the_number_of_networks_must_suit(key):
    with pytest.raises(ValueError, match="expects 5"):
        fedlpq(TwoBlocks(), dataclasses.replace(EXACT, preference="u"), num_clients=N)
