"""Who would be late is left out, and nobody who takes part is late."""

import dataclasses

import jax
import numpy as np
import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.analysis.phases import done_by, needs
from fedjax_sl.cli.main import main
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.estimates.traffic import at_rounds, expected, most
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.records.finished_run import read
from fedjax_sl.runs.build import divide
from fedjax_sl.runs.stragglers import in_time
from tests.commands import PERCEPTRON, refused
from tests.worlds import tiny_dataset, tiny_model


SPLIT = [
    *("fedsl", *PERCEPTRON, "--model.cut", "1", "--batch-size", "4"),
    *("--method.interval", "2", "--method.prune-end", "2", "--method.upload-bits", "6"),
]
LAYERS = ["fedlpq", *PERCEPTRON, "--batch-size", "50", "--method.bits", "6"]
FEW = [
    *("--data.num-clients", "6", "--method.cohort-size", "4", "--rounds", "6"),
    *("--eval-every", "3", "--data.train-examples", "300"),
    *("--data.test-examples", "50"),
]


def run(folder, method, *options):
    main(["run", *method, *FEW, "--folder", str(folder), *options])
    return read(folder)


def late_by(finished, deadline):
    channel = dataclasses.replace(finished.config.channel, deadline_s=deadline)
    return round_costs(channel, finished.record).late


@pytest.mark.parametrize("method", [SPLIT, LAYERS], ids=["fedsl", "fedlpq"])
@pytest.mark.slow
def test_who_would_be_late_is_not_there(tmp_path, method):
    all_of_them = run(tmp_path / "all", method)
    candidates = np.geomspace(10, 1e-4, 60)
    deadline = next(t for t in candidates if late_by(all_of_them, t).sum() > 2)
    late = late_by(all_of_them, deadline)
    assert not late.all()
    strict = ("--channel.deadline-s", str(deadline), "--drop-stragglers")
    some = run(tmp_path / "some", method, *strict)
    record = some.record
    assert (record.client_id == all_of_them.record.client_id).all()
    here = record.client_macs > 0
    assert here.any() and not here.all()
    assert not round_costs(some.config.channel, record).late.any()
    # Who only waited for somebody else may stay; without a cut nobody waits.
    assert not here[late.any(axis=1)].all(axis=1).any()
    assert method is SPLIT or not here[late].any()
    assert not record.traffic.uplink[~here].any()
    assert not record.traffic.downlink[~here].any()


@pytest.mark.slow
def test_a_sweep_over_deadlines_is_of_runs_with_them(tmp_path, capsys):
    """Each is costed with its own: by another one, others would have taken part."""
    seconds = round_costs(Channel(), run(tmp_path / "all", LAYERS).record).seconds
    short, long = (f"{share * seconds.max():.3g}" for share in (0.5, 0.7))
    strict = ("--drop-stragglers", "--channel.deadline-s", long)
    grid = ("--grid", f"channel.deadline_s={short},{long}")
    main(["sweep", *LAYERS, *FEW, *strict, *grid, "--folder", str(tmp_path / "sweep")])
    shown = capsys.readouterr().out
    assert "deadline_s" in shown and short in shown and long in shown
    swept = [read(tmp_path / "sweep" / f"run-000{n}") for n in (0, 1)]
    here = [(one.record.client_macs > 0).sum() for one in swept]
    assert 0 < here[0] < here[1]
    alone = run(tmp_path / "alone", LAYERS, *strict[:2], short)
    np.testing.assert_array_equal(alone.record.traffic, swept[0].record.traffic)
    np.testing.assert_array_equal(alone.record.client_id, swept[0].record.client_id)


def settings(kind, **change):
    data = DataConfig(num_clients=5)
    if kind is FedSLRun:
        method = FedSLConfig(cohort_size=3, interval=4)
        return FedSLRun(
            data=data, model=ModelConfig(width=0.1), method=method, **change
        )
    return FedLPQRun(data=data, method=FedLPQConfig(cohort_size=3), **change)


def table(kind, rounds, deadline, monkeypatch=None):
    channel = Channel(deadline_s=deadline)
    config = settings(
        kind, rounds=rounds, channel=channel, drop_stragglers=True
    ).resolved()
    data = tiny_dataset()
    image = np.zeros((len(data.label), 32, 32, 3), np.uint8)
    data = dataclasses.replace(data, image=image)
    return in_time(config, data, divide(config.data, data, 0))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "deadline"), [(FedSLRun, 0.012), (FedLPQRun, 0.24)])
