"""Download of a round: the whole network as the clients receive it."""

from typing import Any

import jax

from fedjax_sl.compression.layers import from_units, to_units
from fedjax_sl.federation.model_down import ModelDown, send_down
from fedjax_sl.fedlpq.state import MODEL, Context, FedLPQState


def received_model(
    context: Context, state: FedLPQState, key: jax.Array
) -> tuple[dict[str, Any], ModelDown | None]:
    """Sends the whole network, layer by layer, to every client alike.

    Args:
      context: the compressor, and what a layer is.
      state: of the run.
      key: of the round.

    Returns:
      Its variables as received, norm statistics as they are; the `ModelDown`, None if
      parameters go as they are, too.
    """
    config, params = context.config, state.variables["params"]
    if not config.models.active:
        return state.variables, None
    down = send_down(
        config.models,
        jax.random.fold_in(key, MODEL),
        to_units(params, by=config.unit),
        residual=state.model_residual,
    )
    rebuilt = from_units(down.tree, params, by=config.unit)
    return {**state.variables, "params": rebuilt}, down
