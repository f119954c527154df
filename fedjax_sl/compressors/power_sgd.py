"""PowerSGD: a product of two thin matrices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link
from fedjax_sl.checks import check_integer
from fedjax_sl.compression.packing import of_floats, packed, to_floats, unpacked
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Compressor, Wire
from fedjax_sl.compressors.identity import all_sent, identity


class Factors(NamedTuple):
    """Thin matrices.

    Attributes:
      left: `[m, r]`, orthonormal columns.
      right: `[n, r]`.
    """

    left: jax.Array
    right: jax.Array


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """An array as a matrix: its last axis, and all others."""
    return int(np.prod(shape[:-1], dtype=int)), shape[-1] if shape else 1


def power_sgd(*, rank: int = 4) -> Compressor:
    """PowerSGD (Vogels et al. 2019): one step of power iteration from a shared start.

    `P = orth(M Q)`, `C(x) = P (M^T P)^T`, with M the array as a matrix of its last axis
    and Q drawn from the shared key: a projection, so a contraction, exact for a matrix
    of rank r. Made for error feedback. Entries outside the mask are 0 and not rebuilt.
    Where thin matrices have more entries, as for a vector, the array is sent.

    Args:
      rank: r, at least 1.

    Returns:
      The compressor; its payload is a `Factors`, or the array.

    Raises:
      ValueError: if the rank is out of range.
    """
    check_integer("rank", rank, 1)
    whole = identity()

    def thin(shape):
        rows, columns = _matrix_shape(shape)
        return rank * (rows + columns) < rows * columns

    def compress(key, x, mask, state):
        if not thin(x.shape):
            return whole.compress(key, x, mask, state)
        matrix = jnp.where(mask, x, 0.0).reshape(_matrix_shape(x.shape))
        # By the largest entry: a product of huge ones would be infinite.
        top = jnp.abs(matrix).max()
        unit = matrix / jnp.where(top > 0, top, 1.0)
        start = jax.random.normal(key, (matrix.shape[1], rank))
        left = jnp.linalg.qr(unit @ start)[0]
        return Factors(left, top * (unit.T @ left)), state

    def decompress(key, payload, mask):
        if not thin(mask.shape):
            return whole.decompress(key, payload, mask)
        product = (payload.left @ payload.right.T).reshape(mask.shape)
        return jnp.where(mask, product, 0.0)

    return Compressor(compress, decompress, all_sent, _wire(rank, thin, whole.wire))


def _wire(rank: int, thin, whole: Wire) -> Wire:
    """Both matrices in float32, or the entries."""

    def sizes(shape):
        return [rank * side for side in _matrix_shape(shape)]

    def count(payload, mask):
        if not thin(mask.shape):
            return whole.count(payload, mask)
        entries = jnp.int32(sum(sizes(mask.shape)))
        return Link.float32(entries * mask.any())

    def most(entries, size):
        # The shape is not known here: never more than the entries themselves.
        return Link.float32(jnp.where(jnp.asarray(entries) > 0, size, 0))

    def encode(payload, mask):
        if not thin(np.shape(mask)):
            return whole.encode(payload, mask)
        parts = [of_floats(side) for side in payload]
        return packed(parts if np.any(mask) else [])

    def decode(key, message, mask):
        shape = np.shape(mask)
        if not thin(shape):
            return whole.decode(key, message, mask)
        if not np.any(mask):
            unpacked(message, [0])
            return Factors(*(np.zeros((n // rank, rank)) for n in sizes(shape)))  # type: ignore[arg-type]
        parts = unpacked(message, [FLOAT_BITS * size for size in sizes(shape)])
        return Factors(*(to_floats(part).reshape(-1, rank) for part in parts))  # type: ignore[arg-type]

    return Wire(count, most, encode, decode)
