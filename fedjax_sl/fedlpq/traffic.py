"""Traffic of one round, layer by layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link, Links
from fedjax_sl.checks import check_choice
from fedjax_sl.compression.layers import Unit, leaves_of, unit_names, unit_of
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation.levels import LEVEL_BITS
from fedjax_sl.fedlpq.config import FedLPQConfig


class Layers(NamedTuple):
    """The U layers of the whole network.

    Attributes:
      names: of the layers.
      params: `[U]` parameters of each.
      statistics: `[U]` running statistics of its norms.
      owned: `[models, U]` bool, the layers that each model has.
    """

    names: list[str]
    params: np.ndarray
    statistics: np.ndarray
    owned: np.ndarray


def _sizes(tree: Any, names: list[str], by: Unit) -> np.ndarray:
    sizes = dict.fromkeys(names, 0)
    for path, leaf in leaves_of(tree).items():
        sizes[unit_of(path, by)] += int(leaf.size)
    return np.array(list(sizes.values()), np.int32)


def layers_of(templates: list[Any], by: Unit) -> Layers:
    """Lists the layers of the last of these models, the whole network."""
    check_choice("by", by, Unit)

    def names_of(variables):
        trees = (variables["params"], variables.get("batch_stats", {}))
        return {name for tree in trees for name in unit_names(tree, by=by)}

    whole = templates[-1]
    # By name, as JAX flattens a dict: messages and residuals are lists in this order.
    names = sorted(names_of(whole))
    owned = [[name in names_of(model) for name in names] for model in templates]
    return Layers(
        names=names,
        params=_sizes(whole["params"], names, by),
        statistics=_sizes(whole.get("batch_stats", {}), names, by),
        owned=np.array(owned),
    )


class Counts(NamedTuple):
    """Counts of one round per client, `[K]` and `[K, U]`.

    Attributes:
      present: `[K]` int32, 0 for a padded client.
      owned: `[K, U]` bool, the layers of its network.
      sent: `[K, U]` bool, the layers that it sends.
      messages: of these layers.
      down: messages of the layers with parameters, `[L]` by name, which the server
        sends; None if they go as they are.
    """

    present: jax.Array
    owned: jax.Array
    sent: jax.Array
    messages: Link
    down: Link | None = None


def coded_link(
    layers: Layers, bits: jax.Array, *, sent: jax.Array, messages: Link
) -> Link:
    """Counts the messages of the layers that are sent, or float32 values at 32 bits.

    Args:
      layers: the U layers.
      bits: `[...]` b.
      sent: `[..., U]` bool, the layers that are sent.
      messages: `[..., U]` of every layer, sent or not, in a code of levels.

    Returns:
      The link, `[...]`; norms and headers are side information.
    """
    exact = bits >= FLOAT_BITS
    # By client: of several classes of devices one may send float32 and another codes.
    values = jnp.where(exact, sent @ layers.params, 0)
    coded, headers = (
        jnp.where(exact, 0, (sent * part).sum(axis=-1))
        for part in (messages.more, messages.side)
    )
    return Link.float32(values, headers)._replace(more=coded)


def links(config: FedLPQConfig, layers: Layers, counts: Counts) -> Links:
    """Links of one round, per client of the cohort.

    Every layer of a client's network goes down, as it is or in a message, and so does
    the server's control variate, if there is one, in float32. The messages of the
    layers sent go up.

    Side information is, besides that of the messages, one flag for each layer of the
    network, and the statistics of the layers' norms in float32, which the published
    count of parameters excludes; of levels that adapt, the level, down, and the
    client's loss, up.

    Args:
      config: whether statistics count.
      layers: the U layers.
      counts: of this round.

    Returns:
      The five links, of which three carry nothing.
    """
    present, owned, sent, messages, _ = counts
    # A flag for every layer, sent or not: by these the receiver tells them apart.
    side = messages.side + sent.shape[1]
    statistics = FLOAT_BITS * layers.statistics * config.charge_statistics
    side += sent @ statistics
    if config.levels.of_time:
        # The loss, which the server has from nowhere else.
        side += FLOAT_BITS
    up = Link(
        messages.entries * present,
        messages.bits,
        messages.more * present,
        side * present,
    )
    down = _down(config, layers, counts, statistics)
    if config.levels.active:
        down = down._replace(side=down.side + LEVEL_BITS * present)
    return Links.uncut(down, up)


def _down(
    config: FedLPQConfig, layers: Layers, counts: Counts, statistics: np.ndarray
) -> Link:
    """Link of the layers that each client's network has, with bits of statistics.

    Of the control variates only the server's is sent: clients keep their own, and the
    server computes what these change by from their updates.
    """
    present, owned, down = counts.present, counts.owned, counts.down
    side, params = owned @ statistics, owned @ layers.params
    controls = params * config.control_variates
    if down is None:
        return Link.float32((params + controls) * present, side * present)
    # A layer of statistics alone has no message.
    # In NumPy: an index that is traced would have no static shape.
    mine = owned[:, layers.params > 0].astype(jnp.int32)
    return Link(
        mine @ down.entries * present,
        # One compressor codes all layers, whose values are then equally wide.
        jnp.full_like(present, down.bits[0]),
        (mine @ down.more + FLOAT_BITS * controls) * present,
        (mine @ down.side + side) * present,
    )
