"""Detects runs that learn nothing: their loss stays near guessing, or explodes."""

import math
from collections.abc import Sequence
from typing import Any


NEAR = 0.98
"""Share of ln C above which a loss counts as that of guessing."""

FAR = 100
"""Times ln C from which on a loss has exploded, though it may be finite still."""

STEPS = 50
"""Optimiser steps of a client before a run is judged."""


def not_learning(
    lines: Sequence[dict[str, Any]], num_classes: int, *, warmup_rounds: int = 0
) -> str | None:
    """Returns a warning if a run does not learn.

    Guessing one of C classes has a cross-entropy of ln C. A run does not learn if
    training and test losses of at least the last two evaluations are near or above it,
    over at least `STEPS` steps; or if both are `FAR` times as large.

    Args:
      lines: lines of metrics.jsonl, in order.
      num_classes: C.
      warmup_rounds: over which the learning rate rises; until then it is not blamed.

    Returns:
      A sentence; None if something is learned, or if it is too early to say.
    """
    guessing = math.log(num_classes)
    named = f"that of guessing, ln {num_classes} = {guessing:.3f}"
    if lines and _guesses(lines[-1], FAR * guessing):
        return (
            f"the loss, {lines[-1]['test_loss']:.3g}, is far above {named}: the run "
            "diverges; a smaller learning rate may help."
        )
    first = len(lines)
    # Back to the first of the latest evaluations that are all at guessing.
    while first and _guesses(lines[first - 1], NEAR * guessing):
        first -= 1
    before = lines[first - 1] if first else {"round": 0, "step": 0}
    stuck = lines[first:]
    # In steps: a round is a single one in FedSL, and whole epochs in FedLP-Q.
    if len(stuck) < 2 or stuck[-1]["step"] - before["step"] < STEPS:
        return None
    done = stuck[-1]["round"]
    hint = (
        f"the learning rate is still in its warm-up of {warmup_rounds} rounds."
        if done < warmup_rounds
        else "a smaller learning rate may help."
    )
    return (
        f"for {done - before['round']} rounds the loss has been no lower than {named}: "
        f"nothing is learned; {hint}"
    )


def _guesses(line: dict[str, Any], loss: float) -> bool:
    # False for NaN, the training loss of rounds in which nobody answered.
    return line["train_loss"] >= loss and line["test_loss"] >= loss
