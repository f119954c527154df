"""The configuration of a network, and the network that it stands for."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import tyro

from fedjax_sl.checks import check_types
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.errors import InputError
from fedjax_sl.layers.conv import Lowering, Precision
from fedjax_sl.layers.initializers import Init
from fedjax_sl.models.network import Network
from fedjax_sl.models.options import Norm, Options
from fedjax_sl.models.own_network import file_of, own_network
from fedjax_sl.models.registry import NETWORKS


class ImageKind(NamedTuple):
    """What a network must know of the data: `(H, W, Ch)`, and C."""

    shape: tuple[int, int, int]
    num_classes: int


def kind_of(data: Dataset) -> ImageKind:
    """Returns the kind of the images of a data set."""
    return ImageKind(data.image.shape[1:], data.num_classes)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network."""

    module: str | None = None
    """FILE.py:FUNCTION, a network of one's own in place of a named one. The function is
    called with input_shape and num_classes, and returns a list of Flax modules."""

    module_sha256: Annotated[str | None, tyro.conf.Suppress] = None
    """Hash of that file, filled in: with another one a run is not resumed."""

    width: float = 1.0
    """Factor on every number of channels, > 0; 1 is the network as published."""

    norm: Norm = "group"
    """Normalisation after each convolution of a VGG or ResNet."""

    lowering: Lowering = "auto"
    """How convolutions are computed; auto is the fastest as measured."""

    precision: Precision = "float32"
    """Of the products in convolutions; dense layers multiply as JAX does by default, on
    a GPU in tf32. tf32 and bf16 are fast on hardware that supports them; a CPU uses
    float32 for tf32."""

    init: Init = "he"
    """Initialisation of parameters: he is normal, with zero biases; torch is uniform
    within 1 / sqrt(fan-in), biases too, as in PyTorch."""

    def __post_init__(self):
        """Checks types and choices; the network checks the ranges."""
        check_types(self)

    def resolved(self) -> Self:
        """Fills in the hash of the file.

        Raises:
          ValueError: if it is another one than the configuration was made with.
        """
        if self.module is None:
            return self
        found = hashlib.sha256(file_of(self.module).read_bytes()).hexdigest()
        if self.module_sha256 not in (None, found):
            raise InputError(
                f"module={self.module!r}: the file has changed since the configuration "
                "was written."
            )
        return replace(self, module_sha256=found)

    def build(self, name: str, image: ImageKind) -> Network:
        """Builds the network of `module`, or the named one.

        Args:
          name: of a network in `models.registry`, where there is no module.
          image: shape of the images, and number of classes.
        """
        if self.module is not None:
            return own_network(self.module, image.shape, image.num_classes)
        options = Options(
            num_classes=image.num_classes,
            input_shape=image.shape,
            width=self.width,
            norm=self.norm,
            lowering=self.lowering,
            precision=self.precision,
            init=self.init,
        )
        return NETWORKS[name].build(options)

    def title_of(self, name: str) -> str:
        """Returns the display name of the network, with a width other than 1."""
        if self.module is not None:
            return Path(self.module).name
        title = NETWORKS[name].title if name in NETWORKS else name
        return title if self.width == 1 else f"{title} of width {self.width:g}"

    def ignored(self, name: str) -> tuple[str, ...]:
        """Lists the options that the network, or the named one, has no use for."""
        if self.module is not None:
            return ("name", "width", "norm", "lowering", "precision", "init")
        return NETWORKS[name].ignored if name in NETWORKS else ()
