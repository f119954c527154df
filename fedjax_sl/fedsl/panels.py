"""Panels of a report on a FedSL run, from its last checkpoint."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression.pruning import kept_in_each
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.message import number_bits
from fedjax_sl.fedsl.quantizer import coded_bits
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.method_spec import LastCheckpoint, LayerBars


class UpdateBits(NamedTuple):
    """Bits of the values that clients send of each layer, without side information.

    Attributes:
      layers: names of the U layers of a client.
      bits: `[K, U]`, of the clients that participate.
      widths: `[K]` bits per value.
    """

    layers: Sequence[str]
    bits: np.ndarray
    widths: np.ndarray


def _fields(arrays: dict[str, np.ndarray], field: str) -> dict[str, np.ndarray]:
    start = f"{field}/"
    return {
        name.removeprefix(start): array
        for name, array in arrays.items()
        if name.startswith(start)
    }


def update_bits(arrays: dict[str, np.ndarray], config: FedSLRun) -> UpdateBits | None:
    """Counts the bits of the update of a checkpoint's period, or of the one it ended.

    A client sends as many values of a tensor as its mask keeps.

    Args:
      arrays: of the checkpoint, by name; none if there is none.
      config: of the run.

    Returns:
      The bits; None if no updates are sent, if none was sent yet, or if a checkpoint
      does not tell: of tensors with their own bit allocation or message, and of classes
      of devices that hold different layers.
    """
    if not arrays or arrays["round"] < 1:
        return None
    method = config.method
    if method.client_update != "parallel" or method.quantizer_error is not None:
        return None
    if len(np.unique(config.model.cut)) > 1:
        return None
    if method.updates.active or (method.gradients.active and method.interval == 1):
        return None
    present = arrays["weights"] > 0
    per_client = client_configs(method, jnp.asarray(arrays["client_id"][present]))
    # In 64 bits: widths times entries may exceed int32.
    widths = np.asarray(coded_bits(method, number_bits(method, per_client)), np.int64)
    masks, tensors = _fields(arrays, "mask"), _fields(arrays, "anchor")
    mask = {name: masks[name][present] if name in masks else None for name in tensors}
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


def kept(seen: LastCheckpoint) -> LayerBars | None:
    """Share of each client kernel that is kept, `[K, U]`, of those that participate."""
    if len(np.unique(seen.config.model.cut)) > 1:
        # What a client does not hold it does not keep either.
        return None
    masks = _fields(seen.arrays, "mask")
    # Who is absent has the mask of nothing that was trained.
    present = seen.arrays["weights"] > 0 if masks else np.zeros(0, bool)
    if not present.any():
        return None
    shares = {
        name: mask[present].reshape(present.sum(), -1).mean(axis=1)
        for name, mask in sorted(masks.items())
        if name.endswith("/kernel")
    }
    stages = [name.split("/")[0] for name in shares]
    # A stage of several kernels has a bar for each.
    layers = [
        stage if stages.count(stage) == 1 else name.removesuffix("/kernel")
        for name, stage in zip(shares, stages, strict=True)
    ]
    if not shares:
        return None
    return LayerBars(
        name="kept",
        heading="Unpruned share of each layer",
        alt="Bars: share of each client kernel that is kept at the end, by layer.",
        axis="share of kernel kept",
        layers=layers,
        parts={"kept": np.array(list(shares.values())).T},
    )


def update(seen: LastCheckpoint) -> LayerBars | None:
    """Bits of the values in an update by layer, `[K, U]`."""
    sent = update_bits(seen.arrays, seen.config)
    if sent is None:
        return None
    total, widths = 1e-3 * sent.bits.sum(axis=1).mean(), np.unique(sent.widths)
    return LayerBars(
        name="update",
        heading="Bits of an update",
        alt="Bars: bits of the values in a client's update, by layer; all together "
        f"{total:.4g} kbit, the mean over clients.",
        axis="values of an update, kbit",
        layers=sent.layers,
        parts={"values": 1e-3 * sent.bits},
        caption=f"Entries kept, of {' or '.join(map(str, widths))} bits each, as sent "
        f"with the masks of the last checkpoint (round {seen.arrays['round']}); norms "
        "and masks come on top. Lines span the clients.",
    )
