"""Compressed activations: what crosses the cut, its bits, and whom it concerns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.compressors import COMPRESSORS, top_k
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.serialization import from_json, to_json
from fedjax_sl.federation import clients
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.cut import cut_with_dropout
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.models.split import apply
from fedjax_sl.records.run_folder import CONFIG
from fedjax_sl.reports.labels import labels
from fedjax_sl.sweep import groups
from tests.commands import refused
from tests.compressors.family import FAMILY, bits_of
from tests.worlds import (
    assert_close,
    assert_equal,
    batches_of,
    joined_loss,
    programs,
    tiny_cohort,
    tiny_model,
)


BATCH, CUT = 5, (4, 4, 6)
PLAIN = FedSLConfig(
    cohort_size=4, interval=2, prune_ratio=0.0, bits=32, dropout_rate=0.0, momentum=0.0
)
TOP = CompressorConfig(kind="top_k", keep=0.2)


def with_activations(activations, **change):
    return dataclasses.replace(PLAIN, activations=activations, **change)


def first_round(key, config, cohort):
    init, round = programs()
    state = init(config, key)
    return state, *round(config, state, cohort, key)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_only_what_the_dropout_keeps_is_sent_and_counted(name, key):
    config = with_activations(FAMILY[name], dropout_rate=0.3)
    ids = jnp.arange(2)
    real = jnp.asarray([[True] * BATCH, [True, True, False, False, False]])
    cut = cut_with_dropout(
        config,
        client_configs(config, ids),
        ids,
        key,
        channels=jnp.ones((2, CUT[-1]), bool).at[:, 0].set(False),
        real=real,
        weights=jnp.full(2, 0.5),
    )
    x = jax.random.normal(key, (2, BATCH, *CUT))
    received, at_cut = cut.up(x)
    if name == "float32":
        assert at_cut.message is None
        return
    # What may be sent: a float32 run of the same keys shows what the dropout keeps.
    dense = dataclasses.replace(config, activations=CompressorConfig())
    _, all_sent = cut_with_dropout(
        dense,
        client_configs(dense, ids),
        ids,
        key,
        channels=jnp.ones((2, CUT[-1]), bool).at[:, 0].set(False),
        real=real,
        weights=jnp.full(2, 0.5),
    ).up(x)
    allowed = np.asarray(all_sent.mask) & np.asarray(real)[:, :, None, None, None]
    assert not np.asarray(received)[~allowed].any()
    assert not np.asarray(at_cut.mask)[~allowed].any()
    compressor = FAMILY[name].compressor()
    for k in range(2):
        link = jax.tree.map(lambda leaf, k=k: leaf[k], at_cut.message)
        longest = compressor.wire.most(int(allowed[k].sum()), allowed[k].size)
        assert 0 < bits_of(link) <= bits_of(longest)
        # A second sender, of the values as the server got them, needs no more bits.
        if name in ("top_k", "random_k", "rand_top_k"):
            sent = np.asarray(at_cut.mask[k])
            count = compressor.wire.count
            payload, _ = top_k(keep=0.2).compress(key, received[k], allowed[k], ())
            assert sent.sum() == payload.sent.sum() == link.entries
            if name == "top_k":
                assert bits_of(link) == bits_of(count(payload, jnp.asarray(allowed[k])))


@pytest.mark.slow
def test_top_k_trains_by_the_gradient_of_what_is_sent(key):
    config, cohort = with_activations(TOP), tiny_cohort(key)
    before, after, metrics = first_round(key, config, cohort)
    model, batch = tiny_model(), jax.tree.map(lambda x: x[0, 0], batches_of(cohort))

    def loss(client, server):
        variables = {"params": client}
        x, _ = apply(model.client, variables, batch.image, train=True)
        keep = jnp.abs(x) >= jnp.sort(jnp.abs(x).reshape(-1))[-int(0.2 * x.size)]
        logits, _ = apply(model.server, {"params": server}, x * keep, train=True)
        picked = jax.nn.log_softmax(logits)[jnp.arange(BATCH), batch.label]
        return -picked.mean()

    one = jax.tree.map(lambda x: x[0], before.client["params"])
    value, grad = jax.value_and_grad(loss)(one, before.server["params"])
    np.testing.assert_allclose(metrics.loss[0], value, rtol=1e-5)
    step = jax.tree.map(lambda w, g: w - 0.02 * g, one, grad)
    found = jax.tree.map(lambda x: x[0], after.client["params"])
    assert_close(found, step, 1e-6)
    # The tiny step is not the one of the whole network.
    whole = jax.grad(lambda c: joined_loss(model, c, before.server["params"], batch))
    other = jax.tree.map(lambda w, g: w - 0.02 * g, one, whole(one))
    with pytest.raises(AssertionError):
        assert_close(found, other, 1e-6)


def test_gradients_come_back_for_what_was_sent_alone(key):
    config, cohort = with_activations(TOP), tiny_cohort(key)
    _, _, metrics = first_round(key, config, cohort)
    sent = int(0.2 * BATCH * np.prod(CUT))
    assert metrics.links.activations_up.entries.tolist() == [sent] * 4
    assert metrics.links.gradients_down.entries.tolist() == [sent] * 4
    assert (metrics.links.activations_up.side > sent).all()


@pytest.mark.slow
def test_each_class_of_devices_has_its_own_share(key):
    classes = dataclasses.replace(TOP, keep=(0.1, 0.5))
    _, _, metrics = first_round(key, with_activations(classes), tiny_cohort(key))
    size = BATCH * np.prod(CUT)
    share = metrics.links.activations_up.entries / size
    np.testing.assert_allclose(share, [0.1, 0.5, 0.1, 0.5], atol=1 / size)


@pytest.mark.slow
@pytest.mark.parametrize("update", ["merged", "sequential"])
def test_who_is_absent_or_padded_sends_nothing_and_changes_nothing(key, update):
    activations = CompressorConfig(kind="uniform", bits=3)
    config = with_activations(activations, server_update=update)
    cohort = tiny_cohort(key)
    absent = cohort._replace(num_examples=cohort.num_examples.at[2].set(0))
    padded = absent._replace(weight=absent.weight.at[1, :, 2:].set(0.0))
    _, after, metrics = first_round(key, config, padded)
    link = metrics.links.activations_up
    sizes = np.asarray([BATCH, 2, 0, BATCH]) * np.prod(CUT)
    assert link.entries.tolist() == sizes.tolist()
    assert link.side.tolist() == [64, 64, 0, 64]
    image = padded.examples.image.at[np.asarray(padded.index[1, 0, 2:])].set(30.0)
    image = image.at[np.asarray(padded.index[2, 0])].set(30.0)
    other = padded._replace(examples=padded.examples._replace(image=image))
    _, again, _ = first_round(key, config, other)
    assert_equal(after.client, again.client)
    assert_equal(after.server, again.server)


@pytest.mark.slow
def test_mappings_agree(key):
    config = with_activations(CompressorConfig(kind="eden", bits=2))
    ends = []
    for mapping in (clients.scan, clients.vmap, clients.chunks(3)):
        algorithm = fedsl(tiny_model(), config, over_clients=mapping)
        state = jax.jit(algorithm.init)(key)
        state, metrics = jax.jit(algorithm.round)(state, tiny_cohort(key), key)
        ends.append((state.client, state.server, metrics.loss))
    assert_close(ends[0], ends[1], 1e-4)
    assert_close(ends[0], ends[2], 1e-4)


def test_numbers_are_traced_and_kinds_are_not():
    kinds = [
        with_activations(CompressorConfig(kind="top_k", keep=0.1)),
        with_activations(CompressorConfig(kind="top_k", keep=0.3)),
        with_activations(CompressorConfig(kind="uniform", bits=2)),
        with_activations(CompressorConfig(kind="uniform", bits=5)),
        PLAIN,
    ]
    assert groups(kinds) == [[0, 1], [2, 3], [4]]


def test_a_pass_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"activations.kind='top_k': expected 'float3"):
        with_activations(TOP, scoring="pass")


def test_a_file_holds_it_and_its_mistakes_are_named(tmp_path):
    config = FedSLRun(method=with_activations(dataclasses.replace(TOP, keep=(0.15, 1))))
    path = tmp_path / CONFIG
    path.write_text(to_json(config))
    assert from_json(path) == config
    text = path.read_text()
    for old, new, said in (
        ('"kind": "top_k"', '"kind": "top"', "method: activations: kind='top'"),
        ('"kind": "top_k"', '"sort": "top_k"', "activations: unknown field 'sort'"),
        ("0.15,", '"a",', "method: activations: keep="),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=said.replace("(", r"\(")):
            from_json(path)


def test_only_options_of_its_kind_are_in_a_label():
    runs = [
        FedSLRun(method=with_activations(CompressorConfig(kind=kind, **numbers)))
        for kind, numbers in (
            ("top_k", {"keep": 0.1, "bits": 3}),
            ("top_k", {"keep": 0.2, "bits": 4}),
            ("uniform", {"bits": 3, "keep": 0.3}),
        )
    ]
    assert labels(runs) == [
        {"activations": "top_k", "keep": "0.1"},
        {"activations": "top_k", "keep": "0.2"},
        {"activations": "uniform", "keep": "–"},
    ]


def halves(*, bits=8):
    """A compressor of a program's own."""
    return COMPRESSORS["uniform"](bits=bits)


