"""Elias codes, and the message of one quantised layer (Entropy 2023, 25, 1205).

A message holds, without padding: the norm as a float32, most significant bit first; the
codeword of b; then for every element the codeword of its index + 1 and a sign bit, 0
for +. Order, shift and polarity are reconstructed; zeros carry a sign bit, too, and it
is 0.

Lengths are exact and can be computed inside a compiled program; messages are encoded
and decoded on the host.
"""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.checks import check_choice, check_integer
from fedjax_sl.compression.quantization import Quantized
from fedjax_sl.errors import InputError


Code = Literal["omega", "gamma", "delta"]

CODES = get_args(Code)
MAX_BITS = 16
NORM_BITS = 32

DESCRIPTION = {
    "omega": ((2, 1), (3, 2), (5, 3), (9, 1), (17, 4)),
    "delta": ((2, 2), (4, 2), (8, 2), (16, 2)),
}
"""A codeword holds the integer's digits and a description of their number. Pairs
(digits, bits): from this many digits on, the description takes these bits more."""


class Message(NamedTuple):
    """Bits packed into bytes, the first bit being a byte's most significant one.

    Attributes:
      data: ceil(num_bits / 8) bytes; the bits past `num_bits` are 0.
      num_bits: length.
    """

    data: bytes
    num_bits: int


def _digits(values: jax.Array) -> jax.Array:
    """Counts the binary digits of integers >= 1, by the exponent of a float32.

    Vector units convert to float32, but may lack an instruction that counts zeros.
    """
    # Clearing the second digit keeps the conversion from rounding up to a power of 2.
    rounded = (values & ~(values >> 1)).astype(jnp.float32)
    exponent = jax.lax.bitcast_convert_type(rounded, jnp.int32) >> 23
    # The exponent is biased by 127, and floor(log2 k) + 1 are the digits.
    return exponent - 126


def elias_lengths(values: Any, *, code: Code = "omega") -> jax.Array:
    """Computes the codeword length of each integer k with n = floor(log2 k) + 1 digits.

    gamma: 2n - 1. delta: n - 1 + gamma(n). omega: 1 + n + |n - 1| + ..., where each
    group describes the length of the next one (Elias, 1975).

    Args:
      values: `[...]` int32, at least 1.
      code: which of the three.

    Returns:
      `[...]` int32.

    Raises:
      ValueError: if the code is unknown.
    """
    check_choice("code", code, Code)
    digits = _digits(jnp.asarray(values, jnp.int32))
    if code == "gamma":
        return 2 * digits - 1
    return digits + sum(
        (jnp.where(digits >= first, more, 0) for first, more in DESCRIPTION[code]),
        start=0,
    )


def message_bits(quantized: Quantized, *, bits: Any, code: Code = "omega") -> jax.Array:
    """Computes the exact length of the message that `encode` would emit.

    32 + |Elias(b)| + sum_i (|Elias(|level_i| + 1)| + 1).

    Args:
      quantized: a layer of M elements, any shape.
      bits: b, from 1 to 16; may be traced.
      code: which of the three.

    Returns:
      [] int32; it overflows for a message of 2^31 bits or more, 60 million elements.

    Raises:
      ValueError: if bits or code lie outside their range.
    """
    check_choice("code", code, Code)
    check_integer("bits", bits, 1, MAX_BITS)
    header = NORM_BITS + elias_lengths(bits, code=code)
    lengths = elias_lengths(jnp.abs(quantized.level) + 1, code=code)
    return header + lengths.sum() + quantized.level.size


def encode(quantized: Quantized, *, bits: int, code: Code = "omega") -> Message:
    """Encodes the message of one layer (Algorithm 1), on the host.

    Args:
      quantized: a layer of M elements; levels in -2^b..2^b, in C order.
      bits: b, from 1 to 16.
      code: which of the three.

    Returns:
      The message.

    Raises:
      ValueError: if bits or code, the norm or a level lie outside their range.
    """
    # Imported when used: it loads Numba, which nothing but the codec needs.
    from fedjax_sl.compression import bitstream

    check_choice("code", code, Code)
    check_integer("bits", bits, 1, MAX_BITS)
    norm, levels = _given(quantized, int(bits))
    # The check lets -0 pass, whose sign bit the decoder would refuse.
    word = int(np.abs(norm).view(np.uint32))
    return Message(*bitstream.write(word, int(bits), levels, CODES.index(code)))


def _given(quantized: Quantized, bits: int) -> tuple[np.float32, np.ndarray]:
    """Checks and converts a layer's norm and levels `[M]` int32."""
    norm, levels = np.asarray(quantized.norm), np.asarray(quantized.level)
    if norm.ndim or not 0 <= norm <= np.finfo(np.float32).max:
        raise InputError(f"norm={norm}: expected a finite float32 >= 0.")
    if not np.issubdtype(levels.dtype, np.integer):
        raise InputError(f"levels of dtype {levels.dtype}: expected integers.")
    # Checked before the cast: wider integers could wrap into the range.
    if levels.size and max(-int(levels.min()), int(levels.max())) > 2**bits:
        raise InputError(f"bits={bits}: expected levels in -{2**bits}..{2**bits}.")
    return np.float32(norm), np.ascontiguousarray(levels, np.int32).reshape(-1)


def decode(message: Message, *, code: Code = "omega") -> tuple[Quantized, int]:
    """Decodes the message of one layer (Algorithm 2), on the host, to its last bit.

    Args:
      message: as from `encode`, or from an untrusted source.
      code: which of the three.

    Returns:
      The layer, its levels `[M]` int32, and b.

    Raises:
      ValueError: if this is not exactly a message that `encode` could have emitted.
    """
    from fedjax_sl.compression import bitstream

    check_choice("code", code, Code)
    data, num_bits = message
    check_integer("num_bits", num_bits, NORM_BITS)
    # No byte more than the bits take: a layer has one message alone.
    if not NORM_BITS < num_bits <= 8 * len(data) < num_bits + 8:
        raise InputError(f"{len(data)} bytes cannot be a message of {num_bits} bits.")
    if data[-1] & (0xFF >> (8 - (8 * len(data) - num_bits))):
        raise InputError("the bits past the end of the message are not 0.")
    word, bits, levels = bitstream.read(data, num_bits, CODES.index(code))
    norm = np.uint32(word).view(np.float32)
    if np.signbit(norm) or not np.isfinite(norm):
        raise InputError(f"norm={norm}: expected a finite number >= 0.")
    return Quantized(norm, levels), bits  # type: ignore[arg-type]
