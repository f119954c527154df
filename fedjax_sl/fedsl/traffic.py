"""What crossed the four links in one round, counted where it was sent."""

import math

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import kept
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.fedsl.bit_allocation import WIDTH_BITS, Widths
from fedjax_sl.fedsl.compute import scored
from fedjax_sl.fedsl.config import Settings
from fedjax_sl.fedsl.mask_bits import mask_bits
from fedjax_sl.fedsl.quantizer import coded_bits, scales
from fedjax_sl.fedsl.state import FedSLState, Places, Setup
from fedjax_sl.fedsl.step import Crossed


def _size(tree) -> int:
    """Entries of one client's copy of stacked leaves `[K, ...]`."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(tree))


def _norms(count: int, bits: jax.Array) -> jax.Array:
    """Side bits of the float32 norms of `count` quantised tensors."""
    return jnp.where(bits < FLOAT_BITS, FLOAT_BITS * count, 0)


def _update_side(
    setup: Setup, state: FedSLState, bits: jax.Array, mask: jax.Array
) -> jax.Array:
    """`[K]` bits beside an update: norms, widths where they differ, and the mask."""
    tensors = len(jax.tree.leaves(state.client["params"]))
    side = _norms(tensors * scales(setup.config), bits)
    if setup.config.quantizer_error is not None:
        side += jnp.where(bits < FLOAT_BITS, WIDTH_BITS * tensors, 0)
    return side + mask


def links(
    setup: Setup,
    state: FedSLState,
    places: Places,
    settings: Settings,
    crossed: Crossed,
    message: Widths,
    *,
    starts: jax.Array,
    ends: jax.Array,
) -> tuple[Link, Link, Link, Link, Link, jax.Array]:
    """Counts of one round, per client of the cohort.

    The dense model goes down when a period starts. Activations go up with their labels,
    their gradients come back; the pass that scores weights sends all three once more,
    with nothing dropped. Updates go up when a period ends, kept entries only. A relay
    instead hands the whole model on in every round.

    Side information is the bitmap of what is dropped at the cut, if one is sent; the
    norms of quantised tensors, how wide their numbers are where that differs, and the
    mask; scores and masks of a period that starts, where they must be sent (they go
    with updates and models, of clients that prune, and scores of all clients if any of
    them does); and norm statistics, as float32, which go with every model and update.

    Args:
      setup: model and configuration.
      state: the state, its masks those of this round.
      places: the mini-batches.
      settings: `[K]` each.
      crossed: what the step sent.
      message: `[K]`, bits of the numbers of an update.
      starts: [] bool, a period starts with this round.
      ends: [] bool, a period ends with it.

    Returns:
      Links model down, activations up, labels up, gradients down and updates up; and
      `[K]` kept share of the client model.
    """
    config = setup.config
    present = (state.weights > 0).astype(jnp.int32)
    examples = (places.weight > 0).sum(axis=1)
    params = state.client["params"]
    size, num_kept = _size(params), jax.vmap(kept)(state.mask, params)
    stats = FLOAT_BITS * (_size(state.client) - size) * present

    once_more = scored(config, settings, places, starts)
    extra = once_more * math.prod(setup.model.cut_shape())
    label_bits = math.ceil(math.log2(setup.model.num_classes))
    dense = examples * math.prod(setup.model.cut_shape())
    bitmap = dense * (config.dropout_mask == "bitmap")

    full, none = jnp.full_like(present, FLOAT_BITS), jnp.zeros_like(present)
    pruned = (num_kept < size) & (present > 0)
    of_mask = mask_bits(config, state.anchor)
    scores = of_mask.scores_up * (starts & pruned.any()) * present
    handed_down = config.client_update == "relay"
    loaded = starts | handed_down
    if handed_down:
        updates = Link(size * present, full, none, stats + scores)
    else:
        side = _update_side(setup, state, message.least, of_mask.up * pruned) * present
        updates = Link(
            num_kept * ends * present,
            coded_bits(config, message.least),
            message.more * ends * present,
            (side + stats) * ends + scores,
        )
    down_norms = _norms(scales(config), settings.down_bits)
    passes = 1 + (once_more > 0)
    return (
        Link(
            size * present * loaded,
            full,
            none,
            stats * loaded + of_mask.down * (starts & pruned),
        ),
        Link(crossed.activations + extra, full, none, bitmap),
        Link(examples + once_more, jnp.full_like(present, label_bits), none, none),
        Link(
            crossed.activations + extra,
            coded_bits(config, settings.down_bits),
            none,
            down_norms * passes * present,
        ),
        updates,
        num_kept / size,
    )
