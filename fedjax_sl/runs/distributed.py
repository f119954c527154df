"""Runs over several processes, on one machine or on many."""

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
    """The processes of a run, all started with the same command."""

    distributed: bool = False
    """Join the other processes; Slurm, Open MPI and TPU pods are detected."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where it is not detected."""

    processes: int | None = None
    """Number of processes, >= 1, with --coordinator."""

    rank: int | None = None
    """Rank of this process, from 0, with --coordinator."""

    def __post_init__(self):
        """Checks that all options are given or none, and their ranges."""
        address = (self.coordinator, self.processes, self.rank)
        if any(x is not None for x in address) and not self.distributed:
            raise InputError(
                "--coordinator, --processes, --rank: expected with --distributed."
            )
        if 0 < sum(x is None for x in address) < len(address):
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
    # From the right: an IPv6 address has colons of its own.
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def join(cluster: Cluster) -> None:
    """Waits for the other processes; `jax.devices()` are those of all afterwards.

    It must be called before anything is computed.

    Raises:
      ValueError: if the other processes cannot be found or do not connect.
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
    """Broadcasts a tree from the first process; the others give the shapes."""
    if jax.process_count() == 1:
        return tree
    # A collective: a branch that only some processes take would hang all of them.
    return multihost_utils.broadcast_one_to_all(tree)


def largest(value: int) -> int:
    """Returns the largest value over all processes."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def is_first() -> bool:
    """Returns whether this is the first process, which alone writes files."""
    return jax.process_index() == 0


def on_first(do: Callable[[], Result]) -> Result | None:
    """Calls a function on the first process only; if it fails, all processes raise.

    Returns:
      The result on the first process, None on the others.

    Raises:
      ValueError: on the others, if it failed; the first re-raises the error of `do`.
    """
    failure = found = None
    if is_first():
        try:
            found = do()
        except Exception as error:
            failure = error
    # The others must learn of a failure, or they would wait for the first for ever.
    failed = np.asarray(failure is not None)
    if jax.process_count() > 1:
        failed = multihost_utils.broadcast_one_to_all(failed)
    if failure is not None:
        raise failure
    if failed:
        raise InputError("process 0 refused to run, see its message.")
    return found
