"""Bits that masks and scores take, so that client and server agree on a mask."""

from typing import Any, NamedTuple

from fedjax_sl.compression.layers import leaves_of
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.thin_cut import thins_cut
from fedjax_sl.models.prunable import Prunable


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


def mask_bits(config: FedSLConfig, can: Prunable, params: Any) -> MaskBits:
    """Counts the bits of masks and scores that are sent.

    A mask is one bit per filter, or per kernel entry. What must be sent depends on who
    knows the scores (reconstructed):

    - Magnitudes: the client models are equal when a period starts, and the server,
      which averaged them, ranks the same weights: nothing is sent. Clients that keep
      their own models send the mask at the cut.
    - Taylor scores depend on a client's own examples. With a mask per client the scores
      stay local, and the mask goes up with the update. With a common mask the scores go
      up first, float32 each, summed over filters where these are ranked; the mask comes
      down, and is not sent up again.
    - Random scores are redrawn by the server from a shared key, as dropped activations
      are (`dropout_mask`), or else the mask goes up with the update. A common mask
      comes down, as no client knows the cohort.

    Args:
      config: importance, scope and granularity of the masks.
      can: what can be pruned.
      params: of one client, leaves `[...]`.

    Returns:
      The bits.
    """
    if config.granularity == "filter":
        # Biases, norms and inputs have no flags: both ends know what goes with a
        # filter.
        flags = sum(group.size for group in can.groups)
    else:
        flags = sum(leaves_of(params)[path].size for path in can.kernels)
    random, taylor = (config.importance == name for name in ("random", "taylor"))
    if config.mask_scope == "common":
        down = (taylor or random) * flags
        return MaskBits(taylor * FLOAT_BITS * flags, down, at_cut=0, up=0)
    unknown = {
        "taylor": True,
        # The server has no copy of a client's own model whose magnitudes it could rank.
        "magnitude": config.client_update == "local",
        "random": config.dropout_mask == "bitmap",
    }[config.importance]
    # Without a channel's flag the server could not tell what an activation belongs to.
    at_cut = 0
    if unknown and thins_cut(config, can):
        at_cut = can.groups[can.at_cut].size  # type: ignore[index]
    # These flags are sent once: the update carries the others.
    return MaskBits(0, 0, at_cut=at_cut, up=unknown * flags - at_cut)
