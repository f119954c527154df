"""Speed of the codec, and cost of counting bits inside a compiled program.

    python -m benchmarks.codec

10 million Gaussian numbers quantised with 10 bits, on one core, without compilation;
medians.
"""

import argparse
import time
from statistics import median
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.compression import decode, encode, message_bits, quantize
from fedjax_sl.compression.coding import Code


def seconds(function, turns: int) -> float:
    """Returns the median time of a call, after one to warm up."""
    function()
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return median(taken)


def main() -> None:
    """Prints a table of millions of elements per second."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--elements", type=int, default=10_000_000)
    parser.add_argument("--bits", type=int, default=10)
    parser.add_argument("--turns", type=int, default=9)
    chosen = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 1)
    key = jax.random.key(0)
    x = jax.random.normal(key, (chosen.elements,))

    def quantized(x):
        return quantize(key, x, levels=2**chosen.bits, norm="l2")

    layer = jax.tree.map(np.asarray, jax.jit(quantized)(x))
    millions = chosen.elements / 1e6
    print(f"{millions:g} M elements, b = {chosen.bits}\n")
    print("| code | bits/element | encode M/s | decode M/s | counting / quantising |")
    print("|---|---|---|---|---|")
    for code in get_args(Code):
        message = encode(layer, bits=chosen.bits, code=code)
        writing = seconds(
            lambda c=code: encode(layer, bits=chosen.bits, code=c), chosen.turns
        )
        reading = seconds(lambda m=message, c=code: decode(m, code=c), chosen.turns)

        @jax.jit
        def alone(x):
            return quantized(x)

        @jax.jit
        def counted(x, code=code):
            layer = quantized(x)
            return layer, message_bits(layer, bits=chosen.bits, code=code)

        x = jnp.asarray(x)
        without, beside = [], []
        for _ in range(chosen.turns):
            without.append(seconds(lambda x=x: jax.block_until_ready(alone(x)), 1))
            beside.append(seconds(lambda x=x: jax.block_until_ready(counted(x)), 1))
        extra = median(b / a for a, b in zip(without, beside, strict=True)) - 1
        print(
            f"| {code} | {message.num_bits / chosen.elements:.2f} | "
            f"{millions / writing:.0f} | {millions / reading:.0f} | {extra:.2f} |"
        )


if __name__ == "__main__":
    main()
