"""Time and memory of a round against the numbers of clients and devices.

    python -m benchmarks.scaling

Clients of fixed size, one at a time on each device, each number of clients in a process
of its own. FedLP-Q: the six-convolution network at half width, 20 examples a client in
batches of 10. FedSL: a quarter-width VGG-11, cut after its 4th convolution, batch 8.
"""

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

from fedjax_sl.federation.cpu import num_cores


class Round(NamedTuple):
    """Seconds of a round, temporary bytes of its program, peak bytes of its process."""

    seconds: float
    temporary: int
    peak: int


def cohort_of(clients: int, steps: int, batch: int):
    """Returns a cohort of clients that share 1,000 random images."""
    import jax
    import jax.numpy as jnp

    from fedjax_sl.algorithm import Cohort, Examples

    key = jax.random.key(0)
    shape = (clients, steps, batch)
    return Cohort(
        client_id=jnp.arange(clients),
        index=jax.random.randint(key, shape, 0, 1000),
        weight=jnp.ones(shape),
        num_examples=jnp.full((clients,), steps * batch),
        examples=Examples(
            image=jax.random.bits(key, (1000, 32, 32, 3), "uint8"),
            label=jax.random.randint(key, (1000,), 0, 10),
        ),
    )


def fedlpq_round(clients: int):
    """Returns the algorithm and a cohort."""
    from fedjax_sl.federation.devices import mesh, sharded
    from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
    from fedjax_sl.models import cifar_cnn

    config = FedLPQConfig(cohort_size=clients, optimizer="sgd", learning_rate=0.01)
    model, over = cifar_cnn(width=0.5), sharded(mesh(clients))
    algorithm = fedlpq(model, config, num_clients=clients, over_clients=over)
    return algorithm, cohort_of(clients, 2, 10)


def fedsl_round(clients: int):
    """Returns the algorithm and a cohort."""
    from fedjax_sl.federation.devices import mesh, sharded
    from fedjax_sl.fedsl import FedSLConfig, fedsl
    from fedjax_sl.models import split_vgg

    config = FedSLConfig(cohort_size=clients, interval=1)
    model, over = split_vgg(11, cut=4, width=0.25), sharded(mesh(clients))
    return fedsl(model, config, over_clients=over), cohort_of(clients, 1, 8)


def measure(make, clients: int, devices: int, turns: int) -> Round:
    """Compiles and times a round on so many devices, one for each core."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    algorithm, cohort = make(clients)
    key = jax.random.key(1)
    state = jax.jit(algorithm.init)(key)
    # The state is donated, as in a simulation, so that memory holds it once.
    round = jax.jit(algorithm.round, donate_argnums=0)
    program = round.lower(state, cohort, key).compile()
    taken = []
    for _ in range(turns + 1):
        started = time.perf_counter()
        state, metrics = program(state, cohort, key)
        jax.block_until_ready((state, metrics))
        taken.append(time.perf_counter() - started)
    return Round(
        median(taken[1:]),
        program.memory_analysis().temp_size_in_bytes,  # type: ignore[union-attr]
        1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def print_row(make, clients: int, devices: int, turns: int) -> None:
    """Prints the measurements for one number of clients and devices."""
    # In its own process, since the peak of memory is that of a process.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = pool.submit(partial(measure, make, clients, devices, turns)).result()
    print(
        f"| {clients} | {devices} | {1000 * found.seconds / clients:.1f} | "
        f"{found.temporary / 1e6:.0f} | {found.peak / 1e6:.0f} |",
        flush=True,
    )


def main() -> None:
    """Prints a table for each method."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    cores = num_cores()
    for name, make in {"FedLP-Q": fedlpq_round, "FedSL": fedsl_round}.items():
        print(
            f"{name}\n\n| clients | devices | ms/client | temporary MB | process MB |"
        )
        print("|---|---|---|---|---|")
        for clients in chosen.clients:
            print_row(make, clients, cores, chosen.turns)
        for devices in range(1, cores):
            print_row(make, chosen.clients[-1], devices, chosen.turns)
        print()


if __name__ == "__main__":
    main()
