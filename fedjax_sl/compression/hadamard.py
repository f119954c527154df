"""The randomised Hadamard transform of an array, in blocks.

Signs are drawn from a key that both ends know. The transform is orthonormal, and makes
the entries of any block about normal. It is written as products with two matrices of
about sqrt(d) rows: 4 sqrt(d) operations an entry, more than the 2 log2(d) of the fast
transform, but those that a CPU or an accelerator does fastest.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


LONGEST = 4096
"""Entries of a block: its padding is short, and its norms are few."""


@functools.cache
def _matrix(order: int) -> np.ndarray:
    """The orthonormal Hadamard matrix of Sylvester, of 2^order rows."""
    matrix = np.ones((1, 1))
    for _ in range(order):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix.astype(np.float32)


def blocks_of(size: int) -> tuple[int, int]:
    """How an array is cut: the number of blocks, and their length, a power of 2."""
    length = min(LONGEST, 1 << max(size - 1, 0).bit_length())
    return -(-size // length), length


def _transform(x: jax.Array) -> jax.Array:
    """The transform of each row, `[R, d]`, without signs; its own inverse."""
    order = x.shape[1].bit_length() - 1
    # Halved: of two factors, those of about sqrt(d) rows take the fewest operations.
    first = order // 2
    left, right = _matrix(first), _matrix(order - first)
    square = x.reshape(-1, 2**first, 2 ** (order - first))
    # A Kronecker product of two small matrices is the large one.
    # Highest: rounded products would leave a rotation that is not undone.
    product = functools.partial(jnp.einsum, precision="highest")
    return product("ij,rjk,kl->ril", left, square, right).reshape(x.shape)


def _signs(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws -1 or 1 for every entry, `[...]`."""
    size = int(np.prod(shape))
    # A word has the bits of 32 signs; a draw for each would take most of the time.
    words = jax.random.bits(key, (-(-size // 32), 1), jnp.uint32)
    flags = (words >> jnp.arange(32, dtype=jnp.uint32)[None]) & 1
    return 1.0 - 2.0 * flags.reshape(-1)[:size].reshape(shape).astype(jnp.float32)


def rotated(key: jax.Array, x: jax.Array) -> jax.Array:
    """Rotates an array of any shape, padded with zeros to whole blocks.

    Args:
      key: of the signs.
      x: `[...]`, M entries.

    Returns:
      `[blocks, d]`.
    """
    count, length = blocks_of(x.size)
    flat = jnp.pad(x.reshape(-1), (0, count * length - x.size))
    square = flat.reshape(count, length)
    return _transform(square * _signs(key, square.shape))


def rotated_back(
    key: jax.Array, blocks: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Inverts `rotated` for an array of this shape."""
    flat = (_transform(blocks) * _signs(key, blocks.shape)).reshape(-1)
    return flat[: int(np.prod(shape))].reshape(shape)
