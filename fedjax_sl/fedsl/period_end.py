"""End of a period: clients upload their updates, the server averages them."""

from functools import partial
from typing import Any, NamedTuple

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
from fedjax_sl.fedsl.client_configs import ClientConfigs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import (
    NOISE,
    UPLOAD,
    Context,
    FedSLState,
    RoundInputs,
    start_of,
)
from fedjax_sl.fedsl.statistics import channels_kept
from fedjax_sl.fedsl.step import StepReport
from fedjax_sl.models.split import Variables


def _gradient_is_message(config: FedSLConfig, per_client: ClientConfigs) -> jax.Array:
    """`[K]` bool, whether the quantised gradient is itself the message.

    This holds for I = 1, unless noise is added to the update.
    """
    # I and z may be traced, so they are compared in arrays.
    coded = (jnp.asarray(config.interval) == 1) & (per_client.grad_bits < FLOAT_BITS)
    if config.noise_multiplier is None:
        return coded
    return coded & (jnp.asarray(config.noise_multiplier) == 0)


def number_bits(config: FedSLConfig, per_client: ClientConfigs) -> jax.Array:
    """`[K]` b, the most bits per value in a client's message."""
    coded = _gradient_is_message(config, per_client)
    return jnp.where(coded, per_client.grad_bits, per_client.upload_bits)


class _Client(NamedTuple):
    """The state of a client at the end of a period; leaves `[K, ...]` of a cohort.

    Attributes:
      key: of its quantiser.
      noise_key: of the Gaussian mechanism.
      variables: w_k and its norm statistics.
      mask: m_k.
      bits: [] b of its message.
      weight: [] omega_k, 0 if it sends no update.
      fault: [] factor of its message; None if none is corrupted.
    """

    key: jax.Array
    noise_key: jax.Array
    variables: Variables
    mask: Any
    bits: jax.Array
    weight: jax.Array
    fault: jax.Array | None


def _sent(context: Context, key, update, mask):
    """Clips a client's update and adds noise, before it is quantised."""
    config = context.config
    if config.noise_multiplier is None:
        return clipped(update, config.clip_norm)
    noisy = gaussian_mechanism(
        key,
        update,
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
    )
    # Noise on pruned entries is not sent.
    return apply_mask(noisy, mask)


def _received(context: Context, client: _Client, start):
    """Rebuilds one client's parameters, w_0 + Q_b(w_k - w_0), from its message.

    Returns:
      The parameters, and the message's `BitAllocation`.
    """
    params, mask = client.variables["params"], client.mask
    update = apply_mask(jax.tree.map(jnp.subtract, params, start), mask)
    # Noise comes before the quantiser, so that the message itself is privatized.
    update = _sent(context, client.noise_key, update, mask)
    each = tensor_bits(context.config, update, client.bits)
    coded = quantized(context.config, client.key, update, each)
    # On a range the quantiser does not map 0 to 0.
    rebuilt = jax.tree.map(jnp.add, start, apply_mask(coded, mask))
    # start + (params - start) may differ from params in the last bit.
    if context.config.clip_norm is None:
        exact = partial(jnp.where, client.bits >= FLOAT_BITS)
        rebuilt = jax.tree.map(exact, params, rebuilt)
    return rebuilt, allocated(each, mask, update)


def _reset(context: Context, bad: jax.Array, opt, params):
    """Re-initialises the optimiser states of clients whose update was rejected."""
    fresh = jax.vmap(context.client_optimizer(0.0).init)(params)

    def choose(new, old):
        return jnp.where(bad.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, opt)


def _kept_by_some(mask: Any, used: jax.Array) -> Any:
    """Entries kept by at least one client in `used`, `[K]`; all entries if none."""

    def union(keep):
        of_used = keep & used.reshape(-1, *[1] * (keep.ndim - 1))
        # Without a valid update the anchor is to stay as it is.
        return of_used.any(axis=0) | ~used.any()

    return jax.tree.map(union, mask)


def _upload(context: Context, anchor, client: _Client):
    """Uploads one client's update.

    Returns:
      The `Received` of the server; the message, and [] whether it is valid.
    """
    config = context.config
    start = start_of(config, anchor, client.mask)
    params, message = _received(context, client, start)
    # From here on it is the message as received: the server judges no other.
    params = arrived(client.fault, start, params)
    update = jax.tree.map(jnp.subtract, params, start)
    received = {**client.variables, "params": params}
    # The update excludes norm statistics; `received` includes them.
    good = valid(update, config.max_update_norm) & valid(received)
    # None sends all: a pruned entry counts, with the value that it started from.
    everywhere = jax.tree.map(lambda _: None, params)
    keepers = config.average_over == "keepers"
    sent = {
        **channels_kept(config, client.mask, client.variables),
        "params": client.mask if keepers else everywhere,
    }
    return Received(received, sent, jnp.where(good, client.weight, 0.0)), (
        message,
        good,
    )


def aggregate(
    context: Context,
    state: FedSLState,
    inputs: RoundInputs,
    report: StepReport,
) -> tuple[FedSLState, BitAllocation, jax.Array]:
    """w_c <- sum_k omega_k w_{c,k}, broadcast to every client.

    With I = 1 the quantised gradient of the one local step is itself the message, and
    is not quantised a second time, unless noise is added.

    The update of a client that was not heard in the period's last round is not used,
    but the client receives the mean. An update that is invalid or too long is rejected,
    and its client's optimiser is re-initialised. Updates are relative to the client's
    start: if weights are not restored, that is 0 where it pruned. Entries pruned by all
    clients then become 0 and stay 0.

    Running statistics of a channel are averaged over the clients that kept it. If no
    client kept it, or no update is valid, they are those of before the period.

    Args:
      context: the configuration.
      state: the state after the period's last step.
      inputs: of this round.
      report: of its step; the update of who sent activations that are not finite is
        not used.

    Returns:
      The state, all client models equal; `[K]` bit allocation of the messages; `[K]`
      bool, whether the update is valid.
    """
    per_client, key = inputs.per_client, inputs.key
    coded = _gradient_is_message(context.config, per_client)
    # 32 bits: the parameters already hold the effect of the quantised gradient.
    bits = jnp.where(coded, FLOAT_BITS, per_client.upload_bits)
    weights = jnp.where(report.finite, state.weights, 0.0)
    # Without a message there is no fault: such a client is judged by its own state.
    fault = per_client.fault
    fault = None if fault is None else jnp.where(weights > 0, fault, 1.0)
    clients = _Client(
        key=client_keys(key, state.client_id, UPLOAD),
        noise_key=client_keys(key, state.client_id, NOISE),
        variables=state.client,
        mask=state.mask,
        bits=bits,
        weight=weights,
        fault=fault,
    )
    # Without a valid update clients return to the anchor; the server keeps its steps.
    client, (update, good) = combine(
        context.over_clients,
        partial(_upload, context),
        (state.anchor,),
        (clients,),
        fallback={**state.statistics, "params": state.anchor},
        trim=context.config.trim,
    )
    if not context.config.restore:
        # Averages of keepers fall back to the anchor, which may not be 0 here.
        kept = _kept_by_some(state.mask, good & (weights > 0))
        client = {**client, "params": apply_mask(client["params"], kept)}
    message = jax.tree.map(partial(jnp.where, coded), report.gradient, update)
    everyone = broadcast(client, state.weights.shape[0])
    # Its moments may hold what made an update invalid, and would spoil the next one.
    opt = _reset(context, ~good, state.client_opt, everyone["params"])
    # The anchor stays: `begin_period` takes the next one from these models.
    return state._replace(client=everyone, client_opt=opt), message, good
