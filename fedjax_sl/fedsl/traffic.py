"""What crossed the four links in one round, counted where it was sent."""

import math

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import kept
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.fedsl.config import Settings
from fedjax_sl.fedsl.quantizer import scales
from fedjax_sl.fedsl.state import FedSLState, Places, Setup
from fedjax_sl.fedsl.step import Crossed
from fedjax_sl.fedsl.widths import WIDTH_BITS, Widths
from fedjax_sl.fedsl.work import scored


def _size(tree) -> int:
    """Entries of one client's copy of stacked leaves `[K, ...]`."""
    return sum(leaf[0].size for leaf in jax.tree.leaves(tree))


def _norms(count: int, bits: jax.Array) -> jax.Array:
    """Side bits of the float32 norms of `count` quantised tensors."""
    return jnp.where(bits < FLOAT_BITS, FLOAT_BITS * count, 0)


def _mask_description(setup: Setup, state: FedSLState, pruned: jax.Array) -> jax.Array:
    """One bit per filter, or per kernel entry, from clients that prune at all."""
    kernels = [x for x in jax.tree.leaves(state.importance) if x.ndim > 1]
    by_filter = setup.config.granularity == "filter"
    flags = sum(x.shape[-1] if by_filter else x.size for x in kernels)
    return jnp.where(pruned, flags, 0)


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
) -> tuple[Link, Link, Link, Link, jax.Array]:
    """Counts of one round, per client of the cohort.

    The dense model goes down when a period starts. Activations go up with their labels,
    their gradients come back; the pass that scores weights sends both once more, with
    nothing dropped. Updates go up when a period ends: kept entries only, with their
    norms, how wide they are where that differs, and the mask. Norm statistics count as
    float32 numbers. A relay instead hands the whole model on in every round.

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
      Links model down, activations up, gradients down and updates up; and `[K]` kept
      share of the client model.
    """
    config = setup.config
    present = (state.weights > 0).astype(jnp.int32)
    examples = (places.weight > 0).sum(axis=1)
    params, total = state.client["params"], _size(state.client)
    num_kept = jax.vmap(kept)(state.mask, params)
    stats = total - _size(params)

    once_more = scored(config, settings, places, starts)
    extra = once_more * math.prod(setup.model.cut_shape())
    label_bits = math.ceil(math.log2(setup.model.num_classes))
    dense = examples * math.prod(setup.model.cut_shape())
    bitmap = dense if config.dropout_mask == "bitmap" else 0

    full = jnp.full_like(present, FLOAT_BITS)
    handed_down = config.client_update == "relay"
    bits = full if handed_down else message.least
    sent = total * present if handed_down else (num_kept * ends) * present
    tensors = len(jax.tree.leaves(params))
    side = _norms(tensors * scales(config), bits) + stats * FLOAT_BITS
    if config.quantizer_error is not None:
        side += message.more + jnp.where(bits < FLOAT_BITS, WIDTH_BITS * tensors, 0)
    side += _mask_description(setup, state, num_kept < _size(params))
    passes = 1 + (once_more > 0)
    return (
        Link(total * present * (starts | handed_down), full, 0 * present),
        Link(
            crossed.activations + extra,
            full,
            (examples + once_more) * label_bits + bitmap,
        ),
        Link(
            crossed.activations + extra,
            settings.down_bits,
            _norms(scales(config), settings.down_bits) * passes * present,
        ),
        Link(sent, bits, 0 * side if handed_down else side * ends * present),
        num_kept / _size(params),
    )
