"""Single codewords of the Elias codes, for compiled loops on the host."""

import numpy as np

from fedjax_sl.compression.compiled import compiled


OMEGA, GAMMA, DELTA = range(3)

MAX_LENGTH = 17
"""Binary digits of the largest value, 2^16 + 1."""


@compiled
def _length(value):
    """Binary digits of an integer >= 1."""
    digits = 0
    while value > 0:
        value >>= 1
        digits += 1
    return digits


@compiled
def codeword(value, code):
    """Encodes an integer from 1 to 2^16 + 1 as (bits, number of bits)."""
    # Operands are cast: Numba promotes a mix of int64 and uint64 to float64.
    value = np.uint64(value)
    length = _length(value)
    if code == GAMMA:
        # The zeros in front are the integer's own high bits.
        return value, 2 * length - 1
    if code == DELTA:
        tail = value - (np.uint64(1) << np.uint64(length - 1))
        digits = _length(length)
        bits = (np.uint64(length) << np.uint64(length - 1)) | tail
        return bits, length - 1 + 2 * digits - 1
    bits, size = np.uint64(0), 1
    while value > 1:
        # Groups are found from the last to the first: each goes in front of the others.
        bits |= value << np.uint64(size)
        size += length
        value = np.uint64(length - 1)
        length = _length(value)
    return bits, size


@compiled
def take(window, count):
    """Returns the first bits of a window, as an integer."""
    if count == 0:
        return 0  # a shift by 64 is undefined
    return np.int64(window >> np.uint64(64 - count))


@compiled
def read_codeword(window, code):
    """Decodes the codeword at the start of 64 bits as (value, number of bits).

    The value is 0 if there is no codeword, or one of more than `MAX_LENGTH` digits.
    """
    if code == OMEGA:
        value, used = 1, 0
        while take(window << np.uint64(used), 1) == 1:
            # No value that is sent is so long, and its digits might leave the window.
            if value >= MAX_LENGTH:
                return 0, 0
            size = value + 1
            value = take(window << np.uint64(used), size)
            used += size
        return value, used + 1
    zeros = 0
    while take(window << np.uint64(zeros), 1) == 0:
        zeros += 1
        if zeros >= MAX_LENGTH:
            return 0, 0
    value = take(window << np.uint64(zeros), zeros + 1)
    used = 2 * zeros + 1
    if code == GAMMA:
        return value, used
    length = value
    if length > MAX_LENGTH:
        return 0, 0
    tail = take(window << np.uint64(used), length - 1)
    return (1 << (length - 1)) + tail, used + length - 1
