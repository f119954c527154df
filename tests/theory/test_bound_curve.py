"""Theory beside measurement: the bound up to each round, kept with the run."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from fedjax_sl.analysis.fedsl_bound import Constants, Setting, bound
from fedjax_sl.cli import bound as bound_command
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.configs.network_config import ImageKind
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.estimates.theory import check_covered, ignored, ratios, setting_of
from fedjax_sl.fedsl.quantizer import variance_factor
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.reports import comparison_figures, panels
from fedjax_sl.theory import bound_curve
from fedjax_sl.theory.bound_constants import Estimate
from fedjax_sl.theory.bound_curve import said_of
from tests.commands import refused
from tests.worlds import SHAPE, tiny_model


CONSTANTS = Constants(2.0, 2.3, np.ones(8), 0.1 * np.ones(8), 0.1 * np.ones(8))
SETTING = Setting(rounds=40, learning_rate=0.05, clients=10, interval=5, cut=2)
FOUND = Estimate(CONSTANTS, np.array([8.0, 4.0, 3.0]))


def run_with(ratio):
    method = FedSLConfig(prune_ratio=ratio)
    return FedSLRun(rounds=40, method=method).resolved()


def curve(config):
    return bound_curve.curve_of(
        config, SETTING, [0, 20, 40], FOUND, ratio=ratios(config, tiny_model())
    )


def test_each_round_has_the_bound_of_the_rounds_before_it():
    """The ratio grows over half of the run, and so does its mean."""
    config = run_with(0.4)
    ratio = ratios(config, tiny_model())
    assert len(ratio) == 40 and ratio[0] == 0 and 0 < ratio[5] < ratio[-1]
    found = curve(config)
    for place, rounds in enumerate(found.rounds):
        mean = float(ratio[:rounds].mean())
        here = SETTING._replace(rounds=rounds, pruned=mean, masked=mean)
        terms = bound(CONSTANTS, here)
        assert found.bound[place] == pytest.approx(terms.total)
        rest = terms.total - terms.pruning - terms.masking
        assert found.unpruned[place] == pytest.approx(rest)
    np.testing.assert_allclose(found.running_mean, [8.0, 6.0])


def test_without_pruning_the_bound_only_falls():
    found = curve(run_with(0.0))
    assert (np.diff(found.bound) < 0).all()
    assert found.bound == found.unpruned


def test_it_is_kept_with_the_run_and_drawn(tmp_path):
    found = curve(run_with(0.4))
    assert bound_curve.read(tmp_path) is None
    bound_curve.write(found, tmp_path)
    assert bound_curve.read(tmp_path) == found
    drawn = comparison_figures.svg(comparison_figures.theory(found)).decode()
    assert "constants estimated" in drawn and "mean squared gradient" in drawn
    (tmp_path / "bound.json").write_text('{"points": []}')
    with pytest.raises(ValueError, match=r"bound\.json: expected what `bound` writes"):
        bound_curve.read(tmp_path)


def test_a_folder_that_has_no_bound(tmp_path, capsys):
    said = refused(["bound", "--folder", tmp_path], capsys)
    assert "expected the folder of a run" in said
    config = dataclasses.replace(FedLPQRun(), rounds=2)
    (tmp_path / "config.json").write_text(to_json(config))
    assert "a run of fedlpq: expected a method that has" in refused(
        ["bound", "--folder", tmp_path], capsys
    )


def setting_with(clients=10, **method):
    run = FedSLRun(
        rounds=10, data=DataConfig(num_clients=clients), method=FedSLConfig(**method)
    )
    return setting_of(run.resolved(), tiny_model())


def factor(bits):
    return variance_factor(FedSLConfig(), [9 * 4 * 6], bits)


@pytest.mark.parametrize(
    ("interval", "grad", "upload", "expected"),
    [(1, 32, 2, (2, 32)), (1, 4, 2, (4, 32)), (5, 32, 2, (32, 2)), (5, 4, 2, (4, 2))],
)
def test_what_is_quantised_makes_noise(interval, grad, upload, expected):
    """With I = 1 once: the gradient, or where that is exact, the upload."""
    found = setting_with(interval=interval, grad_bits=grad, upload_bits=upload)
    assert (found.quantization, found.upload) == tuple(map(factor, expected))
    exact = setting_with(interval=interval, grad_bits=32, upload_bits=32)
    totals = [bound(CONSTANTS, one).total for one in (found, exact)]
    assert totals[0] > totals[1]


def test_every_class_of_devices_counts():
    """The third of three classes is in no cohort of two, until the second is drawn."""
    classes = {"grad_bits": (8, 8, 2), "upload_bits": (8, 8, 3)}
    found = setting_with(clients=3, cohort_size=2, **classes)
    assert (found.quantization, found.upload) == (factor(2), factor(3))
    # Of two clients nobody belongs to it.
    absent = setting_with(clients=2, cohort_size=2, **classes)
    assert (absent.quantization, absent.upload) == (factor(8), factor(8))
    ratio = {"prune_ratio": (0.1, 0.1, 0.7), "prune_shape": "constant"}
    single = {"granularity": "weight", **ratio}
    pruned = setting_with(clients=3, cohort_size=2, **single).pruned
    # floor(rho M) of the 72 and the 216 weights of the kernels.
    assert pruned == pytest.approx((2 * (7 + 21) + 50 + 151) / 3 / 288, rel=1e-6)


# Weights of the tiny network's two kernels, by filters of the first and the second.
def weights(first, second):
    return 9 * SHAPE[-1] * first + 9 * first * second


@pytest.mark.parametrize(
    ("ratio", "left"), [(0.5, (2, 3)), (0.2, (4, 5)), (0.7, (2, 2)), (0.1, (4, 6))]
)
def test_a_filter_takes_the_next_kernel_s_inputs_with_it(ratio, left):
    """Of 4 and 6 filters floor(rho M) go: less than the ratio says, or none."""
    method = FedSLConfig(prune_ratio=ratio, prune_shape="constant")
    found = setting_of(FedSLRun(method=method).resolved(), tiny_model())
    expected = 1 - weights(*left) / weights(4, 6)
    assert found.pruned == found.masked == pytest.approx(expected, rel=1e-6)
    terms = bound(CONSTANTS, found._replace(learning_rate=0.05))
    assert (terms.pruning > 0) == (left != (4, 6))


def test_classes_lose_weights_each_by_its_own_ratio():
    """Half of the clients prune nothing, and the others 2 of 4 and 4 of 6 filters."""
    classes = FedSLConfig(prune_ratio=(0.0, 0.7), prune_shape="constant")
    found = ratios(FedSLRun(rounds=3, method=classes).resolved(), tiny_model())
    expected = (1 - weights(2, 2) / weights(4, 6)) / 2
    np.testing.assert_allclose(found, [expected] * 3, rtol=1e-6)


@pytest.mark.parametrize(("name", "cut"), [("resnet18", 3), ("vit-tiny", 2)])
def test_the_client_s_layers_are_those_that_constants_are_of(name, cut):
    """A block has several kernels, and one gradient and variance."""
    model = ModelConfig(name=name, cut=cut, width=0.1)
    network = model.uncut(ImageKind((32, 32, 3), 10)).at(cut)
    point = network.shapes
    layers = len(point.client["params"])
    every = [*point.client["params"], *point.server["params"]]
    assert sorted(every)[:layers] == list(point.client["params"])
    assert setting_of(FedSLRun(model=model).resolved(), network).cut == layers


def test_rounds_after_the_run_are_pruned_at_its_last_ratio():
    """Their mean ratio is above that of the run, whose end of the ramp is yet open."""
    run = FedSLRun(rounds=40, method=FedSLConfig(prune_ratio=0.4))
    each = ratios(run.resolved(), tiny_model())
    own = SETTING._replace(pruned=float(each.mean()), masked=float(each.mean()))
    last = own._replace(pruned=each[-1], masked=each[-1], rounds=400)
    shown, target = io.StringIO(), bound(CONSTANTS, last).total
    options = bound_command.Bound(run=run, target=target)
    bound_command._print_bound(
        FOUND, own, options, Console(file=shown, width=200), last_ratio=each[-1]
    )
    rounds = re.search(r"rounds to .*: (\S+); squared", shown.getvalue())
    # Whole periods of five rounds.
    assert rounds is not None and 400 <= float(rounds[1]) <= 405


def test_what_is_printed_explains_itself():
    """Dropout in the constants is no term of 0, and the usual target has a reason."""
    shown = {}
    for rate in (0.0, 0.2):
        file = io.StringIO()
        options = bound_command.Bound(
            run=FedSLRun(method=FedSLConfig(dropout_rate=rate))
        )
        plain = Console(file=file, width=200)
        bound_command._print_bound(FOUND, SETTING, options, plain, last_ratio=0.0)
        shown[rate] = file.getvalue()
        assert "twice the floor that no rounds get below: " in shown[rate]
    assert re.search(r"dropout .* 0 ", shown[0.0])
    assert re.search(r"dropout .* in sigma\^2, G\^2 ", shown[0.2])


def test_dropout_that_the_constants_are_not_of_is_named():
    for change in ({"rescale": False}, {"dropout_per": "channel"}):
        some = FedSLRun(method=FedSLConfig(momentum=0.0, **change))
        (said,) = ignored(some)
        assert said.startswith(*change)
        none = dataclasses.replace(some.method, dropout_rate=0.0)
        assert not ignored(dataclasses.replace(some, method=none))


NOT_COVERED = [
    ("optimizer", "adam"),
    ("cosine_rounds", 10),
    ("server_learning_rate", 0.5),
    ("server_update", "sequential"),
    ("client_update", "relay"),
    ("average_over", "keepers"),
    ("restore", False),
    ("clip_norm", 1.0),
    ("trim", 0.1),
    ("max_update_norm", 1.0),
]


@pytest.mark.parametrize(("name", "value"), NOT_COVERED)
def test_another_method_has_no_bound(name, value):
    run = dataclasses.replace(FedSLRun(), method=FedSLConfig(**{name: value}))
    with pytest.raises(ValueError, match=f"^{name}={value!r}: the bound is not of it"):
        check_covered(run)


def test_what_is_not_covered_is_refused_before_anything_runs(tmp_path, capsys):
    adam = ("--method.optimizer", "adam")
    for command in (["bound"], ["suggest", "--bound", "1"]):
        assert "optimizer='adam': the bound" in refused([*command, *adam], capsys)
    method = FedSLConfig(client_update="relay")
    (tmp_path / "config.json").write_text(to_json(FedSLRun(method=method)))
    said = refused(["bound", "--folder", tmp_path], capsys)
    assert "client_update='relay': the bound is not of it" in said


def test_what_is_covered_is_not_refused():
    plain = FedSLConfig(
        momentum=0.0, server_learning_rate=0.02, restore=False, prune_ratio=0.0
    )
    run = FedSLRun(method=plain)
    check_covered(run)
    assert ignored(run) == [] and said_of([]) == ""


def test_what_the_theorem_leaves_out_is_said(tmp_path):
    """By the command, and in the report of a run; of an older one its momentum."""
    some = FedSLRun(
        rounds=40,
        data=DataConfig(num_clients=12),
        method=FedSLConfig(client_weight="examples", down_bits=8),
    ).resolved()
    expected = ["momentum=0.9", "cohort_size=10", "client_weight='examples'"]
    assert ignored(some) == [*expected, "down_bits=8"]
    bound_curve.write(curve(some), tmp_path)
    picture = panels._theory(tmp_path)
    assert picture is not None and said_of(ignored(some)) in picture.caption
    path = tmp_path / "bound.json"
    kept = json.loads(path.read_text())
    del kept["left_out"]
    path.write_text(json.dumps(kept))
    picture = panels._theory(tmp_path)
    assert picture is not None and "ignores momentum=0.9." in picture.caption
