"""The end of a period: clients upload what they learned, the server averages it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.combine import Received, clipped, combine
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.federation.privacy import gaussian_mechanism
from fedjax_sl.fedsl.bit_allocation import BitAllocation, allocated, tensor_bits
from fedjax_sl.fedsl.config import ClientConfigs, FedSLConfig
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import NOISE, UPLOAD, Context, FedSLState, start_of
from fedjax_sl.fedsl.statistics import channels_kept, statistics_of, unlearnt
from fedjax_sl.models.split import Variables


def _gradient_is_message(config: FedSLConfig, per_client: ClientConfigs) -> jax.Array:
    """`[K]` bool: I = 1, and the gradient of the one local step is quantised.

    With noise added to it, it is not.
    """
    coded = (jnp.asarray(config.interval) == 1) & (per_client.grad_bits < FLOAT_BITS)
    if config.noise_multiplier is None:
        return coded
    return coded & (jnp.asarray(config.noise_multiplier) == 0)


def number_bits(config: FedSLConfig, per_client: ClientConfigs) -> jax.Array:
    """`[K]` b, the most bits that a number in a client's message takes."""
    coded = _gradient_is_message(config, per_client)
    return jnp.where(coded, per_client.grad_bits, per_client.upload_bits)


def _sent(context: Context, key, update, mask):
    """A client's update as it is quantised and sent: clipped, and with noise."""
    config = context.config
    if config.noise_multiplier is None:
        return clipped(update, config.clip_norm)
    noisy = gaussian_mechanism(
        key,
        update,
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
    )
    return apply_mask(noisy, mask)


def _received(context: Context, key, noise_key, start, params, mask, bits):
    """One client's parameters as rebuilt, w_0 + Q_b(w_k - w_0); its message."""
    update = apply_mask(jax.tree.map(jnp.subtract, params, start), mask)
    update = _sent(context, noise_key, update, mask)
    each = tensor_bits(context.config, update, bits)
    coded = quantized(context.config, key, update, each)
    rebuilt = jax.tree.map(jnp.add, start, apply_mask(coded, mask))
    if context.config.clip_norm is None:
        exact = partial(jnp.where, bits >= FLOAT_BITS)
        rebuilt = jax.tree.map(exact, params, rebuilt)
    return rebuilt, allocated(each, mask, update)


def _reset(context: Context, bad: jax.Array, opt, params):
    """Optimiser states, begun anew for clients whose update was not valid."""
    fresh = jax.vmap(context.client_optimizer(0.0).init)(params)

    def choose(new, old):
        return jnp.where(bad.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, opt)


def _kept_by_some(mask: Any, used: jax.Array) -> Any:
    """Entries kept by a client whose update is used, `[K]`; all, if there is none."""

    def one(keep):
        of_used = keep & used.reshape(-1, *[1] * (keep.ndim - 1))
        return of_used.any(axis=0) | ~used.any()

    return jax.tree.map(one, mask)


def _client(
    context: Context, anchor, key, noise_key, client, mask, bits, weight, fault
):
    """What the server receives of one client; its message, and whether it is valid."""
    config = context.config
    start = start_of(config, anchor, mask)
    params, message = _received(
        context, key, noise_key, start, client["params"], mask, bits
    )
    params = arrived(fault, start, params)
    update = jax.tree.map(jnp.subtract, params, start)
    received = {**client, "params": params}
    good = valid(update, config.max_update_norm) & valid(received)
    everywhere = jax.tree.map(lambda _: None, params)
    keepers = config.average_over == "keepers"
    sent = {
        **channels_kept(config, mask, client),
        "params": mask if keepers else everywhere,
    }
    return Received(received, sent, jnp.where(good, weight, 0.0)), (message, good)


def _before(context: Context, state: FedSLState) -> Variables:
    """The client model before the period, as far as statistics are still known."""
    kept = jax.vmap(partial(channels_kept, context.config))(state.mask, state.client)
    before = unlearnt(kept, statistics_of(state.client))
    return {**before, "params": state.anchor}


def aggregate(
    context: Context,
    state: FedSLState,
    per_client: ClientConfigs,
    gradient: BitAllocation,
    heard: jax.Array,
    key: jax.Array,
) -> tuple[FedSLState, BitAllocation, jax.Array]:
    """w_c <- sum_k omega_k w_{c,k}, and every client takes it over.

    With I = 1 the quantised gradient of the one local step is itself the message, and
    is not quantised a second time, unless noise is added.

    Who was not heard in the period's last round sends no update, but takes over the
    mean as everyone. An update that is not valid, or too long, has no part, and its
    client's optimiser begins anew. Updates are relative to where the client started:
    with weights that are not restored, to 0 where it pruned. What all pruned is 0 then,
    and stays so.

    Running statistics of a channel are averaged over those who kept it; where nobody
    did they are as before, and so they are without any update that can be used, except
    for those of channels that all had kept, which are the first client's.

    Args:
      context: the configuration.
      state: the state after the period's last step.
      per_client: `[K]` each.
      gradient: `[K]`, bits of the numbers of the last step's gradients.
      heard: `[K]` bool, of whom the server could use what crossed the cut.
      key: of this round.

    Returns:
      The state, all client models equal; `[K]` bits of the numbers of the clients'
      messages; `[K]` whose update is valid.
    """
    coded = _gradient_is_message(context.config, per_client)
    bits = jnp.where(coded, FLOAT_BITS, per_client.upload_bits)
    weights = jnp.where(heard, state.weights, 0.0)
    # A message that is not sent has no fault; unsound is only what its client holds.
    fault = per_client.fault
    fault = None if fault is None else jnp.where(weights > 0, fault, 1.0)
    stacked = (
        client_keys(key, state.client_id, UPLOAD),
        client_keys(key, state.client_id, NOISE),
        state.client,
        state.mask,
        bits,
        weights,
        fault,
    )
    client, (update, good) = combine(
        context.over_clients,
        partial(_client, context),
        (state.anchor,),
        stacked,
        _before(context, state),
        trim=context.config.trim,
    )
    if not context.config.restore:
        kept = _kept_by_some(state.mask, good & (weights > 0))
        client = {**client, "params": apply_mask(client["params"], kept)}
    message = jax.tree.map(partial(jnp.where, coded), gradient, update)
    everyone = broadcast(client, state.weights.shape[0])
    opt = _reset(context, ~good, state.client_opt, everyone["params"])
    return state._replace(client=everyone, client_opt=opt), message, good
