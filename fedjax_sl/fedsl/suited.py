"""Requirements of FedSL on a network, a cohort, and the mapping of clients."""

from dataclasses import replace

from fedjax_sl.algorithm import Cohort
from fedjax_sl.data.cohort import check_images
from fedjax_sl.errors import InputError
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.state import Context
from fedjax_sl.models.split import SplitModel


def check_cohort(context: Context, cohort: Cohort) -> None:
    """Rejects a cohort that is not one mini-batch of each of the K clients."""
    expected = (context.config.cohort_size, 1)
    if cohort.index.shape[:2] != expected:
        raise InputError(
            f"cohort of (clients, steps) = {cohort.index.shape[:2]}: expected "
            f"{expected}, one mini-batch of each of cohort_size clients."
        )
    check_images(cohort.examples.image, context.model.input_shape)


def check_model(config: FedSLConfig, model: SplitModel) -> None:
    """Rejects a network that a configuration cannot be of.

    Noise needs norms without statistics, which are sent without noise; a mean gradient,
    and levels that follow the loss, a network that is cut once.

    Raises:
      ValueError: naming the option.
    """
    # A client that fails at the second cut could not be left out of the mean.
    if config.backward == "mean" and model.tail is not None:
        raise InputError(
            "backward='mean': expected a network that is cut once, without a tail."
        )
    # The loss is the client's there, and no link of a round sends it.
    if config.levels.of_time and model.tail is not None:
        raise InputError(
            f"levels.adapt={config.levels.adapt!r}: expected 'none' or 'client' of a "
            "network with a tail, whose loss the server does not have."
        )
    for name in ("features", "feature_gradients"):
        if model.tail is None and getattr(config, name).active:
            raise InputError(
                f"{name}.kind={getattr(config, name).kind!r}: expected 'float32' of a "
                "network that is cut once, without a tail."
            )
    client = model.shapes.client
    if config.noise_multiplier is not None and set(client) != {"params"}:
        raise InputError(
            f"noise_multiplier={config.noise_multiplier}: expected a model whose norms "
            "keep no statistics, which would be sent without noise."
        )


def suited_map(
    over_clients: ClientMap, model: SplitModel, config: FedSLConfig
) -> ClientMap:
    """Adapts the mapping to a server whose norms keep batch statistics.

    Its batch holds all clients; or one client at a time, also in the scoring pass, if
    clients are sequential. A mean of the gradients at the cut needs all clients, too.
    """
    server = model.shapes.server
    # Without batch statistics grouping changes only the order of sums.
    if set(server) == {"params"} and config.backward == "own":
        return over_clients
    # Groups would each have statistics of their own, so that results depended on them.
    if config.sequential:
        return replace(over_clients, group=1)
    # On one device: statistics of a part of the clients on each would differ.
    return ClientMap(over_clients.each)
