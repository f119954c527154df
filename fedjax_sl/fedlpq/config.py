"""Configuration of FedLP-Q, with units and ranges."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.checks import check, is_plain
from fedjax_sl.compression.coding import MAX_BITS, Code
from fedjax_sl.compression.layers import Unit
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compression.rounding import Rounding
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.config_base import (
    IntegerPerClass,
    Number,
    OptimizerName,
    PerClass,
    per_client,
    pytree,
    static,
)
from fedjax_sl.errors import InputError
from fedjax_sl.federation.aggregation import ClientWeight
from fedjax_sl.federation.aggregator_config import AggregatorConfig
from fedjax_sl.federation.level_config import LevelConfig, check_levels
from fedjax_sl.federation.model_down import check_models
from fedjax_sl.federation.residuals import check_feedback
from fedjax_sl.training import TrainingConfig


Preference = Literal["1", "3", "5", "u"]

MessageCode = Literal[Code, "range"]

Head = Literal["kept", "reset"]


@pytree
@dataclass(frozen=True, kw_only=True)
class FedLPQConfig(TrainingConfig):
    """Configuration of FedLP-Q (Entropy 2023, 25, 1205).

    Probabilities and bits may be given as several values, one for each class of
    devices: of G values, client k has number k mod G.
    """

    cohort_size: int = static(10)
    """K, clients that participate in a round."""

    local_epochs: int = static(1)
    """E, epochs over its own examples that a client trains in a round, >= 1."""

    # With Adam, as in the code of FedLP's authors.
    learning_rate: Number = 1e-3
    """eta, of the clients' local steps, >= 0."""

    momentum: Number = 0.5
    """Momentum of SGD, in [0, 1); Adam ignores it."""

    optimizer: OptimizerName = static("adam")
    """Optimiser of the local steps, re-initialised in every round."""

    control_variates: bool = static(False)
    """Correct each gradient of a client by g - c_k + c, the control variates of
    SCAFFOLD: for SGD, float32 updates and one network for all."""

    # A drop rate by name in FedLP's own code, which keeps a layer with it, too.
    keep_probability: PerClass | None = None
    """p, probability that a client sends a layer that it trained, in (0, 1]; if not
    given, 0.5 if all train the whole network and 1 with a preference for sub-models."""

    preference: Preference | None = static(None)
    """Clients of fixed complexity 1 to 5: 1, 3 or 5 with probability 0.6 and each other
    with 0.1, or u, all equally likely; if not given, all train the whole network."""

    # Kept, unlike in the authors' code: a head that is reset begins anew each round.
    head: Head = static("kept")
    """The private head of a client with a smaller network is kept on the client from
    round to round, or re-initialised in every round, as in the authors' code; it then
    takes no memory."""

    # Published losses are 0.1 to 2.6 points at b = 10, and 6 to 18 at b = 8.
    bits: IntegerPerClass = 10
    """b, 2^b levels between 0 and a layer's 2-norm, in 1..16; 32 is float32."""

    # Alone unbiased; which rounding the paper's interval index stands for is open.
    rounding: Rounding = static("stochastic")
    """Round an entry up or down at random, so that it is unbiased; to the nearest
    level; to the level below; or that, rebuilt as the middle of its interval."""

    # Which Elias code the paper has is unknown; omega is the one of QSGD.
    code: MessageCode = static("omega")
    """Code of the messages: an Elias code; or range, a range code, which is about as
    short as the entropy of a layer's levels."""

    updates: CompressorConfig = CompressorConfig()
    """Compressor of each layer that is sent, in place of bits, rounding and code."""

    levels: LevelConfig = LevelConfig()
    """Levels of the updates, by round and by client."""

    models: CompressorConfig = CompressorConfig()
    """Compressor of each layer that the server sends."""

    aggregator: AggregatorConfig = AggregatorConfig()
    """Step from the mean of the clients' networks to the next one."""

    # What the paper calls a layer is reconstructed: kernel and bias of a module are
    # skipped, quantised by one norm and coded together.
    unit: Unit = static("module")
    """Unit that counts as a layer: a module, a block of the network, or a tensor."""

    # Equal, as in the code of FedLP's authors.
    client_weight: ClientWeight = static("equal")
    """omega_k: equal for every client, or proportional to its examples."""

    charge_statistics: bool = static(True)
    """Count the norm statistics that are sent, in float32, with their layer."""

    @property
    def code_name(self) -> str:
        """The code in words."""
        return "range code" if self.code == "range" else f"Elias {self.code}"

    @property
    def coded(self) -> bool:
        """Whether values are sent otherwise than as float32; not for traced bits."""
        return self.updates.active or bool(np.min(self.bits) < FLOAT_BITS)

    def __post_init__(self):
        """Checks choices and plain numbers; traced values pass."""
        super().__post_init__()
        check(self, "keep_probability", lambda v: 0 < v <= 1, "a number in (0, 1]")
        check(self, "momentum", lambda v: 0 <= v < 1, "a number in [0, 1)")
        for name in ("cohort_size", "local_epochs"):
            check(self, name, lambda v: v >= 1, "at least 1")
        # Tensors sent one by one would let statistics go alone, which the record counts
        # as side information: `privacy` would miss them.
        if self.noise_multiplier is not None and self.unit == "tensor":
            raise InputError(
                "unit='tensor' with noise_multiplier: expected 'module' or 'block', so "
                "that norm statistics are sent with their layer."
            )
        for name in ("updates", "models"):
            if getattr(self, name).kind == "power_sgd":
                raise InputError(
                    f"{name}.kind='power_sgd': expected a compressor of vectors, as a "
                    "layer here is one vector."
                )
        check_feedback(self.updates, self.noise_multiplier)
        if self.control_variates:
            _check_control(self)
        check_levels(self)
        check_models(self.models)
        check(self, "learning_rate", lambda v: 0 <= v < float("inf"), "a number >= 0")
        check(
            self,
            "bits",
            lambda v: 1 <= v <= MAX_BITS or v == FLOAT_BITS,
            f"1 to {MAX_BITS} bits, or {FLOAT_BITS} for float32",
        )


