"""Starts a run from models that exist: another run's, or weights in a file."""

from pathlib import Path

import jax

from fedjax_sl.algorithm import State
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoint, Checkpoints, Unusable
from fedjax_sl.records.weights_file import read_weights
from fedjax_sl.runs.build import Job
from fedjax_sl.runs.programs import Programs


def _with_weights(job: Job, programs: Programs, source: Path) -> State:
    """Returns the state before the first round, with the weights of a file."""
    algorithm = job.method.algorithm
    if algorithm.weights is None or algorithm.with_weights is None:
        raise InputError(
            f"init_from={source}: expected the folder of a run, as there is no global "
            f"model in a run of {job.config.title}."
        )
    like = jax.eval_shape(algorithm.weights, programs.shape)
    found = read_weights(source, like)
    return jax.device_get(algorithm.with_weights(programs.initial(), found))


def models_of(job: Job, programs: Programs, source: Path) -> Checkpoint:
    """Returns the state before the first round, with models that exist already.

    Args:
      job: the run.
      programs: its.
      source: folder of another run, or a file of weights.

    Raises:
      ValueError: if it has no models, or of another structure.
      OSError: if a file cannot be read.
    """
    if source.suffix == ".npz":
        return Checkpoint(0, _with_weights(job, programs, source), {})
    path = source / folders.CHECKPOINTS
    # `Checkpoints` would create the folder, in another run's.
    if not path.is_dir():
        raise InputError(f"init_from={source}: expected a run with checkpoints.")
    config = source / folders.CONFIG
    if config.exists() and (of := from_json(config).algorithm) != job.config.algorithm:
        raise InputError(
            f"init_from={source}: of a run of {of}, not of {job.config.algorithm}."
        )
    names = job.method.algorithm.models
    wanted = {name: getattr(programs.shape, name) for name in names}
    checkpoints = Checkpoints(path)
    try:
        found = checkpoints.newest(wanted)
    except Unusable as error:
        raise InputError(f"init_from={source}: {error}") from error
    finally:
        checkpoints.close()
    if found is None:
        raise InputError(f"init_from={source}: expected a run with checkpoints.")
    algorithm = job.method.algorithm
    # Models only: optimisers and the number of the round are those of a new run.
    state = jax.device_get(programs.initial())._replace(**found.state)
    # It may have been stored between two aggregations.
    if algorithm.joined is not None:
        state = jax.device_get(algorithm.joined(state))
    return Checkpoint(0, state, {})
