"""Maps a function of one client over the clients of a cohort.

A mapping takes a function and its first arguments, which all clients share, and returns
a function of the other arguments stacked, the client axis first. Methods work with any
mapping: it decides how many clients a device runs at once, whether these run
sequentially, and over how many devices they are sharded (`federation.devices`). If
clients do not divide evenly, the first ones are repeated as padding, whose results are
dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.errors import InputError


Each = Callable[..., Callable[..., Any]]
"""`each(function)(*stacked)`: the function of one client, for those of a group."""

Spread = Callable[[Callable[..., Any], Any, Any], Any]
"""`spread(function, shared, stacked)`: the function on each device's own clients."""


def client_keys(key: jax.Array, client_id: jax.Array, purpose: int) -> jax.Array:
    """Derives one key per client from its id and a purpose."""
    base = jax.random.fold_in(key, purpose)
    # By id, not by slot: a client draws the same whoever else is in the cohort.
    return jax.vmap(lambda own: jax.random.fold_in(base, own))(client_id)


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps sequentially: the fastest on a CPU core, whose cache is small."""

    def mapped(*stacked):
        if len(jax.tree.leaves(stacked)[0]) > 1:
            return jax.lax.map(lambda own: function(*own), stacked)
        only = function(*jax.tree.map(lambda x: x[0], stacked))
        return jax.tree.map(lambda x: x[None], only)

    return mapped


def at_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps all clients of a group in one batched program."""
    return jax.vmap(function)


def _on_one_device(function, shared, stacked):
    return function(shared, stacked)


@dataclass(frozen=True)
class ClientMap:
    """A way to map over clients.

    Attributes:
      each: how the clients of a group are mapped.
      group: clients in a group, of which a device has one at a time; None for all.
      spread: how the cohort is sharded over devices.
      devices: the number of devices.
    """

    each: Each
    group: int | None = None
    spread: Spread = _on_one_device
    devices: int = 1

    def on_one_device(self) -> "ClientMap":
        """Returns the same mapping on one device."""
        return ClientMap(self.each, self.group)

    def map(self, function: Callable[..., Any], *shared: Any) -> Callable[..., Any]:
        """Maps a function of one client over stacked arguments."""

        def group(each, *rest):
            # Without a term, padding does no harm: `fold` cuts off its own results.
            given, (_, *stacked) = rest[: len(shared)], rest[len(shared) :]
            return (), each(partial(function, *given))(*stacked)

        folded = self.fold(group, *shared)
        return lambda *stacked: folded(*stacked)[1]

    def total(self, function: Callable[..., Any], *shared: Any) -> Callable[..., Any]:
        """Maps a function that returns a term to sum, and the client's own result.

        Returns:
          A function that returns the sum of the terms over clients, and the own results
          stacked.
        """
        # Sequential clients gain nothing from a group here: summed one by one, only a
        # single term is in memory.
        alone = replace(self, group=1) if self.each is one_by_one else self

        def group(each, *rest):
            given, (real, *stacked) = rest[: len(shared)], rest[len(shared) :]
            terms, own = each(partial(function, *given))(*stacked)
            return jax.tree.map(partial(_sum_of_real, real), terms), own

        return alone.fold(group, *shared)

    def fold(self, function: Callable[..., Any], *shared: Any) -> Callable[..., Any]:
        """Maps a function of whole groups, and sums its terms.

        Args:
          function: `function(each, *shared, real, *stacked) -> (term, own)`; `each`
            maps over the clients of the group, `real` `[G]` is False for padding, which
            must not enter the term, and `own` has leaves `[G, ...]`.
          *shared: arguments that all clients share.

        Returns:
          A function of leaves `[K, ...]` that returns the sum of the terms over groups,
          and leaves `[K, ...]`.
        """

        def here(shared, stacked):
            return _over_groups(
                partial(function, self.each, *shared), stacked, self.group
            )

        def folded(*stacked):
            size = len(jax.tree.leaves(stacked)[0])
            slots = padded(size, self.devices, self.group)
            slot = jnp.arange(slots)
            filled = stacked
            if slots != size:
                filled = jax.tree.map(lambda x: x[slot % size], stacked)
            term, own = self.spread(here, shared, (slot < size, *filled))
            return term, jax.tree.map(lambda x: x[:size], own)

        return folded


def _sum_of_real(real: jax.Array, terms: jax.Array) -> jax.Array:
    """Sums over the clients of a group that are not padding."""
    shown = real.reshape(-1, *[1] * (terms.ndim - 1))
    return jnp.where(shown, terms, 0).sum(axis=0)


def padded(size: int, devices: int, group: int | None) -> int:
    """Returns the fewest slots that fill every group on every device.

    Args:
      size: of the cohort.
      devices: over which it is spread.
      group: as in `ClientMap`.

    Returns:
      Their number, at least the size.
    """
    here = -(-size // devices)
    # Groups are evened out: ten clients in groups of up to eight are two of five.
    groups = 1 if group is None else -(-here // group)
    return devices * groups * -(-here // groups)


def _over_groups(function, stacked, group: int | None):
    """Runs groups sequentially and accumulates their terms."""
    here = len(jax.tree.leaves(stacked)[0])
    groups = 1 if group is None else -(-here // group)
    if groups == 1:
        return function(*stacked)
    split = jax.tree.map(
        lambda x: x.reshape(groups, here // groups, *x.shape[1:]), stacked
    )
    # Only a running sum is kept, not the terms of all groups.
    term = jax.eval_shape(lambda g: function(*g), jax.tree.map(lambda x: x[0], split))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), term[0])

    def add(sums, group):
        term, own = function(*group)
        return jax.tree.map(jnp.add, sums, term), own

    sums, own = jax.lax.scan(add, zero, split)
    return sums, jax.tree.map(lambda x: x.reshape(here, *x.shape[2:]), own)


scan = ClientMap(one_by_one, group=1)
"""Sequential clients: the least memory."""

in_groups = ClientMap(one_by_one, group=8)
"""As scan, but groups of up to eight clients share common work such as the server's
pass: the fastest on a CPU, where larger groups gain nothing."""

vmap = ClientMap(at_once)
"""All clients at once."""


def chunks(size: int) -> ClientMap:
    """Maps `size` clients at once, and groups sequentially.

    Raises:
      ValueError: if the size is not positive.
    """
    if size < 1:
        raise InputError(f"chunk={size}: expected at least 1 client.")
    return ClientMap(at_once, group=size)
