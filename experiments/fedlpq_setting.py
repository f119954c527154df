"""The settings that the study of FedLP-Q compares: as published, and shorter for a CPU.

The network, the 100 clients, the ten of them in a round, batches of 10 and Adam are as
published at both scales.
"""

from dataclasses import dataclass, replace
from typing import Any

from fedjax_sl.fedlpq.presets import PRESETS
from fedjax_sl.fedlpq.run_config import FedLPQRun


@dataclass(frozen=True)
class Scale:
    """The size of the study.

    Attributes:
      name: name of the results folder.
      local_epochs, rounds: E, T.
      eval_every: rounds between two evaluations.
    """

    name: str
    local_epochs: int
    rounds: int
    eval_every: int


SHORT = Scale("short", local_epochs=1, rounds=60, eval_every=5)
FULL = Scale("full", local_epochs=5, rounds=200, eval_every=10)
SCALES = {scale.name: scale for scale in (SHORT, FULL)}

SCHEMES: dict[str, tuple[float, Any]] = {
    "FedAvg": (1.0, None),
    "(0.2)": (0.2, None),
    "(0.5)": (0.5, None),
    "(0.8)": (0.8, None),
    "(1)": (1.0, "1"),
    "(3)": (1.0, "3"),
    "(u)": (1.0, "u"),
    "(5)": (1.0, "5"),
}
"""Keep probability and preference of each row of the published table."""

BITS = (32, 10, 8)
"""Bits of the columns; 32 is float32."""

PARTITIONS = ("iid", "non-iid")
ALPHA = 1.0
"""Concentration of the Dirichlet partition that replaces the published non-iid one
(reconstructed)."""

ROUNDINGS = ("stochastic", "nearest", "floor")

USUAL = {
    "scheme": "FedAvg",
    "bits": 32,
    "partition": "iid",
    "rounding": "stochastic",
    "head": "kept",
}
"""The labels of a run; rounding has no effect on float32."""

ORDER = [{"scheme": scheme} for scheme in SCHEMES]
"""Which schemes end higher."""

READINGS = [
    {"scheme": scheme, "bits": bits, "rounding": rounding}
    for bits in BITS[1:]
    for rounding in ROUNDINGS
    for scheme in ("FedAvg", "(0.5)")
]
"""What bits cost under each reading of the quantiser's index."""

HEADS = [{"scheme": f"({c})", "head": "reset"} for c in "13u5"]
"""Private heads that start anew in every round, as in the authors' code."""

TABLE = [
    {"scheme": scheme, "bits": bits, "partition": partition, "rounding": rounding}
    for partition in PARTITIONS
    for bits in BITS
    for rounding in (("stochastic", "floor") if bits < 32 else ("stochastic",))
    for scheme in SCHEMES
]
"""The published table, quantised without bias and by the reading of floor."""

QUESTIONS = {"order": ORDER, "readings": READINGS, "heads": HEADS, "table": TABLE}


def name_of(labels: dict[str, Any]) -> str:
    """Names a run by its scheme, and what else is not usual."""
    rest = [f"{v}" for key, v in labels.items() if key != "scheme" and v != USUAL[key]]
    return "-".join([labels["scheme"].strip("()"), *rest])


def config_of(scale: Scale, labels: dict[str, Any], seed: int) -> FedLPQRun:
    """Returns the run of a seed with these labels."""
    base = PRESETS["cifar10-fedlpq"].run
    assert isinstance(base, FedLPQRun)
    keep, preference = SCHEMES[labels["scheme"]]
    data = base.data
    if labels["partition"] == "non-iid":
        data = replace(data, partition="dirichlet", alpha=ALPHA)
    return replace(
        base,
        data=data,
        method=replace(
            base.method,
            local_epochs=scale.local_epochs,
            keep_probability=keep,
            preference=preference,
            bits=labels["bits"],
            rounding=labels["rounding"],
            head=labels["head"],
        ),
        rounds=scale.rounds,
        eval_every=scale.eval_every,
        seed=seed,
    )
