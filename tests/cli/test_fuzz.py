"""Whatever is thrown at configurations and messages, the answer is one sentence."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedjax_sl.cli.main import main
from fedjax_sl.compression.coding import Message, decode
from fedjax_sl.configs.fields import flattened as flat
from fedjax_sl.configs.serialization import from_json, to_json
from fedjax_sl.methods import methods
from tests.draws import examples


MANY = examples(500)
"""Examples of each; ten times as many messages, and fewer command lines."""

NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.integers(),
    st.floats(),
    st.sampled_from([0.35, 1e400, -1e-300, 10**400, 2**31, 2**63]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=5)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)


def one_sentence(error):
    said = str(error)
    assert said and "\n" not in said.strip() and len(said) < 600, said


@st.composite
def configurations(draw):
    """A valid one with a few fields set to anything, taken out, or added."""
    kind = draw(st.sampled_from(sorted(methods())))
    values = {"algorithm": kind, **dataclasses.asdict(methods()[kind].config())}
    for _ in range(draw(st.integers(1, 3))):
        inner = [v for v in values.values() if isinstance(v, dict)]
        part = draw(st.sampled_from([values, *inner]))
        known = st.sampled_from(sorted(part)) if part else st.nothing()
        name = draw(known | st.text(max_size=8))
        if draw(st.booleans()):
            part[name] = draw(VALUES)
        else:
            part.pop(name, None)
        if "algorithm" not in values:
            break
    return values


@pytest.mark.slow
@settings(
    max_examples=MANY,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=configurations())
def test_a_configuration_is_read_or_refused(tmp_path, values):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    try:
        config = from_json(path)
    except ValueError as error:
        one_sentence(error)
        return
    path.write_text(to_json(config))
    assert flat(from_json(path)) == flat(config)


@settings(max_examples=MANY)
@given(text=st.text(max_size=60) | st.sampled_from(["[" * 10**5, '{"a": 1e999}']))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    try:
        from_json(path)
    except ValueError as error:
        one_sentence(error)


WORDS = st.one_of(
    st.sampled_from(sorted(flat(methods()["fedsl"].config()))).map(
        lambda name: "--" + name.replace("_", "-")
    ),
    NUMBERS.map(str),
    st.sampled_from(["--resume", "--overwrite", "--config", "--grid", "=", "--"]),
    st.text(max_size=6),
)


@settings(
    max_examples=max(MANY // 20, 20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(words=st.lists(WORDS, min_size=1, max_size=4))
@pytest.mark.slow
def test_any_command_line_is_refused_in_order(tmp_path, monkeypatch, words):
    """Nothing that is refused leaves anything behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedjax_sl.cli.main._prepare_jax", lambda: None)
    monkeypatch.setattr("fedjax_sl.cli.run.prepare", stop_here)
    with pytest.raises(SystemExit) as stop:
        main(["run", "fedsl", *words])
    assert stop.value.code in (0, 2, 77)
    assert not list(tmp_path.iterdir())


def stop_here(config):
    """In place of loading the data: what was asked for was understood."""
    raise SystemExit(77)


@pytest.mark.slow
@settings(max_examples=10 * MANY)
@given(
    data=st.binary(max_size=60),
    bits=st.integers(-3, 600),
    code=st.sampled_from(["omega", "gamma", "delta"]),
)
def test_any_message_is_decoded_or_refused(data, bits, code):
    try:
        quantized, width = decode(Message(data, bits), code=code)
    except ValueError as error:
        one_sentence(error)
        return
    assert np.abs(quantized.level).max(initial=0) <= 2**width
