"""Axes of arrays that index the same thing, such as the channels between two layers.

An axis is a tuple of parts, major to minor: a reshape from `[H, D]` to `[H D]` makes
one axis of two parts, and a flattened image has parts for its rows, its columns and its
channels. Parts are parts of *atoms*; each axis of a parameter begins as an atom of its
own, and arrays that meet entry by entry make one atom of two.
"""

import math
from typing import NamedTuple


class Part(NamedTuple):
    """Digit `index // stride % size` of an atom's index.

    Attributes:
      atom: its number; None for an axis of equal entries, which fits any other.
      stride: of the digit.
      size: number of its values.
    """

    atom: int | None
    stride: int
    size: int


Axis = tuple[Part, ...]
"""Parts, major to minor; none for an axis of size 1."""


def free(size: int) -> Axis:
    """An axis along which all entries are equal."""
    return () if size == 1 else (Part(None, 1, size),)


def size_of(axis: Axis) -> int:
    """Returns the number of entries along an axis."""
    return math.prod(part.size for part in axis)


def _split(part: Part, low: int) -> tuple[Part, Part]:
    """Splits a part in two digits, the minor one of `low` values."""
    atom, stride, size = part
    return Part(atom, stride * low, size // low), Part(atom, stride, low)


def joined_parts(axis: Axis) -> Axis:
    """Writes neighbouring digits of one atom as one."""
    whole: list[Part] = []
    for part in axis:
        last = whole[-1] if whole else None
        # Two digits are one only if the major one counts full cycles of the minor.
        adjacent = last and (
            last.atom == part.atom
            and (part.atom is None or last.stride == part.stride * part.size)
        )
        if last and adjacent:
            whole[-1] = Part(part.atom, part.stride, last.size * part.size)
        else:
            whole.append(part)
    return tuple(whole)


def regrouped(parts: list[Part], sizes: tuple[int, ...]) -> list[Axis] | None:
    """Distributes parts over axes of other sizes; None if a boundary divides none."""
    rest, axes = list(parts), []
    for size in sizes:
        axis: list[Part] = []
        # An axis of size 1 has no parts, and takes none from its neighbours.
        while size > 1:
            part = rest.pop(0)
            # A part reaches past this axis: its major digit is here, the rest next.
            if part.size > size and part.size % size == 0:
                part, low = _split(part, part.size // size)
                rest.insert(0, low)
            if size % part.size:
                return None
            axis.append(part)
            size //= part.size
        axes.append(joined_parts(tuple(axis)))
    return axes


class Atoms:
    """Which atoms are the same, and which must stay as they are."""

    def __init__(self):
        self._sizes: list[int] = []
        self._same: dict[int, Axis] = {}
        self._fixed: set[int] = set()

    def new(self, size: int, *, fixed: bool = False) -> Axis:
        """Returns an axis of a new atom; nothing of a fixed one may be removed."""
        if size == 1:
            return ()
        atom = len(self._sizes)
        self._sizes.append(size)
        if fixed:
            self._fixed.add(atom)
        return (Part(atom, 1, size),)

    def _whole(self, axis: Axis) -> int | None:
        """Returns the atom that an axis is all of, if it is."""
        if len(axis) != 1:
            return None
        # A digit is not all of its atom: several channels have the same.
        atom, _, size = axis[0]
        return atom if atom is not None and size == self._sizes[atom] else None

    def resolve(self, axis: Axis) -> Axis:
        """Writes an axis in atoms that are the same as no other."""
        found: list[Part] = []
        for part in axis:
            same = self._same.get(part.atom) if part.atom is not None else None
            if same is None:
                found.append(part)
                continue
            size = size_of(same)
            # The digit between those above and those below it.
            sizes = (size // (part.stride * part.size), part.size, part.stride)
            digits = regrouped(list(self.resolve(same)), sizes)
            # The digit ends within a part of what is the same: neither may be removed.
            if digits is None:
                self.fix(same)
                found.extend(self.new(part.size, fixed=True))
            else:
                found.extend(digits[1])
        return joined_parts(tuple(found))

    def fix(self, *axes: Axis) -> None:
        """Keeps whatever these axes are parts of."""
        for axis in axes:
            for part in self.resolve(axis):
                if part.atom is not None:
                    self._fixed.add(part.atom)

    def group(self, axis: Axis) -> int | None:
        """Returns the atom that an axis is all of, if its entries may be removed."""
        atom = self._whole(self.resolve(axis))
        return None if atom in self._fixed else atom

    def is_fixed(self, atom: int) -> bool:
        """Returns whether nothing of an atom may be removed."""
        return atom in self._fixed

    def size(self, atom: int) -> int:
        """Returns the number of entries of an atom."""
        return self._sizes[atom]

    def _make_same(self, atom: int, axis: Axis) -> None:
        # What is fixed stays so under its new name.
        if atom in self._fixed:
            self.fix(axis)
        self._same[atom] = axis

    def join(self, one: Axis, other: Axis) -> Axis:
        """Makes two axes of equal size one, as where arrays are added.

        Returns:
          The axis of the result.
        """
        one, other = self.resolve(one), self.resolve(other)
        # An axis of size 1 broadcasts against the other, and says nothing of it.
        if one == other or not other:
            return one
        for this, that in ((one, other), (other, one)):
            # Equal entries fit any axis, whose channels may still be removed.
            if all(part.atom is None for part in this):
                return that
            atom = self._whole(this)
            # Not where the other has parts of this atom: it would be made of itself.
            if atom is not None and all(part.atom not in (atom, None) for part in that):
                self._make_same(atom, that)
                return that
        return self._by_parts(one, other)

    def _by_parts(self, one: Axis, other: Axis) -> Axis:
        """Joins axes of which neither is all of an atom that the other lacks."""
        sizes, rest = [], (list(one), list(other))
        while rest[0]:
            # Both are split at the same places, major digits first, and so pair up.
            size = min(side[0].size for side in rest)
            # Without common digits nothing of either axis may be removed.
            if any(side[0].size % size for side in rest):
                self.fix(one, other)
                return one
            for side in rest:
                part = side.pop(0)
                if part.size > size:
                    side.insert(0, _split(part, part.size // size)[1])
            sizes.append(size)
        pairs = zip(
            regrouped(list(one), tuple(sizes)) or (),
            regrouped(list(other), tuple(sizes)) or (),
            strict=True,
        )
        return joined_parts(tuple(self._one_part(a[0], b[0]) for a, b in pairs))

    def _one_part(self, one: Part, other: Part) -> Part:
        """Joins two digits; those of two atoms only if they are the same digit."""
        # A digit before them may have made their atoms one.
        (one, *more), (other, *others) = self.resolve((one,)), self.resolve((other,))
        if more or others:
            self.fix((one, *more), (other, *others))
            return one
        if one.atom == other.atom and one.stride == other.stride:
            return one
        if one.atom is None or other.atom is None:
            return other if one.atom is None else one
        # Then the atoms agree in every digit, and one may stand for the other.
        alike = (
            one.atom != other.atom
            and one.stride == other.stride
            and self._sizes[one.atom] == self._sizes[other.atom]
        )
        if not alike:
            self.fix((one,), (other,))
            return one
        self._make_same(other.atom, (Part(one.atom, 1, self._sizes[one.atom]),))
        return one
