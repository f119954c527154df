"""Length and speed of the coders of quantised levels, against entropy and constriction.

    python -m benchmarks.coders

Prints how much longer than their empirical entropy range-coded levels are, model
included and scales left out, in per cent; and millions of elements per second of whole
messages, on one core, without compilation. constriction (https://pypi.org/project/
constriction) is a range coder in Rust; it codes the same levels by their exact shares,
which it is given, without a header, mask or check.
"""

import argparse
from collections.abc import Callable
from typing import Any

import constriction
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.codec import seconds
from fedjax_sl.compression.code_length import entropy
from fedjax_sl.compressors import Compressor, qsgd, uniform


BITS = (2, 3, 4, 6, 8, 10)

Made = tuple[np.ndarray, Compressor]
"""Entries, and what compresses them."""


def distributions() -> dict[str, Callable[[np.random.Generator, int, Any], Made]]:
    """Entries of each distribution, and their compressor with b bits."""

    def of(draw, make, **options):
        def made(rng, size, bits):
            return draw(rng, size), make(bits=bits, coder="range", **options)

        return made

    def relu(rng, size):
        return np.maximum(rng.normal(size=size), 0)

    def laplace(rng, size):
        return rng.laplace(size=size)

    return {
        "normal, qsgd": of(lambda rng, size: rng.normal(size=size), qsgd),
        "Laplace, qsgd": of(laplace, qsgd),
        "Laplace, qsgd, 2-norm": of(laplace, qsgd, norm="l2"),
        "ReLU of normal, uniform, nearest": of(relu, uniform, rounding="nearest"),
    }


def payload_of(made: Made) -> Any:
    """The payload of all entries, on the host."""
    x, compressor = made
    everything = jnp.ones(x.shape, bool)
    x = jnp.asarray(x, jnp.float32)
    return jax.device_get(compressor.compress(jax.random.key(0), x, everything, ())[0])


def closeness(size: int) -> None:
    """Prints a table of entropies and of what messages take more."""
    print(f"\n| {size} elements | " + " | ".join(f"{b} bits" for b in BITS) + " |")
    print("|---|" + "---|" * len(BITS))
    for name, make in distributions().items():
        cells = []
        for bits in BITS:
            made = make(np.random.default_rng(bits), size, bits)
            payload = payload_of(made)
            message = made[1].wire.encode(payload, np.ones(size, bool))
            scales = 32 * (len(payload) - 1)
            each = entropy(payload.level)
            more = (message.num_bits - scales) / (size * each) - 1
            cells.append(f"{each:.2f}: +{100 * more:.2g} %")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def speed(size: int, turns: int) -> None:
    """Prints a table of millions of elements a second."""
    print("\n| normal, qsgd | bits/element | encode M/s | decode M/s | count M/s |")
    print("|---|---|---|---|---|")
    x, mask = np.random.default_rng(0).normal(size=size), np.ones(size, bool)
    for bits, coder in ((4, "range"), (8, "range"), (8, "rice"), (8, "fixed")):
        compressor = qsgd(bits=bits, coder=coder)
        payload, wire = payload_of((x, compressor)), compressor.wire
        message, count = wire.encode(payload, mask), jax.jit(wire.count)
        calls = (
            lambda wire=wire, payload=payload: wire.encode(payload, mask),
            lambda wire=wire, m=message: wire.decode(jax.random.key(0), m, mask),
            lambda count=count, payload=payload: jax.block_until_ready(
                count(payload, mask)
            ),
        )
        rates = " | ".join(f"{size / 1e6 / seconds(call, turns):.0f}" for call in calls)
        print(
            f"| {coder}, {bits} bits | {message.num_bits / size:.3f} | {rates} |",
            flush=True,
        )
        if coder == "range":
            baseline(payload.level, turns)


def baseline(levels: np.ndarray, turns: int) -> None:
    """Prints the row of constriction's range coder."""
    codes = levels - levels.min()
    share = (np.bincount(codes) / codes.size).astype(np.float32)
    model = constriction.stream.model.Categorical(share, perfect=False)

    def write():
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(codes, model)
        return encoder.get_compressed()

    def read():
        return constriction.stream.queue.RangeDecoder(words).decode(model, codes.size)

    words = write()
    rates = [codes.size / 1e6 / seconds(call, turns) for call in (write, read)]
    length = 32 * len(words) / codes.size
    print(f"| constriction | {length:.3f} | {rates[0]:.0f} | {rates[1]:.0f} | |")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**4, 10**5, 10**6])
    parser.add_argument("--elements", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 1)
    for size in chosen.sizes:
        closeness(size)
    speed(chosen.elements, chosen.turns)


if __name__ == "__main__":
    main()
