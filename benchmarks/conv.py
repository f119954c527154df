"""Speed of each lowering of a convolution, forward and backward, as rounds run it.

    python -m benchmarks.conv

3x3 kernels inside a loop, each core of a CPU a device, at the shapes of a round: the
six-convolution network with batches of 10, and a VGG-19 cut after its 4th convolution,
whose server half sees the batches of 5 clients as one. Rates count the operations of a
direct convolution. The last line is a large matrix product, which only Winograd's
tiles, with fewer operations, can beat.
"""

import argparse
import time
from functools import partial
from statistics import median
from typing import get_args

import jax
import jax.numpy as jnp

from fedjax_sl.federation.cpu import prepare_cpu
from fedjax_sl.layers.conv import LOWERINGS, Lowering, choose, conv
from fedjax_sl.layers.precision import Precision


SHAPES = {
    "CNN": [
        (10, 32, 3, 32),
        (10, 32, 32, 32),
        (10, 16, 32, 64),
        (10, 16, 64, 64),
        (10, 8, 64, 128),
        (10, 8, 128, 128),
    ],
    "VGG, width 0.25": [
        (16, 32, 3, 16),
        (16, 32, 16, 16),
        (16, 16, 32, 32),
        (80, 8, 64, 64),
        (80, 4, 128, 128),
        (80, 2, 128, 128),
    ],
    "VGG, width 1": [
        (16, 32, 64, 64),
        (16, 16, 128, 128),
        (80, 8, 256, 256),
        (80, 4, 512, 512),
        (80, 2, 512, 512),
    ],
}
"""Batch, height (and width), input and output channels."""

SECONDS = 0.25
"""Seconds that a turn takes."""


def gigaflops(step, start, flops: float, *, turns: int) -> float:
    """Returns the rate of a step, looped on all devices for about `SECONDS`."""
    devices = jax.local_device_count()
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (devices, *x.shape)), start)
    program = jax.pmap(
        lambda carry, length: jax.lax.fori_loop(0, length, lambda _, c: step(c), carry),
        in_axes=(0, None),
    )

    def taken(length: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(program(each, length))
        return time.perf_counter() - started

    taken(1)
    once = taken(1)
    length = max(1, int(SECONDS / once))
    seconds = median(taken(length) for _ in range(turns))
    return devices * length * flops / seconds / 1e9


def lowering_rate(
    name: Lowering,
    shape: tuple[int, int, int, int],
    *,
    precision: Precision,
    turns: int,
) -> float:
    """Returns the GFLOP/s of forward and backward passes; images need no gradient."""
    batch, size, inputs, outputs = shape
    images = inputs == 3
    key = jax.random.key(0)
    x = jax.random.normal(key, (batch, size, size, inputs))
    kernel = 0.1 * jax.random.normal(key, (3, 3, inputs, outputs))

    def step(carry):
        x, kernel = carry
        way = partial(conv, lowering=name, precision=precision)
        y, back = jax.vjp(way, x, kernel)
        dx, dkernel = back(y)
        return x if images else x + 1e-6 * dx, kernel + 1e-6 * dkernel

    flops = (2 if images else 3) * 2 * 9 * batch * size**2 * inputs * outputs
    return gigaflops(step, (x, kernel), flops, turns=turns)


def product_rate(turns: int, size: int = 1024) -> float:
    """Returns the GFLOP/s of a square float32 matrix product."""
    x = jax.random.normal(jax.random.key(0), (size, size)) / size
    return gigaflops(lambda a: a @ x, x, 2 * size**3, turns=turns)


def print_table(precision: Precision, turns: int) -> None:
    """Prints the rates of each shape, with the choice of `auto` in bold."""
    print("| network | batch, size, channels | " + " | ".join(LOWERINGS) + " |")
    print("|---|---|" + "---|" * len(LOWERINGS))
    for network, shapes in SHAPES.items():
        for shape in shapes:
            batch, size, inputs, outputs = shape
            chosen = choose(
                (batch, size, size, inputs),
                (3, 3, inputs, outputs),
                jax.default_backend(),
                precision,
            )
            cells = []
            for name in LOWERINGS:
                rate = lowering_rate(name, shape, precision=precision, turns=turns)
                cells.append(f"**{rate:.0f}**" if name == chosen else f"{rate:.0f}")
            what = f"{batch}, {size}x{size}, {inputs} to {outputs}"
            print(f"| {network} | {what} | {' | '.join(cells)} |", flush=True)
    print(f"\nlarge matrix product: {product_rate(turns):.0f} GFLOP/s")


def main() -> None:
    """Prints a table of GFLOP/s."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    chosen = parser.parse_args()
    prepare_cpu()
    print(f"{jax.devices()[0].device_kind}, {chosen.precision}, GFLOP/s\n")
    print_table(chosen.precision, chosen.turns)


if __name__ == "__main__":
    main()
