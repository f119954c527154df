"""Savings of FedLP-Q over FedAvg: the cost columns of its published table.

Parameters are counted, not bits, so quantisation does not matter: the expected number
sent, up and down, relative to twice the network. Operations are those of one forward
pass of a client's network, as the profiler thop counts them.
"""

from typing import NamedTuple

import numpy as np

from fedjax_sl.checks import check_choice
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.config import PREFERENCES, Preference
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.fedlpq.traffic import layers_of
from fedjax_sl.models.cost import layer_costs
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn


CIFAR_SHAPE = (32, 32, 3)

PUBLISHED_BASE = 36.36
"""MFLOPs of the whole network that the published reductions follow from. Counting gives
39.356; a slip of one digit would explain it."""


class Network(NamedTuple):
    """Sizes and operations of the networks of rising complexity.

    Attributes:
      shared: parameters shared with the whole network, the ones that are sent; `[5]`.
      mflops: millions of operations for one example; `[5]`.
    """

    shared: np.ndarray
    mflops: np.ndarray


class Saving(NamedTuple):
    """One row of the table.

    Attributes:
      scheme: its published name.
      moved: expected parameters that a client sends and receives in a round.
      params: share of FedAvg's traffic saved.
      mflops: expected millions of operations for an example.
      flops: share of FedAvg's operations saved.
      mflops_published, flops_published: the same with the published base.
    """

    scheme: str
    moved: float
    params: float
    mflops: float
    flops: float
    mflops_published: float
    flops_published: float


def networks() -> Network:
    """Counts the sub-models of the six-convolution network, for CIFAR-10."""
    models = [cifar_cnn(complexity=c) for c in COMPLEXITIES]
    layers = layers_of([template(model, CIFAR_SHAPE) for model in models], "module")
    operations = [
        sum(layer.operations for layer in layer_costs(model, CIFAR_SHAPE))
        for model in models
    ]
    # Private layers are no layers of the whole network, and so are not in the product.
    return Network(layers.owned @ layers.params, np.array(operations) / 1e6)


def homogeneous(keep_probability: float) -> Saving:
    """Savings if all train the whole network and send each layer with probability p.

    Traffic (1 + p) M instead of 2 M; the operations are FedAvg's.

    Args:
      keep_probability: p, in (0, 1].

    Returns:
      A `Saving`.

    Raises:
      ValueError: if p is out of range.
    """
    if not 0 < keep_probability <= 1:
        raise InputError(
            f"keep_probability={keep_probability}: expected a number in (0, 1]."
        )
    network = networks()
    size, mflops = float(network.shared[-1]), float(network.mflops[-1])
    return Saving(
        scheme=f"({keep_probability:g})",
        moved=(1 + keep_probability) * size,
        # Of a half: whatever is not sent up, the whole network goes down.
        params=(1 - keep_probability) / 2,
        mflops=mflops,
        flops=0.0,
        mflops_published=PUBLISHED_BASE,
        flops_published=0.0,
    )


def heterogeneous(preference: Preference) -> Saving:
    """Savings if clients have complexity c with probability Pr(c).

    Traffic 2 sum_c Pr(c) S_c parameters. The operations of complexity 5 are the base
    itself, so the published base changes both sides of the quotient.

    Args:
      preference: "1", "3", "5" or "u".

    Returns:
      A `Saving`.

    Raises:
      ValueError: if the preference is unknown.
    """
    check_choice("preference", preference, Preference)
    network, chances = networks(), np.array(PREFERENCES[preference])
    moved = float(2 * chances @ network.shared)
    mflops = float(chances @ network.mflops)
    published = float(chances @ np.array([*network.mflops[:-1], PUBLISHED_BASE]))
    return Saving(
        scheme=f"({preference})",
        moved=moved,
        params=1 - moved / float(2 * network.shared[-1]),
        mflops=mflops,
        flops=1 - mflops / float(network.mflops[-1]),
        mflops_published=published,
        flops_published=1 - published / PUBLISHED_BASE,
    )
