"""FedLP-Q's table: accuracy by scheme, bits and partition (Entropy 2023, 25, 1205).

    python -m experiments.fedlpq_table            # reduced, on a CPU
    python -m experiments.fedlpq_table --full     # as published

Every row is stored once it is known, and not computed again.
"""

import argparse
import itertools
import time
from statistics import mean

import jax
import matplotlib
import numpy as np
from rich.console import Console

from experiments.fedlpq_setting import (
    FULL,
    PARTITIONS,
    REDUCED,
    config_of,
    play,
    world,
)
from experiments.script import RESULTS, run_main
from fedjax_sl.records.run_folder import append_lines, resume_lines, write_text
from fedjax_sl.traffic import traffic


matplotlib.use("Agg")

from matplotlib import pyplot  # noqa: E402


SCHEMES = {
    "FedAvg": (1.0, None),
    "(0.2)": (0.2, None),
    "(0.5)": (0.5, None),
    "(0.8)": (0.8, None),
    "(1)": (1.0, "1"),
    "(3)": (1.0, "3"),
    "(u)": (1.0, "u"),
    "(5)": (1.0, "5"),
}
"""Keep probability and preference of each row."""

PUBLISHED = {
    "FedAvg": ((78.8, 75.3), (76.2, 74.9), (71.7, 68.5)),
    "(0.2)": ((73.4, 68.2), (71.5, 66.8), (56.6, 50.4)),
    "(0.5)": ((75.5, 73.5), (75.4, 72.5), (66.7, 62.0)),
    "(0.8)": ((78.9, 77.3), (78.3, 76.2), (71.3, 66.9)),
    "(1)": ((64.4, 60.3), (64.1, 59.2), (53.6, 49.4)),
    "(3)": ((66.8, 62.0), (66.1, 61.7), (58.4, 53.9)),
    "(u)": ((70.1, 66.5), (68.3, 65.4), (60.7, 55.7)),
    "(5)": ((74.6, 73.1), (74.4, 72.1), (68.6, 64.5)),
}
"""Accuracy in percent, (iid, non-iid), for no quantisation, 10 and 8 bits."""


def run_row(scale, data, scheme, bits, partition, seed):
    """Runs one entry of the table, and returns its row."""
    started = time.monotonic()
    keep, preference = SCHEMES[scheme]
    _, history = play(
        config_of(scale, keep, preference, bits),
        jax.random.key(seed),
        *data,
        scale=scale,
        rounds=scale.rounds,
        evaluations=5,
    )
    history = jax.device_get(history)
    rounds = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), history.rounds)
    return {
        "scheme": scheme,
        "bits": bits,
        "partition": partition,
        "seed": seed,
        "accuracy": history.evaluation[""].accuracy.tolist(),
        "uplink_bits": int(traffic(rounds.links).uplink.sum()),
        "seconds": round(time.monotonic() - started, 1),
    }


def table(scale, rows) -> str:
    """Formats the results as Markdown, with the published ones in brackets."""
    heads = ["none", *(f"{b} bits" for b in scale.bits[1:])]
    columns = [f"{h}, {p}" for h in heads for p in PARTITIONS]
    lines = [
        "| scheme | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for scheme in SCHEMES:
        cells = []
        for place, bits in enumerate(scale.bits):
            for side, partition in enumerate(PARTITIONS):
                found = [
                    100 * row["accuracy"][-1]
                    for row in rows
                    if (row["scheme"], row["bits"], row["partition"])
                    == (scheme, bits, partition)
                ]
                ours = f"{mean(found):.1f}" if found else "–"
                cells.append(f"{ours} ({PUBLISHED[scheme][place][side]:.1f})")
        lines.append(f"| {scheme} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(path, scale, rows):
    """Draws accuracy by scheme and bits, one plot for each partition."""
    figure, both = pyplot.subplots(1, 2, figsize=(10, 3.8), sharey=True)
    for axes, partition in zip(both, PARTITIONS, strict=True):
        for place, bits in enumerate(scale.bits):
            heights = []
            for scheme in SCHEMES:
                found = [
                    100 * row["accuracy"][-1]
                    for row in rows
                    if (row["scheme"], row["bits"], row["partition"])
                    == (scheme, bits, partition)
                ]
                heights.append(mean(found) if found else np.nan)
            name = "float32" if bits == 32 else f"{bits} bits"
            positions = np.arange(len(SCHEMES)) + 0.27 * (place - 1)
            axes.bar(positions, heights, 0.25, label=name)
        axes.set_xticks(range(len(SCHEMES)), list(SCHEMES), rotation=30)
        axes.set(title=f"CIFAR-10, {partition}, {scale.name} scale", xlabel="scheme")
        axes.grid(axis="y", alpha=0.3)
    both[0].set_ylabel("test accuracy (%)")
    both[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main() -> None:
    """Computes missing rows, then draws the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--full", action="store_true", help="the published setting")
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    scale, console = FULL if chosen.full else REDUCED, Console(highlight=False)
    folder = RESULTS / scale.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fedlpq_table.jsonl"
    rows = resume_lines(path)
    done = {(r["seed"], r["partition"], r["scheme"], r["bits"]) for r in rows}
    for partition in PARTITIONS:
        data = world(scale, partition)
        wanted = itertools.product(range(chosen.seeds), SCHEMES, scale.bits)
        for seed, scheme, bits in wanted:
            if (seed, partition, scheme, bits) in done:
                continue
            row = run_row(scale, data, scheme, bits, partition, seed)
            append_lines(path, [row])
            rows.append(row)
            console.print(
                f"{partition} {scheme} {bits} bits, seed {seed}: "
                f"{100 * row['accuracy'][-1]:.1f} % in {row['seconds']} s"
            )
    write_text(folder / "fedlpq_table.md", table(scale, rows))
    draw(folder / "fedlpq_table.svg", scale, rows)
    console.print(table(scale, rows))


if __name__ == "__main__":
    run_main(main)
