"""What a report shows of a client's layers is what an encoder, or a round, sends."""

import json
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.cli.main import main
from fedjax_sl.compression import encode, quantize
from fedjax_sl.compression.coding import CODES, NORM_BITS, elias_lengths
from fedjax_sl.compressors import qsgd
from fedjax_sl.fedlpq import panels
from fedjax_sl.fedlpq.panels import code_lengths
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.message import number_bits
from fedjax_sl.fedsl.panels import kept, update, update_bits
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.method_spec import LastCheckpoint, SentLayers
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints
from fedjax_sl.records.finished_run import read
from fedjax_sl.records.run_folder import read_lines
from fedjax_sl.reports.last_checkpoint import last_checkpoint
from fedjax_sl.reports.layer_figures import layer_bars
from tests.commands import PERCEPTRON
from tests.worlds import played


RUN = [
    *("fedlpq", *PERCEPTRON, "--batch-size", "50", "--method.bits", "6"),
    *("--data.num-clients", "4", "--method.cohort-size", "3"),
    *("--rounds", "1", "--eval-every", "1", "--data.train-examples", "300"),
    *("--data.test-examples", "100", "--method.keep-probability", "1"),
]
FEDSL = FedSLConfig(
    cohort_size=4, interval=2, learning_rate=0.05, prune_ratio=0.5, prune_end=0, bits=12
)

NOTHING = LastCheckpoint(FedSLRun(), {}, restored=dict)
CODED = LastCheckpoint(FedLPQRun(), {}, restored=dict)


@pytest.mark.parametrize("code", CODES)
def test_the_bars_are_the_encoder_s_messages(key, code, monkeypatch):
    """Layers of any size and spread, one of zeros: bar and rest are num_bits / M."""
    layers = {
        f"layer{size}": quantize(
            jax.random.fold_in(key, size),
            spread * jax.random.normal(jax.random.fold_in(key, size), (size,)) ** 3,
            levels=2**7,
            norm="l2",
        )
        for size, spread in ((1, 1.0), (10, 1.0), (300, 0.0), (4000, 1e-3))
    }
    sent = SentLayers(
        rounds=1,
        client=0,
        what="client 0's update",
        said=f"b = 7, Elias {code}",
        compressor=qsgd(levels=2**7, norm="l2", coder=code),
        layers=layers,
        masks={
            name: np.ones(layer.level.shape, bool) for name, layer in layers.items()
        },
    )
    monkeypatch.setattr(panels, "sent_next", lambda _: sent)
    bars = panels.messages(CODED)
    assert bars is not None
    axis = layer_bars(bars).axes[0]
    payload, rest = np.array([bar.get_width() for bar in axis.patches]).reshape(2, 4)
    entropy = np.asarray(axis.lines[0].get_xdata())
    header = NORM_BITS + int(elias_lengths(7, code=code))
    assert [label.get_text() for label in axis.get_yticklabels()] == list(layers)
    for place, one in enumerate(layers.values()):
        message = encode(one, bits=7, code=code)
        assert payload[place] + rest[place] == pytest.approx(
            message.num_bits / one.level.size, rel=1e-12
        )
        assert rest[place] == pytest.approx(header / one.level.size)
    assert (entropy <= payload).all() and entropy[-1] > 1


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """One round in which every layer is sent, with the checkpoint before it."""
    folder = tmp_path_factory.mktemp("runs") / "coded"
    main(["run", *RUN, "--folder", str(folder)])
    return folder


@pytest.mark.slow
def test_the_next_message_is_that_of_the_next_round(coded, tmp_path):
    """Seen from the start, the round to come is the one that the run then did."""
    copy = tmp_path / "copy"
    shutil.copytree(coded, copy)
    shutil.rmtree(copy / "checkpoints" / "1")
    seen = last_checkpoint(read(copy))
    assert seen is not None
    sent = panels.sent_next(seen)
    assert sent is not None and sent.rounds == 0 and "b = 6" in sent.said
    found = code_lengths(sent)
    sizes = np.array([levels.size for levels in sent.levels.values()])
    line = read_lines(coded / "rounds.jsonl")[0]
    place = line["client_id"].index(sent.client)
    payload = line["updates_up_bits"][place] - line["updates_up_side_bits"][place]
    np.testing.assert_allclose((found.payload * sizes).sum(), payload, rtol=1e-3)
    header = NORM_BITS + int(elias_lengths(6, code="omega"))
    np.testing.assert_allclose((found.message - found.payload) * sizes, header)


