"""Figures 3, 5, 6 and 7 of FedLP-Q (Entropy 2023, 25, 1205).

    python -m experiments.fedlpq_figures            # reduced, on a CPU
    python -m experiments.fedlpq_figures --full     # as published

Figure 3 is drawn from the rows of `fedlpq_table`. The others show the message of one
client, at the start of an iid run and late in a non-iid one. Messages are stored, and
not computed again.
"""

import argparse

import jax
import matplotlib
import numpy as np

from experiments.fedlpq_setting import (
    FULL,
    PARTITIONS,
    REDUCED,
    config_of,
    play,
    world,
)
from experiments.script import RESULTS, run_main
from fedjax_sl import Partition, cifar_cnn
from fedjax_sl.compression import quantize_tree
from fedjax_sl.compression.code_length import code_length, code_length_bound, entropy
from fedjax_sl.compression.layers import to_units
from fedjax_sl.config_base import optimizer_named
from fedjax_sl.data import draw_epochs
from fedjax_sl.federation.local_epochs import local_epochs
from fedjax_sl.records.run_folder import append_lines, read_lines, resume_lines


matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402


KEEP = 0.5
SNAPSHOTS = {"iid": (2, 7), "non-iid": (71, 81)}
"""Global epoch and client of the published figure 6."""


def levels_of(scale, data, partition) -> dict:
    """Returns counts of the quantised indices in each layer of a client's message."""
    train, test, owners = data
    epoch, client = SNAPSHOTS[partition]
    epoch, client = min(epoch, scale.rounds), client % scale.num_clients
    config, key = config_of(scale, KEEP, None, scale.bits[1]), jax.random.key(0)
    state, _ = play(
        config, key, train, test, owners, scale=scale, rounds=epoch, evaluations=1
    )
    mine = slice(client, client + 1)
    own = draw_epochs(
        key,
        train,
        Partition(owners.index[mine], owners.count[mine]),
        round=epoch,
        period=0,
        cohort_size=1,
        batch_size=scale.batch_size,
        epochs=scale.local_epochs,
    )

    @jax.jit
    def message(variables, own):
        optimizer = optimizer_named(config.optimizer, config.momentum)
        trained, _ = local_epochs(
            cifar_cnn(width=scale.width),
            optimizer(config.learning_rate),
            variables,
            own.examples,
            own.index[0],
            own.weight[0],
        )
        gap = jax.tree.map(lambda a, b: a - b, variables["params"], trained["params"])
        layers = to_units(gap, by="module")
        return quantize_tree(key, layers, levels=2 ** scale.bits[1], norm="l2")

    counts = {}
    for name, layer in message(state.variables, own).items():
        found, times = np.unique(np.asarray(layer.level), return_counts=True)
        counts[name] = dict(zip(map(str, found.tolist()), times.tolist(), strict=True))
    return {"partition": partition, "epoch": epoch, "client": client, "counts": counts}


def expanded(counts: dict[str, int]) -> np.ndarray:
    """Returns the indices of a layer in rising order."""
    return np.repeat([int(level) for level in counts], list(counts.values()))


def lengths_of(levels: np.ndarray, bits: int) -> dict[str, float]:
    """Returns the bits of a layer's message under each code."""
    codes = ("gamma", "omega", "delta")
    return {
        "float32": 32 * levels.size,
        f"fixed, b + 1 = {bits + 1}": 32 + (bits + 1) * levels.size,
        **{
            f"Elias {code}": code_length(levels, bits=bits, code=code) for code in codes
        },
    }


def short(name: str) -> str:
    """Shortens a layer's name for axes: block3/conv becomes conv3."""
    block, _, module = name.partition("/")
    return module + block.removeprefix("block") if module else block


def save(figure, path):
    """Saves and closes a figure."""
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def figure_3(scale, rows, path):
    """Draws accuracy against the global epoch, with and without quantisation."""
    figure, both = pyplot.subplots(1, 2, figsize=(10, 3.8), sharey=True)
    for axes, partition in zip(both, PARTITIONS, strict=True):
        for row in rows:
            shown = row["scheme"] in ("(0.5)", "(u)") and row["seed"] == 0
            if not shown or row["partition"] != partition:
                continue
            epochs = np.linspace(0, scale.rounds, len(row["accuracy"]) + 1)[1:]
            name = "float32" if row["bits"] == 32 else f"{row['bits']} bits"
            kind = "Homo" if row["scheme"] == "(0.5)" else "Hetero"
            style = {32: "-", scale.bits[1]: "--", scale.bits[2]: ":"}[row["bits"]]
            axes.plot(
                epochs,
                100 * np.array(row["accuracy"]),
                style,
                marker="o" if kind == "Homo" else "s",
                color="C0" if kind == "Homo" else "C1",
                label=f"{kind}{row['scheme']}, {name}",
            )
        axes.set(title=f"CIFAR-10, {partition}", xlabel="global epoch")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("test accuracy (%)")
    both[1].legend(frameon=False, fontsize=8)
    save(figure, path)


