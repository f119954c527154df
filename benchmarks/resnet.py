"""A round of SplitFed v1 on ResNet-18 against the same round in PyTorch.

    python -m benchmarks.resnet --width 0.25 --turns 9

Group norm, cut after the first residual block, ten clients with batches of 16, nothing
pruned, quantised or dropped; client models averaged every 5 rounds.
"""

import argparse
from functools import partial

from benchmarks.contest import report, seconds, share_of_product
from benchmarks.round import BATCH, CLIENTS, INTERVAL, block_of, over_cores


CUT = 3


def network(width: float):
    """Returns our network, not cut."""
    from fedjax_sl.models.options import Options
    from fedjax_sl.models.resnet import resnet

    return resnet(18, Options(width=width))


def compiled(width: float):
    """Builds our block of rounds."""
    nothing = {"prune_ratio": 0.0, "bits": 32, "dropout_rate": 0.0}
    return block_of(*over_cores(network(width).at(CUT)), **nothing)


def pytorch(width: float):
    """Builds PyTorch's block of rounds."""
    from benchmarks.torch_resnet import block_of

    return block_of(width, clients=CLIENTS, batch=BATCH, interval=INTERVAL)


def main() -> None:
    """Prints a table of examples per second and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=9)
    chosen = parser.parse_args()
    contenders = {
        "fedjax_sl": partial(compiled, chosen.width),
        "PyTorch, one merged server pass": partial(pytorch, chosen.width),
    }
    taken = seconds(contenders, turns=chosen.turns)
    print(f"ResNet-18, width {chosen.width:g}, cut {CUT}, {CLIENTS} x {BATCH}\n")
    print(report(taken, CLIENTS * BATCH * INTERVAL))
    # Imported here, so that PyTorch's processes hold no JAX.
    from fedjax_sl.models.cost import macs

    whole = network(chosen.width).whole
    done = 3 * macs(whole, (32, 32, 3)) * CLIENTS * BATCH * INTERVAL
    print(f"\nfedjax_sl: {share_of_product(done, taken['fedjax_sl'])}")


if __name__ == "__main__":
    main()
