"""The first line of a run: what is trained, for how long, and on what."""

import jax
import numpy as np

from fedjax_sl.runs.build import Job


def _network(job: Job) -> str:
    """The network and its size, as far as the method tells them."""
    name, count = job.config.network, job.method.parameters
    if count is None:
        return f"{name}, " if name else ""
    size = f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count:,}"
    return f"{name or 'network'} ({size} parameters), "


def _epochs(job: Job) -> str:
    """Passes over the training examples, and whether chance decides their number."""
    config = job.config
    trained_on = config.trained_on(np.asarray(job.partition.count))
    answering = 1 - config.failure_probability
    share = answering * config.cohort_size / config.data.num_clients
    epochs = config.rounds * share * trained_on.sum() / len(job.train.label)
    # Of which clients a cohort is does not matter where all train on as much.
    drawn = config.cohort_size < config.data.num_clients and np.ptp(trained_on) > 0
    about = drawn or config.failure_probability > 0 or job.in_time is not None
    return f"{'about ' * bool(about)}{epochs:.3g} epochs"


def headline(job: Job) -> str:
    """Says in a line what a run trains.

    Args:
      job: the run.

    Returns:
      Such as "FedSL: VGG-11 of width 0.25 (0.61 M parameters), 10 clients, 24.4 epochs
      (220 rounds) of digits (1,442 images, 355 to test on), on 1 x cpu".
    """
    config, examples = job.config, len(job.train.label)
    return (
        f"{config.title}: {_network(job)}{config.data.num_clients} clients, "
        f"{_epochs(job)} ({config.rounds} rounds) of {job.train.name} "
        f"({examples:,} images, {len(job.test.label):,} to test on), "
        f"on {jax.device_count()} x {jax.devices()[0].device_kind}"
    )
