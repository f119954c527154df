"""The layers of a client's update in every code, beside the entropy of their levels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedjax_sl.compression.code_length import entropy
from fedjax_sl.method_spec import SentLayers


class CoderLengths(NamedTuple):
    """Lengths of messages, in bits, `[U]` each.

    Attributes:
      layers: their names.
      size: elements of each that may be sent.
      sent: of what the compressor's own encoder emits.
      entropy: of the levels of each, as if they were coded one by one; None if there
        are no levels.
      message: by coder, of what its encoder would emit, scales, headers and positions
        included.
    """

    layers: Sequence[str]
    size: np.ndarray
    sent: np.ndarray
    entropy: np.ndarray | None
    message: Mapping[str, np.ndarray]


def coder_lengths(sent: SentLayers) -> CoderLengths:
    """Encodes every layer by its compressor, and by every coder that takes its levels.

    Args:
      sent: the layers.

    Returns:
      The lengths.

    Raises:
      ValueError: if a payload cannot be encoded, such as one with no finite norm.
    """

    def lengths(wire):
        return np.array(
            [
                wire.encode(payload, sent.masks[name]).num_bits
                for name, payload in sent.layers.items()
            ]
        )

    levels = sent.compressor.levels
    # By layer, as messages are: of pooled levels it would be no smaller.
    of_levels = [each.size * entropy(each) for each in sent.levels.values()]
    return CoderLengths(
        layers=list(sent.layers),
        size=np.array([sent.masks[name].sum() for name in sent.layers]),
        sent=lengths(sent.compressor.wire),
        entropy=np.array(of_levels) if levels else None,
        message={
            coder: lengths(wire)
            for coder, wire in (levels.wires() if levels else {}).items()
        },
    )
