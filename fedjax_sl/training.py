"""How clients train: learning rates over the rounds, weight decay and augmentation.

Methods inherit these options; a method's own step asks for its batch and its rate here.
"""

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Batch, Examples
from fedjax_sl.checks import check
from fedjax_sl.config_base import Integer, Number, UpdateConfig, static
from fedjax_sl.data.augmentation import Padding, augmented
from fedjax_sl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(UpdateConfig):
    """Options of the local steps that any method's clients may take."""

    warmup_rounds: Integer = 0
    """Rounds over which learning rates rise linearly to their value, >= 0."""

    cosine_rounds: Integer = 0
    """Rounds over which a cosine takes learning rates to 0, warm-up included; 0 keeps
    them."""

    weight_decay: Number | None = None
    """lambda, >= 0: a step also takes away the rate times lambda of each weight, but
    not of norms and biases (decoupled, as in AdamW); none if not given."""

    crop_pixels: int = static(0)
    """Pad training images by so many pixels and crop them at random, >= 0."""

    crop_padding: Padding = static("reflect")
    """Pad with the reflected image, or with zeros."""

    flip: bool = static(False)
    """Mirror every other training image left to right, at random."""

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        super().__post_init__()
        for name in ("warmup_rounds", "cosine_rounds"):
            check(self, name, lambda v: v >= 0, "a number of rounds, at least 0")
        warmup, cosine = self.warmup_rounds, self.cosine_rounds
        # Traced numbers cannot be compared: `rate_factor` guards its division instead.
        plain = isinstance(warmup, Integral) and isinstance(cosine, Integral)
        if plain and 0 < int(cosine) <= int(warmup):
            raise InputError(
                f"cosine_rounds={cosine}: expected more than warmup_rounds={warmup}, "
                "which are of them."
            )
        check(self, "weight_decay", lambda v: 0 <= v < float("inf"), "a number >= 0")
        check(self, "crop_pixels", lambda v: v >= 0, "a number of pixels, at least 0")


def rate_factor(config: TrainingConfig, round: Any) -> jax.Array:
    """Factor on the learning rates in round t: warm-up, then half a cosine down to 0.

    `(t + 1) / W` while t < W, then `(1 + cos(pi min((t - W) / (T - W), 1))) / 2`, or 1
    if T = 0, with W warm-up rounds of T cosine rounds.

    Args:
      config: W and T, which may be traced.
      round: [] t.

    Returns:
      [] float.
    """
    # A sweep traces these numbers, so 0 is a branch of `where`, not of `if`.
    warmup = jnp.asarray(config.warmup_rounds, float)
    length = jnp.asarray(config.cosine_rounds, float)
    past = jnp.maximum(round - warmup, 0.0)
    # The guard is for T = 0, where the cosine is computed, but not selected.
    progress = jnp.minimum(past / jnp.maximum(length - warmup, 1.0), 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    # t + 1: the first round would otherwise train nothing.
    rising = jnp.minimum((round + 1) / jnp.maximum(warmup, 1.0), 1.0)
    # Both are exactly 1 without options: constant rates keep their bits.
    return rising * jnp.where(length > 0, cosine, 1.0)


def batch_of(
    config: TrainingConfig,
    key: jax.Array,
    examples: Examples,
    index: jax.Array,
    *,
    weight: jax.Array,
) -> Batch:
    """Gathers a client's batch, augmented as configured.

    Args:
      config: crop and flip.
      key: of this client and epoch, or step, used here only; each example folds in its
        number.
      examples: n examples.
      index: `[B]` int32.
      weight: `[B]`, 0 for padding.

    Returns:
      A `Batch`, its images normalised.
    """
    return augmented(
        key,
        examples,
        index,
        weight,
        crop_pixels=config.crop_pixels,
        crop_padding=config.crop_padding,
        flip=config.flip,
    )
