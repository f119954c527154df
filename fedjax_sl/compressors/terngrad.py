"""TernGrad: one of three values an entry."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.coding import Message
from fedjax_sl.compression.packing import (
    from_flags,
    of_floats,
    packed,
    to_flags,
    to_floats,
    unpacked,
)
from fedjax_sl.compression.quantization import (
    FLOAT_BITS,
    Quantized,
    dequantize,
    quantize,
)
from fedjax_sl.compressors.compressor import Compressor, Wire
from fedjax_sl.compressors.qsgd import levels_of_quantized
from fedjax_sl.errors import InputError


IN_BYTE = 5
"""Values of three that fit into a byte: 3^5 = 243."""


def _compress(key, x, mask, state):
    kept = jnp.where(mask, x, 0.0)
    return quantize(key, kept, levels=1, norm="max"), state


def _decompress(key, payload, mask):
    return jnp.where(mask, dequantize(payload, levels=1), 0.0)


def _most(entries: Any, size: int) -> Link:
    entries = jnp.asarray(entries, jnp.int32)
    none = jnp.zeros_like(entries)
    some = (entries > 0).astype(jnp.int32)
    return Link(none, none, 8 * -(-entries // IN_BYTE), FLOAT_BITS * some)


def _encode(payload: Quantized, mask: np.ndarray) -> Message:
    codes = np.asarray(payload.level)[np.asarray(mask)] + 1
    if not codes.size:
        return packed([])
    codes = np.pad(codes, (0, -len(codes) % IN_BYTE)).reshape(-1, IN_BYTE)
    # 1.6 bits a value, where a code of fixed width takes 2.
    words = codes @ 3 ** np.arange(IN_BYTE)
    return packed([of_floats(payload.norm), to_flags(words, 8)])  # type: ignore[arg-type]


def _decode(key: jax.Array, message: Message, mask: np.ndarray) -> Quantized:
    kept = np.asarray(mask)
    entries = int(kept.sum())
    head = FLOAT_BITS * (entries > 0)
    parts = unpacked(message, [head, 8 * -(-entries // IN_BYTE)])
    words = from_flags(parts[1], 8)
    codes = (words[:, None] // 3 ** np.arange(IN_BYTE) % 3).reshape(-1)
    # Padding other than 0 would be a second message of the same payload.
    if (words >= 3**IN_BYTE).any() or codes[entries:].any():
        raise InputError("the message holds a byte that is not of five values.")
    level = np.zeros(kept.shape, np.int32)
    level[kept] = codes[:entries] - 1
    scale = to_floats(parts[0])[0] if head else np.float32(0)
    return Quantized(scale, level)  # type: ignore[arg-type]


def terngrad() -> Compressor:
    """`max|x| sgn(x) z`, z ~ Bernoulli(|x| / max|x|) (Wen et al. 2017).

    Unbiased, E|C(x) - x|^2 = max|x| |x|_1 - |x|^2; QSGD with one level. Five entries
    take a byte. The paper's clipping of gradients is left to `clip_norm`.

    Returns:
      The compressor; its payload is a `Quantized`.
    """
    wire = Wire(
        count=lambda payload, mask: _most(mask.sum(dtype=jnp.int32), mask.size),
        most=_most,
        encode=_encode,
        decode=_decode,
    )
    return Compressor(_compress, _decompress, wire, levels=levels_of_quantized(1))
