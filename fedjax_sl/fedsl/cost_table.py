"""Table of the cost of each cut of a VGG."""

from dataclasses import dataclass

from fedjax_sl.analysis.complexity import cut_costs
from fedjax_sl.method_spec import Costs, CostTable
from fedjax_sl.models.vgg import Depth, Norm


@dataclass(frozen=True, kw_only=True)
class FedSLCost:
    """Parameters, operations and activations on each side of each cut of a VGG."""

    depth: Depth = 19
    """Layers of the VGG."""

    width: float = 1.0
    """Factor on every number of channels, > 0; 1 is the published network."""

    norm: Norm = "group"
    """Normalisation after each convolution."""

    prune_ratio: float = 0.0
    """rho, share of the client's filters that are pruned, in [0, 1): activations of
    pruned filters are not sent."""

    num_classes: int = 10
    """C, at least 2."""


def table(options: FedSLCost) -> CostTable:
    """A row for each cut."""
    rows = cut_costs(
        options.depth,
        prune_ratio=options.prune_ratio,
        width=options.width,
        norm=options.norm,
        num_classes=options.num_classes,
    )
    return CostTable(
        title=f"VGG-{options.depth}, width {options.width:g}, {options.norm} norm, on "
        "32 x 32 x 3",
        columns=(
            "cut L_c",
            "client params",
            "server params",
            "client MMACs",
            "server MMACs",
            "sent at cut",
        ),
        rows=[
            (
                str(row.cut),
                f"{row.client_params:,}",
                f"{row.server_params:,}",
                f"{row.client_macs / 1e6:.2f}",
                f"{row.server_macs / 1e6:.2f}",
                f"{row.activations:,}",
            )
            for row in rows
        ],
        note="Forward pass of one example; a backward pass takes about twice that.",
    )


COSTS = Costs(FedSLCost, table, "each cut of a VGG")
