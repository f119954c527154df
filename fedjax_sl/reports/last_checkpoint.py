"""The last checkpoint of a run, for the panels of its method."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.configs.foreign_data import warn_of_data
from fedjax_sl.federation.faults import without_stragglers
from fedjax_sl.method_spec import LastCheckpoint, Restored
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Arrays, last_arrays
from fedjax_sl.records.finished_run import Finished
from fedjax_sl.records.named_arrays import as_like
from fedjax_sl.runs.build import prepare
from fedjax_sl.runs.stragglers import in_time
from fedjax_sl.simulation import start


def last_checkpoint(run: Finished) -> LastCheckpoint | None:
    """Returns the last checkpoint of a run; None if it keeps none."""
    arrays = last_arrays(run.folder / folders.CHECKPOINTS)
    if arrays is None:
        return None
    # Data are loaded only if a panel needs them.
    return LastCheckpoint(run.config, arrays, partial(_restored, run, arrays))


def _restored(run: Finished, arrays: Arrays) -> Restored:
    """Loads the run's data, and returns the checkpoint with them.

    Raises:
      ValueError: if data cannot be loaded, or do not fit the checkpoint.
    """
    warn_of_data(run.config, run.folder)
    job = prepare(run.config)
    algorithm = job.method.algorithm
    # Shapes alone: initial models would only be overwritten.
    shape = jax.eval_shape(partial(start, algorithm, jax.random.key(0)))
    # The next round may be in a period behind the run's last.
    longer = replace(job.config, rounds=job.config.rounds + job.config.period)
    known = in_time(longer, job.train, job.partition)
    if known is not None:
        algorithm = without_stragglers(algorithm, jnp.asarray(known))
    return Restored(algorithm, as_like(shape, arrays), job.train, job.partition)