def figure_5(scale, snapshot, path):
    """Draws the bits of each layer's message, by parameters and by layer."""
    bits = scale.bits[1]
    layers = {short(n): expanded(c) for n, c in snapshot["counts"].items()}
    layers = dict(sorted(layers.items(), key=lambda item: item[1].size))
    lengths = {name: lengths_of(levels, bits) for name, levels in layers.items()}
    sizes = np.array([levels.size for levels in layers.values()])
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    ways = list(next(iter(lengths.values())))
    for place, way in enumerate(ways):
        total = np.array([lengths[name][way] for name in layers])
        left.loglog(sizes, total, "o-", markersize=3, label=way)
        right.bar(
            np.arange(len(layers)) + 0.16 * (place - 2), total / sizes, 0.16, label=way
        )
    left.set(xlabel="parameters of the layer", ylabel="bits of its message")
    right.set_xticks(range(len(layers)), list(layers), rotation=60)
    right.set(xlabel="layer", ylabel="bits per parameter")
    left.set_title(f"(a) b = {bits}")
    right.set_title("(b)")
    left.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, path)


def figure_6(snapshots, path):
    """Draws the frequency of each index in a message."""
    figure, both = pyplot.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    for axes, snapshot in zip(both, snapshots, strict=True):
        levels = np.concatenate([expanded(c) for c in snapshot["counts"].values()])
        found, times = np.unique(levels, return_counts=True)
        axes.bar(found, times / levels.size, width=1.0)
        axes.set(
            title=f"{snapshot['partition']}, epoch {snapshot['epoch']}, "
            f"client {snapshot['client']}",
            xlabel="signed index",
            yscale="log",
            xlim=(-60, 60),
        )
        axes.grid(alpha=0.3)
    both[0].set_ylabel("share of the parameters")
    save(figure, path)


def figure_7(scale, snapshots, path):
    """Draws entropy, code length and its bound per parameter of each layer, times p."""
    bits = scale.bits[1]
    figure, both = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axes, snapshot in zip(both, snapshots, strict=True):
        layers = {short(n): expanded(c) for n, c in snapshot["counts"].items()}
        layers = dict(sorted(layers.items(), key=lambda item: item[1].size))
        positions = np.arange(len(layers))
        bars = {
            "p x entropy": [KEEP * entropy(x) for x in layers.values()],
            "p x code length / M": [
                KEEP * code_length(x, bits=bits) / x.size for x in layers.values()
            ],
            "Proposition 2": [
                code_length_bound(
                    x.size, abs(x).mean(), bits=bits, keep_probability=KEEP
                )
                / x.size
                for x in layers.values()
            ],
        }
        for place, (name, heights) in enumerate(bars.items()):
            axes.bar(positions + 0.27 * (place - 1), heights, 0.27, label=name)
        axes.set_xticks(positions, list(layers), rotation=60)
        title = f"{snapshot['partition']}, epoch {snapshot['epoch']}"
        axes.set(title=title, xlabel="layer")
        axes.grid(axis="y", alpha=0.3)
    both[0].set_ylabel("bits per parameter")
    both[1].legend(frameon=False, fontsize=8)
    save(figure, path)


def main() -> None:
    """Computes missing messages, then draws the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--full", action="store_true", help="the published setting")
    chosen = parser.parse_args()
    scale = FULL if chosen.full else REDUCED
    folder = RESULTS / scale.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fedlpq_messages.jsonl"
    known = {row["partition"]: row for row in resume_lines(path)}
    for partition in PARTITIONS:
        if partition not in known:
            known[partition] = levels_of(scale, world(scale, partition), partition)
            append_lines(path, [known[partition]])
    snapshots = [known[partition] for partition in PARTITIONS]
    figure_5(scale, snapshots[0], folder / "figure_5.svg")
    figure_6(snapshots, folder / "figure_6.svg")
    figure_7(scale, snapshots, folder / "figure_7.svg")
    table = folder / "fedlpq_table.jsonl"
    if table.exists():
        figure_3(scale, read_lines(table), folder / "figure_3.svg")


if __name__ == "__main__":
    run_main(main)
