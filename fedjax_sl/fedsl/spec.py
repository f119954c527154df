"""The `MethodSpec` of FedSL: its interface to the rest of the package."""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np

from fedjax_sl.checks import is_plain
from fedjax_sl.configs.network_config import kind_of
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.partition import Partition
from fedjax_sl.errors import InputError
from fedjax_sl.federation.combine import trim_warnings
from fedjax_sl.federation.level_config import one_level
from fedjax_sl.federation.memory import check_fits
from fedjax_sl.fedsl.estimates.cost_table import COSTS
from fedjax_sl.fedsl.estimates.memory import client_bytes, feedback_bytes
from fedjax_sl.fedsl.estimates.theory import (
    check_covered,
    dropout_of,
    ignored,
    ratios,
    setting_of,
    with_choice,
)
from fedjax_sl.fedsl.estimates.traffic import at_rounds, expected, most
from fedjax_sl.fedsl.global_model import global_model
from fedjax_sl.fedsl.messages import LINKS
from fedjax_sl.fedsl.method import fedsl
from fedjax_sl.fedsl.next_update import sent_next
from fedjax_sl.fedsl.panels import kept, update
from fedjax_sl.fedsl.presets import PRESETS
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.unpruned import unpruned
from fedjax_sl.method_spec import Built, ChooseMap, MethodSpec, Theory
from fedjax_sl.models.class_cuts import cut_models
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.size import parameters_of
from fedjax_sl.models.split import SplitModel
from fedjax_sl.models.vgg import BLOCKS
from fedjax_sl.traffic import Record


def network(config: FedSLRun, train: Dataset) -> SplitModel:
    """Builds the network of a configuration for these images, cut.

    Raises:
      ValueError: if it cannot be cut there, or if no layer of the client has weights.
    """
    own = config.model
    model = own.uncut(kind_of(train)).at(own.cut, tail=own.tail)
    if not all(prunable(at).kernels for at in cut_models(model)):
        raise InputError(
            f"cut={own.cut}: no layer with weights is on the client's side."
        )
    return model


def cuts(config: FedSLRun, train: Dataset) -> tuple[int, ...]:
    """Lists the cuts that a search tries: of a VGG after each pooling, else all."""
    model = config.model
    if model.name == "vgg" and model.module is None:
        return tuple(itertools.accumulate(BLOCKS[model.depth]))
    return model.uncut(kind_of(train)).cuts


def _senders(config: FedSLRun) -> float:
    """Clients of a cohort that an entry's mean is of, on average."""
    ratio, answering = config.method.prune_ratio, 1 - config.failure_probability
    all_send = config.method.average_over == "all" or not is_plain(ratio)
    kept = 1.0 if all_send else 1 - np.max(ratio)
    return config.cohort_size * answering * kept


def _in_a_period(config: FedSLRun) -> tuple[str, ...]:
    """Returns a warning if models are evaluated that no server has."""
    interval = config.method.interval
    # The last evaluation is after the last round.
    often = {
        "eval_every": min(config.eval_every, config.rounds),
        "rounds": config.rounds,
    }
    # A relay has one model, and clients that keep theirs are evaluated with them.
    averaged = config.method.client_update == "parallel"
    if not (averaged and is_plain(interval)):
        return ()
    return tuple(
        f"{name}={rounds} is no multiple of interval={interval}: between two "
        "aggregations accuracies are of the mean of models that nobody has sent, and "
        "costs leave that out"
        for name, rounds in often.items()
        if rounds % interval
    )[:1]


def build(
    config: FedSLRun, train: Dataset, partition: Partition, choose_map: ChooseMap
) -> Built:
    """Builds the method of a configuration; a client takes one step in a round."""
    model = network(config, train)
    over = choose_map(client_bytes(model, config.batch_size))
    clients = config.data.num_clients
    check_fits(
        feedback_bytes(model, config.method, clients),
        clients=clients,
        what="residuals",
        instead="residuals='host', or method.updates.feedback='none', which keeps none",
        store=config.residuals,
    )

    def with_config(method):
        return fedsl(
            model,
            method,
            num_clients=clients,
            residuals=config.residuals,
            over_clients=over,
        )

    algorithm, parameters = with_config(config.method), parameters_of(*model.shapes)
    return Built(
        algorithm,
        1,
        over.devices,
        parameters,
        with_config=with_config,
        warnings=(
            *unpruned(config.method, model),
            *_in_a_period(config),
            *one_level(config.method.updates, config.method.levels),
            *trim_warnings(config.method, _senders(config)),
        ),
    )


def traffic_bound(
    config: FedSLRun, train: Dataset, partition: Partition
) -> Callable[[np.ndarray], Record]:
    """Bounds the traffic and work of each round: dense, without dropout."""
    # A client with fewer examples fills its batch with padding, which is not sent.
    examples = np.minimum(partition.count.astype(np.int64), config.batch_size)
    kinds = most(
        network(config, train),
        config.method,
        examples,
        batch_size=config.batch_size,
    )
    return partial(at_rounds, kinds, interval=int(config.method.interval))


FEDSL = MethodSpec(
    config=FedSLRun,
    presets=PRESETS,
    build=build,
    traffic_bound=traffic_bound,
    panels=(kept, update),
    sent_layers=sent_next,
    coded_links=tuple(LINKS),
    theory=Theory(
        check_covered=check_covered,
        ignored=ignored,
        model=network,
        cuts=cuts,
        global_params=global_model,
        setting=setting_of,
        ratios=ratios,
        dropout=dropout_of,
        with_choice=with_choice,
        round_kinds=expected,
    ),
    costs=COSTS,
)
