"""Compressed updates through Flower's messages, mods and strategies."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from fedjax_sl.compressors import eden, error_feedback, identity, qsgd, top_k
from fedjax_sl.compressors.flower import BITS, BYTES, compression_mod, decompressing
from fedjax_sl.errors import InputError
from tests.compressors.flower_run import (
    NODES,
    app_of,
    arrays_of,
    contexts_of,
    fedavg,
    started,
)


@pytest.fixture
def flower(monkeypatch):
    """Flower, as of a server in a run."""
    pytest.importorskip("flwr")
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("run_id", "node_id", "task_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)


def error_of(result):
    return list(result.evaluate_metrics_clientapp.values())[-1]["error"]


def test_float32_messages_change_nothing_but_the_last_bit(flower):
    plain = arrays_of(started(app_of(None), fedavg(), rounds=3))
    wrapped = decompressing(fedavg(), identity())
    found = arrays_of(started(app_of(identity()), wrapped, rounds=3))
    assert list(found) == list(plain)
    for name, x in plain.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-5, atol=1e-6)
    assert found["steps"] == 3


@pytest.mark.parametrize(
    "compressor, values", [(qsgd(bits=4), 1230), (eden(bits=4), 2048 + 32)]
)
def test_a_run_learns_as_well_with_a_fraction_of_the_bytes(flower, compressor, values):
    plain = started(app_of(None), fedavg(), rounds=30)
    app, strategy = app_of(compressor), decompressing(fedavg(), compressor, seed=3)
    found = started(app, strategy, rounds=30)
    first = started(app_of(None), fedavg(), rounds=1)
    assert error_of(found) < 1.1 * error_of(plain) < 0.1 * error_of(first)
    for round, metrics in found.train_metrics_clientapp.items():
        # The counter is an integer of 64 bits, and after an average a float.
        counter = 64 if round == 1 else 4 + 32
        bits = 4 * values + 2 * 32 + counter
        assert metrics[BITS] == pytest.approx(bits)
        assert metrics[BYTES] == pytest.approx(
            4 + 3 * 8 + -(-counter // 8) + (bits - counter) / 8
        )


def test_the_code_of_the_page_runs(flower):
    text = (Path(__file__).parents[2] / "docs/compressors.md").read_text()
    blocks, names = re.findall(r"```python\n(.*?)```", text, re.DOTALL), {}
    (block,) = [block for block in blocks if "flwr" in block]
    exec(compile(block, "compressors.md", "exec"), names)
    result = started(app_of(None, app=names["app"]), names["strategy"], rounds=2)
    assert result.train_metrics_clientapp[1][BYTES] < 1230


def test_error_feedback_keeps_its_residual_in_the_context(flower):
    errors = {}
    for name, compressor in {
        "feedback": error_feedback(top_k(keep=0.05)),
        "alone": top_k(keep=0.05),
    }.items():
        contexts = contexts_of()
        app, strategy = app_of(compressor), decompressing(fedavg(), compressor)
        result = started(app, strategy, rounds=60, contexts=contexts)
        errors[name] = error_of(result)
        states = [context.state for context in contexts.values()]
        assert all(len(state) == (name == "feedback") for state in states)
    assert errors["feedback"] < 0.7 * errors["alone"]
    shapes = [x.shape for x in states_of(contexts_with_feedback())]
    assert shapes == [(40, 30), (30,), ()]


def contexts_with_feedback():
    compressor, contexts = error_feedback(top_k()), contexts_of()
    strategy = decompressing(fedavg(), compressor)
    started(app_of(compressor), strategy, rounds=1, contexts=contexts)
    return contexts


def states_of(contexts):
    (record,) = contexts[NODES[0]].state.values()
    return record.to_numpy_ndarrays()


def test_nodes_and_rounds_have_draws_of_their_own(flower):
    """Of a change that is the same everywhere, others are rounded up."""
    seen = []

    def constant(arrays, node):
        rng = np.random.default_rng(0)
        return {
            name: x + rng.normal(size=x.shape).astype("f4") if x.ndim else x
            for name, x in arrays.items()
        }

    def tamper(reply):
        if reply.metadata.message_type == "train":
            (array,) = reply.content["arrays"].values()
            # The levels of the weights, after lengths and a scale: rounding apart, they
            # differ by their draws alone.
            seen.append(array.data[4 + 3 * 8 + 4 :][: 1200 * 2 // 8])
        return reply

    for seed in (0, 1):
        app = app_of(qsgd(bits=2), train=constant)
        strategy = decompressing(fedavg(), qsgd(bits=2), seed=seed)
        started(app, strategy, rounds=2, tamper=tamper)
    assert len(seen) == len(set(seen)) == 12


@pytest.mark.parametrize(
    "train, named",
    [
        (lambda x, node: {**x, "bias": x["bias"] + np.nan}, "arrays[1]: expected fin"),
        (lambda x, node: {"weight": x["weight"]}, "expected those that the server se"),
        (lambda x, node: {**x, "bias": x["bias"][:2]}, "arrays[1]: float32 [2]: expe"),
    ],
)
def test_a_client_that_cannot_compress_is_an_error(flower, train, named, caplog):
    def broken(x, node):
        return train(x, node) if node == NODES[1] else {**x, "bias": x["bias"] + 1}

    strategy = decompressing(fedavg(), identity())
    result = started(app_of(identity(), train=broken), strategy, rounds=1)
    np.testing.assert_array_equal(arrays_of(result)["bias"], 1.0)
    assert any(
        f"node {NODES[1]}: " in line and named in line for line in caplog.messages
    )


def test_a_reply_that_cannot_be_read_is_an_error(flower, caplog):
    from flwr.app import Array, ArrayRecord

    def tamper(reply):
        if reply.metadata.message_type == "train":
            record = reply.content["arrays"]
            if reply.metadata.src_node_id == NODES[0]:
                record["fedjax_sl"].data = record["fedjax_sl"].data[:-1]
            elif reply.metadata.src_node_id == NODES[1]:
                reply.content["arrays"] = ArrayRecord({"weight": Array(np.ones(3))})
        return reply

    def one_more(x, node):
        return {**x, "bias": x["bias"] + 1}

    strategy = decompressing(fedavg(), identity())
    app = app_of(identity(), train=one_more)
    result = started(app, strategy, rounds=1, tamper=tamper)
    np.testing.assert_array_equal(arrays_of(result)["bias"], 1.0)
    for node, named in {NODES[0]: "not as long", NODES[1]: "not of a `compr"}.items():
        assert any(
            f"node {node}: " in line and named in line for line in caplog.messages
        )


def test_without_the_strategy_a_client_refuses(flower, caplog):
    started(app_of(identity()), fedavg(), rounds=1)
    assert any("expected a strategy by `decompressing`" in m for m in caplog.messages)


def test_an_error_of_the_client_passes(flower):
    from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

    config = ConfigRecord({"compression-seed": [0, 1]})
    message = Message(
        RecordDict({"arrays": ArrayRecord(), "config": config}), 3, "train"
    )
    reply = Message(Error(0, "broken"), reply_to=message)
    mod = compression_mod(identity())
    assert mod(message, None, lambda message, context: reply) is reply


def test_a_reply_without_metrics_gets_some(flower):
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

    arrays = ArrayRecord({"x": Array(np.ones(3, np.float32))})
    config = ConfigRecord({"compression-seed": [0, 1]})
    message = Message(RecordDict({"arrays": arrays, "config": config}), 3, "train")

    def client(message, context):
        return Message(RecordDict({"arrays": arrays}), reply_to=message)

    context = contexts_of()[3]
    (metrics,) = compression_mod(identity())(
        message, context, client
    ).content.metric_records.values()
    assert metrics == {BITS: 96, BYTES: 4 + 8 + 12}


def test_one_record_of_arrays_is_expected(flower):
    from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

    config = ConfigRecord({"compression-seed": [0, 1]})
    content = RecordDict({"a": ArrayRecord(), "b": ArrayRecord(), "config": config})
    message = Message(content, 3, "train")
    reply = compression_mod(identity())(message, None, lambda *given: message)
    assert reply.error.reason == "2 records of arrays: expected one."


def test_a_state_of_other_arrays_is_refused(flower, caplog):
    contexts, compressor = contexts_with_feedback(), error_feedback(top_k())
    for context in contexts.values():
        (name, record), *_ = context.state.items()
        context.state[name] = type(record)(record.to_numpy_ndarrays()[:1])
    app, strategy = app_of(compressor), decompressing(fedavg(), compressor)
    started(app, strategy, rounds=1, contexts=contexts)
    assert any("keeps a state of other arrays" in m for m in caplog.messages)


def test_without_flower_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(InputError, match="decompressing needs flwr: pip install"):
        decompressing(None, identity())


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_is_a_word(seed):
    with pytest.raises(InputError, match="seed="):
        decompressing(None, identity(), seed=seed)
