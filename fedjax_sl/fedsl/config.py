"""What can be chosen of federated split learning, with units and ranges.

Numbers are leaves of the configuration, so that they can be swept without compiling
again; what changes shapes or code is static.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp


Number = Any
"""A plain number, an array, or a traced value."""

SPAN = {
    "prune_ratio": (0.0, 1.0),
    "dropout_rate": (0.0, 1.0),
    "bits": (2, 32),
    "grad_bits": (2, 32),
    "upload_bits": (2, 32),
    "down_bits": (2, 32),
}
"""Allowed ranges; a ratio or rate of 1 would leave nothing and is refused too."""

AT_LEAST = {
    "interval": 1,
    "prune_start": 0,
    "prune_end": 0,
    "cosine_rounds": 0,
    "learning_rate": 0,
    "server_learning_rate": 0,
    "momentum": 0,
    "cohort_size": 1,
}


def _static(default: Any) -> Any:
    return field(default=default, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class FedSLConfig:
    """Settings of FedSL (arXiv 2412.06414).

    Where a number may differ between device classes, an array with one value for each
    of the N clients is accepted in place of the number.
    """

    cohort_size: int = _static(10)
    """K, clients that take part between two aggregations."""

    interval: Number = 5
    """I, rounds between two aggregations of the client models, >= 1."""

    learning_rate: Number = 0.05
    """gamma, of the clients and, unless set apart, of the server, >= 0."""

    server_learning_rate: Number | None = None
    """Learning rate of the server; as the clients' if not given."""

    momentum: Number = 0.9
    """Momentum of SGD on both sides, in [0, 1); Adam ignores it."""

    optimizer: Literal["sgd", "adam"] = _static("sgd")
    """Optimiser on both sides of the cut."""

    cosine_rounds: Number = 0
    """Rounds over which a cosine takes both learning rates to 0; 0 keeps them."""

    prune_ratio: Number = 0.35
    """rho_f, final share of each client kernel that is pruned, in [0, 1)."""

    prune_start: Number = 0
    """t_0, round at which the pruning ratio starts to grow."""

    prune_end: Number = 0
    """t_1, round at which it reaches its final value."""

    prune_shape: Literal["cubic", "linear", "constant"] = _static("cubic")
    """How the ratio grows in between."""

    granularity: Literal["filter", "weight"] = _static("filter")
    """Prune whole output filters, or single weights."""

    importance: Literal["taylor", "magnitude", "random"] = _static("taylor")
    """Score: (gradient x weight)^2, absolute weight, or a random draw."""

    prune_scope: Literal["layer", "global"] = _static("layer")
    """Rank within each kernel, or over all client kernels together."""

    mask_scope: Literal["per_client", "common"] = _static("per_client")
    """Each client its own mask, or one from the scores averaged over clients."""

    restore: bool = _static(True)
    """Pruned weights keep their value and compete again; if not, they become 0."""

    average_over: Literal["all", "keepers"] = _static("all")
    """Average each entry over all clients, or over those that had kept it."""

    bits: Number = 8
    """b, bits of a quantised number, sign included, in 2..32; 32 is float32."""

    grad_bits: Number | None = None
    """Bits of the client's gradient in its local step; `bits` if not given."""

    upload_bits: Number | None = None
    """Bits of the client's uploaded update; `bits` if not given."""

    down_bits: Number = 32
    """Bits of the gradients sent back at the cut, in 2..32."""

    quantizer_norm: Literal["max", "l2"] = _static("max")
    """What a quantised tensor is scaled by."""

    quantizer_levels: Literal["2^(b-1)-1", "2^b-1", "2^b"] = _static("2^(b-1)-1")
    """s, intervals between 0 and the norm."""

    dropout_rate: Number = 0.2
    """p, share of the activations dropped at the cut, in [0, 1)."""

    rescale: bool = _static(True)
    """Divide the activations that remain by 1 - p."""

    dropout_per: Literal["element", "channel"] = _static("element")
    """Drop single activations or whole channels of an example."""

    dropout_mask: Literal["shared_key", "bitmap"] = _static("shared_key")
    """The server redraws the mask from a shared key, or is sent one bit an entry."""

    charge_scoring: bool = _static(True)
    """Count what the pass that scores weights sends over the cut."""

    client_weight: Literal["equal", "examples"] = _static("equal")
    """omega_k: every client the same, or in proportion to its examples."""

    server_update: Literal["merged", "sequential"] = _static("merged")
    """One server step on all clients' activations, or one step after each client."""

    client_update: Literal["parallel", "relay"] = _static("parallel")
    """Clients act side by side, or hand one client model from each to the next."""

    def __post_init__(self):
        """Checks what can be checked: plain numbers, not traced values."""
        for name, (low, high) in SPAN.items():
            value = getattr(self, name)
            if not _is_plain(value):
                continue
            if name in ("prune_ratio", "dropout_rate") and not low <= value < high:
                raise ValueError(f"{name}={value}: expected a number in [0, 1).")
            if not low <= value <= high:
                raise ValueError(f"{name}={value}: expected {low} to {high} bits.")
        for name, low in AT_LEAST.items():
            value = getattr(self, name)
            if _is_plain(value) and not value >= low:
                raise ValueError(f"{name}={value}: expected a number >= {low}.")
        if _is_plain(self.momentum) and not self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: expected a number in [0, 1).")


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float)


class Settings(NamedTuple):
    """The numbers that may differ between clients, one of each per client, `[K]`."""

    prune_ratio: jax.Array
    grad_bits: jax.Array
    upload_bits: jax.Array
    down_bits: jax.Array
    dropout_rate: jax.Array


def settings_of(config: FedSLConfig, client_id: jax.Array) -> Settings:
    """The numbers that hold for the clients of a cohort.

    Args:
      config: the configuration.
      client_id: `[K]`.

    Returns:
      Settings, each `[K]`; bits as int32.
    """

    def per_client(value, dtype=jnp.float32):
        value = jnp.asarray(value, dtype)
        if value.ndim == 0:
            return jnp.broadcast_to(value, client_id.shape)
        return jnp.take(value, client_id, mode="clip")

    def bits(value):
        return per_client(config.bits if value is None else value, jnp.int32)

    return Settings(
        prune_ratio=per_client(config.prune_ratio),
        grad_bits=bits(config.grad_bits),
        upload_bits=bits(config.upload_bits),
        down_bits=bits(config.down_bits),
        dropout_rate=per_client(config.dropout_rate),
    )


