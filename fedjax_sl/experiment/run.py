"""One run, from a job to its finished folder."""

import json
import platform
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from fedjax_sl.algorithm import RoundMetrics
from fedjax_sl.data.partition import label_histogram, label_skew
from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment import hosts
from fedjax_sl.experiment.config import to_json
from fedjax_sl.experiment.job import Job
from fedjax_sl.experiment.metrics import Totals, round_lines
from fedjax_sl.experiment.plots import draw as draw_plots
from fedjax_sl.experiment.progress import reporting
from fedjax_sl.federation import clients
from fedjax_sl.simulation import evaluate_views, run_rounds, start


class Diverged(Exception):
    """The loss is no longer a number; the message names round and client."""


def _check_losses(rounds: RoundMetrics, first: int) -> None:
    bad = np.argwhere(~np.isfinite(rounds.loss))
    if len(bad):
        late, slot = bad[0]
        raise Diverged(
            f"round {first + late}, client {rounds.client_id[late, slot]}: the loss is "
            f"{rounds.loss[late, slot]}; a smaller learning rate may help."
        )


def _compiled(job: Job, key: jax.Array):
    """The first state, and the programs of the rounds up to an evaluation and of one.

    State is kept whole on every device between two calls, so that each program is
    compiled once.
    """
    algorithm = job.method.algorithm
    everywhere = jax.sharding.NamedSharding(
        clients.mesh(job.method.devices), jax.sharding.PartitionSpec()
    )

    def segment(state, train, partition, first, rounds):
        return run_rounds(
            algorithm,
            state,
            train,
            partition,
            key,
            first=first,
            rounds=rounds,
            draw=job.method.draw,
        )

    train, test, partition = jax.tree.map(
        partial(jax.make_array_from_process_local_data, everywhere),
        (job.train, job.test, job.partition),
    )
    advance = jax.jit(
        segment,
        static_argnames="rounds",
        donate_argnames="state",
        out_shardings=everywhere,
    )
    views = jax.jit(
        lambda state, test: evaluate_views(algorithm, state, test),
        out_shardings=everywhere,
    )
    state = jax.jit(lambda: start(algorithm, key), out_shardings=everywhere)()
    return (
        state,
        lambda state, first, rounds: advance(
            state, train, partition, first, rounds=rounds
        ),
        lambda state: views(state, test),
    )


def _summary(job: Job, lines: list[dict[str, Any]]) -> dict[str, Any]:
    histogram = label_histogram(job.partition, job.train.label, job.train.num_classes)
    device = jax.devices()[0]
    packages = ("fedjax-sl", "jax", "flax", "optax", "numpy")
    return {
        "final": lines[-1],
        "best_test_accuracy": max(line["test_accuracy"] for line in lines),
        "train_examples": len(job.train.label),
        "test_examples": len(job.test.label),
        "label_histogram": histogram.tolist(),
        "label_skew": label_skew(histogram),
        "seed": job.config.seed,
        "device": f"{jax.device_count()} x {device.device_kind}",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in packages},
        },
    }


class Stretch(NamedTuple):
    """The rounds up to an evaluation.

    Attributes:
      line: of metrics.jsonl.
      rounds: lines of rounds.jsonl.
    """

    line: dict[str, Any]
    rounds: list[dict[str, Any]]


def _stretches(job: Job) -> Iterator[Stretch]:
    """Trains from one evaluation to the next."""
    config, method = job.config, job.method
    state, advance, views = _compiled(job, jax.random.key(config.seed))
    totals = Totals(
        job.test, steps=method.steps, channel=config.channel, in_turn=config.in_turn
    )
    for first in range(0, config.rounds, config.eval_every):
        count = min(config.eval_every, config.rounds - first)
        state, rounds = advance(state, first, count)
        rounds = jax.device_get(rounds)
        _check_losses(rounds, first)
        line = totals.line(first + count, rounds, jax.device_get(views(state)))
        yield Stretch(line, round_lines(first, rounds))


def run(job: Job, folder: Path, console: Console) -> dict[str, Any]:
    """Runs a job and fills its folder; of several processes the first one writes.

    Args:
      job: as from `job.prepare`.
      folder: of the run, as allowed by `folder.check`.
      console: where progress is shown.

    Returns:
      The summary.

    Raises:
      Diverged: if a loss is no longer finite; what was written stays.
    """
    if not hosts.is_first():
        return _summary(job, [stretch.line for stretch in _stretches(job)])
    config, lines = job.config, []
    folders.create(folder)
    folders.write_text(folder / folders.CONFIG, to_json(config))
    with reporting(console, config.rounds) as report:
        for stretch in _stretches(job):
            folders.append_lines(folder / folders.ROUNDS, stretch.rounds)
            folders.append_lines(folder / folders.METRICS, [stretch.line])
            lines.append(stretch.line)
            report(stretch.line)
    title = f"{config.title} on {config.data.name}, {config.data.partition}"
    draw_plots(folder / folders.PLOTS, title, lines)
    summary = _summary(job, lines)
    folders.write_text(folder / folders.SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary
