"""What all networks can be built with."""

from dataclasses import dataclass
from typing import Literal

from fedjax_sl.checks import check_choice, check_integer, check_number
from fedjax_sl.errors import InputError
from fedjax_sl.layers.conv import Lowering, Precision
from fedjax_sl.layers.initializers import Init


Norm = Literal["group", "batch", "none"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a network; one that has no use for an option ignores it.

    Attributes:
      num_classes: C.
      input_shape: `(H, W, Ch)` of one example.
      width: factor on every number of channels and hidden units.
      norm: what follows each convolution.
      lowering: how convolutions are computed, see `layers.conv`.
      precision: of the convolutions' products.
      init: initialisation of parameters, see `layers.initializers`.
    """

    num_classes: int = 10
    input_shape: tuple[int, int, int] = (32, 32, 3)
    width: float = 1.0
    # It keeps no statistics, so that parameters are all that is sent and averaged.
    norm: Norm = "group"
    lowering: Lowering = "auto"
    precision: Precision = "float32"
    init: Init = "he"

    def __post_init__(self):
        """Checks all values."""
        check_choice("norm", self.norm, Norm)
        check_choice("lowering", self.lowering, Lowering)
        check_choice("precision", self.precision, Precision)
        check_choice("init", self.init, Init)
        check_number("width", self.width, lambda v: 0 < v < float("inf"), "> 0")
        check_integer("num_classes", self.num_classes, 2)

    def scaled(self, units: int) -> int:
        """Applies the width to a number of channels, at least 1."""
        return max(1, round(units * self.width))

    def check_image(self, smallest: int, why: str) -> None:
        """Rejects images that are too small."""
        if min(self.input_shape[:2]) < smallest:
            raise InputError(
                f"input_shape={self.input_shape}: {why} images of at least {smallest} "
                "pixels a side."
            )
