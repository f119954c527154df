"""Parameters, MACs and activations of a network on each side of each cut."""

import math
from typing import Any, NamedTuple

from fedjax_sl.checks import check_number
from fedjax_sl.compression.pruning import number_pruned
from fedjax_sl.models.cost import layer_costs
from fedjax_sl.models.vgg import BLOCKS, Depth, split_vgg


class CutCost(NamedTuple):
    """Costs of a network cut after convolution L_c.

    Attributes:
      cut: L_c.
      client_params, server_params: parameters on each side.
      client_macs, server_macs: MACs of one example.
      activations: values transmitted at the cut for one example.
    """

    cut: int
    client_params: int
    server_params: int
    client_macs: int
    server_macs: int
    activations: int


def cut_costs(
    depth: Depth = 19, *, prune_ratio: float = 0.0, **options: Any
) -> list[CutCost]:
    """Returns the costs of every cut of a VGG.

    Args:
      depth: 11, 13, 16 or 19.
      prune_ratio: rho, share of the last client layer's filters that are pruned, in
        [0, 1); their activations are not sent.
      **options: of `split_vgg`.

    Returns:
      A `CutCost` for each L_c from 1 to the number of convolutions.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_number("prune_ratio", prune_ratio, lambda v: 0 <= v < 1, "in [0, 1)")
    rows = []
    # Checks the options before `BLOCKS` is indexed with the depth.
    split_vgg(depth, cut=1, **options)
    for cut in range(1, sum(BLOCKS[depth]) + 1):
        model = split_vgg(depth, cut=cut, **options)
        client = layer_costs(model.client, model.input_shape)
        server = layer_costs(model.server, model.cut_shape())
        *pixels, channels = model.cut_shape()
        gone = int(number_pruned(channels, prune_ratio))
        rows.append(
            CutCost(
                cut=cut,
                client_params=sum(layer.params for layer in client),
                server_params=sum(layer.params for layer in server),
                client_macs=sum(layer.macs for layer in client),
                server_macs=sum(layer.macs for layer in server),
                activations=math.prod(pixels) * (channels - gone),
            )
        )
    return rows
