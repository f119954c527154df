"""Which runs of FedSL its theorem is about, and what of a run it leaves out."""

from typing import Any

import numpy as np

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.errors import InputError
from fedjax_sl.experiment.config import FedSLRun


def _named(found: dict[str, tuple[bool, Any]]) -> list[str]:
    return [f"{name}={value!r}" for name, (there, value) in found.items() if there]


def _another_method(config: FedSLRun) -> list[str]:
    """Settings that make it another algorithm than the theorem's."""
    method = config.method
    pruned = bool(np.any(np.asarray(method.prune_ratio) > 0))
    server = method.server_learning_rate
    updates = ("clip_norm", "trim", "max_update_norm")
    return _named(
        {
            "optimizer": (method.optimizer != "sgd", method.optimizer),
            "cosine_rounds": (method.cosine_rounds > 0, method.cosine_rounds),
            "server_learning_rate": (
                server not in (None, method.learning_rate),
                server,
            ),
            "server_update": (method.server_update != "merged", method.server_update),
            "client_update": (method.client_update != "parallel", method.client_update),
            "restore": (pruned and not method.restore, method.restore),
            "average_over": (
                pruned and method.average_over != "all",
                method.average_over,
            ),
            **{
                n: (getattr(method, n) is not None, getattr(method, n)) for n in updates
            },
            "corruption_probability": (
                config.corruption_probability > 0,
                config.corruption_probability,
            ),
        }
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
    method, clients = config.method, config.data.num_clients
    down = np.asarray(method.down_bits)
    by_examples = method.client_weight == "examples"
    return _named(
        {
            "momentum": (
                bool(np.any(np.asarray(method.momentum) > 0)),
                method.momentum,
            ),
            "cohort_size": (config.cohort_size < clients, config.cohort_size),
            "client_weight": (by_examples, method.client_weight),
            "down_bits": (bool(np.any(down < FLOAT_BITS)), method.down_bits),
            "failure_probability": (
                config.failure_probability > 0,
                config.failure_probability,
            ),
            "drop_late": (config.drop_late, config.drop_late),
        }
    )


def said_of(settings: list[str]) -> str:
    """One sentence about what is left out, as from `left_out`; empty if nothing is."""
    if not settings:
        return ""
    return (
        "The theorem is of plain SGD by all clients in every round, and leaves out "
        f"{', '.join(settings)}."
    )
