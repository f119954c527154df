"""Rate and distortion of every compressor, on arrays of a real training run.

    python -m benchmarks.compressors --figure docs/compressors.svg

Trains FedSL on CIFAR-10 (or on the embedded digits, with `--data digits`), and
compresses what a client would send early and late: its activations at the cut, and the
gradient of its half. Prints bits per entry against the squared error relative to the
squared norm, of one message each, and the time of compressing and rebuilding, in units
of a pass that reads and writes the array, on one core.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.codec import seconds
from fedjax_sl.algorithm import Examples
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import init_layers, send_layers
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.federation.cpu import prepare_cpu
from fedjax_sl.federation.server_pass import mean_loss
from fedjax_sl.fedsl.presets import PRESETS
from fedjax_sl.fedsl.spec import network
from fedjax_sl.models.split import apply
from fedjax_sl.runs.build import Job, prepare
from fedjax_sl.runs.programs import MOST_ROUNDS, programs_of
from fedjax_sl.training import batch_of


def family() -> dict[str, list[CompressorConfig]]:
    """The settings of each curve, from few bits to many."""

    def of(kind: str, **options: Any) -> CompressorConfig:
        return CompressorConfig(kind=kind, **options)

    shares = (0.01, 0.03, 0.1, 0.3)
    return {
        "QSGD, max norm": [of("qsgd", bits=b) for b in (2, 3, 4, 6, 8)],
        "QSGD, 2-norm, omega code": [
            of("qsgd", bits=b, norm="l2", coder="omega") for b in (2, 4, 6, 8, 10)
        ],
        "uniform": [of("uniform", bits=b) for b in (1, 2, 3, 4, 6, 8)],
        "uniform, nearest": [
            of("uniform", bits=b, rounding="nearest") for b in (1, 2, 3, 4, 6, 8)
        ],
        "uniform, nearest, Rice code": [
            of("uniform", bits=b, rounding="nearest", coder="rice")
            for b in (2, 3, 4, 5, 6, 8)
        ],
        "uniform, nearest, range code": [
            of("uniform", bits=b, rounding="nearest", coder="range")
            for b in (2, 3, 4, 5, 6, 8)
        ],
        "QSGD, 2-norm, range code": [
            of("qsgd", bits=b, norm="l2", coder="range") for b in (4, 6, 8, 10)
        ],
        "EDEN (DRIVE at 1 bit)": [of("eden", bits=b) for b in (1, 2, 3, 4, 6, 8)],
        "top-k": [of("top_k", keep=k) for k in shares],
        "top-k, 4 bits": [of("top_k", keep=k, values="qsgd", bits=4) for k in shares],
        "RandTopk, 4 bits": [
            of("rand_top_k", keep=k, values="qsgd", bits=4) for k in shares
        ],
        "random-k": [of("random_k", keep=k) for k in shares],
        "TernGrad": [of("terngrad")],
        "signs": [of("sign")],
        "natural": [of("natural")],
        "PowerSGD": [of("power_sgd", rank=r) for r in (1, 4, 16)],
    }


class Point(NamedTuple):
    """A message: bits per entry, and squared error relative to the squared norm."""

    bits: float
    error: float


def sent_of(job: Job, state: Any) -> dict[str, Any]:
    """What the first client would send: activations, and the gradient of its half."""
    model = network(job.config, job.train)  # type: ignore[arg-type]
    batch = batch_of(
        job.config.method,
        jax.random.key(1),
        Examples(jnp.asarray(job.train.image), jnp.asarray(job.train.label)),
        jnp.asarray(job.partition.index[0, : job.config.batch_size]),
        weight=jnp.ones(job.config.batch_size),
    )
    client = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], state.client)

    def loss(params):
        x, _ = apply(
            model.client, {**client, "params": params}, batch.image, train=True
        )
        logits, _ = apply(model.server, state.server, x, train=True)
        return mean_loss(logits, batch), x

    gradient, x = jax.jit(jax.grad(loss, has_aux=True))(client["params"])
    return {"activations": x, "gradient": gradient}


@jax.jit
def _sent(config: CompressorConfig, key: jax.Array, tree: Any):
    """The relative squared error of a tree, and the bits; one program for each kind."""
    compressor = config.compressor()
    mask = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), tree)
    states = init_layers(compressor, tree)
    received = send_layers(compressor, key, tree, mask, states=states)
    gap = jax.tree.map(jnp.subtract, received.values, tree)
    return (optax.global_norm(gap) / optax.global_norm(tree)) ** 2, received.bits


def measured(config: CompressorConfig, tree: Any) -> Point:
    """Sends every array of a tree once."""
    share, link = jax.device_get(_sent(config, jax.random.key(2), tree))
    size = sum(leaf.size for leaf in jax.tree.leaves(tree))
    bits = int(link.entries) * int(link.bits) + int(link.more) + int(link.side)
    return Point(bits / size, float(share))


Found = dict[str, dict[str, list[Point]]]
"""Points by what is sent, and by curve."""


def trained(config: RunConfig, stops: list[int]) -> Found:
    """Trains a run, and measures every compressor when so many rounds are done."""
    job = prepare(config)
    programs, found, done = programs_of(job), {}, 0
    state = programs.initial()
    for stop in stops:
        while done < stop:
            count = min(MOST_ROUNDS, stop - done)
            state, _ = programs.advance(state, done, count)
            done += count
        for name, tree in sent_of(job, jax.device_get(state)).items():
            found[f"{name}, round {stop}"] = {
                curve: [measured(config, tree) for config in configs]
                for curve, configs in family().items()
            }
    return found


def passes(config: CompressorConfig, size: int, turns: int) -> float:
    """Time of compressing and rebuilding, by that of reading and writing the array."""
    compressor, mask = config.compressor(), jnp.ones(size, bool)

    @jax.jit
    def there_and_back(key, x):
        payload, _ = compressor.compress(key, x, mask, ())
        return compressor.decompress(key, payload, mask)

    x, once = jax.random.normal(jax.random.key(0), (size,)), jax.jit(lambda x: 2 * x)
    both = [
        (
            seconds(
                lambda: there_and_back(jax.random.key(1), x).block_until_ready(), 1
            ),
            seconds(lambda: once(x).block_until_ready(), 3),
        )
        for _ in range(turns)
    ]
    return median(long / short for long, short in both)


def draw(found: Found, path: Path) -> None:
    """Draws the squared error against the bits of every compressor."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    # Sixteen curves: colours alone would come again after ten.
    markers, colors = "osv^D<>pPX*hd8H1", colormaps["tab20"].colors  # type: ignore[attr-defined]
    for axis, (title, curves) in zip(axes.flat, found.items(), strict=False):
        for number, (name, points) in enumerate(curves.items()):
            bits, errors = zip(*points, strict=True)
            look = {"marker": markers[number], "color": colors[number]}
            axis.plot(bits, errors, label=name, markersize=4, **look)
        axis.set(xscale="log", yscale="log", title=title)
        axis.set(ylim=(1e-5, 200))
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set(xlabel="bits an entry")
    for axis in axes[:, 0]:
        axis.set(ylabel="squared error / squared norm")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path)


def main() -> None:
    """Prints a table of bits and errors, and one of times."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--rounds", type=int, nargs=2, default=[20, 1500])
    parser.add_argument("--elements", type=int, default=2_400_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--figure", type=Path)
    chosen = parser.parse_args()
    prepare_cpu()
    jax.config.update("jax_num_cpu_devices", 1)
    config = PRESETS["splitfed-v1"].run
    config = replace(config, data=replace(config.data, name=chosen.data))
    found = trained(config, chosen.rounds)
    if chosen.figure:
        draw(found, chosen.figure)
    print("| compressor | " + " | ".join(found) + " | passes |")
    print("|---|" + "---|" * (len(found) + 1))
    for curve, configs in family().items():
        middle = len(configs) // 2
        taken = passes(configs[middle], chosen.elements, chosen.turns)
        for index in range(len(configs)):
            cells = [
                f"{point.bits:.2f}: {point.error:.3g}"
                for point in (curves[curve][index] for curves in found.values())
            ]
            last = f"{taken:.0f}" if index == middle else ""
            print(f"| {curve} | " + " | ".join(cells) + f" | {last} |", flush=True)


if __name__ == "__main__":
    main()
