"""The compiled FedSL round against the same round as a plain PyTorch loop.

    python -m benchmarks.round --width 0.25 --turns 9

VGG-19 cut after its 4th convolution, ten clients with batches of 16, everything on:
filters pruned by Taylor scores, 8 bits, dropout 0.2, aggregation every 5 rounds. A
block is 5 rounds, so that it holds one aggregation and one choice of masks.
"""

import argparse
import os
from functools import partial
from typing import Literal

from benchmarks.contest import report, seconds, share_of_product


CLIENTS, BATCH, INTERVAL, CUT, DEPTH = 10, 16, 5, 4, 19


def mapped(width: float):
    """Returns the network, and a map of clients over one device for each core."""
    from fedjax_sl.models import split_vgg

    return over_cores(split_vgg(DEPTH, cut=CUT, width=width))


def over_cores(model, clients=CLIENTS):
    """Returns a network, and a map of clients over one device for each core."""
    from fedjax_sl.federation.cpu import prepare_cpu
    from fedjax_sl.federation.memory import mapping_named
    from fedjax_sl.fedsl.estimates.memory import client_bytes

    prepare_cpu()
    taken = client_bytes(model, BATCH)
    return model, mapping_named("auto", cohort_size=clients, client_bytes=taken)


def cohort_of(clients=CLIENTS):
    """Returns a cohort with one batch of random images for each client."""
    import jax

    from fedjax_sl.algorithm import Cohort, Examples

    key, shape, size = jax.random.key(0), (clients, 1, BATCH), clients * BATCH
    return Cohort(
        client_id=jax.numpy.arange(clients),
        index=jax.numpy.arange(size).reshape(shape),
        weight=jax.numpy.ones(shape),
        num_examples=jax.numpy.full((clients,), BATCH),
        examples=Examples(
            image=jax.random.bits(key, (size, 32, 32, 3), "uint8"),
            label=jax.random.randint(key, (size,), 0, 10),
        ),
    )


def compiled(width: float, **change):
    """Builds our block of rounds, with these options changed."""
    return block_of(*mapped(width), **change)


def block_of(model, over, clients=CLIENTS, **change):
    """Builds a block of rounds of a network, with these options changed."""
    import jax

    from fedjax_sl.fedsl import FedSLConfig, fedsl

    usual = {"prune_end": 50, "learning_rate": 0.01}
    config = FedSLConfig(cohort_size=clients, interval=INTERVAL, **usual | change)
    algorithm = fedsl(model, config, over_clients=over)
    key, cohort = jax.random.key(0), cohort_of(clients)

    @partial(jax.jit, donate_argnums=0)
    def interval(state):
        def round(state, _):
            round_key = jax.random.fold_in(key, state.round)
            return algorithm.round(state, cohort, round_key)

        return jax.lax.scan(round, state, length=INTERVAL)

    held = [jax.jit(algorithm.init)(key)]

    def block():
        held[0], metrics = interval(held[0])
        jax.block_until_ready(metrics)

    # The first call compiles for another layout of its input.
    block()
    return block


def pytorch(width: float, server: Literal["merged", "per_client"]):
    """Builds PyTorch's block of rounds."""
    from benchmarks.torch_fedsl import FedSL, Settings

    rounds = FedSL(
        Settings(
            depth=DEPTH,
            width=width,
            cut=CUT,
            clients=CLIENTS,
            batch=BATCH,
            interval=INTERVAL,
            server=server,
            threads=os.cpu_count() or 1,
        )
    )
    done = 0

    def block():
        nonlocal done
        for t in range(done, done + INTERVAL):
            rounds(t)
        done += INTERVAL

    return block


def main() -> None:
    """Prints a table of examples per second and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--turns", type=int, default=9)
    chosen = parser.parse_args()
    contenders = {
        "fedjax_sl": partial(compiled, chosen.width),
        "PyTorch, one merged server pass": partial(pytorch, chosen.width, "merged"),
        "PyTorch, a server pass per client": partial(
            pytorch, chosen.width, "per_client"
        ),
    }
    taken = seconds(contenders, turns=chosen.turns)
    print(f"VGG-{DEPTH}, width {chosen.width:g}, cut {CUT}, {CLIENTS} x {BATCH}\n")
    print(report(taken, CLIENTS * BATCH * INTERVAL))
    # Imported here, so that PyTorch's processes hold no JAX.
    from fedjax_sl.analysis.complexity import cut_costs
    from fedjax_sl.models.options import Options
    from fedjax_sl.models.vgg import vgg

    network = vgg(DEPTH, Options(width=chosen.width))
    (cost,) = [c for c in cut_costs(network) if c.cut == CUT]
    macs = 3 * (cost.client_macs + cost.server_macs) * CLIENTS * BATCH
    # The scoring pass for pruning is one more.
    done = (INTERVAL + 1) * macs
    print(f"\nfedjax_sl: {share_of_product(done, taken['fedjax_sl'])}")


if __name__ == "__main__":
    main()
