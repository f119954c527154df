"""Argument checks. An error is one sentence with the name, value and allowed range."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from fedjax_sl.errors import InputError


# Says what is allowed, not what is not: NaN, never less nor greater, is refused.
Allowed = Callable[[Any], bool]


def check(config: Any, name: str, allowed: Allowed, range: str) -> None:
    """Rejects a field with plain numbers out of range; arrays and traced values pass.

    Raises:
      ValueError: naming the field, its value and the range.
    """
    value = getattr(config, name)
    # A tuple has a value for each class of devices.
    for number in value if isinstance(value, tuple) else (value,):
        # Arrays and tracers are not `Real`: their values are not looked at.
        if isinstance(number, Real) and not allowed(number):
            raise InputError(f"{name}={number}: expected {range}.")


def check_number(name: str, value: Any, allowed: Allowed, range: str) -> None:
    """Rejects a plain value that is not a number in the range; arrays pass.

    Raises:
      ValueError: naming it, its value and the range.
    """
    if is_plain(value) and not (_fits(value, float) and allowed(value)):
        raise InputError(f"{name}={value!r}: expected a number {range}.")


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Rejects a plain value that is not an integer in the range; arrays pass.

    Raises:
      ValueError: naming it, its value and the range.
    """
    if not is_plain(value):
        return
    if not _fits(value, int):
        raise InputError(f"{name}={value!r}: expected an integer.")
    if value < least or (most is not None and value > most):
        range = f"at least {least}" if most is None else f"{least} to {most}"
        raise InputError(f"{name}={value}: expected {range}.")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Rejects a value that is not among those of a `Literal`.

    Raises:
      ValueError: naming it, its value and the choices.
    """
    if not _fits(value, choices):
        raise InputError(f"{name}={value!r}: expected {_shown(choices)}.")


def check_types(config: Any) -> None:
    """Rejects fields whose values are not of their annotated types.

    For fields that are not static, arrays and traced values pass as numbers.

    Args:
      config: a dataclass.

    Raises:
      ValueError: naming the field, its value and what is allowed.
    """
    for name, (hint, static) in _annotations(type(config)).items():
        value = getattr(config, name)
        several = get_origin(hint) in (Union, UnionType)
        if several and isinstance(value, tuple) and not value:
            raise InputError(f"{name}=(): expected a value for each class of devices.")
        # A static field is never traced: an array there is a mistake.
        if not _fits(value, hint) and (static or is_plain(value)):
            raise InputError(f"{name}={value!r:.60}: expected {_shown(hint)}.")


# `get_type_hints` evaluates every annotation anew.
@cache
def _annotations(kind: type) -> dict[str, tuple[Any, bool]]:
    """Returns the type of each field of a dataclass, and whether it is static."""
    hints = get_type_hints(kind)
    return {
        f.name: (hints[f.name], f.metadata.get("static", False)) for f in fields(kind)
    }


def is_plain(value: Any) -> bool:
    """Whether a value is a plain Python value, not an array or a tracer."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return isinstance(value, Real | str | None)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; NumPy numbers are numbers, bools are not."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    # bool is a subclass of int, so True would pass for 1.
    flag = isinstance(value, bool | np.bool)
    # By type, too, since True and 1.0 equal 1.
    if kind is Literal:
        return any(isinstance(value, type(c)) and value == c for c in inner)
    if kind in (Union, UnionType):
        return any(_fits(value, option) for option in inner)
    if kind is tuple and isinstance(value, tuple):
        inner = inner[:1] * len(value) if Ellipsis in inner else inner
        return len(inner) == len(value) and all(map(_fits, value, inner))
    if kind in (int, float):
        # NumPy's scalars are registered as these; its integers are no int.
        number = Integral if kind is int else Real
        return isinstance(value, number) and not flag
    if kind is bool:
        return flag
    return kind is Any or isinstance(value, kind)


def _shown(hint: Any) -> str:
    """Names a type as in an error message."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is Literal:
        return f"one of {inner}"
    if kind in (Union, UnionType):
        return " or ".join(map(_shown, inner))
    if kind is tuple and Ellipsis in inner:
        return f"a tuple, each {_shown(inner[0])}"
    names = {int: "an integer", float: "a number", bool: "True or False"}
    names |= {str: "a text", NoneType: "None"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
