"""The messages of a client's update before they are coded, one of each tensor."""

from typing import NamedTuple

import jax

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compressors.compressor import Payload
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import compress_each, init_layers
from fedjax_sl.fedsl.message import entries_of
from fedjax_sl.fedsl.period_end import uploads
from fedjax_sl.fedsl.state import Context, FedSLState, start_of
from fedjax_sl.fedsl.steps import run_steps
from fedjax_sl.fedsl.upload import update_of


class Messages(NamedTuple):
    """The messages of a client before they are coded.

    Attributes:
      tensors: payload of each tensor, by name.
      masks: `[...]` bool by name, the entries that may be sent: those it keeps.
      updates: compressor.
      levels: [] q_k of that compressor; None as its bits say.
    """

    tensors: dict[str, Payload]
    masks: dict[str, jax.Array]
    updates: CompressorConfig
    levels: jax.Array | None


def messages_of(
    context: Context,
    state: FedSLState,
    cohort: Cohort,
    key: jax.Array,
    *,
    slot: jax.Array,
) -> Messages:
    """Runs the last round of a period up to the update of one client.

    Args:
      context: of the run, whose updates have a compressor.
      state: before the round.
      cohort: of the round.
      key: of the round.
      slot: [] of the client in the cohort.

    Returns:
      The `Messages`.

    Raises:
      ValueError: if the cohort is not of the shape that the method takes.
    """
    state, inputs, report, _ = run_steps(context, state, cohort, key)
    everyone = uploads(context, state, inputs, report)
    client = jax.tree.map(lambda leaf: leaf[slot], everyone)
    start = start_of(context.config, state.anchor, client.mask)
    update = update_of(context, client, context.model, start)
    how = client.updates.compressor(client.levels)
    kept = entries_of(client.mask, update)
    states = client.residual or init_layers(how, update)
    payloads = compress_each(how, client.key, update, kept, states=states)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(update)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    return Messages(
        tensors=dict(zip(names, payloads, strict=True)),
        masks=dict(zip(names, jax.tree.leaves(kept), strict=True)),
        updates=client.updates,
        levels=client.levels,
    )
