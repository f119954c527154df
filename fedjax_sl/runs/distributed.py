"""Several processes that run one program, on one machine or on many."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from fedjax_sl.errors import InputError


Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The processes of a run, each started with the same command."""

    distributed: bool = False
    """Join the other processes; those of Slurm, Open MPI and TPU pods are found."""

    coordinator: str | None = None
    """HOST:PORT of process 0, for processes started in another way."""

    processes: int | None = None
    """How many there are, >= 1, with --coordinator."""

    rank: int | None = None
    """Which of them this is, from 0, with --coordinator."""

    def __post_init__(self):
        """Checks that all is said or nothing, and the ranges."""
        told = (self.coordinator, self.processes, self.rank)
        if any(x is not None for x in told) and not self.distributed:
            raise InputError(
                "--coordinator, --processes, --rank: expected with --distributed."
            )
        if 0 < sum(x is None for x in told) < len(told):
            raise InputError(
                "--coordinator, --processes, --rank: expected all three, or none."
            )
        if self.coordinator is not None and not _is_address(self.coordinator):
            raise InputError(f"coordinator={self.coordinator!r}: expected HOST:PORT.")
        if self.processes is not None and self.processes < 1:
            raise InputError(f"processes={self.processes}: expected at least 1.")
        if self.processes is not None and not 0 <= (self.rank or 0) < self.processes:
            raise InputError(f"rank={self.rank}: expected 0 to {self.processes - 1}.")


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def join(cluster: Cluster) -> None:
    """Waits for the other processes; afterwards `jax.devices()` are those of all.

    It must come before anything is computed.

    Raises:
      ValueError: if the others cannot be found, or do not come.
    """
    if not cluster.distributed:
        return
    try:
        jax.distributed.initialize(cluster.coordinator, cluster.processes, cluster.rank)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            "--distributed: found no other processes; give --coordinator, --processes "
            f"and --rank ({str(error).splitlines()[0]})"
        ) from error


def from_first(tree: Any) -> Any:
    """A tree as the first process has it, for all; shapes are those of each."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.broadcast_one_to_all(tree)


def largest(value: int) -> int:
    """The largest of the processes' values."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def on_first(do: Callable[[], Result]) -> Result | None:
    """Does something on the first process, and stops all of them if it fails.

    Returns:
      What it gave, on the first process.

    Raises:
      ValueError: on the others, if it failed; the first raises what `do` did.
    """
    failure = found = None
    if is_first():
        try:
            found = do()
        except Exception as error:
            failure = error
    failed = np.asarray(failure is not None)
    if jax.process_count() > 1:
        failed = multihost_utils.broadcast_one_to_all(failed)
    if failure is not None:
        raise failure
    if failed:
        raise InputError("process 0 refused to run, see its message.")
    return found
