"""Parameters, MACs and activations of a network on each side of each cut."""

import math
from typing import NamedTuple

import jax

from fedjax_sl.checks import check_number
from fedjax_sl.compression.pruning import number_pruned
from fedjax_sl.models.cost import macs
from fedjax_sl.models.network import Network
from fedjax_sl.models.prunable import prunable


class CutCost(NamedTuple):
    """Costs of a network cut after L_c layers.

    Attributes:
      cut: L_c.
      client_params, server_params: parameters on each side.
      client_macs, server_macs: MACs of one example.
      activations: values transmitted at the cut for one example.
      features: the same at the second cut, if there is one; else 0.
    """

    cut: int
    client_params: int
    server_params: int
    client_macs: int
    server_macs: int
    activations: int
    features: int


def cut_costs(
    network: Network, *, prune_ratio: float = 0.0, tail: int = 0
) -> list[CutCost]:
    """Returns the costs of every cut of a network.

    Args:
      network: the network, not cut.
      prune_ratio: rho, share of the channels at the cut that are pruned, in [0, 1);
        their activations are not sent.
      tail: last layers that the client holds, too.

    Returns:
      A `CutCost` for each cut.

    Raises:
      ValueError: if the ratio lies outside its range.
    """
    check_number("prune_ratio", prune_ratio, lambda v: 0 <= v < 1, "in [0, 1)")
    rows = []
    for cut in network.cuts:
        if tail and tail not in network.tails(cut):
            continue
        model = network.at(cut, tail=tail)
        halves = model.shapes
        client, server = (
            sum(leaf.size for leaf in jax.tree.leaves(half["params"]))
            for half in (halves.client, halves.server)
        )
        *pixels, channels = model.cut_shape()
        # By the function that masks use, so that the table rounds as a run does.
        gone = int(number_pruned(channels, prune_ratio))
        if prunable(model).at_cut is None:
            # Such as a flattened image: no channel of it can be left out.
            gone = 0
        held, behind = macs(model.client, model.input_shape), 0
        if model.tail is not None:
            held += macs(model.tail, model.tail_shape())  # type: ignore[arg-type]
            behind = math.prod(model.tail_shape())
        rows.append(
            CutCost(
                cut=cut,
                client_params=client,
                server_params=server,
                client_macs=held,
                server_macs=macs(model.server, model.cut_shape()),
                activations=math.prod(pixels) * (channels - gone),
                features=behind,
            )
        )
    return rows
