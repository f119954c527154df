"""What a configuration's fields say to others: what differs, and what was decided."""

import dataclasses

import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.cli.presets import start_of
from fedjax_sl.configs.fields import differing, undecided
from fedjax_sl.configs.serialization import to_json
from fedjax_sl.fedlpq import FedLPQConfig
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedsl import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.methods import presets


def with_method(run, **change):
    method = dataclasses.replace(run.method, **change)
    return dataclasses.replace(run, method=method)


@pytest.mark.parametrize("name", presets())
def test_what_was_decided_is_decided_alike(name):
    run = presets()[name][1].run.resolved()
    assert undecided(run).resolved() == run


def test_another_run_decides_anew():
    stored = FedSLRun(rounds=60).resolved()
    assert stored.method.prune_end == 30
    start = undecided(stored)
    longer = dataclasses.replace(start, rounds=600).resolved()
    assert longer.method.prune_end == 300
    relay = with_method(start, client_update="relay").resolved()
    usual = FedSLRun(rounds=60, method=FedSLConfig(client_update="relay")).resolved()
    assert relay == usual and relay.method.learning_rate != stored.method.learning_rate
    homogeneous = undecided(FedLPQRun().resolved())
    assert with_method(homogeneous, preference="u").resolved().method == (
        FedLPQRun(method=FedLPQConfig(preference="u")).resolved().method
    )


def test_what_was_given_stays():
    given = FedSLRun(method=FedSLConfig(learning_rate=0.3, prune_end=7)).resolved()
    assert dataclasses.replace(undecided(given), rounds=600).resolved().method == (
        given.method
    )


def test_what_needs_another_option_stays():
    """A bound of the updates stays where there is noise, and a file that moved."""
    method = FedSLConfig(clip_norm=1.0, noise_multiplier=0.3, interval=5)
    private = FedSLRun(method=method, rounds=60, eval_every=20).resolved()
    assert undecided(private).method.clip_norm == 1.0
    assert undecided(private).resolved() == private
    model = ModelConfig(module="moved.py:build", module_sha256="0" * 64)
    moved = dataclasses.replace(private, model=model)
    assert undecided(moved) == moved


def test_a_run_that_is_resumed_keeps_what_it_decided(tmp_path):
    stored = FedSLRun(rounds=60).resolved()
    path = tmp_path / "config.json"
    path.write_text(to_json(stored))
    assert start_of(("run", "--config", str(path))).stored == undecided(stored)
    resumed = start_of(("run", "--resume", "--folder", str(tmp_path)))
    assert resumed.stored == stored


@pytest.mark.parametrize("strict", [False, True])
def test_channels_differ_where_they_decided_who_trains(strict):
    runs = [
        FedLPQRun(channel=Channel(deadline_s=deadline), drop_stragglers=strict)
        for deadline in (1.0, 2.0)
    ]
    assert differing(runs) == (["channel.deadline_s"] if strict else [])
