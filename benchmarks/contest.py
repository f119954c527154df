"""Times contenders that share a machine: block by block in turn, medians and ratios.

Each contender lives in a process of its own, so that thread pools do not mix, and only
one works at a time. A noisy machine slows them all alike, so ratios are taken within
each turn.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from statistics import median


Make = Callable[[], Callable[[], None]]
"""Builds a contender in its process and returns what runs one block of its work."""


def _serve(make: Make, pipe) -> None:
    block = make()
    block()
    pipe.send("ready")
    while pipe.recv() == "go":
        started = time.perf_counter()
        block()
        pipe.send(time.perf_counter() - started)


def seconds(contenders: Mapping[str, Make], *, turns: int) -> dict[str, list[float]]:
    """Seconds of each contender's block in each turn, after one block to warm up."""
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
    """A Markdown table: examples/s, and the first contender's speed over each one's.

    Args:
      taken: as from `seconds`.
      examples: that one block trains on.

    Returns:
      The table; medians over turns, lowest and highest ratio in brackets.
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
    """How near a block comes to the machine's rate of large matrix products.

    Args:
      macs: multiplications with additions of one block.
      taken: its seconds.
      turns: of the product, taken right after the contest.

    Returns:
      A sentence.
    """
    from benchmarks.conv import product_rate

    ours, product = 2 * macs / median(taken) / 1e9, product_rate(turns)
    return (
        f"{ours:.0f} GFLOP/s, {ours / product:.2f} of a large matrix product's "
        f"{product:.0f}"
    )
