"""Benchmarks an accelerator with one command, in under ten minutes.

    python -m benchmarks.accelerator > docs/accelerator.md

It times the convolution lowerings, which decide `auto`, and rounds of both methods for
each precision and number of clients at a time. `--turns 1 --width 0.05` tests it on a
machine without an accelerator.
"""

import argparse
import time
from statistics import median

import jax

from benchmarks import conv
from benchmarks.fedlpq import CLIENTS as FEDLPQ_CLIENTS
from benchmarks.round import BATCH, CLIENTS, CUT, DEPTH, cohort_of
from fedjax_sl.federation.clients import ClientMap, chunks, vmap
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedsl import FedSLConfig, fedsl
from fedjax_sl.models import cifar_cnn, split_vgg


PRECISIONS = ("float32", "tf32", "bf16")
MAPPINGS: dict[str, ClientMap] = {"5 at a time": chunks(5), "all at once": vmap}
FEDLPQ_STEPS = 10


def rate(algorithm, cohort, turns: int) -> float:
    """Returns the examples per second of compiled rounds."""
    key = jax.random.key(0)
    state = jax.jit(algorithm.init)(key)
    round = jax.jit(algorithm.round, donate_argnums=0)
    taken = []
    for _ in range(turns + 1):
        started = time.perf_counter()
        state, metrics = round(state, cohort, key)
        jax.block_until_ready((state, metrics))
        taken.append(time.perf_counter() - started)
    return float(cohort.weight.sum()) / median(taken[1:])


def fedsl_rate(width: float, precision, over: ClientMap, turns: int) -> float:
    """Returns the rate of FedSL with every technique on."""
    model = split_vgg(DEPTH, cut=CUT, width=width, precision=precision)
    config = FedSLConfig(cohort_size=CLIENTS, learning_rate=0.01)
    return rate(fedsl(model, config, over_clients=over), cohort_of(), turns)


def fedlpq_rate(width: float, precision, over: ClientMap, turns: int) -> float:
    """Returns the rate of FedLP-Q, with some steps of each client."""
    config = FedLPQConfig(cohort_size=FEDLPQ_CLIENTS, optimizer="sgd")
    model = cifar_cnn(width=width, precision=precision)
    algorithm = fedlpq(model, config, num_clients=FEDLPQ_CLIENTS, over_clients=over)
    fedsl_cohort = cohort_of()
    cohort = fedsl_cohort._replace(
        index=fedsl_cohort.index[:, :, :10].repeat(FEDLPQ_STEPS, axis=1),
        weight=fedsl_cohort.weight[:, :, :10].repeat(FEDLPQ_STEPS, axis=1),
    )
    return rate(algorithm, cohort, turns)


def main() -> None:
    """Prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    device = jax.devices()[0]
    print(
        f"# {device.device_kind}\n\nJAX {jax.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    methods = {
        f"FedSL, VGG-{DEPTH}, cut {CUT}, {CLIENTS} x {BATCH}": fedsl_rate,
        f"FedLP-Q, {FEDLPQ_CLIENTS} clients, batch 10": fedlpq_rate,
    }
    for title, measure in methods.items():
        print(f"\n## {title}: examples/s\n\n| clients | {' | '.join(PRECISIONS)} |")
        print("|---|" + "---|" * len(PRECISIONS))
        for name, over in MAPPINGS.items():
            rates = [measure(chosen.width, p, over, chosen.turns) for p in PRECISIONS]
            cells = " | ".join(f"{one:.0f}" for one in rates)
            print(f"| {name} | {cells} |", flush=True)
    print("\n## Convolutions: GFLOP/s\n")
    conv.print_table("float32", chosen.turns)


if __name__ == "__main__":
    main()
