"""Table of the cost of each cut of a network."""

from dataclasses import dataclass

from fedjax_sl.analysis.complexity import cut_costs
from fedjax_sl.checks import check_integer
from fedjax_sl.configs.network_config import ImageKind
from fedjax_sl.fedsl.run_config import ModelConfig, NetworkName
from fedjax_sl.method_spec import Costs, CostTable
from fedjax_sl.models.options import Norm
from fedjax_sl.models.vgg import Depth


@dataclass(frozen=True, kw_only=True)
class FedSLCost:
    """Parameters, operations and activations on each side of each cut of a network."""

    name: NetworkName = "vgg"
    """The network."""

    module: str | None = None
    """FILE.py:FUNCTION, a network of one's own."""

    depth: Depth = 19
    """Layers of the VGG."""

    width: float = 1.0
    """Factor on every number of channels, > 0; 1 is the published network."""

    norm: Norm = "group"
    """Normalisation after each convolution."""

    prune_ratio: float = 0.0
    """rho, share of the client's filters that are pruned, in [0, 1): activations of
    pruned filters are not sent."""

    tail: int = 0
    """Last layers that the client holds, too, in a U-shaped network."""

    pixels: int = 32
    """Rows and columns of an image, >= 1."""

    channels: int = 3
    """Channels of an image, >= 1."""

    num_classes: int = 10
    """C, at least 2."""

    def __post_init__(self):
        """Checks the ranges, but for those that the network itself checks."""
        for name in ("pixels", "channels"):
            check_integer(name, getattr(self, name), 1)

    @property
    def title(self) -> str:
        """What the table is of."""
        size = f"on {self.pixels} x {self.pixels} x {self.channels}"
        if self.tail:
            size += f", U-shaped with a tail of {self.tail}"
        if self.module:
            return f"{self.module}, {size}"
        vgg = self.name == "vgg"
        norm = f"{self.norm} norm, " if vgg or self.name.startswith("resnet") else ""
        name = f"VGG-{self.depth}" if vgg else self.name
        return f"{name}, width {self.width:g}, {norm}{size}"


NOTE = "Forward pass of one example; a backward pass takes about twice that."

OF_PRUNED = (
    "\nParameters and MACs are of the dense network; of what is sent at the cut "
    "pruned channels are left out."
)


def table(options: FedSLCost) -> CostTable:
    """A row for each cut."""
    model = ModelConfig(
        name=options.name,
        module=options.module,
        depth=options.depth,
        width=options.width,
        norm=options.norm,
    )
    shape = (options.pixels, options.pixels, options.channels)
    image = ImageKind(shape, options.num_classes)
    network = model.uncut(image)
    rows = cut_costs(network, prune_ratio=options.prune_ratio, tail=options.tail)
    if not rows:
        # Says which tails there are.
        network.at(network.cuts[0], tail=options.tail)
    return CostTable(
        title=options.title,
        columns=(
            "cut L_c",
            "client params",
            "server params",
            "client MMACs",
            "server MMACs",
            "sent at cut",
            *(["at 2nd cut"] if options.tail else []),
        ),
        rows=[
            (
                str(row.cut),
                f"{row.client_params:,}",
                f"{row.server_params:,}",
                f"{row.client_macs / 1e6:.4f}",
                f"{row.server_macs / 1e6:.4f}",
                f"{row.activations:,}",
                *([f"{row.features:,}"] if options.tail else []),
            )
            for row in rows
        ],
        note=NOTE + (OF_PRUNED if options.prune_ratio else ""),
    )


COSTS = Costs(FedSLCost, table, "each cut of a network")
