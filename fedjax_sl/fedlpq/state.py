"""The state of FedLP-Q, and the context that its functions share."""

from typing import Any, NamedTuple

import jax
from flax import linen as nn

from fedjax_sl.config_base import Optimizer
from fedjax_sl.federation.aggregator import Moments
from fedjax_sl.federation.clients import ClientMap
from fedjax_sl.federation.levels import LevelState
from fedjax_sl.federation.stores import Store, on_device
from fedjax_sl.fedlpq.config import FedLPQConfig


# A new purpose goes to the end: these numbers are part of every draw of a run.
COMPLEXITY, HEAD, LAYERS, LEVELS, NOISE, AUGMENTATION, MODEL = range(7)
"""Purposes, folded into keys so that no two draws share one."""


class FedLPQState(NamedTuple):
    """State carried from round to round.

    Attributes:
      round: [] int32, t.
      variables: of the whole network: `params`, and `batch_stats` of its norms.
      complexity: `[N]` int32, index of each client's network.
      head: `[N, H]`, the private layers of each client, as one padded vector; H is 0 if
        they are reset, or if there are none.
      head_key: `[2]` uint32, key data from which heads are redrawn; None if kept.
      residual: what the messages of each client left out, leaves `[N, M_l]`; None
        without feedback.
      model_residual: what the server's messages left out, `[M_l]` of each layer; None
        without feedback.
      levels: of the next updates; None if they ignore the loss.
      moments: of the server's step along the mean update; None for the plain mean.
      control: c, the server's control variate, leaves as the parameters; None without.
      controls: c_k, the clients', leaves `[N, ...]`.
    """

    round: jax.Array
    variables: dict[str, Any]
    complexity: jax.Array
    head: jax.Array
    head_key: jax.Array | None = None
    residual: Any = None
    model_residual: Any = None
    levels: LevelState | None = None
    moments: Moments | None = None
    control: Any = None
    controls: Any = None


class Context(NamedTuple):
    """Constants of a run: models, configuration, optimiser, mapping, residuals.

    The models are of rising complexity, the whole network last.
    """

    models: tuple[nn.Module, ...]
    input_shape: tuple[int, int, int]
    num_clients: int
    config: FedLPQConfig
    optimizer: Optimizer
    over_clients: ClientMap
    residuals: Store = on_device
