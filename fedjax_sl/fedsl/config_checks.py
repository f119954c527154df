"""Checks of options of FedSL that exclude each other."""

from typing import Any

import numpy as np

from fedjax_sl.checks import check
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.errors import InputError
from fedjax_sl.federation.level_config import check_levels
from fedjax_sl.federation.model_down import check_models
from fedjax_sl.federation.residuals import check_feedback


LINKS = {
    "activations": None,
    "cut_gradients": "down_bits",
    "features": None,
    "feature_gradients": None,
    "gradients": "grad_bits",
    "updates": "upload_bits",
    "models": None,
}
"""What may have a compressor, and the bits of the quantiser whose place it takes."""

AT_CUTS = ("activations", "cut_gradients", "features", "feature_gradients")
"""Of these, the links of a single step."""

OF_THE_MEAN = {"updates": "float32", "models": "float32", "aggregator": "average"}
"""What codes or takes the mean of the clients' updates, and the kind without effect."""


def check_numbers(config: Any) -> None:
    """Rejects plain numbers out of range; traced values pass.

    Args:
      config: a `FedSLConfig`.

    Raises:
      ValueError: naming the option.
    """
    for name in ("prune_ratio", "dropout_rate", "momentum"):
        check(config, name, lambda v: 0 <= v < 1, "a number in [0, 1)")
    for name in ("bits", "grad_bits", "upload_bits", "down_bits"):
        check(config, name, lambda v: 2 <= v <= 32, "2 to 32 bits")
    for name in ("interval", "cohort_size"):
        check(config, name, lambda v: v >= 1, "at least 1")
    for name in ("prune_start", "prune_end"):
        check(config, name, lambda v: v >= 0, "a number of rounds, at least 0")
    check(config, "quantizer_error", lambda v: 0 < v < float("inf"), "a number > 0")
    for name in ("learning_rate", "server_learning_rate"):
        check(config, name, lambda v: 0 <= v < float("inf"), "a number >= 0")


def check_links(config: Any) -> None:
    """Rejects a compressor where something else codes the same values.

    Args:
      config: a `FedSLConfig`.

    Raises:
      ValueError: naming the option.
    """
    for name, bits in LINKS.items():
        compressor = getattr(config, name)
        if compressor.active:
            _check_pass(config, name, compressor)
            if bits is not None:
                _check_bits(name, compressor, bits, getattr(config, bits))
        if name not in ("updates", "models") and compressor.feedback != "none":
            raise InputError(
                f"{name}.feedback={compressor.feedback!r}: expected 'none', as they "
                "are of another mini-batch each time; updates and models may have it."
            )
    check_feedback(config.updates, config.noise_multiplier)
    check_levels(config)
    check_models(config.models)
    ratio = config.prune_ratio
    # An array or a traced ratio may be anything: it is taken to prune.
    prunes = not isinstance(ratio, int | float | tuple) or bool(np.any(ratio))
    if config.models.active and prunes and not config.restore:
        raise InputError(
            f"models.kind={config.models.kind!r}: expected 'float32' with "
            "restore=False, where what arrives as 0 would be pruned."
        )


def _check_pass(config: Any, name: str, compressor: CompressorConfig) -> None:
    """Rejects a compressor at the cut with a scoring pass, which sends float32."""
    if name in AT_CUTS and config.scoring_pass:
        raise InputError(
            f"{name}.kind={compressor.kind!r}: expected 'float32' with scoring='pass', "
            "which sends activations and gradients as they are."
        )


def _check_bits(name: str, compressor: CompressorConfig, bits: str, given: Any) -> None:
    """Rejects bits of the quantiser that a compressor takes the place of."""
    # None follows `bits`, which is of other links, too, and not in vain.
    if isinstance(given, int | tuple) and np.min(given) < FLOAT_BITS:
        raise InputError(
            f"{bits}={given}: expected {FLOAT_BITS} with {name}.kind="
            f"{compressor.kind!r}, which takes their place."
        )


NO_MEAN = {"relay": "which hands on whole models", "local": "which sends no models"}
"""Updates of the clients' models without a mean of them, and why there is none."""


def check_no_mean(config: Any) -> None:
    """Rejects options of the mean of updates where none is computed.

    Args:
      config: a `FedSLConfig`.

    Raises:
      ValueError: naming the option.
    """
    how = config.client_update
    if how not in NO_MEAN:
        return
    why, names = NO_MEAN[how], ["proximal", "noise_multiplier", "clip_norm", "trim"]
    if how == "local":
        # A relay judges by it what it hands on; own models are never sent.
        names.append("max_update_norm")
    for name in names:
        if getattr(config, name) is not None:
            raise InputError(
                f"{name}={getattr(config, name)}: expected none with "
                f"client_update={how!r}, {why}."
            )
    for name, usual in OF_THE_MEAN.items():
        if getattr(config, name).active:
            raise InputError(
                f"{name}.kind={getattr(config, name).kind!r}: expected {usual!r} with "
                f"client_update={how!r}, {why}."
            )
    if config.average_over == "keepers":
        raise InputError(
            f"average_over='keepers': expected 'all' with client_update={how!r}, "
            f"{why} and averages none."
        )
    if how == "local" and config.mask_scope == "common":
        raise InputError(
            "mask_scope='common': expected 'per_client' with client_update='local', "
            "as clients' models differ and so do their scores."
        )


def check_aggregator(config: Any) -> None:
    """Rejects a step along a mean of which it is not known what it started from.

    Args:
      config: a `FedSLConfig`.

    Raises:
      ValueError: naming the option.
    """
    # A trimmed mean is of other clients in each entry, and hard pruning makes them
    # start from different values.
    if config.aggregator.active and config.trim is not None and not config.restore:
        raise InputError(
            f"trim={config.trim}: expected none with restore=False and "
            f"aggregator.kind={config.aggregator.kind!r}."
        )


def check_shared_gradient(config: Any) -> None:
    """Rejects what one gradient for all clients cannot be combined with.

    Args:
      config: a `FedSLConfig`.

    Raises:
      ValueError: naming the option.
    """
    if config.backward == "own":
        return
    refused = {
        "server_update='sequential': expected 'merged'": (
            config.server_update == "sequential"
        ),
        "client_update='relay': expected 'parallel' or 'local'": (
            config.client_update == "relay"
        ),
        "scoring='pass': expected 'running'": config.scoring_pass,
        f"cut_gradients.kind={config.cut_gradients.kind!r}: expected 'float32'": (
            config.cut_gradients.active
        ),
        f"down_bits={config.down_bits}: expected one number": (
            isinstance(config.down_bits, tuple)
        ),
    }
    for said, found in refused.items():
        if found:
            raise InputError(
                f"{said} with backward='mean', where one message goes to all clients."
            )
