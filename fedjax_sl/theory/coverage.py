"""Which runs of FedSL its theorem is about, and what of a run it leaves out."""

from typing import Any

import numpy as np

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.configs.run_config import FedSLRun
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl.config import usual_rates


def _named(config: Any, found: dict[str, bool]) -> list[str]:
    """Fields and their values, of those that were found."""
    return [
        f"{name}={getattr(config, name)!r}" for name, there in found.items() if there
    ]


def _another_method(config: FedSLRun) -> list[str]:
    """Settings that make it another algorithm than the theorem's."""
    method = config.method
    pruned = bool(np.any(np.asarray(method.prune_ratio) > 0))
    client, server = usual_rates(method)
    another = {
        "server_update": method.server_update != "merged",
        "client_update": method.client_update != "parallel",
        "optimizer": method.optimizer != "sgd",
        "cosine_rounds": method.cosine_rounds > 0,
        "server_learning_rate": server != client,
        "restore": pruned and not method.restore,
        "average_over": pruned and method.average_over != "all",
        "clip_norm": method.clip_norm is not None,
        "trim": method.trim is not None,
        "max_update_norm": method.max_update_norm is not None,
    }
    return _named(method, another) + _named(
        config, {"corruption_probability": config.corruption_probability > 0}
    )


def check_covered(config: FedSLRun) -> None:
    """Refuses what the theorem says nothing of.

    Raises:
      ValueError: naming the first setting of which it does not hold.
    """
    for setting in _another_method(config):
        raise InputError(
            f"{setting}: the bound is not of it, but of SGD at one constant rate on "
            "both sides of the cut, by all clients at the same time, pruned weights "
            "restored and updates averaged as they are."
        )


def left_out(config: FedSLRun) -> list[str]:
    """Settings of a run that the theorem leaves out of account, such as momentum."""
    method = config.method
    of_method = {
        "momentum": bool(np.any(np.asarray(method.momentum) > 0)),
        "cohort_size": method.cohort_size < config.data.num_clients,
        "client_weight": method.client_weight == "examples",
        "down_bits": bool(np.any(np.asarray(method.down_bits) < FLOAT_BITS)),
    }
    of_run = {
        "failure_probability": config.failure_probability > 0,
        "drop_late": config.drop_late,
    }
    return _named(method, of_method) + _named(config, of_run)


def said_of(settings: list[str]) -> str:
    """One sentence about what is left out, as from `left_out`; empty if nothing is."""
    if not settings:
        return ""
    return (
        "The theorem is of plain SGD by all clients in every round, and ignores "
        f"{', '.join(settings)}."
    )
