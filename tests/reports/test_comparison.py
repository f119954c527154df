"""Figures and choices from records by hand: what is compared was reached alike."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.cli.suggest import cheapest_for_each_accuracy, reaching
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.evaluation import Evaluation
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.records.finished_run import Finished
from fedjax_sl.records.metrics import Totals
from fedjax_sl.reports import comparison_figures
from fedjax_sl.reports.breakdown import where_time_goes
from fedjax_sl.reports.groups import at_target, grouped
from fedjax_sl.reports.labels import NONE
from fedjax_sl.reports.late import late_note
from fedjax_sl.traffic import Record, Traffic


CONFIG = FedSLRun(data=DataConfig(num_clients=2), method=FedSLConfig(cohort_size=2))

ROUND = {
    "client_id": [0, 1],
    "loss": [1.0, 1.0],
    "left_out": [False, False],
    "kept_ratio": [1.0, 1.0],
    **{f"{link}_bits": [8, 8] for link in Traffic._fields},
    **{f"{link}_side_bits": [0, 0] for link in Traffic._fields},
    "client_macs": [1.0, 1.0],
    "server_macs": [1.0, 1.0],
}


def finished(seed, accuracies, *, config=CONFIG):
    """A run with these accuracies by round, whose rounds cost more and more."""
    last = max(accuracies)
    bits = np.arange(1, last + 1)[:, None] * np.array([[1000, 3000]])
    macs = np.full(bits.shape, 1e6)
    record = Record(
        np.tile(np.arange(2), (last, 1)),
        Traffic(*[bits] * 5, 0 * bits, 0 * bits),
        Traffic(*[0 * bits] * 7),
        macs,
        macs,
        0 * macs,
    )
    lines = [
        {"round": done, "test_accuracy": accuracy, "epoch": 0.1 * done}
        for done, accuracy in accuracies.items()
    ]
    config = dataclasses.replace(config, seed=seed)
    return Finished(Path(f"run-{seed}"), config, lines, record)


def test_bars_of_time_end_with_the_run():
    """Also where a deadline cuts its rounds."""
    runs = [finished(0, {3: 0.5, 6: 0.6})]
    free = round_costs(Channel(), runs[0].record).seconds
    channel = Channel(deadline_s=float(np.median(free)))
    drawn = where_time_goes(grouped(runs, channel), channel)
    width = sum(bar.get_width() for bar in drawn.axes[0].patches)
    assert width == pytest.approx(np.minimum(free, channel.deadline_s).sum())


def test_who_excluded_stragglers_keeps_the_deadline():
    """With another one other clients would have taken part."""
    free = round_costs(Channel(), finished(0, {6: 0.6}).record).seconds
    soon, later = float(np.quantile(free, 0.3)), float(np.quantile(free, 0.6))
    runs = [
        finished(
            0,
            {6: 0.6},
            config=dataclasses.replace(
                CONFIG, drop_stragglers=True, channel=Channel(deadline_s=deadline)
            ),
        )
        for deadline in (soon, later)
    ]
    for channel in (Channel(deadline_s=soon), Channel(deadline_s=later), Channel()):
        groups = grouped(runs, channel)
        found = [group.curves[0].seconds[-1] for group in groups]
        expected = [np.minimum(free, deadline).sum() for deadline in (soon, later)]
        np.testing.assert_allclose(found, expected)
        assert [group.label["deadline_s"] for group in groups] == [
            f"{soon:g}",
            f"{later:g}",
        ]


def test_over_another_channel_who_was_not_excluded_may_be_late():
    """Seconds end at the run's deadline there, too, which is said."""
    free = round_costs(Channel(), finished(0, {6: 0.6}).record).seconds
    deadline = float(free.max()) * 1.001
    own = Channel(deadline_s=deadline)
    strict = dataclasses.replace(CONFIG, drop_stragglers=True, channel=own)
    run = finished(0, {6: 0.6}, config=strict)
    assert late_note([run], own) == late_note([run], Channel()) == ""
    narrow = Channel(bandwidth_hz=Channel().bandwidth_hz / 100)
    assert "end after the deadline" in late_note([run], narrow)
    (group,) = grouped([run], narrow)
    assert group.curves[0].seconds[-1] <= 6 * deadline


def test_updates_after_a_deadline_are_told():
    run = finished(0, {6: 0.6})
    free = round_costs(Channel(), run.record).seconds
    channel = Channel(deadline_s=float(np.median(free)))
    late = round_costs(channel, run.record).late
    assert 0 < late.mean() < 1
    told = late_note([run], channel)
    assert told.startswith(f"{100 * late.mean():.2g} % of the clients' turns end after")
    assert late_note([run], Channel()) == ""
    assert late_note([run], Channel(deadline_s=float(free.max()) * 1.001)) == ""


