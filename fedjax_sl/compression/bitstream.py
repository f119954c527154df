"""Encodes and decodes whole messages as 32-bit words, in compiled loops on the host.

Most elements of a quantised layer are 0 or near it, so short codewords come from
tables: writing looks up two levels at a time, reading looks up twelve bits and takes
all complete levels among them.
"""

import functools

import numpy as np

from fedjax_sl.compression.codewords import codeword, read_codeword, take
from fedjax_sl.compression.compiled import compiled
from fedjax_sl.errors import InputError


WINDOW = 12
"""Bits that index the reading table."""

MANY = 6
"""Most levels per lookup: one byte each in a 64-bit entry, beside two counts."""

RADIUS, NEAR = 1024, 32
"""The writing tables hold single levels up to RADIUS, and pairs of levels near 0."""

OUT_OF_RANGE, MALFORMED, TRUNCATED = -1, -2, -3
"""Error codes, returned in place of a count."""


@functools.cache
def _writing_tables(code):
    """Builds tables of single levels and of pairs; an entry is `bits << 8 | size`.

    A pair of levels in -NEAR..NEAR - 1 has the index
    2 NEAR (first + NEAR) + second + NEAR.
    """
    singles = np.zeros(2 * RADIUS + 1, np.uint64)
    for level in range(-RADIUS, RADIUS + 1):
        bits, size = codeword(abs(level) + 1, code)
        singles[level + RADIUS] = (int(bits) << 1 | (level < 0)) << 8 | (size + 1)
    near = singles[RADIUS - NEAR : RADIUS + NEAR]
    bits, size = near >> np.uint64(8), near & np.uint64(0xFF)
    both = (bits[:, None] << size) | bits
    pairs = (both << np.uint64(8)) | (size[:, None] + size)
    return singles, pairs.reshape(-1)


@functools.cache
def _reading_table(code):
    """Builds the table of WINDOW bits: levels, their bits and their count, in bytes."""
    table = np.zeros(2**WINDOW, np.uint64)
    for bits in range(2**WINDOW):
        window = np.uint64(bits << (64 - WINDOW))
        levels, used = [], 0
        while len(levels) < MANY:
            value, size = read_codeword(window << np.uint64(used), code)
            negative = take(window << np.uint64(used + size), 1)
            # -0 is malformed: leave it to the slow path, which reports errors.
            if not value or used + size + 1 > WINDOW or (negative and value == 1):
                break
            levels.append((1 - value if negative else value - 1) & 0xFF)
            used += size + 1
        entry = len(levels) << 56 | used << 48
        for slot, level in enumerate(levels):
            entry |= level << (8 * slot)
        table[bits] = entry
    return table


@compiled
def _put(words, index, held, have, bits, size):
    """Appends at most 33 bits to the fewer than 32 that are held."""
    # At most 64 bits: whatever is shifted out had been written before.
    held = held << np.uint64(size) | bits
    have += np.int64(size)
    if have >= 32:
        have -= 32
        words[index] = np.uint32(held >> np.uint64(have))
        index += 1
    return index, held, have


@compiled
def _put_level(words, index, held, have, level, code, singles):
    """Appends one level."""
    if -RADIUS <= level <= RADIUS:
        entry = singles[level + RADIUS]
        bits, size = entry >> np.uint64(8), entry & np.uint64(0xFF)
        return _put(words, index, held, have, bits=bits, size=size)
    bits, size = codeword(abs(np.int64(level)) + 1, code)
    index, held, have = _put(words, index, held, have, bits=bits, size=np.uint64(size))
    sign = np.uint64(level < 0)
    # A long codeword may leave a whole word held; this call writes it.
    index, held, have = _put(words, index, held, have, bits=sign, size=np.uint64(1))
    return index, held, have


