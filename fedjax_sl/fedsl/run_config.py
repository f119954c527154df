"""The configuration of a run of FedSL."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from fedjax_sl.analysis.phases import Sequential
from fedjax_sl.config_base import IntegerPerClass
from fedjax_sl.configs.network_config import ImageKind, NetworkConfig
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.config_checks import LINKS
from fedjax_sl.fedsl.own_models import check_everyone
from fedjax_sl.fedsl.usual_rates import usual_rates
from fedjax_sl.models.network import Network
from fedjax_sl.models.registry import Name
from fedjax_sl.models.vgg import Depth


OF_PRUNING = (
    *("prune_start", "prune_end", "prune_shape", "granularity", "importance"),
    *("thin_cut", "scoring"),
    *("prune_scope", "mask_scope", "restore", "average_over", "charge_scoring"),
)
OF_DROPOUT = ("rescale", "dropout_per")
OF_QUANTIZATION = (
    *("quantizer_norm", "quantizer_levels", "quantizer_error"),
    "rounding",
)


NetworkName = Literal["vgg", Name]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(NetworkConfig):
    """The network and where it is cut."""

    name: NetworkName = "vgg"
    """A VGG, of `depth` layers or as many as it is named after; a ResNet, a vision
    transformer for 32 x 32 pixels, the simple CNN of NIID-Bench, or a perceptron of two
    hidden layers."""

    depth: Depth = 11
    """Layers of `vgg`."""

    cut: IntegerPerClass = 4
    """L_c, client layers, of all or by class; `cost fedsl`."""

    tail: int = 0
    """Last layers, which the client holds, too, with the loss and the labels; 0 leaves
    them to the server, who then receives the labels."""

    width: float = 0.25
    """Factor on every number of channels, > 0; 1 is the published network."""

    @property
    def _registered(self) -> str:
        return f"vgg{self.depth}" if self.name == "vgg" else self.name

    def resolved(self) -> "ModelConfig":
        """Fills in the hash of a file; equal cuts of all classes are one cut.

        A VGG is named by its depth in one field: folders have always had both.
        """
        config = super().resolved()
        if (depth := config.name.removeprefix("vgg")).isdecimal():
            config = dataclasses.replace(config, name="vgg", depth=int(depth))
        if isinstance(config.cut, tuple) and len(set(config.cut)) == 1:
            return dataclasses.replace(config, cut=config.cut[0])
        return config

    @property
    def title(self) -> str:
        """Display name, with a width other than 1."""
        return self.title_of(self._registered)

    def uncut(self, image: ImageKind) -> Network:
        """Builds the network for images of a kind."""
        return self.build(self._registered, image)

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields without effect in this configuration."""
        is_vgg = self.name == "vgg" and self.module is None
        return (*self.ignored(self._registered), *(() if is_vgg else ("depth",)))


