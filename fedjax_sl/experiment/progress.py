"""What is seen of a run: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


WHOLE = 1e9
"""Seconds that a speed is estimated over: what comes minutes apart is not forgotten."""

VIEW = "_test_accuracy"
"""How the accuracy of a further view of the model is named, after the view."""


class Report(Protocol):
    """Called with the metrics of each evaluation."""

    def __call__(self, line: dict[str, Any]) -> None:
        """Shows one line of metrics."""


def size_of(bits: float) -> str:
    """Bits as a person reads them."""
    for unit in ("bit", "kbit", "Mbit", "Gbit"):
        if bits < 1000:
            return f"{bits:.3g} {unit}"
        bits /= 1000
    return f"{bits:.4g} Tbit"


def _describe(line: dict[str, Any]) -> str:
    views = "".join(
        f"{name.removesuffix(VIEW)} {value:.4f}  "
        for name, value in line.items()
        if name.endswith(VIEW)
    )
    return (
        f"loss {line['train_loss']:.3f}  accuracy {line['test_accuracy']:.4f}  {views}"
        f"kept {line['kept_ratio']:.2f}  "
        f"up {size_of(line['uplink_bits'])}  down {size_of(line['downlink_bits'])}"
    )


@contextmanager
def reporting(console: Console, rounds: int) -> Iterator[Report]:
    """Shows a run of so many rounds while the block runs."""
    if not console.is_terminal:
        yield lambda line: console.print(
            f"round {line['round']}/{rounds}  {_describe(line)}", soft_wrap=True
        )
        return
    columns = (
        TextColumn("round"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, speed_estimate_period=WHOLE) as progress:
        task = progress.add_task("", total=rounds, state="compiling …")

        def report(line):
            progress.update(task, completed=line["round"], state=_describe(line))

        yield report
