"""Presets run with several seeds, and what they reach.

    python -m experiments.presets niid-bench-dir05 --seeds 3

A run keeps its folder in runs/presets and is resumed there; a row is stored once it has
finished.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from rich.console import Console

import fedjax_sl
from experiments.script import RESULTS, run_main
from fedjax_sl.cli.main import execute
from fedjax_sl.methods import presets
from fedjax_sl.records.run_folder import SUMMARY, append_lines, resume_lines
from fedjax_sl.reports.groups import interval


FOLDERS = Path("runs/presets")

PUBLISHED = {
    "niid-bench-dir05": "0.682 (NIID-Bench's README)",
}
"""Final accuracies of others, where their setting is the same."""


def code_version() -> str:
    """A hash of the package's sources, which decide what a row says."""
    root, digest = Path(fedjax_sl.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def row_of(name: str, seed: int, folder: Path, code: str) -> dict[str, Any]:
    """Returns the stored row of a finished run."""
    lines = resume_lines(folder / "metrics.jsonl")
    summary = json.loads((folder / SUMMARY).read_text())

    def column(field: str) -> list:
        return [line[field] for line in lines]

    return {
        "preset": name,
        "seed": seed,
        "code": code,
        "device": summary["device"],
        "hours": round(lines[-1]["wall_seconds"] / 3600, 3),
        **{
            field: column(field)
            for field in ("round", "epoch", "test_accuracy", "train_loss")
        },
        **{
            field: lines[-1][field]
            for field in ("uplink_bits", "downlink_bits", "sim_seconds", "sim_joules")
        },
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Final accuracy, epochs and hours of each preset, over its seeds."""
    lines = [
        "# Presets\n",
        "Final accuracy on the test split, mean and 95 % t-interval over seeds; hours "
        "of one run. `python -m experiments.presets NAME --seeds N` computes a row.\n",
        "| preset | seeds | accuracy | epochs | hours | published | code |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["preset"] for row in rows):
        mine = [row for row in rows if row["preset"] == name]
        mean, half = interval([row["test_accuracy"][-1] for row in mine])
        spread = f" ± {half:.3f}" if len(mine) > 1 else ""
        hours = max(row["hours"] for row in mine)
        codes = ", ".join(dict.fromkeys(row["code"] for row in mine))
        lines.append(
            f"| {name} | {len(mine)} | {mean:.3f}{spread} | {mine[0]['epoch'][-1]:.3g} "
            f"| {hours:.2f} | {PUBLISHED.get(name, '')} | {codes} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the seeds that are missing, and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("preset", choices=tuple(presets()))
    parser.add_argument("--seeds", type=int, default=3)
    options, console = parser.parse_args(), Console(highlight=False)
    name, path = options.preset, RESULTS / "presets.jsonl"
    rows = resume_lines(path)
    known = {(row["preset"], row["seed"]) for row in rows}
    for seed in range(options.seeds):
        if (name, seed) in known:
            continue
        folder = FOLDERS / f"{name}-{seed}"
        words = ("run", name, "--seed", str(seed), "--folder", str(folder), "--resume")
        execute(words, console)
        rows.append(row_of(name, seed, folder, code_version()))
        append_lines(path, rows[-1:])
    (RESULTS / "presets.md").write_text(table(rows))
    console.print(table(rows))


if __name__ == "__main__":
    run_main(main)
