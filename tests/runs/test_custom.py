"""A program's own algorithm, model and data have a run folder like any other run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_sl.analysis.channel import Channel
from fedjax_sl.analysis.latency import round_costs
from fedjax_sl.cli.main import main
from fedjax_sl.data import draw_epochs
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.records.finished_run import read
from fedjax_sl.runs.custom import _steps_of, run_algorithm
from fedjax_sl.runs.recorder import Keeping
from tests.commands import refused
from tests.worlds import tiny_dataset, tiny_model, tiny_partition


fedsl_of = fedsl


def ran(folder, bits=8, rounds=4, **options):
    data = tiny_dataset()
    partition = tiny_partition(data)
    config = FedSLConfig(cohort_size=2, interval=2, bits=bits, prune_end=2)
    return run_algorithm(
        fedsl_of(tiny_model(), config),
        folder,
        name="mine",
        train=data,
        test=data,
        partition=partition,
        cohort_size=2,
        rounds=rounds,
        batch_size=4,
        eval_every=2,
        parameters={"bits": bits},
        quiet=True,
        **options,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of two runs that differ in a parameter."""
    base = tmp_path_factory.mktemp("custom")
    for bits in (4, 8):
        ran(base / str(bits), bits)
    return base


@pytest.mark.slow
def test_one_that_counts_nothing_has_a_loss(tmp_path, monkeypatch):
    """It need not count: who did nothing cannot be told from who was absent."""

    def free(model, config):
        counted = fedsl(model, config)

        def round(state, cohort, key):
            state, metrics = counted.round(state, cohort, key)
            nothing = jax.tree.map(jnp.zeros_like, (metrics.links, metrics.work))
            return state, metrics._replace(links=nothing[0], work=nothing[1])

        return counted._replace(round=round)

    monkeypatch.setitem(globals(), "fedsl_of", free)
    ran(tmp_path / "run")
    line = read(tmp_path / "run").lines[-1]
    assert np.isfinite(line["train_loss"]) and line["uplink_bits"] == 0


@pytest.mark.slow
def test_it_is_compared_and_reported(folders, capsys):
    main(["compare", str(folders / "4"), str(folders / "8")])
    shown = capsys.readouterr().out
    assert "mine on" in shown and "bits" in shown
    main(["report", str(folders), "--output", str(folders / "page.html")])
    assert "mine" in (folders / "page.html").read_text()


@pytest.mark.slow
def test_it_is_resumed_as_if_it_had_not_stopped(folders, tmp_path):
    ran(tmp_path / "run", rounds=2)
    summary = ran(tmp_path / "run", rounds=4, keeping=Keeping(resume=True))
    whole, parts = read(folders / "8"), read(tmp_path / "run")
    assert summary["final"]["round"] == 4
    np.testing.assert_array_equal(whole.record.traffic, parts.record.traffic)
    for one, other in zip(whole.lines, parts.lines, strict=True):
        one.pop("wall_seconds"), other.pop("wall_seconds")
        assert one == other


def test_another_one_is_not_resumed_nor_replaced(folders):
    before = (folders / "8" / "rounds.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"method.parameters.bits=4: expected 8"):
        ran(folders / "8", bits=4, keeping=Keeping(resume=True))
    with pytest.raises(InputError, match="holds a run already"):
        ran(folders / "8")
    with pytest.raises(InputError, match="failure_probability=2: expected a number"):
        ran(folders / "9", failure_probability=2)
    assert (folders / "8" / "rounds.jsonl").read_bytes() == before
    assert not (folders / "9").exists()


@pytest.mark.slow
def test_faults_are_those_of_any_run(tmp_path):
    ran(tmp_path / "run", failure_probability=0.6, seed=1)
    sent = read(tmp_path / "run").record.traffic.uplink > 0
    assert sent.any() and not sent.all()


def test_the_command_line_says_who_starts_it(folders, capsys):
    said = refused(["run", "--folder", folders / "8", "--resume"], capsys)
    assert "expected that program to start and to resume it" in said


@pytest.mark.slow
def test_it_costs_what_its_clients_do_sequentially(tmp_path):
    """The same record takes what a relay's visits take, if that is what it was."""
    once, turns = tmp_path / "once", tmp_path / "turns"
    ran(once)
    ran(turns, sequential="visits")
    first, second = (read(folder) for folder in (once, turns))
    np.testing.assert_array_equal(first.record.traffic, second.record.traffic)
    channel, found = first.config.channel, []
    for run, sequential in ((first, "nothing"), (second, "visits")):
        seconds = round_costs(channel, run.record, sequential=sequential).seconds.sum()
        found.append(run.lines[-1]["sim_seconds"])
        np.testing.assert_allclose(found[-1], seconds, rtol=1e-9)
    assert found[0] != pytest.approx(found[1], rel=1e-3)


def test_steps_are_counted_as_epochs(tmp_path):
    ran(tmp_path / "run", steps=3)
    line = read(tmp_path / "run").lines[-1]
    assert line["step"] == 4 * 3 and line["epoch"] == 4 * 3 * 2 * 4 / 48


def test_steps_are_those_of_the_draw():
    data = tiny_dataset()
    partition = tiny_partition(data)
    algorithm = fedsl(tiny_model(), FedSLConfig(cohort_size=2))
    assert _steps_of(algorithm, data, partition, 4) == 1
    draw = partial(draw_epochs, cohort_size=2, epochs=3)
    whole = algorithm._replace(draw=draw)
    assert _steps_of(whole, data, partition, 4) == 3 * -(-partition.count.max() // 4)


def test_what_nobody_can_tell_of_it_is_refused(folders, tmp_path, capsys):
    late = {"channel": Channel(deadline_s=1.0), "drop_stragglers": True}
    with pytest.raises(InputError, match="drop_stragglers=True: custom does not bound"):
        ran(tmp_path / "late", **late)
    assert not (tmp_path / "late").exists()
    said = refused(["privacy", folders / "8"], capsys)
    assert "custom does not tell what noise" in said
