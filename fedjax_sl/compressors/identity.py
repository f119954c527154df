"""Values as they are, in float32."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.coding import Message
from fedjax_sl.compression.packing import of_floats, packed, to_floats, unpacked
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Compressor, Wire


def _encode(values: np.ndarray, mask: np.ndarray) -> Message:
    return packed([of_floats(np.asarray(values)[np.asarray(mask)])])


def _decode(key: jax.Array, message: Message, mask: np.ndarray) -> np.ndarray:
    (flags,) = unpacked(message, [FLOAT_BITS * int(np.sum(mask))])
    values = np.zeros(np.shape(mask), np.float32)
    values[np.asarray(mask)] = to_floats(flags)
    return values


def identity() -> Compressor:
    """Sends float32 values, 32 bits each."""
    return Compressor(
        compress=lambda key, x, mask, state: (jnp.where(mask, x, 0.0), state),
        decompress=lambda key, payload, mask: jnp.where(mask, payload, 0.0),
        wire=Wire(
            count=lambda payload, mask: Link.float32(mask.sum(dtype=jnp.int32)),
            most=lambda entries, size: Link.float32(jnp.asarray(entries, jnp.int32)),
            encode=_encode,
            decode=_decode,
        ),
    )