def test_it_is_known_before_and_does_not_change(kind, deadline, monkeypatch):
    long = table(kind, 38, deadline)
    assert long is not None and 0.1 < long.mean() < 0.9
    short = table(kind, 22, deadline)
    assert (short == long[: len(short)]).all() and len(short) >= 22
    later = table(kind, 38, 2 * deadline)
    assert later[long].all() and later.sum() > long.sum()
    monkeypatch.setattr("fedjax_sl.runs.stragglers.AT_A_TIME", 3)
    assert (table(kind, 38, deadline) == long).all()
    if kind is FedSLRun:  # for as long as a cohort stays
        assert (long[::4].repeat(4, axis=0) == long).all() and len(long) == 40


IN_TURN = {
    "relay": {"client_update": "relay"},
    "version 2": {"server_update": "sequential"},
    "at once": {},
}


@pytest.mark.parametrize("change", IN_TURN.values(), ids=IN_TURN)
def test_no_cohort_of_those_in_time_is_late(change):
    """The slowest of them together, each doing the most that it may."""
    rounds, cohort = np.arange(24), 3
    method = FedSLConfig(cohort_size=cohort, interval=4, **change)
    split, examples = tiny_model(), np.array([5, 5, 2, 5, 4, 5, 5, 1])
    bound = at_rounds(most(split, method, examples, batch_size=5), rounds, 4)
    config = FedSLRun(
        data=DataConfig(num_clients=8),
        method=method,
        rounds=24,
        drop_stragglers=True,
        channel=Channel(deadline_s=1.0),
    )
    found = needs(config.channel, bound, cohort, sequential=config.sequential)
    alone = found.alone(cohort)
    deadline = float(np.quantile(alone, 0.7))
    channel = dataclasses.replace(config.channel, deadline_s=deadline)
    done = done_by(deadline, found, cohort)
    whole = jax.tree.map(lambda x: np.broadcast_to(x, alone.shape), bound)
    assert 0.1 < done.mean() < 0.9
    for t in rounds:
        slowest_first = np.argsort(-alone[t])
        able = [k for k in slowest_first if done[t, k]]
        for some in (able[:cohort], able[-cohort:], able[:1]):
            if not some:
                continue
            these = jax.tree.map(lambda x, t=t, some=some: x[t : t + 1, some], whole)
            took = round_costs(
                channel, these, first_round=int(t), sequential=config.sequential
            )
            assert not took.late.any()
            assert took.seconds[0] < deadline


CHARGED = [
    {"mask_scope": "common", "quantizer_norm": "range", "quantizer_error": 1e-9},
    {"mask_scope": "common", "granularity": "weight", "quantizer_levels": "2^b"},
    {"importance": "random", "dropout_mask": "bitmap", "down_bits": 3},
]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHARGED)
@pytest.mark.parametrize("interval", [1, 3])
def test_no_round_takes_more_than_the_most(interval, change):
    """Bit by bit, of every kind of round, with 2 bits charged as what they take."""
    method = FedSLConfig(cohort_size=2, interval=interval, bits=12, **change)
    kinds = expected(tiny_model(), method, batch_size=5)
    bound = most(tiny_model(), method, np.array([5, 5]), batch_size=5)
    places = [3] if interval == 1 else [2, 0, 1]
    for name, link in bound.traffic._asdict().items():
        assert (getattr(kinds.traffic, name)[places] <= link[places]).all(), name
    assert (kinds.client_macs[places] <= bound.client_macs[places]).all()


@pytest.mark.slow
def test_what_makes_no_sense_is_refused(tmp_path, capsys):
    late = ["run", "--folder", tmp_path / "x", "--drop-late"]
    assert "expected a channel.deadline_s" in refused(late, capsys)
    late += ["--channel.deadline-s", "1e-6"]
    assert "deadline_s=1e-06: expected at least" in refused(late, capsys)
    said = refused([*late, "--channel.share", "rate"], capsys)
    assert "expected share='equal'" in said
    assert not (tmp_path / "x").exists()
