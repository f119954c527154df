"""Figures 1, 3, 5, 6 and 7 of FedLP-Q (Entropy 2023, 25, 1205).

    python -m experiments.fedlpq_figures --scale short    # or full

Figure 3 is drawn from the rows of `fedlpq_study`, the others from messages that are
computed once and stored.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from experiments.cells import FOLDERS
from experiments.claims import Rows
from experiments.fedlpq_messages import BITS, KEEP, Message, messages
from experiments.fedlpq_setting import PARTITIONS, SCALES
from experiments.script import RESULTS, run_main
from fedjax_sl.compression.code_length import code_length, code_length_bound, entropy
from fedjax_sl.compression.coding import CODES
from fedjax_sl.fedlpq.estimates.savings import CIFAR_SHAPE
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.fedlpq.traffic import layers_of
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.records.run_folder import resume_lines


def two(sharey: bool | str = True) -> tuple[Figure, Sequence[Axes]]:
    """Returns a figure of two plots side by side."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    return figure, figure.subplots(1, 2, sharey=sharey)


def short(name: str) -> str:
    """Shortens a layer's name for axes: block3/conv becomes conv3."""
    block, _, module = name.partition("/")
    return module + block.removeprefix("block") if module else block


def layer_ticks(axis: Axes, layers: Sequence[str]) -> None:
    """Names the layers below an axis."""
    axis.set_xticks(range(len(layers)), [short(name) for name in layers], rotation=60)
    axis.set(xlabel="layer")


def schemes() -> Figure:
    """Figure 1: which layers clients send, pruned at random and by sub-models."""
    models = [cifar_cnn(complexity=c) for c in COMPLEXITIES]
    layers = layers_of([template(model, CIFAR_SHAPE) for model in models], "module")
    drawn = np.random.default_rng(0).random((5, len(layers.names))) < KEEP
    figure, axes = two(sharey=False)
    for axis, sent in zip(axes, (drawn, layers.owned), strict=True):
        axis.imshow(sent, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
        axis.set_xticks(np.arange(len(layers.names) + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(6) - 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.tick_params(which="minor", length=0)
        layer_ticks(axis, layers.names)
    axes[0].set_yticks(range(5), [f"client {k}" for k in range(5)])
    axes[0].set_title(f"homogeneous: each layer sent with p = {KEEP}")
    axes[1].set_yticks(range(5), [f"complexity {c}" for c in COMPLEXITIES])
    axes[1].set_title("heterogeneous: layers that a client has")
    return figure


def learning_curves(rows: Rows) -> Figure:
    """Figure 3: accuracy against the global epoch, means and ranges over seeds."""
    figure, axes = two()
    for axis, partition in zip(axes, PARTITIONS, strict=True):
        for color, scheme in enumerate(("(0.5)", "(u)")):
            for bits, style in ((32, "-"), (10, "--"), (8, ":")):
                found = [
                    row
                    for row in rows
                    if (row["scheme"], row["bits"], row["partition"])
                    == (scheme, bits, partition)
                    and (row["head"], row["rounding"]) == ("kept", "stochastic")
                ]
                if not found:
                    continue
                accuracy = 100 * np.array([row["accuracy"] for row in found])
                epochs, name = found[0]["rounds"], f"{bits} bits" * (bits < 32)
                label = f"{scheme}, {name or 'float32'}"
                mean = accuracy.mean(axis=0)
                axis.plot(epochs, mean, style, color=f"C{color}", label=label)
                low, high = accuracy.min(axis=0), accuracy.max(axis=0)
                axis.fill_between(epochs, low, high, color=f"C{color}", alpha=0.1)
        axis.set(title=f"CIFAR-10, {partition}", xlabel="global epoch")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="test accuracy, %")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def lengths_of(levels: np.ndarray) -> dict[str, float]:
    """Returns the bits of a layer's message under each code."""
    return {
        "float32": 32 * levels.size,
        # -2^b to 2^b: one more than b + 1 bits tell apart.
        f"fixed, {BITS + 2} bits": 32 + (BITS + 2) * levels.size,
        **{f"Elias {c}": code_length(levels, bits=BITS, code=c) for c in CODES},
    }


def encoded_bits(message: Message) -> Figure:
    """Figure 5: bits of each layer's message, by its parameters and by layer."""
    figure, (left, right) = two()
    lengths = [lengths_of(levels) for levels in message.levels.values()]
    sizes = [levels.size for levels in message.levels.values()]
    for place, way in enumerate(lengths[0]):
        total = [each[way] for each in lengths]
        left.loglog(sizes, total, "o-", markersize=3, label=way)
        right.bar(np.arange(len(sizes)) + 0.16 * (place - 2), total, 0.16)
    left.set(xlabel="parameters of the layer", ylabel="bits of its message")
    left.set_title(f"(a) b = {BITS}, {message.title}")
    layer_ticks(right, list(message.levels))
    right.set_title("(b)")
    left.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    return figure


def index_shares(both: Sequence[Message]) -> Figure:
    """Figure 6: share of each index in a message, over their whole range."""
    figure, axes = two()
    for axis, message in zip(axes, both, strict=True):
        levels = np.concatenate(list(message.levels.values()))
        found, times = np.unique(levels, return_counts=True)
        axis.vlines(found, 0.3 / levels.size, times / levels.size, linewidth=1)
        axis.set(title=message.title, xlabel="signed index", yscale="log")
        axis.set_xscale("symlog", linthresh=10)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="share of the parameters")
    return figure


def entropies(both: Sequence[Message]) -> Figure:
    """Figure 7: entropy, code length and its bound per parameter of each layer."""
    figure, axes = two()
    for axis, message in zip(axes, both, strict=True):
        every = list(message.levels.values())
        plain = np.array([entropy(levels) for levels in every])
        length = [code_length(x, bits=BITS) / x.size for x in every]
        bound = [
            code_length_bound(x.size, np.abs(x).mean(), bits=BITS) / x.size
            for x in every
        ]
        bars = {
            "entropy": plain,
            "p x entropy": KEEP * plain,
            "p x code length / M": KEEP * np.array(length),
            "Proposition 2": KEEP * np.array(bound),
        }
        for place, (name, heights) in enumerate(bars.items()):
            axis.bar(
                np.arange(len(every)) + 0.2 * (place - 1.5), heights, 0.2, label=name
            )
        layer_ticks(axis, list(message.levels))
        axis.set_title(f"{message.title}, p = {KEEP}")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set(ylabel="bits per parameter")
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    """Computes missing messages, then draws the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="short")
    scale, console = SCALES[parser.parse_args().scale], Console(highlight=False)
    folder = RESULTS / scale.name
    folder.mkdir(parents=True, exist_ok=True)
    folders = FOLDERS / f"fedlpq_messages-{scale.name}"
    path = folder / "fedlpq_messages.jsonl"
    both = messages(scale, path, folders=folders, console=console)
    rows = resume_lines(folder / "fedlpq_study.jsonl")
    # It has a plot for each partition: one without a run would be empty.
    curves = {row["partition"] for row in rows} >= set(PARTITIONS)
    figures = {
        1: schemes(),
        **({3: learning_curves(rows)} if curves else {}),
        5: encoded_bits(both[0]),
        6: index_shares(both),
        7: entropies(both),
    }
    for number, figure in figures.items():
        figure.savefig(folder / f"figure_{number}.svg")


if __name__ == "__main__":
    run_main(main)
