"""MACs of clients and server in one round."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Work
from fedjax_sl.compression.groups import channels_kept
from fedjax_sl.compression.layers import leaves_of
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.cost import macs
from fedjax_sl.models.prunable import Prunable, prunable
from fedjax_sl.models.split import SplitModel


def kept_macs(
    config: FedSLConfig, can: Prunable, mask: Any, *, tail: bool = False
) -> jax.Array:
    """Counts the MACs of one example through a masked client model, or its tail."""
    products = can.in_tail if tail else can.products
    # float32, as in `Work`: the MACs of a round may exceed int32.
    total = jnp.float32(sum(product.macs for product in products))
    leaves = leaves_of(mask)
    for product in products:
        if product.kernel is not None:
            keep = leaves[product.kernel]
            # An axis of size 1 stands for equal entries, and leaves the mean as it is.
            share = 1.0 if keep is None else keep.mean()
        elif config.granularity == "filter":
            groups = [can.groups[number] for number in product.groups]
            share = math.prod(channels_kept(group, mask).mean() for group in groups)
        else:
            continue
        # Subtracted from the dense total: products that nothing prunes need no case.
        total -= product.macs * (1 - share)
    # A count: shares are rounded to float32.
    return jnp.round(total)


def scored(
    config: FedSLConfig,
    per_client: ClientConfigs,
    examples: jax.Array,
    starts: jax.Array,
) -> jax.Array:
    """Counts the examples of the scoring pass, `[K]`.

    The pass runs when a period starts. It is 0 if it is not charged, if the scores need
    no pass, or if the client does not prune. Under a common mask every client scores if
    any client prunes.
    """
    charged = config.scoring_pass and config.charge_scoring
    prunes = per_client.prune_ratio > 0
    if config.mask_scope == "common":
        prunes = (prunes & (examples > 0)).any()
    return examples * (charged & starts & prunes)


def work(
    config: FedSLConfig,
    model: SplitModel,
    examples: jax.Array,
    *,
    scored: jax.Array,
    masks: Any = None,
) -> Work:
    """Counts the MACs of one round, per client of the cohort.

    A kernel costs in proportion to the entries it keeps: pruned filters cost nothing,
    nor do the inputs that come from them, nor pruned heads of an attention. Pruned
    single weights cost nothing either, which assumes hardware that skips them. The
    scoring pass is dense.

    Args:
      config: granularity of the masks.
      model: the network, cut.
      examples: `[K]`, of the step.
      scored: `[K]`, of the scoring pass.
      masks: m_k, leaves `[K, ...]`; nothing is pruned if not given.

    Returns:
      A `Work`.
    """
    can, server = prunable(model), macs(model.server, model.cut_shape())
    examples = examples.astype(jnp.float32)

    def done(*, tail: bool) -> jax.Array:
        products = can.in_tail if tail else can.products
        kept = dense = jnp.float32(sum(product.macs for product in products))
        if masks is not None:
            kept = jax.vmap(lambda mask: kept_macs(config, can, mask, tail=tail))(masks)
        return examples * kept + scored * dense

    return Work(
        client=done(tail=False),
        # Dense: only the clients' layers are pruned.
        server=(examples + scored) * server,
        # Part of `client`, too: it is apart because the server waits for it
        # between its own two passes.
        tail=None if model.tail is None else done(tail=True),
    )
