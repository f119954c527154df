"""Named configurations of FedSL: its default, and recipes that converge on CIFAR-10.

Methods that are compared share network, data, rounds and recipe, and differ in nothing
but what makes them another method; a side that takes ten steps in a round takes
smaller ones.
"""

from typing import Any

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.configs.data_config import DataConfig
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.run_config import FedSLRun, ModelConfig
from fedjax_sl.method_spec import Preset


ROUNDS = 9360
"""30 passes over 50,000 images by ten clients with 16 each."""

RECIPE: dict[str, Any] = dict(
    learning_rate=0.05,
    weight_decay=5e-4,
    warmup_rounds=300,
    cosine_rounds=ROUNDS,
    crop_pixels=4,
    flip=True,
)

NOTHING: dict[str, Any] = dict(prune_ratio=0.0, bits=FLOAT_BITS, dropout_rate=0.0)
"""Neither pruned, nor quantised, nor dropped."""


CODED_ACTIVATIONS = CompressorConfig(
    kind="uniform", bits=4, rounding="nearest", coder="range"
)

# Beside coded activations, updates of 8 fixed bits would be most of the uplink.
CODED_UPDATES = CompressorConfig(kind="qsgd", bits=5, coder="range")


def _on_cifar10(**method: Any) -> FedSLRun:
    return FedSLRun(
        data=DataConfig(name="cifar10"),
        model=ModelConfig(depth=11, width=0.25, cut=4),
        method=FedSLConfig(**RECIPE | method),
        rounds=ROUNDS,
        eval_every=780,
    )


PRESETS = {
    "fedsl": Preset(FedSLRun(), "lightweight federated split learning"),
    "cifar10-fedsl": Preset(_on_cifar10(), "the same on CIFAR-10 until it converges"),
    "splitfed-v1": Preset(_on_cifar10(**NOTHING), "the recipe for SplitFed v1"),
    "splitfed-v1-coded": Preset(
        _on_cifar10(**NOTHING, activations=CODED_ACTIVATIONS, updates=CODED_UPDATES),
        "the same, range-coded",
    ),
    "splitfed-v2": Preset(
        _on_cifar10(**NOTHING, server_update="sequential", server_learning_rate=0.005),
        "the recipe for SplitFed v2",
    ),
    "split-learning": Preset(
        _on_cifar10(**NOTHING, client_update="relay", learning_rate=0.005),
        "the recipe for split learning by relay",
    ),
}
