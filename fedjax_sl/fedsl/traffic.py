"""Traffic of one round: what clients send and receive, from the round's counts."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link, Links
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation.levels import LEVEL_BITS
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.mask_bits import MaskBits, mask_bits
from fedjax_sl.fedsl.quantizer import coded_bits, norm_bits
from fedjax_sl.fedsl.second_cut import Behind
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.split import SplitModel


class Sizes(NamedTuple):
    """Sizes of a model, constant over rounds.

    Attributes:
      params: parameters that a client holds.
      tensors: number of their tensors.
      statistics: norm statistics that a client holds.
      cut: values at the cut, of one example.
      label_bits: of one label; 0 if it stays with the client.
      mask: bits of a mask.
      features: values at the second cut, of one example; None if there is none.
    """

    params: int
    tensors: int
    statistics: int
    cut: int
    label_bits: int
    mask: MaskBits
    features: int | None = None


def sizes_of(config: FedSLConfig, model: SplitModel) -> Sizes:
    """Computes the sizes of a split model."""
    client = model.shapes.client
    params = jax.tree.leaves(client["params"])
    size = sum(leaf.size for leaf in params)
    ends_here = model.tail is not None
    return Sizes(
        params=size,
        tensors=len(params),
        statistics=sum(leaf.size for leaf in jax.tree.leaves(client)) - size,
        cut=math.prod(model.cut_shape()),
        # A label is one of C numbers, whatever integer type it has in memory.
        label_bits=0 if ends_here else math.ceil(math.log2(model.num_classes)),
        mask=mask_bits(config, prunable(model), client["params"]),
        features=math.prod(model.tail_shape()) if ends_here else None,
    )


class Counts(NamedTuple):
    """Counts of one round per client, `[K]`.

    Attributes:
      present: bool, whether it participates.
      examples: in its mini-batch, without padding.
      scored: examples of the scoring pass; 0 in rounds without one.
      bitmap: bits for each example of the mask of dropped activations, if sent.
      activations: message of the activations of its step.
      returned: values whose gradients come back.
      back: message of these gradients; None if it is not compressed.
      kept: parameters that its mask keeps.
      prunes: bool, whether its mask prunes any.
      update: message of its update, without mask and statistics.
      down: [] each, message of the model; None if it goes as it is.
      lacks: bool, whether it has no model yet; None if it receives one in each period.
      behind: messages at a second cut.
    """

    present: jax.Array
    examples: jax.Array
    scored: jax.Array
    bitmap: jax.Array
    activations: Link
    returned: jax.Array
    back: Link | None
    kept: jax.Array
    prunes: jax.Array
    update: Link
    down: Link | None = None
    lacks: jax.Array | None = None
    behind: Behind = Behind(None, None)


def _update(sizes: Sizes, counts: Counts, ends: jax.Array) -> Link:
    """Link of the update: its message, the mask and statistics."""
    entries, bits, more, side = counts.update
    side += sizes.mask.up * counts.prunes + FLOAT_BITS * sizes.statistics
    sent = ends * counts.present
    # Entries times bits may exceed int32: the host multiplies them in 64 bits.
    return Link(entries * sent, bits, more * sent, side * sent)


def _model(
    sizes: Sizes, counts: Counts, loaded: jax.Array, *, masks: jax.Array
) -> Link:
    """Link of the model, to those who load it: its message, statistics and masks."""
    none = jnp.zeros_like(loaded)
    whole = Link.float32(jnp.full_like(loaded, sizes.params))
    message = whole if counts.down is None else counts.down
    side = message.side + FLOAT_BITS * sizes.statistics
    return Link(
        message.entries * loaded,
        message.bits + none,
        message.more * loaded,
        side * loaded + masks,
    )


def _gradients(
    config: FedSLConfig,
    sizes: Sizes,
    per_client: ClientConfigs,
    counts: Counts,
    *,
    ends: jax.Array,
) -> Link:
    """Link of the gradients at the cut, and of what the server says of levels."""
    present, gradients = counts.present.astype(jnp.int32), counts.back
    if gradients is None:
        # Each pass quantises a tensor of its own, with a norm of its own.
        passes = 1 + (counts.scored > 0)
        down_norms = norm_bits(config, 1, per_client.down_bits)
        gradients = Link(
            counts.returned + counts.scored * sizes.cut,
            coded_bits(config, per_client.down_bits),
            jnp.zeros_like(present),
            down_norms * passes * present,
        )
    if not config.levels.active:
        return gradients
    # The server has the loss and the weights, and so it says what the levels are.
    return gradients._replace(side=gradients.side + LEVEL_BITS * present * ends)


def _behind(
    sizes: Sizes, counts: Counts, passed: jax.Array
) -> tuple[Link | None, Link | None]:
    """Links of the features at a second cut and of their gradients, if there is one."""
    if sizes.features is None:
        return None, None
    # Every feature has a gradient, and none is dropped.
    whole = Link.float32(passed * sizes.features)
    features, gradients = (whole if sent is None else sent for sent in counts.behind)
    return features, gradients


def links(
    config: FedSLConfig,
    sizes: Sizes,
    per_client: ClientConfigs,
    counts: Counts,
    *,
    starts: jax.Array,
    ends: jax.Array,
) -> Links:
    """Links of one round, per client of the cohort.

    The dense model goes down when a period starts, as it is or in a message.
    Activations go up with their labels and gradients come down, of the channels that
    are not pruned; the scoring pass sends all three again, of every channel and without
    dropout. Updates go up when a period ends, kept entries only. A relay instead passes
    the whole model on in every round. Clients that keep their own models receive one
    when the first period starts that they are in, and send none. At a second cut
    features come down and their gradients go up, of all examples, and no label does.

    Side information is the bitmap of dropped activations, if one is sent; the mask of
    the channels at the cut, before the first of them is left out; the norms of
    quantised tensors, their bit allocation if it varies, and the mask; scores and masks
    at the start of a period, if they must be sent (with updates and models, for clients
    that prune; scores of all clients if any of them prunes); and norm statistics, as
    float32, which go with every model and update. Levels that adapt go down with the
    gradients of a period's last round.

    Args:
      config: the configuration.
      sizes: of the model.
      per_client: `[K]` each.
      counts: `[K]` each, of this round.
      starts: [] bool, a period starts with this round.
      ends: [] bool, a period ends with it.

    Returns:
      The links, counts `[K]`.
    """
    present, pruned = counts.present.astype(jnp.int32), starts & counts.prunes
    full, none = jnp.full_like(present, FLOAT_BITS), jnp.zeros_like(present)
    statistics = FLOAT_BITS * sizes.statistics * present
    # A common mask averages the scores of clients that do not prune, too.
    scores = sizes.mask.scores_up * pruned.any() * present
    relay = config.client_update == "relay"
    if relay:
        # A whole model, not an update: nothing of it is pruned or quantised.
        updates = Link(sizes.params * present, full, none, statistics)
    elif config.client_update == "local":
        updates = Link.float32(none)
    else:
        updates = _update(sizes, counts, ends)
    bitmap = counts.examples * counts.bitmap
    activations = counts.activations
    # In a relay each visit changes the model, so that it is loaded in every round.
    loaded = present * (starts | relay)
    if counts.lacks is not None:
        loaded *= counts.lacks
    passed = counts.examples + counts.scored
    features, gradients = _behind(sizes, counts, passed)
    return Links(
        model_down=_model(sizes, counts, loaded, masks=sizes.mask.down * pruned),
        activations_up=activations._replace(
            # There is no scoring pass where a compressor has other bits than 32.
            entries=activations.entries + counts.scored * sizes.cut,
            side=activations.side + bitmap + sizes.mask.at_cut * pruned,
        ),
        labels_up=Link(passed, jnp.full_like(present, sizes.label_bits), none, none),
        gradients_down=_gradients(config, sizes, per_client, counts, ends=ends),
        updates_up=updates._replace(side=updates.side + scores),
        features_down=features,
        gradients_up=gradients,
    )
