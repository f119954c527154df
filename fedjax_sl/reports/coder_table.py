"""The layers of a client's update in every code, beside the entropy of their levels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import numpy as np

from fedjax_sl.compression.code_length import entropy
from fedjax_sl.compression.coding import Code
from fedjax_sl.compressors.qsgd import Coder, levels_wire
from fedjax_sl.compressors.rice import MOST_BITS as MOST_RICE_BITS
from fedjax_sl.method_spec import SentLayers


class CoderLengths(NamedTuple):
    """Lengths of messages, in bits, `[U]` each.

    Attributes:
      layers: their names.
      size: elements of each.
      entropy: of the levels of each, as if they were coded one by one.
      message: by coder, of what its encoder emits, norm and header included.
    """

    layers: Sequence[str]
    size: np.ndarray
    entropy: np.ndarray
    message: Mapping[Coder, np.ndarray]


def coder_lengths(sent: SentLayers) -> CoderLengths:
    """Encodes every layer by every coder that takes its levels.

    Args:
      sent: layers of levels in -2^b..2^b, of which 2^(b + 1) + 1 have room in b + 2
        bits.

    Returns:
      The lengths.

    Raises:
      ValueError: if a norm or a level is out of range.
    """
    levels = 2**sent.bits

    def length(coder, layer):
        bits = sent.bits if coder in get_args(Code) else sent.bits + 2
        wire = levels_wire(coder=coder, bits=bits, levels=levels)
        return wire.encode(layer, np.ones(layer.level.shape, bool)).num_bits

    every: tuple[Coder, ...] = ("fixed", "gamma", "delta", "omega", "rice", "range")
    coders: list[Coder] = [
        coder for coder in every if coder != "rice" or sent.bits + 2 <= MOST_RICE_BITS
    ]
    layers = sent.layers.values()
    size = np.array([layer.level.size for layer in layers])
    return CoderLengths(
        layers=list(sent.layers),
        size=size,
        entropy=size * np.array([*map(entropy, sent.levels.values())]),
        message={
            coder: np.array([length(coder, layer) for layer in layers])
            for coder in coders
        },
    )
