"""The compiled FedLP-Q round against FedLP's round as a plain PyTorch loop.

    python -m benchmarks.fedlpq --batch 10 --turns 9

The six-convolution network, ten clients of 500 examples each, one local epoch of SGD; a
block is one round. Ours prunes layers, quantises and counts bits; PyTorch's prunes.
"""

import argparse
import os
from functools import partial
from typing import Literal

from benchmarks.contest import report, seconds, share_of_product


CLIENTS, EXAMPLES = 10, 500


def compiled(
    batch: int,
    preference: Literal["u"] | None = None,
    precision: Literal["float32", "bf16"] = "float32",
):
    """Builds our round: clients one after another on each core's device."""
    import jax

    from fedjax_sl.algorithm import Cohort, Examples
    from fedjax_sl.federation.cpu import prepare_cpu
    from fedjax_sl.federation.devices import mesh, sharded
    from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
    from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn

    prepare_cpu()
    config = FedLPQConfig(optimizer="sgd", learning_rate=0.01, preference=preference)
    models = [
        cifar_cnn(complexity=complexity, precision=precision)
        for complexity in COMPLEXITIES
    ]
    algorithm = fedlpq(
        models if preference else models[-1],
        config,
        num_clients=CLIENTS,
        over_clients=sharded(mesh(CLIENTS)),
    )
    key = jax.random.key(0)
    shape = (CLIENTS, EXAMPLES // batch, batch)
    size = CLIENTS * EXAMPLES
    cohort = Cohort(
        client_id=jax.numpy.arange(CLIENTS),
        index=jax.numpy.arange(size).reshape(shape),
        weight=jax.numpy.ones(shape),
        num_examples=jax.numpy.full((CLIENTS,), EXAMPLES),
        examples=Examples(
            image=jax.random.bits(key, (size, 32, 32, 3), "uint8"),
            label=jax.random.randint(key, (size,), 0, 10),
        ),
    )
    step = jax.jit(algorithm.round, donate_argnums=0)
    held = [jax.jit(algorithm.init)(key)]

    def block():
        held[0], metrics = step(held[0], cohort, jax.random.fold_in(key, 1))
        jax.block_until_ready(metrics)

    block()  # the first call's input is laid out otherwise, and compiles for itself
    return block


def pytorch(batch: int):
    """Builds PyTorch's round."""
    from benchmarks.torch_fedlp import FedLP

    return FedLP(
        clients=CLIENTS, examples=EXAMPLES, batch=batch, threads=os.cpu_count() or 1
    )


def main() -> None:
    """Prints a table of examples per second and ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--turns", type=int, default=9)
    chosen = parser.parse_args()
    contenders = {
        "fedjax_sl": partial(compiled, chosen.batch),
        "PyTorch": partial(pytorch, chosen.batch),
        "fedjax_sl, sub-models (u)": partial(compiled, chosen.batch, "u"),
        "fedjax_sl, products in bf16": partial(
            compiled, chosen.batch, precision="bf16"
        ),
    }
    taken = seconds(contenders, turns=chosen.turns)
    print(f"six-convolution network, {CLIENTS} x {EXAMPLES}, batch {chosen.batch}\n")
    print(report(taken, CLIENTS * EXAMPLES))
    # Here, so that PyTorch's process holds no JAX.
    from fedjax_sl.models import cifar_cnn
    from fedjax_sl.models.cost import layer_costs

    macs = sum(layer.macs for layer in layer_costs(cifar_cnn(), (32, 32, 3)))
    done = 3 * macs * CLIENTS * EXAMPLES
    print(f"\nfedjax_sl: {share_of_product(done, taken['fedjax_sl'])}")


if __name__ == "__main__":
    main()
