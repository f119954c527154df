"""Cost of the techniques: FedSL's round against a round without them.

    python -m benchmarks.techniques

The setup is that of `benchmarks.round`. Scores by magnitude, or from the local steps,
need no pass of their own, so the difference is the cost of masks and their choice,
quantisation, dropout and counting. A scoring pass is a forward and backward of all
clients whenever models are averaged.
"""

import argparse
from functools import partial

from benchmarks.contest import report, seconds
from benchmarks.round import (
    BATCH,
    CLIENTS,
    CUT,
    DEPTH,
    INTERVAL,
    cohort_of,
    compiled,
    mapped,
)


def plain(width: float):
    """Builds the same blocks of rounds without techniques."""
    import jax
    import optax

    from benchmarks.plain import round_of, start

    model, over = mapped(width)
    cohort, optimizer = cohort_of(), optax.sgd(0.01, momentum=0.9)

    @partial(jax.jit, donate_argnums=0)
    def interval(state):
        def round(state, _):
            return round_of(model, optimizer, over, INTERVAL, state, cohort), None

        return jax.lax.scan(round, state, length=INTERVAL)[0]

    held = [start(model, optimizer, CLIENTS, jax.random.key(0))]

    def block():
        held[0] = interval(held[0])
        jax.block_until_ready(held[0])

    block()
    return block


def main() -> None:
    """Prints a table of examples per second and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=9)
    chosen = parser.parse_args()
    contenders = {
        "no technique": partial(plain, chosen.width),
        "all, importance by magnitude": partial(
            compiled, chosen.width, importance="magnitude"
        ),
        "all, Taylor scores of the steps": partial(compiled, chosen.width),
        "all, Taylor scores of a pass": partial(compiled, chosen.width, scoring="pass"),
    }
    taken = seconds(contenders, turns=chosen.turns)
    print(f"VGG-{DEPTH}, width {chosen.width:g}, cut {CUT}, {CLIENTS} x {BATCH}\n")
    print(report(taken, CLIENTS * BATCH * INTERVAL))


if __name__ == "__main__":
    main()