PLAIN, LONGER = {4: 0.2, 8: 0.4, 12: 0.6}, {4: 0.2, 8: 0.4, 10: 0.5, 12: 0.6, 16: 0.8}


def test_runs_are_averaged_where_all_were_evaluated():
    """One that was made longer, with an evaluation where it had ended, is no other."""
    (group,) = grouped([finished(0, LONGER), finished(1, PLAIN)], Channel())
    assert group.final == [0.6, 0.6]
    assert (group.common == [4, 8, 12]).all()
    (lone,) = grouped([finished(1, PLAIN)], Channel())
    both, one = (comparison_figures.accuracy([g]).axes for g in (group, lone))
    for axis, expected in zip(both, one, strict=True):
        for got, line in zip(axis.lines, expected.lines, strict=True):
            np.testing.assert_allclose(got.get_xydata(), line.get_xydata())


def test_who_never_reaches_a_target_takes_longer_than_it_ran():
    runs = [finished(0, PLAIN), finished(1, {4: 0.2, 8: 0.3, 12: 0.3})]
    (group,) = grouped(runs, Channel())
    seconds = [curve.seconds for curve in group.curves]
    for target, taken, more in (
        (0.2, seconds[0][0] + seconds[1][0], ""),
        (0.4, seconds[0][1] + seconds[1][2], "> "),
        (0.6, seconds[0][2] + seconds[1][2], "> "),
    ):
        found = at_target(group, target)
        assert found.reached.tolist() == [True, not more]
        assert found.text("seconds", 4) == f"{more}{taken / 2:.4g}"
    assert at_target(group, 0.9).text("seconds", 4) == NONE


def test_runs_without_a_common_evaluation_are_no_group():
    runs = [finished(0, {4: 0.2}), finished(1, {3: 0.1, 4: 0.2}), finished(2, {3: 0.1})]
    groups = grouped([*runs, finished(1, {4: 0.2})], Channel())
    assert [[run.config.seed for run in group.runs] for group in groups] == [
        [0, 1],
        [2],
        [1],
    ]


def test_a_final_accuracy_is_set_against_its_own_cost():
    """What the run that is ahead has spent since then bought nothing that is shown."""
    other = dataclasses.replace(CONFIG, batch_size=CONFIG.batch_size + 1)
    ahead, behind = (
        finished(0, {4: 0.2, 8: 0.4, 40: 0.4}),
        finished(1, {4: 0.2, 8: 0.4}),
    )
    rival = finished(0, {20: 0.3}, config=other)
    groups = grouped([ahead, behind, rival], Channel())
    assert cheapest_for_each_accuracy(groups, "bits") == groups[:1]
    spent = grouped([behind], Channel())[0].curves[0]
    drawn = comparison_figures.pareto(groups)
    for axis, name in zip(drawn.axes, ("seconds", "joules"), strict=True):
        x, y = axis.lines[0].get_xydata()[0]
        assert (x, y) == pytest.approx((getattr(spent, name)[-1], 0.4))


@pytest.mark.parametrize("size", [3, 100, 355, 9980, 10**6])
def test_a_target_is_reached_by_so_many_examples(size):
    """Whether a record has the quotient or its float32 rounding, and by no fewer."""
    for hits in {1, size // 5, size // 3, size - 1}:
        for accuracy in (hits / size, float(np.float32(hits) / np.float32(size))):
            groups = grouped([finished(0, {4: accuracy})], Channel())
            assert reaching(groups, hits / size) == groups
            assert not reaching(groups, (hits + 1) / size)


@pytest.mark.parametrize("size", [3, 100, 355, 9980])
def test_records_have_accuracies_as_quotients(size):
    test = Dataset(
        image=np.zeros((size, 1, 1, 1), np.uint8),
        label=np.arange(size) % 2,
        name="none",
        class_names=("even", "odd"),
    )
    totals = Totals(
        test, steps=1, epochs=np.ones(2), channel=Channel(), sequential="nothing"
    )
    lines = [{"round": 0, **ROUND}]
    for hits in range(0, size + 1, max(size // 50, 1)):
        accuracy = np.float32(hits) / np.float32(size)
        totals.pending = lines
        seen = Evaluation(accuracy, accuracy, 0.0)
        line = totals.line(1, {"": seen, "pruned": seen})
        assert line["test_accuracy"] == line["pruned_test_accuracy"] == hits / size
