"""A tree of arrays, each of which is a message of its own."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compressors.compressor import (
    Compressor,
    Payload,
    Received,
    State,
    compressed,
    send,
)


def init_layers(compressor: Compressor, tree: Any) -> list[State]:
    """Returns the sender's state of every leaf of a tree."""
    return [compressor.init(leaf) for leaf in jax.tree.leaves(tree)]


def stacked(links: Sequence[Link]) -> Link:
    """Stacks messages, [] each, to `[L]`."""
    return jax.tree.map(lambda *counts: jnp.stack(counts), *links)


def total(links: Sequence[Link]) -> Link:
    """Adds up the messages of one compressor, whose values take equally many bits."""
    return jax.tree.map(jnp.sum, stacked(links))._replace(bits=links[0].bits)


def _arguments(
    key: jax.Array, tree: Any, mask: Any, states: list[State]
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array, State]]:
    """The key, the array, its mask and the sender's state of every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    pairs = zip(leaves, structure.flatten_up_to(mask), states, strict=True)
    for index, (leaf, keep, state) in enumerate(pairs):
        # By leaf: under one key, leaves of one shape would round alike.
        yield jax.random.fold_in(key, index), leaf, keep, state


def compress_each(
    compressor: Compressor,
    key: jax.Array,
    tree: Any,
    mask: Any,
    *,
    states: list[State],
) -> list[Payload]:
    """Compresses every leaf of a tree; arguments as for `send_layers`."""
    return [
        compressed(compressor, own, leaf, keep, state=state)[0]
        for own, leaf, keep, state in _arguments(key, tree, mask, states)
    ]


def send_each(
    compressor: Compressor,
    key: jax.Array,
    tree: Any,
    mask: Any,
    *,
    states: list[State],
) -> list[Received]:
    """Sends every leaf of a tree; arguments as for `send_layers`, a result for each."""
    return [
        send(compressor, own, leaf, keep, state=state)
        for own, leaf, keep, state in _arguments(key, tree, mask, states)
    ]


def send_layers(
    compressor: Compressor,
    key: jax.Array,
    tree: Any,
    mask: Any,
    *,
    states: list[State],
) -> Received:
    """Sends every leaf of a tree, as `send` does an array.

    Args:
      compressor: how.
      key: a key used here only, which both ends know.
      tree: leaves `[...]` float32.
      mask: leaves `[...]` bool.
      states: of the sender, as from `init_layers`.

    Returns:
      A `Received` of trees; the bits of all messages, [] each, and a list of states.
    """
    structure = jax.tree.structure(tree)
    sent = send_each(compressor, key, tree, mask, states=states)
    return Received(
        values=structure.unflatten([each.values for each in sent]),
        sent=structure.unflatten([each.sent for each in sent]),
        bits=total([each.bits for each in sent]),
        state=[each.state for each in sent],
    )
