"""A program's own algorithm, run into a folder that every command understands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from fedjax_sl.algorithm import Algorithm
from fedjax_sl.analysis.phases import Sequential
from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.custom import CustomConfig, CustomRun, Parameter
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.method_spec import Built
from fedjax_sl.runs.build import Job, with_faults
from fedjax_sl.runs.recorder import Keeping
from fedjax_sl.runs.restore import check_folder
from fedjax_sl.runs.run import run
from fedjax_sl.runs.stragglers import in_time
from fedjax_sl.runs.tracking import Tracking


def _job(
    config: CustomRun,
    method: Built,
    *,
    train: Dataset,
    test: Dataset,
    partition: Partition,
) -> Job:
    # Refuses `drop_stragglers`: nothing bounds what this algorithm sends.
    punctual = in_time(config, train, partition)
    return Job(
        config=config,
        method=method,
        train=train,
        test=test,
        partition=partition,
        in_time=punctual,
    )


def _steps_of(
    algorithm: Algorithm, train: Dataset, partition: Partition, batch_size: int
) -> int:
    """Returns S, the batches of each client in a cohort."""

    def cohort(key, train, partition, first):
        numbers = {"round": first, "period": first, "batch_size": batch_size}
        return algorithm.draw(key, train, partition, **numbers)

    # Traced, as in a run.
    given = jax.random.key(0), train, partition, jnp.int32(0)
    return jax.eval_shape(cohort, *given).index.shape[1]


def run_algorithm(
    algorithm: Algorithm,
    folder: str | Path,
    *,
    name: str,
    train: Dataset,
    test: Dataset,
    partition: Partition,
    cohort_size: int,
    rounds: int,
    batch_size: int,
    eval_every: int,
    parameters: Mapping[str, Parameter] | None = None,
    steps: int | None = None,
    sequential: Sequential = "nothing",
    devices: int = 1,
    overwrite: bool = False,
    keeping: Keeping | None = None,
    tracking: Tracking | None = None,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any] | None:
    """Runs an algorithm into a folder, or resumes it there.

    `compare` and `report` read the folder like that of any run, and checkpoints are
    taken as for one. They know of the algorithm what is given here.

    Args:
      algorithm: any `Algorithm`, such as `fedsl(...)` with a network of your own.
      folder: of the run.
      name: what tables and figures call it.
      train: n training examples.
      test: examples to evaluate on.
      partition: which client owns which of them, `[N, M]`.
      cohort_size: K, clients that `algorithm.draw` draws for a round.
      rounds: T.
      batch_size: B.
      eval_every: rounds between two evaluations.
      parameters: its settings by name, by which tables tell runs apart.
      steps: optimiser steps of a client in a round, of the one with most examples; as
        many as `algorithm.draw` draws batches if not given. Epochs count so many full
        batches of each client, or of all its examples if it has fewer.
      sequential: what clients do one after another, for the seconds of a round:
        "exchanges" as in SplitFed v2, "visits" as in a relay.
      devices: that the algorithm spreads its clients over, 1 if it maps none.
      overwrite: replace an earlier run in the folder.
      keeping: `Keeping(resume=True)` resumes, or starts if there is nothing yet; and
        how often checkpoints are taken.
      tracking: other tools that receive the metrics.
      quiet: show no progress.
      **options: further fields of `RunConfig`, such as `seed`, `channel` or
        `failure_probability`.

    Returns:
      The contents of summary.json; of several processes, to the first.

    Raises:
      ValueError: if an argument is out of its range, or the folder holds another run.
      OSError: if something cannot be written.
      Diverged: if a loss is no longer finite.
      Stopped: if a signal requested it; the run can be resumed.
    """
    check_choice("sequential", sequential, Sequential)
    check_integer("devices", devices, 1)
    if steps is None:
        steps = _steps_of(algorithm, train, partition, batch_size)
    config = CustomRun(
        # Its partition stays at the default: the program's own has no description.
        data=DataConfig(name=train.name, num_clients=len(partition.count)),
        method=CustomConfig(
            name=name,
            cohort_size=cohort_size,
            steps=steps,
            sequential=sequential,
            parameters=dict(parameters or {}),
        ),
        rounds=rounds,
        batch_size=batch_size,
        eval_every=eval_every,
        **options,
    )
    folder, keeping = Path(folder), keeping or Keeping()
    check_folder(folder, config, resume=keeping.resume, overwrite=overwrite)
    method = Built(with_faults(config, algorithm), steps, devices)
    return run(
        _job(config, method, train=train, test=test, partition=partition),
        folder,
        console=Console(quiet=quiet, highlight=False, markup=False),
        keeping=keeping,
        tracked=tracking or Tracking(),
        overwrite=overwrite,
    )
