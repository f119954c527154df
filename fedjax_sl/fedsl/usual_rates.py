"""Learning rates of FedSL, by default."""

from typing import Any

from fedjax_sl.fedsl.config import FedSLConfig


USUAL_RATE = 0.02
"""Default learning rate of a side that takes one step in a round."""


def usual_rates(config: FedSLConfig) -> tuple[Any, Any]:
    """Learning rates of clients and server, as configured or by default."""
    # K sequential steps at rate / K move a model about as far as one step on the mean.
    client, server = config.learning_rate, config.server_learning_rate
    one, many = USUAL_RATE, USUAL_RATE / config.cohort_size
    if client is None:
        client = many if config.client_update == "relay" else one
        if server is None:
            server = many if config.sequential else one
    return client, client if server is None else server
