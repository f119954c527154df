"""A sweep of 16 points as one program, against 16 single runs.

    python -m benchmarks.sweep

FedSL on random images: quarter-width VGG-11 cut after its 4th convolution, eight
clients with batches of 16; learning rates, ratios, bit widths and seeds differ. Every
contender starts in its own process, with nothing compiled.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from statistics import median
from typing import Any

from fedjax_sl.federation.cpu import prepare_cpu


CLIENTS, BATCH = 8, 16


def points_of() -> list[Any]:
    """Returns 16 configurations with seeds."""
    from fedjax_sl.fedsl import FedSLConfig

    return [
        (FedSLConfig(cohort_size=CLIENTS, learning_rate=r, prune_ratio=p, bits=b), s)
        for r, p, b, s in product((0.01, 0.02), (0.2, 0.5), (4, 8), (0, 1))
    ]


def run_of(rounds: int, over):
    """Returns a run as a function of its point, its clients mapped by `over`."""
    import jax
    import numpy as np

    from fedjax_sl.data import iid
    from fedjax_sl.data.dataset import Dataset
    from fedjax_sl.fedsl import fedsl
    from fedjax_sl.models import split_vgg
    from fedjax_sl.simulation import simulate

    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(1000, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(10, size=1000, dtype=np.int32)
    dataset = Dataset(
        image=images, label=labels, name="noise", class_names=tuple("0123456789")
    )

    def run(point):
        config, seed = point
        state, history = simulate(
            fedsl(split_vgg(11, cut=4, width=0.25), config, over_clients=over),
            dataset,
            iid(np.random.default_rng(0), labels, CLIENTS),
            jax.random.key(seed),
            test=dataset,
            rounds=rounds,
            batch_size=BATCH,
            eval_every=rounds,
        )
        return history.evaluation[""], state.server["params"]

    return run


def alone(place: int, rounds: int, turns: int) -> list[float]:
    """Returns seconds of the calls of one point's program, clients on all devices."""
    prepare_cpu()
    import jax

    from fedjax_sl.federation.memory import mapping_named

    over = mapping_named("auto", cohort_size=CLIENTS, client_bytes=1)
    point = points_of()[place]
    program = jax.jit(run_of(rounds, over))
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        jax.block_until_ready(program(point))
        taken.append(time.perf_counter() - started)
    return taken


def together(rounds: int) -> tuple[float, int]:
    """Returns seconds of the sweep, and programs compiled after its first results."""
    prepare_cpu()
    import jax

    from fedjax_sl.federation.clients import in_groups
    from fedjax_sl.sweep import results

    compiled = []

    def listen(event: str, duration_secs: float, **_) -> None:
        if "backend_compile" in event:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    run, early = run_of(rounds, in_groups), None
    started = time.perf_counter()
    for _ in results(run, points_of(), at_a_time=jax.device_count()):
        early = len(compiled) if early is None else early
    return time.perf_counter() - started, len(compiled) - (early or 0)


def elsewhere(function, *arguments):
    """Calls a function in a new process, and returns its result."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--processes", type=int, default=4, help="timed of the 16")
    chosen = parser.parse_args()
    rounds = chosen.rounds
    count = len(points_of())
    first, *later = elsewhere(alone, 0, rounds, 4)
    steady = median(later)
    bound = first - steady + count * steady
    print(f"one run of {rounds} rounds: {first:.1f} s, {steady:.1f} s once compiled\n")
    print("| | seconds | of one compilation and 16 steady runs |\n|---|---|---|")
    print(
        f"| one compilation and {count} steady runs | {bound:.1f} | 1.00 |", flush=True
    )
    swept, late = elsewhere(together, rounds)
    print(f"| sweep | {swept:.1f} | {swept / bound:.2f} |", flush=True)
    started = time.perf_counter()
    for place in range(chosen.processes):
        elsewhere(alone, place, rounds, 1)
    apart = (time.perf_counter() - started) * count / chosen.processes
    print(
        f"| {count} processes, of which {chosen.processes} timed | {apart:.1f} | "
        f"{apart / bound:.2f} |"
    )
    print(f"\nprograms compiled after the sweep's first results: {late}")


if __name__ == "__main__":
    main()
