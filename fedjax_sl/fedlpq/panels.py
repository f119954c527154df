"""Panels of a report on a FedLP-Q run: the messages of a client, layer by layer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedjax_sl.compression.code_length import entropy
from fedjax_sl.fedlpq.next_update import sent_next
from fedjax_sl.method_spec import LastCheckpoint, LayerBars, SentLayers


class CodeLengths(NamedTuple):
    """Code lengths of layers, `[U]` each, in bits per element.

    Attributes:
      layers: their names.
      entropy: of the indices; no code of single elements is shorter.
      payload: levels with their signs.
      message: the whole message, with the norm and the header.
    """

    layers: Sequence[str]
    entropy: np.ndarray
    payload: np.ndarray
    message: np.ndarray


def code_lengths(sent: SentLayers) -> CodeLengths:
    """Computes bits per element of each message, `|message| / M`, and entropy."""
    wire, levels = sent.compressor.wire, sent.levels
    pairs = {name: (layer, sent.masks[name]) for name, layer in sent.layers.items()}
    sizes = np.array([mask.sum() for _, mask in pairs.values()])
    message = np.array([wire.encode(*pair).num_bits for pair in pairs.values()])
    header = np.array([wire.count(*pair).side for pair in pairs.values()])
    return CodeLengths(
        layers=list(pairs),
        entropy=np.array([entropy(levels[name]) for name in pairs]),
        payload=(message - header) / sizes,
        message=message / sizes,
    )


def messages(seen: LastCheckpoint) -> LayerBars | None:
    """Bits per element of each layer's message, beside the entropy of its indices."""
    # A compressor's message need not have indices and a header.
    sent = None if seen.config.method.updates.active else sent_next(seen)
    if sent is None:
        return None
    found = code_lengths(sent)
    sizes = [mask.sum() for mask in sent.masks.values()]
    # By elements: in a plain mean the smallest layer weighs as much as the largest.
    whole = np.average(found.message, weights=sizes)
    least = np.average(found.entropy, weights=sizes)
    return LayerBars(
        name="code_length",
        heading="Code length and entropy",
        alt="Bars: bits per element of each layer's message, with the entropy of its "
        f"indices; {whole:.3g} and {least:.3g} over all elements.",
        axis="bits per element",
        layers=found.layers,
        parts={
            "levels with signs": found.payload,
            "norm and header": found.message - found.payload,
        },
        marks={"entropy of indices": found.entropy},
        caption=f"The update of client {sent.client} as it would be sent after round "
        f"{sent.rounds}, were every layer sent: computed for this page from the last "
        f"checkpoint and the run's data. {sent.said}; the "
        "entropy is that of single indices with their signs.",
    )
