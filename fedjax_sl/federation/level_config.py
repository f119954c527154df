"""Options of levels of quantisation that adapt to time and to clients (DAdaQuant)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedjax_sl.checks import check, check_types, is_plain
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.qsgd import levels_of_bits, most_levels
from fedjax_sl.config_base import Integer, Number, pytree, static
from fedjax_sl.errors import InputError


Adapt = Literal["none", "time", "client", "both"]

OF_TIME = ("start", "most", "smoothing", "patience")
"""Options of levels that adapt to time."""


@pytree
@dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """Levels of the quantised updates, by round and by client (DAdaQuant)."""

    adapt: Adapt = static("none")
    """As updates.bits says; time, the server doubles the levels when the loss stalls;
    client, clients with more examples get more levels at the same variance; or both."""

    start: Integer = 1
    """q_min, levels between 0 and the norm in the first round, >= 1."""

    most: Integer = 1024
    """q_max, levels at which they stop to double, >= q_min."""

    smoothing: Number = 0.9
    """psi, share of the old loss in the running average of the cohort's loss, in
    [0, 1)."""

    # Static: it is the length of an array of the state.
    patience: int = static(10)
    """phi, rounds over which the smoothed loss has to fall, >= 1; the levels stay as
    long at least."""

    @property
    def active(self) -> bool:
        """Whether levels are other than updates.bits says."""
        return self.adapt != "none"

    @property
    def of_time(self) -> bool:
        """Whether levels depend on the loss."""
        return self.adapt in ("time", "both")

    @property
    def of_clients(self) -> bool:
        """Whether levels differ by the clients' weights."""
        return self.adapt in ("client", "both")

    @property
    def idle(self) -> tuple[str, ...]:
        """Options without effect."""
        return () if self.of_time else OF_TIME

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        check_types(self)
        for name in ("start", "patience"):
            check(self, name, lambda v: v >= 1, "at least 1")
        check(self, "smoothing", lambda v: 0 <= v < 1, "a number in [0, 1)")
        if isinstance(self.start, int):
            least = self.start
            check(self, "most", lambda v: v >= least, f"at least start={least}")


def check_levels(config: Any) -> None:
    """Rejects levels that adapt where nothing has levels, or where they have no use.

    Args:
      config: of a method, with `levels`, `updates`, and how updates are averaged.

    Raises:
      ValueError: naming the option.
    """
    levels, updates = config.levels, config.updates
    if not levels.active:
        return
    if updates.kind != "qsgd":
        raise InputError(
            f"updates.kind={updates.kind!r}: expected 'qsgd' with levels.adapt="
            f"{levels.adapt!r}, which sets its levels."
        )
    if levels.of_clients and config.client_weight != "examples":
        raise InputError(
            f"client_weight={config.client_weight!r}: expected 'examples' with "
            f"levels.adapt={levels.adapt!r}, as clients of one weight have one level."
        )
    if levels.of_clients and config.trim is not None:
        raise InputError(
            f"trim={config.trim}: expected none with levels.adapt={levels.adapt!r}, "
            "as a trimmed mean weighs all clients alike."
        )
    if levels.of_time and config.noise_multiplier is not None:
        raise InputError(
            f"levels.adapt={levels.adapt!r} with noise_multiplier: expected 'none' or "
            "'client', as clients would report losses, for which `privacy` does not "
            "account."
        )
    limit = most_levels(updates.coder)
    if levels.of_time and isinstance(levels.most, int) and levels.most > limit:
        raise InputError(
            f"levels.most={levels.most}: expected at most {limit} with updates.coder="
            f"{updates.coder!r}."
        )


def one_level(updates: CompressorConfig, levels: LevelConfig) -> tuple[str, ...]:
    """Returns a warning of feedback where updates have, or may come to, one level.

    Of one level, as of TernGrad, which is refused, errors may be larger than what is
    sent.

    Args:
      updates: their compressor; of numbers that are traced there is nothing to say.
      levels: that adapt.
    """
    stochastic = updates.kind == "qsgd" and updates.rounding == "stochastic"
    if updates.feedback == "none" or not stochastic:
        return ()
    if levels.of_clients:
        said, least = f"levels.adapt={levels.adapt!r} may give clients", 1
    elif levels.of_time:
        said, least = f"levels.start={levels.start} gives clients", levels.start
    else:
        said = f"updates.bits={updates.bits} with coder={updates.coder!r} gives clients"
        least = updates.bits if is_plain(updates.bits) else 0
        least = least and min(levels_of_bits(b, updates.coder) for b in np.ravel(least))
    if not is_plain(least) or least != 1:
        return ()
    return (
        f"{said} one level: with updates.feedback={updates.feedback!r} errors may be "
        "larger than what is sent, and add up",
    )
