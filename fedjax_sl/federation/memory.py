"""Estimates how many clients fit in a device's memory at a time.

A device that runs c clients at a time needs about

    M(c) = M_shared + c (M_residual + copies x M_model)      bytes

M_residual are the residuals that the backward pass of one client's mini-batch keeps,
taken from the shapes of the real function; M_model are the client's parameters, of
which a step holds several copies (the model, its gradient, the optimiser's state and
the message). M_shared is the data set, the server and the state of the run; it does not
depend on c. `RESERVE` leaves room for the compiler's own buffers.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.config_base import MappingName, StoreName
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import ClientMap, chunks, in_groups, scan, vmap
from fedjax_sl.federation.devices import mesh, pmap, sharded


RESERVE = 4
"""Clients may take 1 / RESERVE of a device's memory, by the formula."""

ONE_DEVICE = {"scan": scan, "vmap": vmap}
"""Mappings with a fixed number of clients at a time."""


def bytes_of(tree: Any) -> int:
    """Sums the bytes of all leaves, arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def residual_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Counts the bytes that the backward pass of a function keeps of the forward pass.

    Args:
      function: differentiated in all its arguments.
      *arguments: arrays or shapes.

    Returns:
      Bytes of the residuals, as autodiff stores them.
    """
    # The pullback is itself a pytree, and its leaves are the residuals.
    kept = jax.eval_shape(lambda *args: jax.vjp(function, *args)[1], *arguments)
    return bytes_of(kept)


def device_bytes() -> int:
    """Returns the memory of one device of this process, in bytes."""
    stats = jax.local_devices()[0].memory_stats() or {}
    # CPU devices report no limit and share the memory of the machine.
    return stats.get("bytes_limit", host_bytes())


def host_bytes() -> int:
    """Returns each device's share of the memory of the machine, in bytes."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine // jax.local_device_count()


def check_fits(
    takes: int, *, clients: int, what: str, instead: str, store: StoreName = "device"
) -> None:
    """Rejects what is kept of every client if it does not fit in a device's memory.

    Args:
      takes: bytes.
      clients: N.
      what: is kept.
      instead: what to do about it.
      store: in whose memory it is; of the host's each device has a share.

    Raises:
      ValueError: naming the number of clients.
    """
    check_choice("store", store, StoreName)
    has = device_bytes() if store == "device" else host_bytes()
    if takes > has:
        raise InputError(
            f"num_clients={clients}: their {what} take {takes} bytes of each device's "
            f"{has}: expected fewer clients, a narrower network, or {instead}."
        )


def fitting(client_bytes: int, limit: int) -> int:
    """Returns how many clients of M_residual + copies x M_model bytes fit, >= 1."""
    # One client runs in any case: that it is too large is an estimate.
    return max(1, limit // RESERVE // max(client_bytes, 1))


def mapping_named(
    name: MappingName, *, cohort_size: int, client_bytes: int, chunk: int | None = None
) -> ClientMap:
    """Returns the mapping of that name on this process's backend.

    Args:
      name: "scan", "vmap" or "chunks" on one device; "pmap" on those of this process,
        or "mesh" on those of all processes; "auto" is the mesh.
      cohort_size: K.
      client_bytes: memory of one client, by the formula.
      chunk: clients that a device runs at a time; as many as fit if not given.

    Returns:
      The mapping. Clients that share a device run sequentially on a CPU, and in one
      batched program elsewhere.

    Raises:
      ValueError: if the name is unknown, the chunk not positive, or pmap asked for in
        one of several processes, where it would not reach the others.
    """
    check_choice("mapping", name, MappingName)
    if chunk is not None:
        check_integer("chunk", chunk, 1)
    if name in ONE_DEVICE:
        return ONE_DEVICE[name]
    sequential = jax.default_backend() == "cpu" and name != "chunks"
    if chunk is None:
        chunk = fitting(client_bytes, device_bytes())
        # On a CPU larger groups gain nothing, however many would fit.
        chunk = min(chunk, in_groups.group or chunk) if sequential else chunk
    inner = replace(in_groups, group=chunk) if sequential else chunks(chunk)
    if name == "chunks":
        return inner
    if name == "pmap" and jax.process_count() > 1:
        raise InputError("mapping='pmap': expected mesh or auto in several processes.")
    if name == "pmap":
        return pmap(jax.local_devices()[:cohort_size], inner)
    return sharded(mesh(cohort_size), inner)
