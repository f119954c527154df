"""`fedjax-sl cost METHOD`: what clients compute and send, as tables."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from fedjax_sl.analysis.complexity import cut_costs
from fedjax_sl.cli.options import parse
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.memory import head_bytes
from fedjax_sl.fedlpq.savings import (
    CIFAR_SHAPE,
    PUBLISHED_BASE,
    heterogeneous,
    homogeneous,
    networks,
)
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.models.vgg import Depth, Norm


@dataclass(frozen=True, kw_only=True)
class FedSLCost:
    """Parameters, operations and activations on each side of each cut of a VGG."""

    depth: Depth = 19
    """Layers of the VGG."""

    width: float = 1.0
    """Factor on every number of channels, > 0; 1 is the published network."""

    norm: Norm = "group"
    """Normalisation after each convolution."""

    num_classes: int = 10
    """C, at least 2."""


@dataclass(frozen=True, kw_only=True)
class FedLPQCost:
    """Parameters moved and operations, against FedAvg, as in the published table."""


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _print_fedsl(arguments: list[str], console: Console) -> None:
    asked = parse(FedSLCost, arguments, command="cost fedsl")
    rows = cut_costs(
        asked.depth, width=asked.width, norm=asked.norm, num_classes=asked.num_classes
    )
    table = _table(
        f"VGG-{asked.depth}, width {asked.width:g}, {asked.norm} norm, on 32 x 32 x 3",
        [
            "cut L_c",
            "client params",
            "server params",
            "client MMACs",
            "server MMACs",
            "cut size",
        ],
    )
    for row in rows:
        table.add_row(
            str(row.cut),
            f"{row.client_params:,}",
            f"{row.server_params:,}",
            f"{row.client_macs / 1e6:.2f}",
            f"{row.server_macs / 1e6:.2f}",
            f"{row.activations:,}",
        )
    console.print(table)
    console.print(
        "Forward pass of one example; a backward pass takes about twice that."
    )


def _print_fedlpq(arguments: list[str], console: Console) -> None:
    parse(FedLPQCost, arguments, command="cost fedlpq")
    counted = networks().mflops[-1]
    table = _table(
        "FedLP-Q, six-convolution network on CIFAR-10",
        [
            "scheme",
            "k params",
            "saved %",
            "MFLOPs",
            f"saved % of {PUBLISHED_BASE:g}",
            f"saved % of {counted:.3f}",
        ],
    )
    rows = [homogeneous(p) for p in (0.2, 0.5, 0.8)]
    rows += [heterogeneous(preference) for preference in ("1", "3", "u", "5")]
    for row in rows:
        table.add_row(
            row.scheme,
            f"{row.moved / 1e3:.3f}",
            f"{100 * row.params:.1f}",
            f"{row.mflops_published:.2f}",
            f"{100 * row.flops_published:.1f}",
            f"{100 * row.flops:.1f}",
        )
    console.print(table)
    console.print(
        "(p) homogeneous with keep probability p, (c) sub-models with preference c. "
        "Parameters move up and down; FedAvg moves "
        f"{2 * networks().shared[-1] / 1e3:.3f} k.\nThe published table follows from a "
        f"base of {PUBLISHED_BASE:g} MFLOPs; counting gives {counted:.3f}. MFLOPs are "
        "those with the published base."
    )
    models = [cifar_cnn(complexity=one) for one in COMPLEXITIES]
    each = head_bytes(models, CIFAR_SHAPE, 1, "kept") / 1e6
    console.print(
        f"Sub-models keep a private head, {each:.1f} MB of memory for each client on "
        f"every device and in every checkpoint ({100 * each:.0f} MB for 100 clients), "
        "unless --method.head reset begins it anew in every round."
    )


USAGE = """usage: fedjax-sl cost METHOD [--help] [OPTIONS]

  fedsl        parameters, operations and activations for each cut of a VGG
  fedlpq       parameters and operations for each scheme of the published table
"""


def cost_command(arguments: list[str], console: Console) -> None:
    """Prints what was asked for.

    Raises:
      ValueError: if a value is out of range.
    """
    methods = {"fedsl": _print_fedsl, "fedlpq": _print_fedlpq}
    if arguments and arguments[0] in ("-h", "--help"):
        console.print(USAGE, end="", markup=False, soft_wrap=True)
        return
    if not arguments or arguments[0] not in methods:
        given = repr(arguments[0]) if arguments else "no method"
        raise InputError(f"{given}: expected one of {tuple(methods)}.")
    methods[arguments[0]](arguments[1:], console)
