"""ViT-Tiny and ViT-Small for small images, cut after any block of the encoder.

Patches of 4 x 4 pixels, learnt positions, norms before attention and MLP, and the mean
over all tokens at the end (Dosovitskiy et al., 2021; widths of Touvron et al., 2021).
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
from flax import linen as nn

from fedjax_sl.checks import check_choice
from fedjax_sl.errors import InputError
from fedjax_sl.models.network import Network, Stage
from fedjax_sl.models.options import Options


Size = Literal["tiny", "small"]

PATCH = 4
BLOCKS = 12
MLP_RATIO = 4


class Width(NamedTuple):
    """Units of a token, and heads of an attention."""

    units: int
    heads: int


WIDTHS = {"tiny": Width(192, 3), "small": Width(384, 6)}


class Patches(nn.Module):
    """A token for each patch, with its position."""

    units: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, Ch]` -> `[B, T, units]`."""
        side = (PATCH, PATCH)
        # Not `layers.conv`, whose kernels are odd and padded on all sides.
        x = nn.Conv(self.units, side, side, padding="VALID", name="conv")(x)
        tokens = x.reshape(x.shape[0], -1, self.units)
        normal = nn.initializers.normal(0.02)
        return tokens + self.param("position", normal, (1, *tokens.shape[1:]))


class EncoderBlock(nn.Module):
    """Attention and an MLP, each added to what comes in."""

    width: Width

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, units]` -> `[B, T, units]`."""
        units, heads = self.width
        y = nn.LayerNorm(name="norm1")(x)
        x += nn.MultiHeadDotProductAttention(heads, name="attention")(y)
        y = nn.LayerNorm(name="norm2")(x)
        y = nn.gelu(nn.Dense(MLP_RATIO * units, name="hidden")(y))
        return x + nn.Dense(units, name="out")(y)


class MeanHead(nn.Module):
    """Norm, mean over the tokens, and the logits."""

    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, T, units]` -> `[B, C]`."""
        x = nn.LayerNorm(name="norm")(x).mean(axis=1)
        return nn.Dense(self.num_classes, name="dense")(x)


def vit(size: Size = "tiny", options: Options | None = None) -> Network:
    """A vision transformer.

    Args:
      size: "tiny" or "small". A cut counts blocks of the encoder, 12 in all.
      options: of the network; it has no use for norm, lowering, precision and init.

    Returns:
      The `Network`.

    Raises:
      ValueError: if an argument lies outside its range.
    """
    check_choice("size", size, Size)
    options = options or Options()
    options.check_image(PATCH, "ViT needs")
    if any(side % PATCH for side in options.input_shape[:2]):
        raise InputError(
            f"input_shape={options.input_shape}: ViT needs sides that are multiples of "
            f"{PATCH} pixels."
        )
    units, heads = WIDTHS[size]
    # Units of a head are scaled, so that all heads stay.
    width = Width(heads * options.scaled(units // heads), heads)
    block = Stage(partial(EncoderBlock, width))
    stages = (
        # A cut counts blocks, of which the client has at least one.
        Stage(partial(Patches, width.units), layers=0, last_of_client=False),
        # One builder: its modules differ in the name that each stage is given.
        *[block] * BLOCKS,
        Stage(partial(MeanHead, options.num_classes)),
    )
    return Network(
        stages=stages,
        input_shape=options.input_shape,
        num_classes=options.num_classes,
    )
