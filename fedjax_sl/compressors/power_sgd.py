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
from fedjax_sl.compressors.identity import identity


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


def _product(left: jax.Array, right: jax.Array) -> jax.Array:
    # An accelerator's fast products would not be exact for a matrix of rank r.
    return jnp.matmul(left, right, precision="highest")


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
        # By the shape, which both ends know: no flag tells what was sent.
        return rank * (rows + columns) < rows * columns

    def compress(key, x, mask, state):
        if not thin(x.shape):
            return whole.compress(key, x, mask, state)
        matrix = jnp.where(mask, x, 0.0).reshape(_matrix_shape(x.shape))
        # By the largest entry: a product of huge ones would be infinite.
        top = jnp.abs(matrix).max()
        unit = matrix / jnp.where(top > 0, top, 1.0)
        start = jax.random.normal(key, (matrix.shape[1], rank))
        left = jnp.linalg.qr(_product(unit, start))[0]
        # The scale goes to the right: the left columns are orthonormal without it.
        return Factors(left, top * _product(unit.T, left)), state

    def decompress(key, payload, mask):
        if not thin(mask.shape):
            return whole.decompress(key, payload, mask)
        product = _product(payload.left, payload.right.T).reshape(mask.shape)
        return jnp.where(mask, product, 0.0)

    def linear(payload, mask, x):
        kept = jnp.where(mask, x, 0.0)
        if not thin(mask.shape):
            return kept
        # The projection that was sent, though the left matrix depends on `x`, too.
        matrix = kept.reshape(_matrix_shape(mask.shape))
        seen = _product(payload.left, _product(payload.left.T, matrix))
        return jnp.where(mask, seen.reshape(mask.shape), 0.0)

    return Compressor(
        compress=compress,
        decompress=decompress,
        wire=_wire(rank, thin, whole.wire),
        linear=linear,
        single=False,
    )


def _wire(rank: int, thin, whole: Wire) -> Wire:
    """The left matrix, of rows that hold an entry of the mask, and the right one."""

    def rows_sent(mask):
        return mask.reshape(_matrix_shape(mask.shape)).any(axis=1)

    def count(payload, mask):
        if not thin(mask.shape):
            return whole.count(payload, mask)
        rows = rows_sent(mask).sum(dtype=jnp.int32)
        columns = _matrix_shape(mask.shape)[1]
        return Link.float32(jnp.where(rows > 0, rank * (rows + columns), 0))

    def most(entries, size):
        # The shape is not known here: never more than all entries of the array.
        return Link.float32(jnp.where(jnp.asarray(entries) > 0, size, 0))

    def encode(payload, mask):
        if not thin(np.shape(mask)):
            return whole.encode(payload, mask)
        rows = rows_sent(np.asarray(mask))
        # Rows without an entry of the mask are not rebuilt, and need not be sent.
        parts = [of_floats(np.asarray(payload.left)[rows]), of_floats(payload.right)]  # type: ignore[arg-type]
        return packed(parts if rows.any() else [])

    def decode(key, message, mask):
        if not thin(np.shape(mask)):
            return whole.decode(key, message, mask)
        rows, columns = rows_sent(np.asarray(mask)), _matrix_shape(np.shape(mask))[1]
        left = np.zeros((rows.size, rank), np.float32)
        right = np.zeros((columns, rank), np.float32)
        some = bool(rows.any())
        sizes = [rank * int(rows.sum()), rank * columns * some]
        parts = unpacked(message, [FLOAT_BITS * size for size in sizes])
        left[rows] = to_floats(parts[0]).reshape(-1, rank)
        right[:] = to_floats(parts[1]).reshape(-1, rank) if some else 0.0
        return Factors(left, right)  # type: ignore[arg-type]

    return Wire(count, most, encode, decode)
