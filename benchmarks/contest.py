"""Times contenders that share a machine, block by block in turn.

Each contender has its own process, so that thread pools do not mix, and only one works
at a time. A noisy machine slows them all alike, so ratios are taken within each turn.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from statistics import median


Make = Callable[[], Callable[[], None]]
"""Builds a contender in its process, and returns a function that runs a block."""


def _serve(make: Make, pipe) -> None:
    block = make()
    block()
    pipe.send("ready")
    while pipe.recv() == "go":
        started = time.perf_counter()
        block()
        pipe.send(time.perf_counter() - started)


def seconds(contenders: Mapping[str, Make], *, turns: int) -> dict[str, list[float]]:
    """Returns the seconds of each contender's blocks, after one block to warm up."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name, make in contenders.items():
        pipes[name], theirs = context.Pipe()
        context.Process(target=_serve, args=(make, theirs), daemon=True).start()
        theirs.close()
        pipes[name].recv()
    taken = {name: [] for name in contenders}
    for _ in range(turns):
        for name, pipe in pipes.items():
            pipe.send("go")
            taken[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send("stop")
    return taken


def report(taken: dict[str, list[float]], examples: int) -> str:
    """Formats examples/s, and the first contender's speed over that of each.

    Args:
      taken: seconds, as from `seconds`.
      examples: examples that one block trains on.

    Returns:
      A Markdown table; medians over turns, lowest and highest ratio in brackets.
    """
    ours = next(iter(taken.values()))
    rows = ["| | examples/s | ours against it |", "|---|---|---|"]
    for name, theirs in taken.items():
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            f"| {name} | {examples / median(theirs):.0f} | {median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return "\n".join(rows)


def share_of_product(macs: float, taken: list[float], turns: int = 5) -> str:
    """Compares the rate of a block with that of a large matrix product.

    Args:
      macs: MACs of one block.
      taken: seconds of the block in each turn.
      turns: repetitions of the product, right after the contest.

    Returns:
      A sentence.
    """
    from benchmarks.conv import product_rate

    ours, product = 2 * macs / median(taken) / 1e9, product_rate(turns)
    return (
        f"{ours:.0f} GFLOP/s, {ours / product:.2f} of a large matrix product's "
        f"{product:.0f}"
    )
