"""The messages on a link before they are coded, one of each tensor."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compressors.per_layer import compress_each, init_layers
from fedjax_sl.federation.model_down import compress_down
from fedjax_sl.fedsl.config_checks import AT_CUTS
from fedjax_sl.fedsl.cut_messages import cut_messages
from fedjax_sl.fedsl.message import Messages, entries_of
from fedjax_sl.fedsl.period_end import uploads
from fedjax_sl.fedsl.state import MODEL, Context, FedSLState, start_of
from fedjax_sl.fedsl.steps import run_steps
from fedjax_sl.fedsl.upload import update_of


def _names(tree: Any) -> list[str]:
    """Names the tensors of a tree by their paths."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]


def _of_update(
    context: Context,
    state: FedSLState,
    cohort: Cohort,
    key: jax.Array,
    *,
    slot: jax.Array,
) -> Messages:
    """Runs the last round of a period up to the update of one client."""
    # Not the whole round: an aggregation replaces the models that updates are of.
    state, inputs, report, _ = run_steps(context, state, cohort, key)
    everyone = uploads(context, state, inputs, report)
    client = jax.tree.map(lambda leaf: leaf[slot], everyone)
    start = start_of(context.config, state.anchor, client.mask)
    # The network has one cut here: `fedsl` offers messages of no other.
    update = update_of(context, client, context.model, start)
    how = client.updates.compressor(client.levels)
    kept = entries_of(client.mask, update)
    states = client.residual or init_layers(how, update)
    payloads = compress_each(how, client.key, update, kept, states=states)
    return Messages(
        tensors=dict(zip(_names(update), payloads, strict=True)),
        masks=dict(zip(_names(update), jax.tree.leaves(kept), strict=True)),
        how=client.updates,
        levels=client.levels,
    )


def _of_model(
    context: Context,
    state: FedSLState,
    cohort: Cohort,
    key: jax.Array,
    *,
    slot: jax.Array,
) -> Messages:
    """Compresses the model that a period begins with, for all clients alike."""
    models = context.config.models
    # All client models are equal here.
    params = jax.tree.map(lambda leaf: leaf[0], state.client["params"])
    # The key of `begin_period`: this is the message that a run sends.
    own = jax.random.fold_in(key, MODEL)
    payloads = compress_down(models, own, params, residual=state.model_residual)
    every = [jnp.ones(leaf.shape, bool) for leaf in jax.tree.leaves(params)]
    return Messages(
        tensors=dict(zip(_names(params), payloads, strict=True)),
        masks=dict(zip(_names(params), every, strict=True)),
        how=models,
        levels=None,
    )


def messages_of(
    context: Context,
    state: FedSLState,
    cohort: Cohort,
    key: jax.Array,
    *,
    slot: jax.Array,
    link: str,
) -> Messages:
    """Runs a round up to a message of, or to, one client.

    Args:
      context: of the run, whose link has a compressor.
      state: before the round: the first of a period for "models", the last of one for
        "updates".
      cohort: of the round.
      key: of the round.
      slot: [] of the client in the cohort.
      link: one of `LINKS`.

    Returns:
      The `Messages`.

    Raises:
      ValueError: if the cohort is not of the shape that the method takes.
    """
    return LINKS[link](context, state, cohort, key, slot=slot)


LINKS = {
    "updates": _of_update,
    "models": _of_model,
    **{link: partial(cut_messages, link=link) for link in AT_CUTS},
}
"""Links whose messages are shown, by the option of their compressor."""
