"""Cost of compressors: FedSL's round with one at a link against a round without.

    python -m benchmarks.compressed_round --link activations

The setup is that of `benchmarks.round`, without pruning, quantiser and dropout.
"""

import argparse
from functools import partial
from typing import Any

from benchmarks.contest import report, seconds
from benchmarks.round import BATCH, CLIENTS, CUT, DEPTH, INTERVAL, compiled


OPTIONS: dict[str, dict[str, Any]] = {
    "qsgd, 4 bits": dict(kind="qsgd", bits=4),
    "uniform, 4 bits, nearest": dict(kind="uniform", bits=4, rounding="nearest"),
    "uniform, 4 bits, nearest, Rice": dict(
        kind="uniform", bits=4, rounding="nearest", coder="rice"
    ),
    "qsgd, 4 bits, 2-norm, Elias": dict(kind="qsgd", bits=4, norm="l2", coder="omega"),
    "terngrad": dict(kind="terngrad"),
    "sign": dict(kind="sign"),
    "natural": dict(kind="natural"),
    "top_k, 10 %, 4 bits": dict(kind="top_k", values="qsgd", bits=4),
    "random_k, 10 %": dict(kind="random_k"),
    "rand_top_k, 10 %": dict(kind="rand_top_k"),
    "eden, 2 bits": dict(kind="eden", bits=2),
    "power_sgd, rank 4": dict(kind="power_sgd"),
}


def contender(width: float, link: str, options: dict[str, Any]):
    """Builds a block of rounds with this compressor at the link."""
    from fedjax_sl.compressors.config import CompressorConfig

    plain = {"prune_ratio": 0.0, "dropout_rate": 0.0, "bits": 32}
    return compiled(width, **plain, **{link: CompressorConfig(**options)})


def main() -> None:
    """Prints a table of examples per second and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--link", default="activations")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="parts of names")
    chosen = parser.parse_args()
    contenders = {"float32": partial(contender, chosen.width, chosen.link, {})}
    for name, options in OPTIONS.items():
        if not chosen.only or any(part in name for part in chosen.only):
            contenders[name] = partial(contender, chosen.width, chosen.link, options)
    taken = seconds(contenders, turns=chosen.turns)
    print(f"VGG-{DEPTH}, width {chosen.width:g}, cut {CUT}, {CLIENTS} x {BATCH};")
    print(f"a compressor of {chosen.link}\n")
    print(report(taken, CLIENTS * BATCH * INTERVAL))


if __name__ == "__main__":
    main()
