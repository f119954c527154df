"""Table of the cost of each scheme of the published table."""

from dataclasses import dataclass

from fedjax_sl.fedlpq.estimates.memory import head_bytes
from fedjax_sl.fedlpq.estimates.savings import (
    CIFAR_SHAPE,
    PUBLISHED_BASE,
    heterogeneous,
    homogeneous,
    networks,
)
from fedjax_sl.method_spec import Costs, CostTable
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn


@dataclass(frozen=True, kw_only=True)
class FedLPQCost:
    """Parameters moved and operations, against FedAvg, as in the published table."""


def table(options: FedLPQCost) -> CostTable:
    """A row for each scheme."""
    counted = networks().mflops[-1]
    rows = [homogeneous(p) for p in (0.2, 0.5, 0.8)]
    rows += [heterogeneous(preference) for preference in ("1", "3", "u", "5")]
    models = [cifar_cnn(complexity=complexity) for complexity in COMPLEXITIES]
    each = head_bytes(models, CIFAR_SHAPE, 1, "kept") / 1e6
    return CostTable(
        title="FedLP-Q, six-convolution network on CIFAR-10",
        columns=(
            "scheme",
            "k params",
            "saved %",
            "MFLOPs",
            f"saved % of {PUBLISHED_BASE:g}",
            f"saved % of {counted:.3f}",
        ),
        rows=[
            (
                row.scheme,
                f"{row.moved / 1e3:.3f}",
                f"{100 * row.params:.1f}",
                f"{row.mflops_published:.2f}",
                f"{100 * row.flops_published:.1f}",
                f"{100 * row.flops:.1f}",
            )
            for row in rows
        ],
        note="(p) homogeneous with keep probability p, (c) sub-models with preference "
        "c. Parameters move up and down; FedAvg moves "
        f"{2 * networks().shared[-1] / 1e3:.3f} k.\nThe published table "
        f"follows from a base of {PUBLISHED_BASE:g} MFLOPs; counting gives "
        f"{counted:.3f}. MFLOPs are those with the published base.\n"
        f"Sub-models keep a private head, {each:.1f} MB of memory for each client on "
        f"every device and in every checkpoint ({100 * each:.0f} MB for 100 clients), "
        "unless --method.head reset begins it anew in every round.",
    )


COSTS = Costs(FedLPQCost, table, "each scheme of the published table")
