"""Bits that masks and scores take, so that client and server agree on a mask."""

from typing import Any, NamedTuple

import jax

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.fedsl.config import FedSLConfig


class MaskBits(NamedTuple):
    """Bits of one client's mask, in the periods in which it prunes.

    Attributes:
      scores_up: of the scores, when a period starts.
      down: of the mask, when a period starts.
      at_cut: of the channels at the cut, with a period's first activations.
      up: of the rest of the mask, with each update.
    """

    scores_up: int
    down: int
    at_cut: int
    up: int


def thins_cut(config: FedSLConfig, params: Any, channels: int) -> bool:
    """Returns whether pruned filters of the last client layer are not sent.

    Units of `params` are in network order; if the filters of the last one are not as
    many as the channels at the cut, they are not what is sent.
    """
    last = [leaf for leaf in jax.tree.leaves(params[max(params)]) if leaf.ndim > 1]
    filters = {leaf.shape[-1] for leaf in last} == {channels}
    return config.thin_cut and config.granularity == "filter" and filters


def mask_bits(config: FedSLConfig, params: Any, channels: int) -> MaskBits:
    """Counts the bits of masks and scores that are sent.

    A mask is one bit per filter, or per kernel entry. What must be sent depends on who
    knows the scores (reconstructed):

    - Magnitudes: the client models are equal when a period starts, and the server,
      which averaged them, ranks the same weights: nothing is sent.
    - Taylor scores depend on a client's own examples. With a mask per client the scores
      stay local, and the mask goes up with the update. With a common mask the scores go
      up first, float32 each, summed over filters where these are ranked; the mask comes
      down, and is not sent up again.
    - Random scores are redrawn by the server from a shared key, as dropped activations
      are (`dropout_mask`), or else the mask goes up with the update. A common mask
      comes down, as no client knows the cohort.

    Args:
      config: importance, scope and granularity of the masks.
      params: of one client, leaves `[...]`.
      channels: Ch, at the cut.

    Returns:
      The bits.
    """
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    by_filter = config.granularity == "filter"
    flags = sum(x.shape[-1] if by_filter else x.size for x in kernels)
    random, taylor = (config.importance == name for name in ("random", "taylor"))
    if config.mask_scope == "common":
        down = (taylor or random) * flags
        return MaskBits(taylor * FLOAT_BITS * flags, down, at_cut=0, up=0)
    unknown = taylor or (random and config.dropout_mask == "bitmap")
    # Without a channel's flag the server could not tell what an activation belongs to.
    at_cut = channels * (unknown and thins_cut(config, params, channels))
    # These flags are sent once: the update carries the others.
    return MaskBits(0, 0, at_cut=at_cut, up=unknown * flags - at_cut)