@pytest.mark.slow
def test_the_report_shows_it_and_says_what_it_is(coded, tmp_path):
    page = tmp_path / "page.html"
    main(["report", str(coded), "--output", str(page)])
    assert "as it would be sent after round 1, were every layer sent" in (
        text := page.read_text()
    )
    assert "bits per element of each layer&#x27;s message" in text
    drawn = (tmp_path / "page" / "code_length.svg").read_text()
    assert "bits per element" in drawn and "stage_02/dense" in drawn


@pytest.mark.slow
def test_without_data_or_checkpoint_the_rest_is_shown(coded, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(coded, copy)
    config = json.loads((copy / "config.json").read_text())
    config["data"]["train_examples"] = 10**6
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="no picture of messages: train_examples="):
        main(["report", str(copy)])
    shutil.rmtree(copy / "checkpoints")
    main(["report", str(copy)])
    text = (copy / "report.html").read_text()
    assert "as it would be sent" not in text and "Labels of each client" in text


def test_clients_that_keep_the_same_are_drawn():
    """Three times 7 of 10 have a mean that is less than each, by rounding."""
    mask = np.tile(np.arange(10) < 7, (3, 1))
    assert mask.mean(axis=1).mean() < mask.mean(axis=1).min()
    arrays = {"mask/conv1/conv/kernel": mask, "weights": np.ones(3)}
    bars = kept(NOTHING._replace(arrays=arrays))
    assert bars is not None and layer_bars(bars).axes[0].patches


def test_who_is_absent_keeps_nothing_that_counts():
    mask = np.array([[True] * 10, [True] * 4 + [False] * 6, [True] * 10])
    arrays = {"mask/conv1/conv/kernel": mask, "weights": np.array([0.0, 0.5, 0.0])}
    bars = kept(NOTHING._replace(arrays=arrays))
    assert bars is not None
    np.testing.assert_array_equal(bars.parts["kept"], [[0.4]])
    nobody = arrays | {"weights": np.zeros(3)}
    assert kept(NOTHING._replace(arrays=nobody)) is None


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1, 2])
def test_bits_of_an_update_are_those_of_the_round(key, tmp_path, interval):
    config = replace(FEDSL, interval=interval)
    state, metrics = played(key, config)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(Checkpoint(2, state, {}))
    checkpoints.wait()
    arrays = checkpoints.arrays()
    checkpoints.close()
    found = update_bits(arrays, FedSLRun(method=config))
    assert found is not None
    link = metrics[-1].links.updates_up
    np.testing.assert_array_equal(
        found.bits.sum(axis=1), link.entries * link.bits + link.more
    )
    assert list(found.layers) == sorted(state.anchor)
    shown = update(LastCheckpoint(FedSLRun(method=config), arrays, restored=dict))
    assert shown is not None
    bars = layer_bars(shown).axes[0].patches
    np.testing.assert_allclose(
        [bar.get_width() for bar in bars], 1e-3 * found.bits.mean(axis=0)
    )
    for other in ({"client_update": "relay"}, {"quantizer_error": 0.1}):
        run = FedSLRun(method=replace(config, **other))
        assert update_bits(arrays, run) is None
    assert update_bits({}, FedSLRun(method=config)) is None


def test_the_gradient_s_bits_are_those_of_a_message_that_is_one():
    for interval, noise, bits in ((1, None, 3), (2, None, 5), (1, 1.0, 5)):
        clip = None if noise is None else 1.0
        config = replace(
            FEDSL,
            interval=interval,
            grad_bits=3,
            upload_bits=5,
            noise_multiplier=noise,
            clip_norm=clip,
        )
        assert (
            number_bits(config, client_configs(config, jnp.arange(4))) == bits
        ).all()