def test_a_program_adds_one(monkeypatch, capsys, key):
    asked = ["run", "--method.activations.kind", "halves"]
    assert "'halves'" in refused(asked, capsys)
    monkeypatch.setitem(COMPRESSORS, "halves", halves)
    config = CompressorConfig(kind="halves", bits=3)
    assert "bits" not in config.idle and "keep" in config.idle
    _, _, metrics = first_round(key, with_activations(config), tiny_cohort(key))
    assert metrics.links.activations_up.bits.tolist() == [3] * 4
    out_of_range = [*asked, "--method.activations.bits", "30"]
    assert "expected 1 to 24" in refused(out_of_range, capsys)


BACK = CompressorConfig(kind="top_k", keep=0.1, values="qsgd", bits=4)


@pytest.mark.slow
def test_gradients_come_back_compressed_as_well(key):
    """Of what was sent alone: a tenth of a fifth."""
    config = with_activations(TOP, cut_gradients=BACK)
    _, after, metrics = first_round(key, config, tiny_cohort(key))
    sent = int(0.2 * BATCH * np.prod(CUT))
    down = metrics.links.gradients_down
    assert metrics.links.activations_up.entries.tolist() == [sent] * 4
    assert down.entries.tolist() == [int(0.1 * sent)] * 4
    assert down.bits.tolist() == [4] * 4 and (down.side > 32).all()
    _, dense, _ = first_round(key, with_activations(TOP), tiny_cohort(key))
    # The server has its own gradients; only clients step by what comes back. Two
    # programs may differ in a last bit.
    assert_close(after.server, dense.server, 1e-6)
    with pytest.raises(AssertionError):
        assert_close(after.client, dense.client, 1e-6)


@pytest.mark.slow
def test_gradients_sent_back_whole_are_those_of_the_plain_scheme(key):
    """All of them as float32 by a compressor's path: to the bit, and counted alike."""
    everything = CompressorConfig(kind="top_k", keep=1.0)
    _, plain, counted = first_round(key, PLAIN, tiny_cohort(key))
    config = with_activations(CompressorConfig(), cut_gradients=everything)
    _, found, metrics = first_round(key, config, tiny_cohort(key))
    assert_close(plain.client, found.client, 1e-7)
    assert_equal(
        counted.links.gradients_down.entries, metrics.links.gradients_down.entries
    )


def test_two_compressors_of_one_link_are_refused():
    with pytest.raises(ValueError, match=r"down_bits=8: expected 32 with cut_gradient"):
        with_activations(TOP, cut_gradients=BACK, down_bits=8)
    with pytest.raises(ValueError, match=r"cut_gradients.kind='top_k': expected 'floa"):
        dataclasses.replace(PLAIN, cut_gradients=BACK, scoring="pass")
