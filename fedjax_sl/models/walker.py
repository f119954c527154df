"""Follows the axes of arrays through the operations of a traced program.

The rule of a primitive is the method of its name. What enters an operation that is not
known stays as it is.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend import core

from fedjax_sl.models.axes import Atoms, Axis, free, regrouped
from fedjax_sl.models.loops import macs_inside
from fedjax_sl.models.primitives import BRANCHING, ENTRY_BY_ENTRY, REDUCTIONS


Path = tuple[str, ...]
"""Of a leaf of a variable tree, such as `("params", "stage_00", "conv", "kernel")`."""


class Product(NamedTuple):
    """A matrix product or convolution.

    Attributes:
      macs: of one example.
      axes: of the channels of its factors and of its result.
      leaf: the variable that is one of its factors; None if both are computed.
      written: axes of that variable that index channels of the result.
    """

    macs: int
    axes: tuple[Axis, ...]
    leaf: Path | None = None
    written: tuple[Axis, ...] = ()


class Value(NamedTuple):
    """An array of the program.

    Attributes:
      axes: one for each dimension.
      leaf: the variable whose entries it holds, if they are those of one.
    """

    axes: tuple[Axis, ...]
    leaf: Path | None = None


class Walker:
    """Follows axes through equations: a primitive's rule is the method of its name."""

    def __init__(self):
        self.atoms = Atoms()
        self.products: list[Product] = []

    def opaque(self, shape: Iterable[int]) -> Value:
        """A result of which nothing is known."""
        return Value(tuple(self.atoms.new(size, fixed=True) for size in shape))

    def run(self, jaxpr: Any, inputs: Sequence[Value]) -> list[Value]:
        """Follows the axes of a program's inputs to its outputs."""
        known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))

        for constant in jaxpr.constvars:
            # Each of its entries may mean another channel.
            known[constant] = self.opaque(_shape(constant))

        def read(variable):
            if isinstance(variable, core.Literal):
                return self.opaque(_shape(variable))
            return known[variable]

        for equation in jaxpr.eqns:
            outputs = self._equation(equation, [read(v) for v in equation.invars])
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[Value]) -> list[Value]:
        inner = _called(equation)
        if inner is not None:
            return self.run(inner, given)
        name = equation.primitive.name
        named = "reduce" if name in REDUCTIONS else name
        rule: Callable | None = getattr(self, f"_{named}", None)
        if rule is not None:
            return [rule(equation, *given)]
        after = [v.aval.shape for v in equation.outvars]
        if name in ENTRY_BY_ENTRY:
            return [self._entry_by_entry(given, shape) for shape in after]
        if name in BRANCHING:
            # Nothing in it is pruned, but all of it is computed.
            self.products.append(Product(macs_inside(equation, Walker), ()))
        self.atoms.fix(*(axis for value in given for axis in value.axes))
        return [self.opaque(shape) for shape in after]

    def _entry_by_entry(self, given: list[Value], shape: tuple[int, ...]) -> Value:
        axes = [free(size) for size in shape]
        for value in given:
            # A scalar has no axes, and fits any shape.
            for n, axis in enumerate(value.axes):
                axes[n] = self.atoms.join(axes[n], axis)
        return Value(tuple(axes))

    def _reduce_sum(self, equation, given):
        # A pruned channel is 0, and adds nothing to a sum: no axis has to stay.
        return _without(given, equation.params["axes"])

    def _reduce(self, equation, given):
        gone = equation.params["axes"]
        self.atoms.fix(*(given.axes[n] for n in gone))
        return _without(given, gone)

    def _broadcast_in_dim(self, equation, given, *_):
        axes = [free(size) for size in equation.params["shape"]]
        to = equation.params["broadcast_dimensions"]
        for axis, n in zip(given.axes, to, strict=True):
            # An axis of size 1 becomes equal entries, which fit any channels.
            axes[n] = axis or axes[n]
        return Value(tuple(axes))

    def _reshape(self, equation, given):
        sizes = equation.params["new_sizes"]
        # Axes of a variable keep their own atoms: later it is asked which are written.
        resolve = tuple if given.leaf else self.atoms.resolve
        parts = [part for axis in given.axes for part in resolve(axis)]
        axes = regrouped(parts, sizes)
        if axes is None:
            self.atoms.fix(*given.axes)
            return self.opaque(sizes)
        return Value(tuple(axes), given.leaf)

    def _transpose(self, equation, given):
        order = equation.params["permutation"]
        return Value(tuple(given.axes[n] for n in order), given.leaf)

    def _squeeze(self, equation, given):
        return _without(given, equation.params["dimensions"])

    def _convert_element_type(self, equation, given):
        # Rounded to bf16, a kernel is still that variable, and can be pruned.
        return given

    def _slice(self, equation, given):
        before, after = (v[0].aval.shape for v in (equation.invars, equation.outvars))
        whole = [m == n for m, n in zip(before, after, strict=True)]
        return self._where(whole, given, after)

    def _pad(self, equation, given, _):
        whole = [not any(edges) for edges in equation.params["padding_config"]]
        return self._where(whole, given, equation.outvars[0].aval.shape)

    def _windows(self, equation, given, *_):
        before, after = (v[0].aval.shape for v in (equation.invars, equation.outvars))
        windows = equation.params["window_dimensions"]
        # With a stride a window of one entry leaves some out.
        sizes = zip(windows, before, after, strict=True)
        whole = [window == 1 and m == n for window, m, n in sizes]
        return self._where(whole, given, after)

    _reduce_window = _reduce_window_max = _reduce_window_sum = _windows

    def _where(self, whole: Sequence[bool], given: Value, shape: Sequence[int]):
        """Keeps whole axes; nothing is known of those that an operation changes."""
        axes = []
        for kept, axis, size in zip(whole, given.axes, shape, strict=True):
            if not kept:
                self.atoms.fix(axis)
                axis = self.atoms.new(size, fixed=True)
            axes.append(axis)
        return Value(tuple(axes))

    def _concatenate(self, equation, *given):
        shape, along = equation.outvars[0].aval.shape, equation.params["dimension"]
        whole = [n != along for n in range(len(shape))]
        values = [self._where(whole, value, shape) for value in given]
        return self._entry_by_entry(values, shape)

    def _dot_general(self, equation, left, right):
        contract, batch = equation.params["dimension_numbers"]

        def joined(pairs):
            return tuple(
                self.atoms.join(left.axes[a], right.axes[b])
                for a, b in zip(*pairs, strict=True)
            )

        summed, shared = joined(contract), joined(batch)
        own = [
            _without(value, (*gone, *both)).axes
            for value, gone, both in zip((left, right), contract, batch, strict=True)
        ]
        lhs, out = equation.invars[0].aval, equation.outvars[0].aval
        macs = out.size * math.prod(lhs.shape[n] for n in contract[0])
        axes = (*shared, *own[0], *own[1])
        self._multiply((left, right), own, macs=macs, axes=(*axes, *summed))
        return Value(axes)

    def _conv_general_dilated(self, equation, image, kernel):
        params, shape = equation.params, equation.outvars[0].aval.shape
        lhs, rhs, out = params["dimension_numbers"]
        sizes = equation.invars[1].aval.shape
        read, written = image.axes[lhs[1]], kernel.axes[rhs[0]]
        own = ((), (written,))
        inputs = equation.invars[0].aval.shape[lhs[1]]
        if params["feature_group_count"] == params["batch_group_count"] == 1:
            read = self.atoms.join(read, kernel.axes[rhs[1]])
        elif sizes[rhs[0]] == params["feature_group_count"] == inputs:
            # Each channel has a filter of its own.
            read = written = self.atoms.join(read, written)
        else:
            self.atoms.fix(read, written)
        macs = math.prod(shape) * math.prod(sizes[n] for n in rhs[1:])
        # Between the pixels of a transposed convolution there are only zeros.
        macs //= math.prod(params["lhs_dilation"])
        self._multiply((image, kernel), own, macs=macs, axes=(read, written))
        # Rows and columns stay: a pixel of the output mixes several of the input.
        axes = list(self.opaque(shape).axes)
        axes[out[0]], axes[out[1]] = image.axes[lhs[0]], written
        return Value(tuple(axes))

    def _multiply(self, factors, own, *, macs, axes) -> None:
        """Adds a product of a variable, or of two arrays that are computed."""
        for factor, written in zip(factors, own, strict=True):
            if factor.leaf is not None:
                self.products.append(Product(macs, axes, factor.leaf, written))
                return
        self.products.append(Product(macs, axes))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _without(value: Value, gone: Sequence[int]) -> Value:
    kept = tuple(axis for n, axis in enumerate(value.axes) if n not in gone)
    return Value(kept, value.leaf)


def _called(equation: Any) -> Any:
    """The program of an operation that only calls it, such as a gradient's own."""
    # What a loop carries, or a branch returns, would have to be joined: it stays.
    if equation.primitive.name in BRANCHING:
        return None
    found = [v for v in equation.params.values() if hasattr(v, "eqns")]
    if len(found) != 1 or len(found[0].in_avals) != len(equation.invars):
        return None
    return getattr(found[0], "jaxpr", found[0])
