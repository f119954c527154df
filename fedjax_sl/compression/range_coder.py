"""A range coder: groups of codes as the digits of one number, in compiled loops.

The coder keeps an interval of 64 bits, and narrows it to the part of each group in turn
(Martin 1979); the message is a number in the last interval. The interval is at least
2^32 wide before each group.
"""

import numpy as np

from fedjax_sl.compression.compiled import compiled
from fedjax_sl.compression.range_model import PRECISION, WHOLE
from fedjax_sl.errors import InputError


@compiled
def _carry(words, at):
    """Adds 1 to the words before `at`."""
    at -= 1
    while words[at] == np.uint32(0xFFFFFFFF):
        words[at] = np.uint32(0)
        at -= 1
    words[at] += np.uint32(1)


@compiled
def _write(codes, low, table, words, num_bits):
    """Writes the groups of codes in exactly `num_bits` bits."""
    start, span = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)
    at = 0
    for index in range(len(codes)):
        entry = np.uint64(table[((np.int64(codes[index]) - 1) >> low) + 1])
        # At least 2^16, as the interval is at least 2^32 wide: no part is empty.
        step = span >> np.uint64(16)
        before = start
        start += step * (entry >> np.uint64(16))
        # The sum passed 2^64: the carry goes into words that are written already.
        if start < before:
            _carry(words, at)
        span = step * (entry & np.uint64(0xFFFF))
        if span < np.uint64(1 << 32):
            words[at] = np.uint32(start >> np.uint64(32))
            at += 1
            start <<= np.uint64(32)
            span <<= np.uint64(32)
    # Rounded up to so many bits: any continuation of them lies in the interval.
    kept = num_bits - 32 * at
    if kept < 64:
        tail = (np.uint64(1) << np.uint64(64 - kept)) - np.uint64(1)
        before = start
        start += tail
        if start < before:
            _carry(words, at)
        start &= ~tail
    words[at] = np.uint32(start >> np.uint64(32))
    words[at + 1] = np.uint32(start & np.uint64(0xFFFFFFFF))


@compiled
def _read(words, group_at, table, groups):
    """Fills groups; returns whether all are there."""
    at, span = 2, np.uint64(0xFFFFFFFFFFFFFFFF)
    offset = np.uint64(words[0]) << np.uint64(32) | np.uint64(words[1])
    for index in range(len(groups)):
        step = span >> np.uint64(16)
        place = offset // step
        # What dividing by 2^16 leaves over is no group's: no encoder ends there.
        if place >= np.uint64(WHOLE):
            return False
        group = group_at[np.int64(place)]
        entry = np.uint64(table[group])
        offset -= step * (entry >> np.uint64(16))
        span = step * (entry & np.uint64(0xFFFF))
        if span < np.uint64(1 << 32):
            # Past its end a message is 0; `words` has none beyond that.
            word = words[at] if at < len(words) else np.uint32(0)
            at += 1
            offset = offset << np.uint64(32) | np.uint64(word)
            span <<= np.uint64(32)
        groups[index] = group
    return True


@compiled
def _write_low(codes, low, words):
    """Writes the low bits of the codes above 0; returns the number of bits."""
    held, have, at = np.uint64(0), 0, 0
    ones = (np.int64(1) << low) - 1
    for index in range(len(codes)):
        code = np.int64(codes[index])
        if code > 0:
            # Fewer than 32 bits are pending: what is shifted out was written before.
            held = held << np.uint64(low) | np.uint64((code - 1) & ones)
            have += low
            if have >= 32:
                have -= 32
                words[at] = np.uint32(held >> np.uint64(have))
                at += 1
    if have > 0:
        words[at] = np.uint32(held << np.uint64(32 - have))
    return 32 * at + have


@compiled
def _read_low(flags, low, codes):
    """Replaces groups by codes."""
    at = 0
    for index in range(len(codes)):
        if codes[index] > 0:
            value = 0
            for place in range(low):
                value = 2 * value + flags[at + place]
            codes[index] = ((codes[index] - 1) << low) + 1 + value
            at += low


@compiled
def _count(codes, low, count):
    """Adds the codes of each group."""
    for index in range(len(codes)):
        count[((np.int64(codes[index]) - 1) >> low) + 1] += 1


def _table(frequency: np.ndarray) -> np.ndarray:
    """The part of each group: its start and its length, 16 bits each."""
    starts = np.cumsum(frequency) - frequency
    return (starts.astype(np.uint32) << PRECISION) | frequency.astype(np.uint32)


def _bits_of(words: np.ndarray, num_bits: int) -> np.ndarray:
    """The first bits of words, `[num_bits]` uint8."""
    return np.unpackbits(words.astype(">u4").view(np.uint8), count=num_bits)


def group_counts(codes: np.ndarray, low: int, size: int) -> np.ndarray:
    """Counts the codes of each group.

    Args:
      codes: `[n]` int32, of groups below `size`.
      low: j.
      size: number of groups.

    Returns:
      `[size]` int32.
    """
    count = np.zeros(size, np.int32)
    _count(codes, low, count)
    return count


def write_groups(
    codes: np.ndarray, low: int, frequency: np.ndarray, *, num_bits: int
) -> np.ndarray:
    """Writes the group of each code.

    Args:
      codes: `[n]` int32.
      low: j.
      frequency: `[G]` of each group, 2^16 in all.
      num_bits: as `range_model.coded_bits` says.

    Returns:
      `[num_bits]` uint8 flags.
    """
    if not num_bits:
        return np.zeros(0, np.uint8)
    words = np.zeros(num_bits // 32 + 3, np.uint32)
    _write(codes, low, _table(frequency), words, num_bits=num_bits)
    return _bits_of(words, num_bits)


def read_groups(flags: np.ndarray, frequency: np.ndarray, number: int) -> np.ndarray:
    """Inverts `write_groups`.

    Args:
      flags: that begin with the groups; any bits may follow.
      frequency: `[G]` of each group, 2^16 in all.
      number: n.

    Returns:
      `[n]` int32.

    Raises:
      ValueError: if these are no groups.
    """
    group_at = np.repeat(np.arange(len(frequency), dtype=np.int32), frequency)
    # One group alone takes no bits, and 2^16 would not fit into the table's 16.
    if frequency.max() == WHOLE:
        return np.full(number, group_at[0], np.int32)
    data = np.packbits(flags).tobytes()
    # Whole words, and two more: reading begins with two of them.
    words = np.frombuffer(data + bytes(8 + -len(data) % 4), ">u4").astype(np.uint32)
    groups = np.empty(number, np.int32)
    if not _read(words, group_at, _table(frequency), groups):
        raise InputError("the message holds no group of codes where one should be.")
    return groups


def write_low(codes: np.ndarray, low: int) -> np.ndarray:
    """Writes the j low bits of c - 1 of each code c above 0, as flags."""
    if not low:
        return np.zeros(0, np.uint8)
    words = np.zeros(len(codes) * low // 32 + 2, np.uint32)
    return _bits_of(words, _write_low(codes, low, words))


def read_low(flags: np.ndarray, low: int, groups: np.ndarray) -> np.ndarray:
    """Inverts `write_low`.

    Args:
      flags: that end with the low bits.
      low: j.
      groups: `[n]`, of each code.

    Returns:
      `[n]` int64 codes.

    Raises:
      ValueError: if there are fewer bits.
    """
    number = low * int(np.count_nonzero(groups))
    if number > len(flags):
        raise InputError("the message ends before its last code.")
    codes = groups.astype(np.int64)
    _read_low(flags[len(flags) - number :], low, codes)
    return codes
