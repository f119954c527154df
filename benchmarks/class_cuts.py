"""A round with a cut for each class of devices, against one with the same cut for all.

    python -m benchmarks.class_cuts --clients 100 --turns 5

Quarter-width VGG-19, every technique on, batches of 16: a fourth of the clients is cut
after each of 2, 4, 6 and 8 convolutions, against all after their mean, 5, and after the
deepest.
"""

import argparse
from functools import partial

from benchmarks.contest import report, seconds
from benchmarks.round import BATCH, INTERVAL, block_of, over_cores


CUTS = (2, 4, 6, 8)


def compiled(cut: int | tuple[int, ...], clients: int):
    """Builds a block of rounds."""
    from fedjax_sl.models.options import Options
    from fedjax_sl.models.vgg import vgg

    model = vgg(19, Options(width=0.25)).at(cut)
    return block_of(*over_cores(model, clients), clients=clients)


def main() -> None:
    """Prints a table of examples per second, and times over that of the mean cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    mean = sum(CUTS) // len(CUTS)
    cuts = {
        f"all after {mean}": mean,
        f"{CUTS}": CUTS,
        f"all after {max(CUTS)}": max(CUTS),
    }
    contenders = {
        name: partial(compiled, cut, chosen.clients) for name, cut in cuts.items()
    }
    taken = seconds(contenders, turns=chosen.turns)
    print(f"{chosen.clients} clients; last column: time over that of the mean cut\n")
    print(report(taken, chosen.clients * BATCH * INTERVAL))


if __name__ == "__main__":
    main()
