"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

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

from fedjax_sl.runs.not_learning import not_learning


WHOLE = 1e9
"""Seconds over which speed is estimated: as good as all, since results may be minutes
apart."""

VIEW = "_test_accuracy"
"""Suffix of the accuracy of a further view of the model, after the view's name."""


class Report(Protocol):
    """Called with the metrics of each evaluation."""

    def __call__(self, line: dict[str, Any]) -> None:
        """Shows one line of metrics."""


def size_of(bits: float) -> str:
    """Formats a number of bits for readers."""
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
    epoch = f"epoch {line['epoch']:.3g}  " if "epoch" in line else ""
    return (
        f"{epoch}loss {line['train_loss']:.3f}  "
        f"accuracy {line['test_accuracy']:.4f}  {views}"
        f"kept {line['kept_ratio']:.2f}  "
        f"up {size_of(line['uplink_bits'])}  down {size_of(line['downlink_bits'])}"
    )


class _Bar(Progress):
    """A bar as wide as the terminal, with a text of any length below it."""

    state = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields the bar and the text."""
        yield from super().get_renderables()
        yield Text(self.state)


def bar(console: Console, unit: str, *columns: ProgressColumn) -> _Bar:
    """Returns a bar that counts units, with elapsed time and further columns."""
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
    """Estimates the time until all results have arrived.

    Args:
      arrived: arrival times of the results so far in seconds, in order.
      first: number of results of the first call.
      total: number of results in all.

    Returns:
      Seconds from the last result on; None if there is none after the first call.
    """
    # The first call compiles the program, so its time says nothing about later ones.
    later = len(arrived) - first
    if len(arrived) == total:
        return 0.0
    if later < 1:
        return None
    return (total - len(arrived)) / later * (arrived[-1] - arrived[first - 1])


@contextmanager
def reporting(
    console: Console, rounds: int, num_classes: int, *, warmup_rounds: int = 0
) -> Iterator[Report]:
    """Shows a run's progress while the block runs; warns if nothing is learned.

    Once, and once more if that is so after the warm-up, too.

    Args:
      console: where it is shown.
      rounds: rounds of the run.
      num_classes: C, number of classes.
      warmup_rounds: over which the learning rate rises.

    Yields:
      A function to call with the metrics of each evaluation.
    """
    lines: list[dict[str, Any]] = []
    warned: set[bool] = set()
    with bar(console, "round", TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=rounds)
        progress.state = "compiling …"

        def report(line):
            text = f"round {line['round']}/{rounds}  {_describe(line)}"
            if console.is_terminal:
                progress.state = _describe(line)
                progress.update(task, completed=line["round"])
            else:
                # Unbroken lines, as for a log.
                console.print(text, soft_wrap=True)
            lines.append(line)
            warming = line["round"] < warmup_rounds
            sentence = not_learning(lines, num_classes, warmup_rounds=warmup_rounds)
            if sentence and warming not in warned:
                console.print(f"warning: {sentence}", soft_wrap=True)
                warned.add(warming)

        yield report
