"""What one client sends over the cut, and receives from there, before it is coded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compressors.compressor import compressed
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedsl.cut import allowed, dropped
from fedjax_sl.fedsl.message import Messages
from fedjax_sl.fedsl.passes import both_passes
from fedjax_sl.fedsl.state import (
    ACTIVATIONS,
    DOWNLINK,
    DROPOUT,
    FEATURE_GRADIENTS,
    FEATURES,
    Context,
    FedSLState,
)
from fedjax_sl.fedsl.step_parts import group_of
from fedjax_sl.fedsl.steps import begin_round
from fedjax_sl.fedsl.thin_cut import channels_sent


KEYS = {
    "activations": ACTIVATIONS,
    "cut_gradients": DOWNLINK,
    "features": FEATURES,
    "feature_gradients": FEATURE_GRADIENTS,
}
"""Links at the cuts, and what their compressors draw by."""


def _watched(forward: Callable, backward: Callable) -> tuple[Callable, Callable]:
    """Adds the tensors at a cut, as they are before they are sent, to its data."""

    def forth(tensor):
        received, at_cut = forward(tensor)
        return received, (at_cut, tensor)

    def back(grad, at_cut):
        received, message = backward(grad, at_cut[0])
        return received, (message, grad)

    return forth, back


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
      link: one of `KEYS`.

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
    at_cut = (passed.at_cut[0], passed.back[0], passed.behind)
    (first, back, behind), own, channels, real = jax.tree.map(
        lambda leaf: leaf[slot], (at_cut, inputs.per_client, channels, real)
    )

    def own_key(use):
        return client_keys(key, state.client_id, use)[slot]

    if link == "activations":
        tensor, mask = dropped(
            config, own_key(DROPOUT), first[1], channels, rate=own.dropout_rate
        )
    elif link == "cut_gradients":
        tensor, mask = back[1], first[0].mask
    elif link == "features":
        tensor, mask = behind[0][1], jnp.bool_(True)
    else:
        (mask, _), tensor = behind[0][0], behind[1][1]
    may, how = allowed(mask, real, tensor.shape), getattr(own, link)
    # Without a state: `check_links` allows no feedback at the cut.
    payload, _ = compressed(
        how.compressor(), own_key(KEYS[link]), tensor, may, state=()
    )
    return Messages({link: payload}, {link: may}, how, None)
