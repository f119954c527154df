"""What a client of a finished FedLP-Q run would send next, layer by layer.

Runs keep no messages: one is computed from the last checkpoint, in one further round of
one client, by the method itself.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compression.code_length import code_length, entropy
from fedjax_sl.compression.coding import Code
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.configs.foreign_data import warn_of_data
from fedjax_sl.configs.run_config import FedLPQRun, Run
from fedjax_sl.fedlpq.config import FedLPQConfig, settings_of
from fedjax_sl.records import run_folder as folders
from fedjax_sl.records.checkpoint import Checkpoints
from fedjax_sl.runs.build import Job, prepare
from fedjax_sl.simulation import drawn, start


class Sent(NamedTuple):
    """The layers of one client's update as they would go up, were all of them sent.

    Attributes:
      rounds: done before it.
      client: whose it is.
      bits: b.
      code: which Elias code.
      levels: `{layer: [M_l]}` quantised indices.
    """

    rounds: int
    client: int
    bits: int
    code: Code
    levels: dict[str, np.ndarray]


class CodeLengths(NamedTuple):
    """Of the messages of some layers, `[U]` each, in bits per element.

    Attributes:
      layers: their names.
      entropy: of the indices; no code of single elements is shorter than it.
      payload: codewords and signs.
      message: all of it, the norm and the codeword of b, too.
    """

    layers: Sequence[str]
    entropy: np.ndarray
    payload: np.ndarray
    message: np.ndarray


def _of_one(cohort: Cohort, place: jax.Array) -> Cohort:
    """The cohort without all but one of its clients."""
    each = cohort._replace(examples=None)  # type: ignore[arg-type]
    one = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, place, 1), each)
    return one._replace(examples=cohort.examples)


def _next(job: Job, method: FedLPQConfig, state: Any) -> tuple[Any, Any, Any]:
    """Of the next cohort the client with most examples among those who code.

    Returns:
      Its id, how many these examples are, and its `Messages`, leaves `[1, ...]`.
    """
    built = job.method
    messages = built.algorithm.messages
    assert messages is not None

    @jax.jit
    def found(state, train, partition, key):
        cohort, round_key = drawn(
            built.algorithm,
            state,
            train,
            partition,
            key,
            number=state.round,
            batch_size=job.config.batch_size,
        )
        codes = settings_of(method, cohort.client_id).bits < FLOAT_BITS
        examples = codes * cohort.num_examples
        one = _of_one(cohort, examples.argmax())
        return one.client_id[0], examples.max(), messages(state, one, round_key)

    key = jax.random.key(job.config.seed)
    return jax.device_get(found(state, job.train, job.partition, key))


def _state(job: Job, folder: Path) -> Any:
    """That of the last checkpoint; None if there is none."""
    initial = partial(start, job.method.algorithm, jax.random.key(0))
    checkpoints = Checkpoints(folder / folders.CHECKPOINTS)
    try:
        found = checkpoints.newest(jax.eval_shape(initial))
    finally:
        checkpoints.close()
    return found and found.state


def sent_next(folder: Path, config: Run) -> Sent | None:
    """What a client would send after the last round that a checkpoint was kept of.

    Args:
      folder: of a run.
      config: its.

    Returns:
      The layers of one client of the next cohort; None if there is no checkpoint, or
      if nothing is coded.

    Raises:
      ValueError: if the run's data cannot be had, or the checkpoint is damaged.
    """
    if not isinstance(config, FedLPQRun) or np.min(config.method.bits) >= FLOAT_BITS:
        return None
    if not (folder / folders.CHECKPOINTS).is_dir():
        return None
    warn_of_data(config, folder)
    job = prepare(config)
    state = _state(job, folder)
    if state is None:
        return None
    client, examples, messages = _next(job, config.method, state)
    if not examples:
        return None
    levels = {
        name: layer.level[0]
        for name, layer in messages.layers.items()
        if messages.owned[name][0]
    }
    bits, code = int(messages.bits[0]), config.method.code
    return Sent(int(state.round), int(client), bits, code, levels)


def code_lengths(sent: Sent) -> CodeLengths:
    """Bits per element of each layer's message, `|message| / M`, and entropy."""
    header = code_length(np.zeros(0, np.int64), bits=sent.bits, code=sent.code)
    whole = {
        name: code_length(levels, bits=sent.bits, code=sent.code)
        for name, levels in sent.levels.items()
    }
    sizes = np.array([levels.size for levels in sent.levels.values()])
    message = np.array(list(whole.values()))
    return CodeLengths(
        layers=list(whole),
        entropy=np.array([entropy(levels) for levels in sent.levels.values()]),
        payload=(message - header) / sizes,
        message=message / sizes,
    )
