"""The first line of a run: what is trained, for how long, and on what."""

import jax

from fedjax_sl.runs.build import Job


def _network(job: Job) -> str:
    """The network and its size, as far as the method tells them."""
    name, count = job.config.network, job.method.parameters
    if count is None:
        return f"{name}, " if name else ""
    size = f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"
    return f"{name or 'network'} ({size} parameters), "


def headline(job: Job) -> str:
    """Says in a line what a run trains.

    Args:
      job: the run.

    Returns:
      Such as "FedSL: VGG-11 of width 0.25 (0.61 M parameters), 10 clients, 24.4 epochs
      (220 rounds) of digits (1,442 images, 355 to test on), on 1 x cpu".
    """
    config, examples = job.config, len(job.train.label)
    epochs = config.rounds * config.epochs_per_round(examples)
    return (
        f"{config.title}: {_network(job)}{config.data.num_clients} clients, "
        f"{epochs:.3g} epochs ({config.rounds} rounds) of {job.train.name} "
        f"({examples:,} images, {len(job.test.label):,} to test on), "
        f"on {jax.device_count()} x {jax.devices()[0].device_kind}"
    )
