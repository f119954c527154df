"""The `MethodSpec` of FedLP-Q, with FedLP and FedAvg as presets."""

from collections.abc import Callable

import jax
import numpy as np
from flax import linen as nn

from fedjax_sl.checks import is_plain
from fedjax_sl.configs.network_config import kind_of
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.federation.combine import trim_warnings
from fedjax_sl.federation.level_config import one_level
from fedjax_sl.federation.memory import check_fits
from fedjax_sl.fedlpq.config import usual_keep_probability
from fedjax_sl.fedlpq.estimates.cost_table import COSTS
from fedjax_sl.fedlpq.estimates.memory import (
    client_bytes,
    control_bytes,
    feedback_bytes,
    head_bytes,
)
from fedjax_sl.fedlpq.estimates.traffic import most
from fedjax_sl.fedlpq.method import fedlpq
from fedjax_sl.fedlpq.next_update import LINKS, sent_next
from fedjax_sl.fedlpq.panels import messages
from fedjax_sl.fedlpq.presets import PRESETS
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.method_spec import Built, ChooseMap, MethodSpec
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, cifar_cnn
from fedjax_sl.models.size import parameters_of
from fedjax_sl.traffic import Record


def networks(config: FedLPQRun, train: Dataset) -> list[nn.Module]:
    """Builds the networks for these images, of rising complexity, the whole one last.

    Raises:
      ValueError: if sub-models are configured of a network that has none.
    """
    model, preference = config.model, config.method.preference
    if model.name != "fedlp-cnn" or model.module is not None:
        if preference is not None:
            given = "name" if model.module is None else "module"
            raise InputError(
                f"preference={preference!r} with {given}={getattr(model, given)!r}: "
                "expected 'fedlp-cnn', the network that has sub-models."
            )
        return [model.build(model.name, kind_of(train)).whole]
    return [
        cifar_cnn(
            complexity=complexity,
            num_classes=train.num_classes,
            width=model.width,
            lowering=model.lowering,
            precision=model.precision,
            init=model.init,
        )
        for complexity in COMPLEXITIES
    ]


def _check_kept(config: FedLPQRun, models: list[nn.Module], shape) -> None:
    """Rejects heads or residuals that do not fit in a device's memory."""
    method = config.method
    clients = config.data.num_clients
    check_fits(
        head_bytes(models, shape, clients, method.head),
        clients=clients,
        what="private heads",
        instead="method.head='reset', which keeps none",
    )
    check_fits(
        feedback_bytes(models[-1], shape, method, num_clients=clients),
        clients=clients,
        what="residuals",
        instead="residuals='host', or method.updates.feedback='none', which keeps none",
        store=config.residuals,
    )
    check_fits(
        control_bytes(models[-1], shape, method, num_clients=clients),
        clients=clients,
        what="control variates",
        instead="residuals='host', or no method.control_variates",
        store=config.residuals,
    )


def _senders(config: FedLPQRun) -> float:
    """Clients of a cohort that send a layer, at least on average."""
    keep = usual_keep_probability(config.method)
    least = np.min(keep) if is_plain(keep) else 1.0
    return config.cohort_size * least * (1 - config.failure_probability)


def build(
    config: FedLPQRun, train: Dataset, partition: Partition, choose_map: ChooseMap
) -> Built:
    """Builds the method of a configuration; a client runs its epochs in a round."""
    method, models = config.method, networks(config, train)
    shape = train.image.shape[1:]
    # By the whole network: who trains which is drawn within the program.
    over = choose_map(client_bytes(models[-1], shape, config.batch_size))
    if method.preference is None:
        models = models[-1:]
    _check_kept(config, models, shape)

    def with_config(method):
        return fedlpq(
            models,
            method,
            num_clients=config.data.num_clients,
            input_shape=shape,
            residuals=config.residuals,
            over_clients=over,
        )

    # Of the client with most examples: batches of padding alone are no steps of others.
    steps = method.local_epochs * -(-partition.index.shape[1] // config.batch_size)
    whole = parameters_of(template(models[-1], shape))
    return Built(
        with_config(method),
        steps,
        over.devices,
        whole,
        with_config=with_config,
        warnings=(
            *trim_warnings(method, _senders(config)),
            *one_level(method.updates, method.levels),
        ),
    )


def traffic_bound(
    config: FedLPQRun, train: Dataset, partition: Partition
) -> Callable[[np.ndarray], Record]:
    """Bounds the traffic and work of each round: every layer of the whole network."""
    # A sub-model sends no layer that the whole network lacks, and takes fewer MACs.
    whole = networks(config, train)[-1]
    shape = train.image.shape[1:]
    once = most(whole, shape, config.method, partition.count)

    def at_rounds(rounds):
        return jax.tree.map(lambda x: np.broadcast_to(x, (len(rounds), len(x))), once)

    return at_rounds


FEDLPQ = MethodSpec(
    config=FedLPQRun,
    presets=PRESETS,
    build=build,
    traffic_bound=traffic_bound,
    panels=(messages,),
    sent_layers=sent_next,
    coded_links=tuple(LINKS),
    costs=COSTS,
)
