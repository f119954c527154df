"""What one client sends over the cut, and receives from there, before it is coded."""

import jax

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compressors.compressor import compressed
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedsl.cut import allowed, dropped
from fedjax_sl.fedsl.message import Messages
from fedjax_sl.fedsl.passes import both_passes
from fedjax_sl.fedsl.state import ACTIVATIONS, DOWNLINK, DROPOUT, Context, FedSLState
from fedjax_sl.fedsl.step_parts import group_of
from fedjax_sl.fedsl.steps import begin_round
from fedjax_sl.fedsl.thin_cut import channels_sent


def _watched(cut: Cut) -> Cut:
    """Adds the tensors at a cut, as they are before they are sent, to its data."""

    def up(activations):
        received, at_cut = cut.up(activations)
        return received, (at_cut, activations)

    def down(grad, up_data):
        received, message = cut.down(grad, up_data[0])
        return received, (message, grad)

    return cut._replace(up=up, down=down)


def cut_messages(
    context: Context,
    state: FedSLState,
    cohort: Cohort,
    key: jax.Array,
    *,
    slot: jax.Array,
    link: str,
) -> Messages:
    """Runs the passes of a round, for a message of one client at the cut.

    Args:
      context: of the run, whose clients step side by side and have one cut.
      state: before the round.
      cohort: of the round.
      key: of the round.
      slot: [] of the client in the cohort.
      link: "activations", which it sends; or "cut_gradients", which it receives.

    Returns:
      The `Messages`, of a single tensor `[B, ...]`.

    Raises:
      ValueError: if the cohort is not of the shape that the method takes.
    """
    config = context.config
    # A period may start with this round: its masks then decide what is sent.
    state, inputs, _ = begin_round(context, state, cohort, key)
    real = inputs.minibatch.weight > 0
    # All clients pass: under batch statistics a client's gradient depends on others.
    passed = both_passes(
        context,
        context.over_clients.each,
        state.server,
        inputs.examples,
        group=group_of(state, inputs),
        key=key,
        # As the step takes clients for present, by their mini-batches.
        present=real.any(axis=1),
        watched=_watched,
    )
    (channels,) = channels_sent(config, context.model, state.mask)
    (at_cut, activations), own, channels, grad, real = jax.tree.map(
        lambda leaf: leaf[slot],
        (passed.at_cut[0], inputs.per_client, channels, passed.back[0][1], real),
    )

    def own_key(use):
        return client_keys(key, state.client_id, use)[slot]

    if link == "activations":
        tensor, mask = dropped(
            config, own_key(DROPOUT), activations, channels, rate=own.dropout_rate
        )
        how, send_key = own.activations, own_key(ACTIVATIONS)
    else:
        tensor, mask = grad, at_cut.mask
        how, send_key = own.cut_gradients, own_key(DOWNLINK)
    may = allowed(mask, real, tensor.shape)
    # Without a state: `check_links` allows no feedback at the cut.
    payload, _ = compressed(how.compressor(), send_key, tensor, may, state=())
    return Messages({link: payload}, {link: may}, how, None)
