"""Options of a compressor: its kind, and the numbers of every kind."""

import inspect
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro

from fedjax_sl.checks import check, check_choice, check_types
from fedjax_sl.compression.quantization import Norm
from fedjax_sl.compression.rounding import Rounding
from fedjax_sl.compressors import Compressor, compressor_names, compressors
from fedjax_sl.compressors.error_feedback import ef21, error_feedback
from fedjax_sl.compressors.qsgd import Coder, qsgd
from fedjax_sl.config_base import (
    IntegerPerClass,
    PerClass,
    per_client,
    pytree,
    static,
)
from fedjax_sl.errors import InputError


# Looked up when asked for: a program may add kinds of its own.
Kind = Annotated[str, tyro.conf.arg(constructor_factory=compressor_names)]


Feedback = Literal["none", "error", "ef21"]

SENDERS = {"none": lambda inner: inner, "error": error_feedback, "ef21": ef21}
"""What a sender does with what its messages leave out."""


@pytree
@dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """How the values on a link are compressed.

    Numbers may be given as several values, one for each class of devices.
    """

    kind: Kind = static("float32")
    """The compressor; float32 sends values as they are."""

    bits: IntegerPerClass = 8
    """Bits of a value: 2 to 24 (qsgd), 1 to 24 (uniform) or 1 to 8 (eden)."""

    keep: PerClass = 0.1
    """Share of the values that top_k, rand_top_k and random_k send, in (0, 1]."""

    explore: PerClass = 0.1
    """alpha, probability of rand_top_k to draw another than one of the largest values,
    in [0, 1]."""

    values: Kind = static("float32")
    """Compressor of the values that top_k, rand_top_k and random_k send."""

    rank: int = static(4)
    """Rank of the matrices of power_sgd, >= 1."""

    norm: Norm = static("max")
    """Scale of qsgd: the largest magnitude or the 2-norm."""

    rounding: Rounding = static("stochastic")
    """How qsgd and uniform round a value that is between two levels."""

    coder: Coder = static("fixed")
    """Code of the levels: of fixed width; rice, Golomb-Rice, shorter where small levels
    are common, of up to 12 bits; range, as short as their entropy; or, of qsgd, an
    Elias code."""

    feedback: Feedback = static("none")
    """What a message leaves out: lost; error, added to the next one (error feedback);
    or ef21, messages are differences to what both ends hold."""

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        check_types(self)
        for name in ("kind", "values"):
            check_choice(name, getattr(self, name), compressor_names())
        check(self, "keep", lambda v: 0 < v <= 1, "a number in (0, 1]")
        check(self, "explore", lambda v: 0 <= v <= 1, "a number in [0, 1]")
        check(self, "bits", lambda v: 1 <= v <= 24, "1 to 24 bits")
        self._check_feedback()
        if "values" in _options(self.values):
            raise InputError(
                f"values={self.values!r}: expected a compressor of every value."
            )
        # Each kind knows its own ranges, of every class of devices.
        for bits in self.bits if isinstance(self.bits, tuple) else (self.bits,):
            # Of the first class: they have one range for every kind, checked above.
            keep, explore = (
                value[0] if isinstance(value, tuple) else value
                for value in (self.keep, self.explore)
            )
            numbers = {"bits": bits, "keep": keep, "explore": explore}
            self._made(self.kind, numbers)

    def _check_feedback(self) -> None:
        """Rejects feedback of a compressor whose errors would add up."""
        for name in ("kind", "values"):
            used = name not in self.idle and getattr(self, name) == "terngrad"
            if self.feedback != "none" and used:
                raise InputError(
                    f"feedback={self.feedback!r} with {name}='terngrad': expected "
                    "'none', as its errors may be larger than what is sent, and would "
                    "add up."
                )

    @property
    def active(self) -> bool:
        """Whether values are sent otherwise than as they are."""
        return self.kind != "float32"

    @property
    def idle(self) -> tuple[str, ...]:
        """Options of other kinds, which have no effect."""
        own = _options(self.kind)
        inner = _options(self.values) if "values" in own else ()
        used = {"kind", *own, *inner}
        if self.active:
            # Where values are sent as they are, nothing is left to feed back.
            used.add("feedback")
        return tuple(name for name in self.__dataclass_fields__ if name not in used)

    def compressor(self, levels: Any = None) -> Compressor:
        """Returns the compressor with these options.

        Args:
          levels: s of qsgd, in place of its bits; may be traced.

        Raises:
          ValueError: if a number is out of its range.
        """
        if levels is None:
            return SENDERS[self.feedback](self._made(self.kind, {}))
        at_levels = qsgd(
            levels=levels, norm=self.norm, rounding=self.rounding, coder=self.coder
        )
        return SENDERS[self.feedback](at_levels)

    def said(self, levels: Any = None) -> str:
        """Says which options have an effect, and which levels they are given."""
        used = [name for name in self.__dataclass_fields__ if name not in self.idle]
        given = {} if levels is None else {"levels": levels}
        values = {name: getattr(self, name) for name in used} | given
        return ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in values.items()
        )

    def of_clients(self, client_id: jax.Array) -> "CompressorConfig":
        """Looks up the numbers of each client of a cohort, `[K]` each."""
        kinds = {"bits": jnp.int32, "keep": jnp.float32, "explore": jnp.float32}
        numbers = {
            name: per_client(getattr(self, name), client_id, kind)
            for name, kind in kinds.items()
        }
        return replace(self, **numbers)

    def _made(self, kind: str, numbers: dict[str, Any]) -> Compressor:
        """The compressor of a kind, with some numbers in place of those here."""
        options = {
            name: numbers.get(name, getattr(self, name)) for name in _options(kind)
        }
        if "values" in options:
            options["values"] = self._made(self.values, numbers)
        if kind == "random_k":
            # Feedback wants a contraction, which is not unbiased.
            options["unbiased"] = self.feedback == "none"
        try:
            return compressors()[kind](**options)
        except InputError as error:
            raise InputError(f"{kind}: {error}") from error


def _options(kind: str) -> tuple[str, ...]:
    """Arguments of a compressor that are fields here; others keep their defaults."""
    known = CompressorConfig.__dataclass_fields__
    wanted = inspect.signature(compressors()[kind]).parameters
    return tuple(name for name in wanted if name in known)
