"""What the numbers in an update of FedSL's clients take, layer by layer."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression.pruning import kept_in_each
from fedjax_sl.configs.run_config import FedSLRun, Run
from fedjax_sl.fedsl.config import settings_of
from fedjax_sl.fedsl.period_end import number_bits
from fedjax_sl.fedsl.quantizer import coded_bits
from fedjax_sl.records.checkpoint import Arrays


class UpdateBits(NamedTuple):
    """Bits of the numbers that clients send of each layer; norms and masks apart.

    Attributes:
      layers: names of the U layers of a client.
      bits: `[K, U]`, of the clients that take part.
      widths: `[K]` bits that each number takes.
    """

    layers: Sequence[str]
    bits: np.ndarray
    widths: np.ndarray


def _fields(arrays: Arrays, field: str) -> Arrays:
    start = f"{field}/"
    return {
        name.removeprefix(start): array
        for name, array in arrays.items()
        if name.startswith(start)
    }


def update_bits(arrays: Arrays, config: Run) -> UpdateBits | None:
    """Bits of the update of the period that a checkpoint was kept in, or after.

    As many numbers are sent of a tensor as the client's mask keeps.

    Args:
      arrays: of the checkpoint, by name; none if there is none.
      config: of the run.

    Returns:
      The bits; None if no updates are sent, if none was yet, or if every tensor chooses
      a width of its own, which a checkpoint does not tell.
    """
    if not isinstance(config, FedSLRun) or not arrays or arrays["round"] < 1:
        return None
    method = config.method
    if method.client_update == "relay" or method.quantizer_error is not None:
        return None
    takes_part = arrays["weights"] > 0
    settings = settings_of(method, jnp.asarray(arrays["client_id"][takes_part]))
    widths = np.asarray(coded_bits(method, number_bits(method, settings)), np.int64)
    masks, tensors = _fields(arrays, "mask"), _fields(arrays, "anchor")
    mask = {
        name: masks[name][takes_part] if name in masks else None for name in tensors
    }
    kept = jax.vmap(kept_in_each, in_axes=(0, None))(mask, tensors)
    layers = sorted({name.split("/")[0] for name in tensors})
    entries = [
        sum(
            np.asarray(n, np.int64)
            for name, n in kept.items()
            if name.split("/")[0] == layer
        )
        for layer in layers
    ]
    bits = widths[:, None] * np.stack(entries, axis=1)
    return UpdateBits(layers, bits, widths)