@dataclass(frozen=True, kw_only=True)
class FedSLRun(RunConfig):
    """Lightweight federated split learning (FedSL) on one data set.

    A round is one mini-batch step of every client in the cohort.
    """

    algorithm: ClassVar[str] = "fedsl"
    # Folders written before these fields existed must resume as they began.
    before: ClassVar[dict[str, dict[str, Any]]] = {
        "method": {"scoring": "pass", "thin_cut": False}
    }
    in_title: ClassVar[tuple[str, ...]] = (
        *("server_update", "client_update", "backward"),
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    method: FedSLConfig = field(default_factory=FedSLConfig)
    rounds: int = 220
    batch_size: int = 16
    eval_every: int = 20

    @property
    def not_private(self) -> str:
        """What crosses the cut, or both cuts of a U-shaped network."""
        sent = "features, gradients" if self.model.tail else "labels, gradients"
        return (
            f"FedSL: of the clients' models where they are aggregated; activations, "
            f"{sent} at the cut and masks are sent unprotected, so that neither they "
            "nor the server's half are protected."
        )

    def __post_init__(self):
        """Checks what every run's configuration does, and who keeps a model."""
        super().__post_init__()
        check_everyone(self.method, self.data.num_clients)

    @property
    def title(self) -> str:
        """Display name of the method in this configuration."""
        method = self.method
        dropped = np.any(method.prune_ratio) or np.any(method.dropout_rate)
        whole = not (method.coded or method.compressed or dropped)
        own, sequential = method.client_update == "local", method.sequential
        if method.backward == "mean":
            name = "SFL-GA" if own else "SFL-GA, averaged"
        elif own:
            name = "sequential PSL" if sequential else "PSL"
        elif method.client_update == "relay":
            name = "split learning (relay)"
        elif sequential:
            name = "SplitFed v2"
        else:
            name = "SplitFed v1" if whole else "FedSL"
        if self.model.tail:
            name = f"U-shaped {name}"
        name = name if whole or "FedSL" in name else f"compressed {name}"
        step = method.aggregator
        return f"{name} with {step.title}" if step.active else name

    @property
    def network(self) -> str:
        """Display name of the network, with its width."""
        return self.model.title

    @property
    def sequential(self) -> Sequential:
        """The part of a round that clients run sequentially."""
        if self.method.client_update == "relay":
            return "visits"
        return "exchanges" if self.method.sequential else "nothing"

    @property
    def period(self) -> int:
        """I, rounds of a period, during which the cohort stays the same."""
        return self.method.interval

    @property
    def _sends_bitmaps(self) -> bool:
        """Whether it matters if the server can redraw random masks."""
        pruned_at_random = (
            np.any(self.method.prune_ratio) and self.method.importance == "random"
        )
        return bool(np.any(self.method.dropout_rate) or pruned_at_random)

    @property
    def idle(self) -> tuple[str, ...]:
        """Fields of the method without effect in this configuration."""
        method = self.method
        return (
            *(("momentum",) if method.optimizer == "adam" else ()),
            *(() if np.any(method.prune_ratio) else OF_PRUNING),
            *(() if method.scoring_pass else ("charge_scoring",)),
            *(() if method.importance == "taylor" else ("scoring",)),
            *(() if np.any(method.dropout_rate) else OF_DROPOUT),
            *(() if self._sends_bitmaps else ("dropout_mask",)),
            *(() if method.coded else OF_QUANTIZATION),
            *self._idle_bits,
            # The first step after the models are averaged starts from their mean.
            *(("proximal",) if method.interval == 1 else ()),
            *(
                f"{link}.{name}"
                for link in LINKS
                for name in getattr(method, link).idle
            ),
            *(f"levels.{name}" for name in method.levels.idle),
            *(("updates.bits",) if method.levels.of_time else ()),
            *(f"aggregator.{name}" for name in method.aggregator.idle),
            *(("server_update",) if method.client_update == "relay" else ()),
            *(() if method.client_update == "parallel" else ("upload_bits",)),
        )

    @property
    def _idle_bits(self) -> tuple[str, ...]:
        """Numbers of bits that a compressor takes the place of."""
        method = self.method
        updates, gradients = method.updates.active, method.gradients.active
        # With I = 1 the compressed gradient is the message, unless noise is added.
        noisy = bool(method.noise_multiplier)
        instead = gradients and method.interval == 1 and not noisy
        return (
            *(("grad_bits",) if gradients else ()),
            *(("upload_bits",) if updates or instead else ()),
            *(("bits",) if gradients and (updates or instead) else ()),
            *(("down_bits",) if method.cut_gradients.active else ()),
        )

    def _check_noise(self) -> None:
        """Rejects evaluations of models that are not privatized.

        Between two aggregations there is only the mean of the clients' own models.
        """
        noise, interval = self.method.noise_multiplier, self.method.interval
        for name in ("eval_every", "rounds"):
            rounds = getattr(self, name)
            if noise is not None and rounds % interval:
                raise InputError(
                    f"{name}={rounds} with noise_multiplier={noise}: expected a "
                    f"multiple of interval={interval}: only what is aggregated is "
                    "privatized, and may be evaluated."
                )

    def resolved(self) -> "FedSLRun":
        """Fills in the defaults: learning rates, and the end of the pruning ramp."""
        self._check_noise()
        method = self.method
        if method.learning_rate is None:
            client, server = usual_rates(method)
            apart = None if server == client else server
            method = dataclasses.replace(
                method, learning_rate=client, server_learning_rate=apart
            )
        if method.prune_end is None:
            # A ramp that begins later has no half of the run to rise in.
            half = max(self.rounds // 2, method.prune_start)
            method = dataclasses.replace(method, prune_end=half)
        return dataclasses.replace(self, method=method, model=self.model.resolved())
