"""One run, from its configuration to its finished folder."""

import json
import platform
import time
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from fedjax_sl.algorithm import RoundMetrics
from fedjax_sl.analysis.traffic import traffic
from fedjax_sl.data import partition as partitions
from fedjax_sl.data.partition import Partition, label_histogram, label_skew
from fedjax_sl.data.sources import Dataset, load
from fedjax_sl.experiment import folder as folders
from fedjax_sl.experiment import hosts
from fedjax_sl.experiment.config import DataConfig, Run, to_json
from fedjax_sl.experiment.methods import Built, build
from fedjax_sl.experiment.plots import draw as draw_plots
from fedjax_sl.experiment.progress import reporting
from fedjax_sl.federation import clients
from fedjax_sl.simulation import evaluate_views, run_rounds, start


class Diverged(Exception):
    """The loss is no longer a number; the message names round and client."""


class Job(NamedTuple):
    """Everything that a run needs, built and checked."""

    config: Run
    method: Built
    train: Dataset
    test: Dataset
    partition: Partition


def _partition(config: DataConfig, labels: np.ndarray, seed: int) -> Partition:
    rng = np.random.default_rng(seed)
    options = {
        "shards": {"shards_per_client": config.shards_per_client},
        "dirichlet": {"alpha": config.alpha},
        "pathological": {"classes_per_client": config.classes_per_client},
        "mixed": {"major_share": config.major_share},
    }.get(config.partition, {})
    divide = getattr(partitions, config.partition)
    return divide(rng, labels, config.num_clients, **options)


def prepare(config: Run) -> Job:
    """Loads the data, divides it, and builds model and method.

    Raises:
      ValueError: if something asked for is out of range or cannot be had.
    """
    config, data = config.resolved(), config.data
    source = {"data_dir": data.dir, "image_size": data.image_size}
    train = load(data.name, split="train", **source)
    partition = _partition(data, train.label, config.seed)
    if not partition.count.all():
        raise ValueError(f"client {partition.count.argmin()} has no examples.")
    method = build(config, train, partition)
    test = load(data.name, split="test", **source)
    return Job(config, method, train, test, partition)


def _check_losses(rounds: RoundMetrics, first: int) -> None:
    bad = np.argwhere(~np.isfinite(rounds.loss))
    if len(bad):
        late, slot = bad[0]
        raise Diverged(
            f"round {first + late}, client {rounds.client_id[late, slot]}: the loss is "
            f"{rounds.loss[late, slot]}; a smaller learning rate may help."
        )


class _Totals:
    """Sums over the rounds so far, and the line of metrics that they give."""

    def __init__(self, test: Dataset, steps: int):
        self.steps = steps
        counts = np.bincount(test.label, minlength=test.num_classes)
        self.majority_rate = float(counts.max() / counts.sum())
        self.uplink = self.downlink = 0
        self.started = time.monotonic()

    def line(self, done: int, rounds: RoundMetrics, views: Any) -> dict[str, Any]:
        """Adds the rounds since the last evaluation."""
        bits = traffic(rounds)
        self.uplink += int(bits.uplink.sum())
        self.downlink += int(bits.downlink.sum())
        line = {
            "round": done,
            "step": done * self.steps,
            "train_loss": float(np.mean(rounds.loss)),
            "test_accuracy": float(views[""].accuracy),
            "test_balanced_accuracy": float(views[""].balanced_accuracy),
            "test_loss": float(views[""].loss),
        }
        for name in filter(None, views):
            line[f"{name}_test_accuracy"] = float(views[name].accuracy)
        return line | {
            "majority_rate": self.majority_rate,
            "kept_ratio": float(np.mean(rounds.kept_ratio[-1])),
            "uplink_bits": self.uplink,
            "downlink_bits": self.downlink,
            "wall_seconds": round(time.monotonic() - self.started, 3),
        }


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


def _lines(job: Job) -> Iterator[dict[str, Any]]:
    """The rounds up to each evaluation, and the line of metrics that they give."""
    config = job.config
    state, advance, views = _compiled(job, jax.random.key(config.seed))
    totals = _Totals(job.test, job.method.steps)
    for first in range(0, config.rounds, config.eval_every):
        count = min(config.eval_every, config.rounds - first)
        state, rounds = advance(state, first, count)
        rounds = jax.device_get(rounds)
        _check_losses(rounds, first)
        yield totals.line(first + count, rounds, jax.device_get(views(state)))


def run(job: Job, folder: Path, console: Console) -> dict[str, Any]:
    """Runs a job and fills its folder; of several processes the first one writes.

    Args:
      job: as from `prepare`.
      folder: of the run, as allowed by `folder.check`.
      console: where progress is shown.

    Returns:
      The summary.

    Raises:
      Diverged: if a loss is no longer finite; what was written stays.
    """
    if not hosts.is_first():
        return _summary(job, list(_lines(job)))
    config, lines = job.config, []
    folders.create(folder)
    folders.write_text(folder / folders.CONFIG, to_json(config))
    with reporting(console, config.rounds) as report:
        for line in _lines(job):
            folders.append_line(folder / folders.METRICS, line)
            lines.append(line)
            report(line)
    title = f"{config.title} on {config.data.name}, {config.data.partition}"
    draw_plots(folder / folders.PLOTS, title, lines)
    summary = _summary(job, lines)
    folders.write_text(folder / folders.SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary
