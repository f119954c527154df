"""Draws and checks the cohorts of FedLP-Q."""

from typing import Any

import jax

from fedjax_sl.algorithm import Cohort
from fedjax_sl.data.cohort import check_images, draw_epochs
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.state import Context


def draw(
    context: Context,
    key: jax.Array,
    dataset: Dataset,
    partition: Partition,
    **rest: Any,
) -> Cohort:
    """Draws E epochs over all examples of each client of the cohort."""
    if len(partition.count) != context.num_clients:
        raise InputError(
            f"partition of {len(partition.count)} clients: expected "
            f"num_clients={context.num_clients}, each of whom has a private head."
        )
    return draw_epochs(
        key,
        dataset,
        partition,
        cohort_size=context.config.cohort_size,
        epochs=context.config.local_epochs,
        **rest,
    )


def check_cohort(context: Context, cohort: Cohort) -> None:
    """Rejects a cohort whose steps are not E epochs of equal length."""
    steps, epochs = cohort.index.shape[1], context.config.local_epochs
    # `train` tells the epoch of a step by dividing, for the keys of augmentation.
    if steps % epochs:
        raise InputError(
            f"cohort of {steps} steps a client: expected a multiple of "
            f"local_epochs={epochs}."
        )
    if context.config.control_variates and cohort.fault is not None:
        raise InputError(
            "corrupted messages with control_variates: expected none, as client and "
            "server would compute different controls from them."
        )
    check_images(cohort.examples.image, context.input_shape)
