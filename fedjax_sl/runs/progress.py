"""What is seen of a run: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fedjax_sl.runs.learning import unlearned


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


class _Bar(Progress):
    """A bar as wide as the terminal, and below it, however long, what is said of it."""

    state = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Bar and text."""
        yield from super().get_renderables()
        yield Text(self.state)


def bar(console: Console, unit: str, *columns: ProgressColumn) -> _Bar:
    """A bar that counts units, with the time it has taken, and with further columns."""
    return _Bar(
        TextColumn(unit),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TimeElapsedColumn(),
        *columns,
        console=console,
        expand=True,
        disable=not console.is_terminal,
        speed_estimate_period=WHOLE,
    )


def seconds_left(arrived: Sequence[float], first: int, total: int) -> float | None:
    """How long it takes until all results are there.

    The first call of a program compiles it, which its results say nothing about.

    Args:
      arrived: times, in seconds, at which results came, in order.
      first: how many of them the first call brought.
      total: how many there will be.

    Returns:
      Seconds, from the last result on; None if nothing came after the first call.
    """
    later = len(arrived) - first
    if len(arrived) == total:
        return 0.0
    if later < 1:
        return None
    return (total - len(arrived)) / later * (arrived[-1] - arrived[first - 1])


@contextmanager
def reporting(console: Console, rounds: int, num_classes: int) -> Iterator[Report]:
    """Shows a run of so many rounds while the block runs; warns once if it does not
    learn to tell C classes apart.
    """
    lines: list[dict[str, Any]] = []
    with bar(console, "round", TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=rounds)
        progress.state, warned = "compiling …", False

        def report(line):
            nonlocal warned
            said = f"round {line['round']}/{rounds}  {_describe(line)}"
            if console.is_terminal:
                progress.state = _describe(line)
                progress.update(task, completed=line["round"])
            else:
                console.print(said, soft_wrap=True)
            lines.append(line)
            if not warned and (sentence := unlearned(lines, num_classes)):
                console.print(f"warning: {sentence}", soft_wrap=True)
                warned = True

        yield report
