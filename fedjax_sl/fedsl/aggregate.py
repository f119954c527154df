"""The end of a period: clients upload what they learned, the server averages it."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.combine import Received, clipped, combine
from fedjax_sl.federation.faults import arrived, sound
from fedjax_sl.federation.privacy import noised
from fedjax_sl.fedsl.config import FedSLConfig, Settings
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import NOISE, UPLOAD, FedSLState, Setup
from fedjax_sl.fedsl.widths import Widths, tensor_bits, widths


def _gradient_is_message(config: FedSLConfig, settings: Settings) -> jax.Array:
    """`[K]` bool: I = 1, and the gradient of the one local step is quantised.

    With noise added to it, it is not.
    """
    coded = (jnp.asarray(config.interval) == 1) & (settings.grad_bits < FLOAT_BITS)
    if config.noise_multiplier is None:
        return coded
    return coded & (jnp.asarray(config.noise_multiplier) == 0)


def number_bits(config: FedSLConfig, settings: Settings) -> jax.Array:
    """`[K]` b, the most bits that a number in a client's message takes."""
    coded = _gradient_is_message(config, settings)
    return jnp.where(coded, settings.grad_bits, settings.upload_bits)


def _sent(setup: Setup, key, update, mask):
    """A client's update as it is quantised and sent: clipped, and with noise."""
    config = setup.config
    if config.noise_multiplier is None:
        return clipped(update, config.clip_norm)
    noisy = noised(
        key,
        update,
        clip_norm=config.clip_norm,
        noise_multiplier=config.noise_multiplier,
    )
    return apply_mask(noisy, mask)


def _received(setup: Setup, key, noise_key, anchor, params, mask, bits):
    """One client's parameters as rebuilt, anchor + Q_b(w_k - anchor); its message."""
    start = anchor if setup.config.restore else apply_mask(anchor, mask)
    update = apply_mask(jax.tree.map(jnp.subtract, params, start), mask)
    update = _sent(setup, noise_key, update, mask)
    each = tensor_bits(setup.config, update, bits)
    coded = quantized(setup.config, key, update, each)
    rebuilt = jax.tree.map(jnp.add, start, apply_mask(coded, mask))
    if setup.config.clip_norm is None:
        exact = partial(jnp.where, bits >= FLOAT_BITS)
        rebuilt = jax.tree.map(exact, params, rebuilt)
    return rebuilt, widths(each, mask, update)


def _reset(setup: Setup, bad: jax.Array, opt, params):
    """Optimiser states, begun anew for clients whose update was not sound."""
    fresh = jax.vmap(setup.client_optimizer(0.0).init)(params)

    def choose(new, old):
        return jnp.where(bad.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, opt)


def aggregate(
    setup: Setup,
    state: FedSLState,
    settings: Settings,
    gradient: Widths,
    key: jax.Array,
) -> tuple[FedSLState, Widths, jax.Array]:
    """w_c <- sum_k omega_k w_{c,k}, and every client takes it over.

    With I = 1 the quantised gradient of the one local step is itself the message, and
    is not quantised a second time, unless noise is added. An update that is not sound
    has no part, and its client's optimiser begins anew.

    Args:
      setup: the configuration.
      state: the state after the period's last step.
      settings: `[K]` each.
      gradient: `[K]`, bits of the numbers of the last step's gradients.
      key: of this round.

    Returns:
      The state, all client models equal, norm statistics averaged as they are; `[K]`
      bits of the numbers of the clients' messages; `[K]` whose update is sound.
    """
    coded = _gradient_is_message(setup.config, settings)
    bits = jnp.where(coded, FLOAT_BITS, settings.upload_bits)

    def one(anchor, key, noise_key, client, mask, bits, weight, fault):
        params, message = _received(
            setup, key, noise_key, anchor, client["params"], mask, bits
        )
        params = arrived(fault, anchor, params)
        everywhere = jax.tree.map(lambda _: None, client)
        keepers = setup.config.average_over == "keepers"
        sent = {**everywhere, "params": mask} if keepers else everywhere
        update = jax.tree.map(jnp.subtract, params, anchor)
        received = {**client, "params": params}
        good = sound(update, setup.config.max_update_norm) & sound(received)
        weight = jnp.where(good, weight, 0.0)
        return Received(received, sent, weight), (message, good)

    stacked = (
        client_keys(key, state.client_id, UPLOAD),
        client_keys(key, state.client_id, NOISE),
        state.client,
        state.mask,
        bits,
        state.weights,
        settings.fault,
    )
    before = {
        **jax.tree.map(lambda leaf: leaf[0], state.client),
        "params": state.anchor,
    }
    client, (update, good) = combine(
        setup.over_clients,
        one,
        (state.anchor,),
        stacked,
        before,
        trim=setup.config.trim,
    )
    message = jax.tree.map(partial(jnp.where, coded), gradient, update)
    everyone = broadcast(client, state.weights.shape[0])
    opt = _reset(setup, ~good, state.client_opt, everyone["params"])
    return state._replace(client=everyone, client_opt=opt), message, good
