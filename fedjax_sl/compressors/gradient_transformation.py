"""A compressor as a transformation of gradients, for any training loop with optax."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_sl.algorithm import Link
from fedjax_sl.compressors.compressor import Compressor, State
from fedjax_sl.compressors.per_layer import init_layers, send_layers


class CompressedState(NamedTuple):
    """State of `compressed_gradients`.

    Attributes:
      count: [] int32, messages sent.
      states: of the sender, one for each array.
      bits: [] each, of the last message.
    """

    count: jax.Array
    states: list[State]
    bits: Link


def compressed_gradients(
    compressor: Compressor, key: jax.Array
) -> optax.GradientTransformation:
    """Replaces gradients by what a receiver rebuilds of them.

    `optax.chain(compressed_gradients(error_feedback(top_k(keep=0.01)), key),
    optax.sgd(0.1))` trains with a hundredth of each array, the rest of it kept for
    later.

    Args:
      compressor: of each array of a gradient, in a message of its own.
      key: of all its draws.

    Returns:
      The transformation; its state is a `CompressedState`.
    """

    def init(params: Any) -> CompressedState:
        none = jnp.int32(0)
        return CompressedState(
            none, init_layers(compressor, params), Link(none, none, none, none)
        )

    def update(updates, state: Any, params=None):
        # An optimiser knows of no pruning: every entry may be sent.
        mask = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), updates)
        received = send_layers(
            compressor,
            # By message: a key that stayed would round an entry alike each time.
            jax.random.fold_in(key, state.count),
            updates,
            mask,
            states=state.states,
        )
        # As in `init`: a scan carries a state of the same types.
        bits = jax.tree.map(lambda count: jnp.asarray(count, jnp.int32), received.bits)
        return received.values, CompressedState(state.count + 1, received.state, bits)

    return optax.GradientTransformation(init, update)
