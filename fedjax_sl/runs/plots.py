"""Plots of a run, as SVG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def _draw(path: Path, title: str, y_label: str, curves: dict[str, Any]) -> None:
    """Draws a curve `(x, y, style)` for each name."""
    # Late: it takes a second, and is an extra.
    import matplotlib

    # A run may have no display.
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.8), layout="constrained")
    for name, (x, y, style) in curves.items():
        axes.plot(x, y, style, label=name, markersize=3)
    axes.set(title=title, xlabel="round", ylabel=y_label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.margins(x=0.02)
    figure.savefig(path)
    # pyplot keeps every figure that is not closed.
    pyplot.close(figure)


def draw(folder: Path, title: str, lines: Sequence[dict[str, Any]]) -> None:
    """Draws accuracy and loss against the round.

    Args:
      folder: folder of accuracy.svg and loss.svg.
      title: title of both plots.
      lines: lines of metrics.jsonl, in order.
    """
    x = [line["round"] for line in lines]

    def column(name):
        return [line[name] for line in lines]

    accuracy = {"test": (x, column("test_accuracy"), "o-")}
    if "pruned_test_accuracy" in lines[0]:
        accuracy["test, pruned model"] = (x, column("pruned_test_accuracy"), "s--")
    accuracy["majority class"] = (x, column("majority_rate"), "k:")
    loss = {
        "training": (x, column("train_loss"), "o-"),
        "test": (x, column("test_loss"), "s--"),
    }
    _draw(folder / "accuracy.svg", title, "accuracy", accuracy)
    _draw(folder / "loss.svg", title, "cross-entropy (nats)", loss)