def _check_control(config: FedLPQConfig) -> None:
    """Rejects options with which control variates do not do what they are for."""
    coded = "a control takes on the errors of coded updates and multiplies them"
    wanted = {
        "optimizer": ("sgd", "the update of another is no sum of gradients"),
        "preference": (None, "what a client has for itself has no mean"),
        "bits": (FLOAT_BITS, coded),
        "client_weight": ("equal", "controls take any weights out of the mean again"),
        "trim": (None, "with controls all updates come to be equal"),
        "noise_multiplier": (
            None,
            "a control carries rounds in which a client was drawn into later ones",
        ),
    }
    for name, (expected, why) in wanted.items():
        value = getattr(config, name)
        each = value if isinstance(value, tuple) else (value,)
        # Other bits are traced in a sweep, whose points were checked one by one.
        if any(one != expected for one in each if expected is None or is_plain(one)):
            raise InputError(
                f"{name}={value!r} with control_variates: expected {expected!r}, as "
                f"{why}."
            )
    if config.updates.active:
        raise InputError(
            f"updates.kind={config.updates.kind!r} with control_variates: expected "
            f"'float32', as {coded}."
        )


# With u uniform the cost columns of the published table come out.
PREFERENCES = {
    "1": (0.6, 0.1, 0.1, 0.1, 0.1),
    "3": (0.1, 0.1, 0.6, 0.1, 0.1),
    "5": (0.1, 0.1, 0.1, 0.1, 0.6),
    "u": (0.2, 0.2, 0.2, 0.2, 0.2),
}
"""Probabilities of the complexities 1 to 5."""


class ClientConfigs(NamedTuple):
    """Per-client parameters, `[K]` each."""

    keep_probability: jax.Array
    bits: jax.Array
    updates: CompressorConfig


def usual_keep_probability(config: FedLPQConfig):
    """Returns the keep probability p, as configured or by default."""
    if config.keep_probability is not None:
        return config.keep_probability
    # A sub-model is a choice of layers already: by default all of them are sent.
    return 0.5 if config.preference is None else 1.0


def client_configs(config: FedLPQConfig, client_id: jax.Array) -> ClientConfigs:
    """Looks up the parameters of each client of a cohort, `[K]`."""
    keep = usual_keep_probability(config)
    return ClientConfigs(
        keep_probability=per_client(keep, client_id, jnp.float32),
        bits=per_client(config.bits, client_id, jnp.int32),
        updates=config.updates.of_clients(client_id),
    )