@compiled
def _write(levels, limit, code, singles, pairs, words, held, have):
    """Appends levels to the `have` bits held; returns all bits, or an error code."""
    # With few bits, even pairs near 0 may exceed the limit: the slow path checks it.
    index, near = 0, min(NEAR, limit)
    for at in range(len(levels) // 2):
        one, two = np.int64(levels[2 * at]), np.int64(levels[2 * at + 1])
        if -near <= one < near and -near <= two < near:
            entry = pairs[np.uint64(2 * NEAR * (one + NEAR) + two + NEAR)]
            # `_put`, inlined: most pairs take this branch.
            held = held << (entry & np.uint64(0xFF)) | entry >> np.uint64(8)
            have += np.int64(entry & np.uint64(0xFF))
            if have >= 32:
                have -= 32
                words[index] = np.uint32(held >> np.uint64(have))
                index += 1
        else:
            for level in (one, two):
                if abs(level) > limit:
                    return OUT_OF_RANGE
                index, held, have = _put_level(
                    words, index, held, have, level=level, code=code, singles=singles
                )
    if len(levels) % 2:
        last = np.int64(levels[-1])
        if abs(last) > limit:
            return OUT_OF_RANGE
        index, held, have = _put_level(
            words, index, held, have, level=last, code=code, singles=singles
        )
    if have > 0:
        words[index] = np.uint32(held << np.uint64(32 - have))
    return 32 * index + have


@compiled
def _read(words, at, num_bits, limit, code, table, levels):
    """Fills levels from bit `at` on; returns their number, or an error code."""
    count = 0
    # A message does not tell M: its elements go on until its bits end (Algorithm 2).
    while at < num_bits:
        # Any 32 bits from here on lie within two words.
        word = at >> 5
        pair = np.uint64(words[word]) << np.uint64(32) | np.uint64(words[word + 1])
        window = pair << np.uint64(at & 31)
        entry = table[np.int64(window >> np.uint64(64 - WINDOW))]
        # A window that reaches past the end may show levels that are not there.
        if entry != 0 and at + WINDOW <= num_bits:
            # All slots are written, without a branch; `count` keeps the valid ones.
            for slot in range(MANY):
                byte = (entry >> np.uint64(8 * slot)) & np.uint64(0xFF)
                levels[count + slot] = np.int8(byte)
            count += np.int64(entry >> np.uint64(56))
            at += np.int64((entry >> np.uint64(48)) & np.uint64(0xFF))
            continue
        value, size = read_codeword(window, code)
        at += size
        if value == 0 or value - 1 > limit:
            return MALFORMED
        if at >= num_bits:
            return TRUNCATED
        negative = (words[at >> 5] >> np.uint32(31 - (at & 31))) & np.uint32(1)
        if negative and value == 1:
            return MALFORMED
        levels[count] = 1 - value if negative else value - 1
        count += 1
        at += 1
    return count


def write(norm: int, bits: int, levels: np.ndarray, code: int) -> tuple[bytes, int]:
    """Encodes the message of a layer.

    Args:
      norm: the 32 bits of the norm.
      bits: b.
      levels: `[M]` int32.
      code: OMEGA, GAMMA or DELTA of `codewords`.

    Returns:
      Its bytes, and the number of valid bits among them.

    Raises:
      ValueError: if a level is larger than 2^b.
    """
    longest = codeword(2**bits + 1, code)[1] + 1
    # Room for the norm, b, a last word in part, and every level at its longest.
    words = np.empty(3 + longest * len(levels) // 32, np.uint32)
    words[0] = norm
    header, size = codeword(bits, code)
    singles, pairs = _writing_tables(code)
    count = _write(
        levels,
        limit=2**bits,
        code=code,
        singles=singles,
        pairs=pairs,
        words=words[1:],
        held=header,
        have=size,
    )
    if count == OUT_OF_RANGE:
        raise InputError(f"bits={bits}: expected levels in -{2**bits}..{2**bits}.")
    num_bits = 32 + count
    data = words[: -(-num_bits // 32)].astype(">u4").tobytes()
    return data[: -(-num_bits // 8)], num_bits


def read(data: bytes, num_bits: int, code: int) -> tuple[int, int, np.ndarray]:
    """Decodes the message of a layer; the inverse of `write`.

    Args:
      data: the message's bytes.
      num_bits: the number of valid bits.
      code: OMEGA, GAMMA or DELTA of `codewords`.

    Returns:
      The 32 bits of the norm, b, and the levels `[M]` int32.

    Raises:
      ValueError: if this is no message.
    """
    # A word more than the message has: the last window reads two.
    words = np.frombuffer(data + bytes(8 - len(data) % 4), ">u4").astype(np.uint32)
    header = int(words[1]) << 32 if len(words) > 1 else 0
    bits, size = read_codeword(np.uint64(header), code)
    start = 32 + size
    if not 1 <= bits <= 16 or start > num_bits:
        raise InputError("the message does not start with a norm and 1 to 16 bits.")
    # An element has two bits at least; a lookup writes MANY slots, also at the end.
    levels = np.empty((num_bits - start) // 2 + MANY, np.int32)
    count = _read(
        words,
        start,
        num_bits,
        limit=2**bits,
        code=code,
        table=_reading_table(code),
        levels=levels,
    )
    if count == TRUNCATED:
        raise InputError("the message ends in the middle of an element.")
    levels = levels[: max(count, 0)]
    # The table ignores the limit of b, but holds only levels far below RADIUS.
    if count == MALFORMED or (2**bits < RADIUS and (abs(levels) > 2**bits).any()):
        raise InputError(
            "the message holds no codeword of a level where one should be."
        )
    return int(words[0]), int(bits), levels
