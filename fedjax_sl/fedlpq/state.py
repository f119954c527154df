"""What FedLP-Q carries from round to round, and the parts it is put together from."""

from typing import Any, NamedTuple

import jax
from flax import linen as nn

from fedjax_sl.config_base import Optimizer
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.fedlpq.config import FedLPQConfig


COMPLEXITY, HEAD, LAYERS, LEVELS, NOISE = range(5)
"""Purposes, folded into keys so that no two draws share one."""


class FedLPQState(NamedTuple):
    """What is carried from round to round.

    Attributes:
      round: [] int32, t.
      variables: of the whole network: `params`, and `batch_stats` of its norms.
      complexity: `[N]` int32, of each client's network; 0 numbers the first model.
      head: `[N, H]`, the private layers of each client, as one vector and padded; H is
        0 where they are reset, or where there are none.
      head_key: `[2]` uint32, what heads that are reset are drawn from; None if kept.
    """

    round: jax.Array
    variables: dict[str, Any]
    complexity: jax.Array
    head: jax.Array
    head_key: jax.Array | None = None


class Context(NamedTuple):
    """What stays the same: models, settings, optimiser, how clients are mapped.

    The models are of rising complexity, the last one being the whole network.
    """

    models: tuple[nn.Module, ...]
    input_shape: tuple[int, int, int]
    num_clients: int
    config: FedLPQConfig
    optimizer: Optimizer
    over_clients: ClientMap
