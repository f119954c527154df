"""Pruning, quantisation, dropout and coding: arrays in, arrays out, for one client."""

from fedjax_sl.compression.coding import (
    Message,
    decode,
    elias_lengths,
    encode,
    message_bits,
)
from fedjax_sl.compression.dropout import drop_activations
from fedjax_sl.compression.layers import draw_layers
from fedjax_sl.compression.pruning import (
    apply_mask,
    keep_mask,
    kept,
    ratio_at,
)
from fedjax_sl.compression.quantization import (
    Quantized,
    dequantize,
    levels_from_bits,
    quantize,
    quantize_tree,
    reconstruct_tree,
)
from fedjax_sl.compression.quantization_error import exact_variance, variance_bound
from fedjax_sl.compression.range_quantization import reconstruct_range_tree
from fedjax_sl.compression.scores import magnitude_scores, random_scores, taylor_scores


__all__ = [
    "Message",
    "Quantized",
    "apply_mask",
    "decode",
    "dequantize",
    "draw_layers",
    "drop_activations",
    "elias_lengths",
    "encode",
    "exact_variance",
    "keep_mask",
    "kept",
    "levels_from_bits",
    "magnitude_scores",
    "message_bits",
    "quantize",
    "quantize_tree",
    "random_scores",
    "ratio_at",
    "reconstruct_range_tree",
    "reconstruct_tree",
    "taylor_scores",
    "variance_bound",
]
