"""Download of a round: the whole network as the clients receive it."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.layers import from_units, to_units
from fedjax_sl.federation.aggregation import choose
from fedjax_sl.federation.model_down import ModelDown, send_down
from fedjax_sl.fedlpq.state import MODEL, Context, FedLPQState


def received_model(
    context: Context,
    state: FedLPQState,
    key: jax.Array,
    *,
    loaded: dict[str, jax.Array],
) -> tuple[dict[str, Any], ModelDown | None]:
    """Sends the whole network, layer by layer, to every client alike.

    Args:
      context: the compressor, and what a layer is.
      state: of the run.
      key: of the round.
      loaded: [] bool by name of a layer, whether any client receives it.

    Returns:
      Its variables as received, norm statistics as they are; the `ModelDown`, None if
      parameters go as they are, too.
    """
    config, params = context.config, state.variables["params"]
    if not config.models.active:
        return state.variables, None
    whole, own = to_units(params, by=config.unit), jax.random.fold_in(key, MODEL)
    down = send_down(config.models, own, whole, residual=state.model_residual)
    # A layer that nobody receives stays as the server has it.
    tree = {
        name: jnp.where(loaded[name], down.tree[name], whole[name]) for name in whole
    }
    residual = down.residual
    if residual is not None:
        # Sorted, as JAX flattens a dict: residuals are a list in that order.
        flags = [loaded[name] for name in sorted(whole)]
        pairs = zip(flags, residual, state.model_residual, strict=True)
        residual = [choose(flag, new, old) for flag, new, old in pairs]
    rebuilt = from_units(tree, params, by=config.unit)
    return {**state.variables, "params": rebuilt}, down._replace(residual=residual)
