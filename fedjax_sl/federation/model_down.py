"""The model that the server sends: compressed once, for all clients alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compressors.compressor import Payload
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import compress_each, init_layers, send_each
from fedjax_sl.errors import InputError


class ModelDown(NamedTuple):
    """A model after it was sent.

    Attributes:
      tree: leaves `[...]`, as every client rebuilds it.
      messages: of each leaf, [] each, in the order of the leaves.
      residual: of the server; None without feedback.
    """

    tree: Any
    messages: list[Link]
    residual: Any


def check_models(models: CompressorConfig) -> None:
    """Rejects options that need to know what each client received before.

    Args:
      models: compressor of the model.

    Raises:
      ValueError: naming the option.
    """
    if models.feedback == "ef21":
        raise InputError(
            "models.feedback='ef21': expected 'none' or 'error', as clients that were "
            "not drawn lack the model that a difference refers to."
        )
    for name in ("bits", "keep", "explore"):
        if name not in models.idle and isinstance(getattr(models, name), tuple):
            raise InputError(
                f"models.{name}={getattr(models, name)}: expected one number, as all "
                "classes of devices receive the same message."
            )


def first_residual(models: CompressorConfig, tree: Any) -> Any:
    """Returns the server's residual before the first message; None without feedback."""
    if not models.active or models.feedback == "none":
        return None
    return init_layers(models.compressor(), tree)


def send_down(
    models: CompressorConfig, key: jax.Array, tree: Any, *, residual: Any
) -> ModelDown:
    """Sends the model by a compressor: w + e becomes C(w + e), and e the rest.

    Args:
      models: the compressor.
      key: of this round, used here only.
      tree: w, leaves `[...]`.
      residual: e, as from `first_residual`.

    Returns:
      The `ModelDown`.
    """
    how = models.compressor()
    # Dense, whatever the masks: these differ by client, and one message is for all.
    everything = jax.tree.map(lambda x: jnp.ones(x.shape, bool), tree)
    states = residual or init_layers(how, tree)
    sent = send_each(how, key, tree, everything, states=states)
    return ModelDown(
        tree=jax.tree.unflatten(jax.tree.structure(tree), [x.values for x in sent]),
        messages=[each.bits for each in sent],
        residual=None if residual is None else [each.state for each in sent],
    )


def compress_down(
    models: CompressorConfig, key: jax.Array, tree: Any, *, residual: Any
) -> list[Payload]:
    """Compresses the model as `send_down` does, whose arguments it takes."""
    how = models.compressor()
    everything = jax.tree.map(lambda x: jnp.ones(x.shape, bool), tree)
    states = residual or init_layers(how, tree)
    return compress_each(how, key, tree, everything, states=states)


def none_down(models: CompressorConfig) -> Link | None:
    """The message of a round in which no model is sent; None if it goes as it is."""
    # Of the structure of a message, as both branches of a cond return one.
    return Link.float32(jnp.int32(0)) if models.active else None
