"""The end of a period: clients upload what they learned, the server averages it."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.federation.aggregation import broadcast, mean_of_shares, share
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.fedsl.config import Settings
from fedjax_sl.fedsl.quantizer import quantized
from fedjax_sl.fedsl.state import UPLOAD, FedSLState, Setup


def _gradient_is_message(setup: Setup, settings: Settings) -> jax.Array:
    """`[K]` bool: I = 1, and the gradient of the one local step is quantised."""
    return (jnp.asarray(setup.config.interval) == 1) & (settings.grad_bits < FLOAT_BITS)


def message_bits(setup: Setup, settings: Settings) -> jax.Array:
    """Bits of each number of a client's upload.

    With I = 1 the quantised gradient of the one local step is itself the message, and
    is not quantised a second time.

    Args:
      setup: the configuration.
      settings: `[K]` each.

    Returns:
      `[K]` int32.
    """
    coded = _gradient_is_message(setup, settings)
    return jnp.where(coded, settings.grad_bits, settings.upload_bits)


def _received(setup: Setup, key, anchor, params, mask, bits):
    """One client's parameters as rebuilt: anchor + Q_b(w_k - anchor)."""
    start = anchor if setup.config.restore else apply_mask(anchor, mask)
    update = jax.tree.map(jnp.subtract, params, start)
    update = quantized(setup.config, key, apply_mask(update, mask), bits)
    rebuilt = jax.tree.map(jnp.add, start, apply_mask(update, mask))
    return jax.tree.map(partial(jnp.where, bits >= FLOAT_BITS), params, rebuilt)


def aggregate(
    setup: Setup, state: FedSLState, settings: Settings, key: jax.Array
) -> FedSLState:
    """w_c <- sum_k omega_k w_{c,k}, and every client takes it over.

    Args:
      setup: the configuration.
      state: the state after the period's last step.
      settings: `[K]` each.
      key: of this round.

    Returns:
      The state, all client models equal. Norm statistics are averaged as they are.
    """
    coded = _gradient_is_message(setup, settings)
    bits = jnp.where(coded, FLOAT_BITS, settings.upload_bits)

    def one(anchor, key, client, mask, bits, weight):
        params = _received(setup, key, anchor, client["params"], mask, bits)
        everywhere = jax.tree.map(lambda _: None, client)
        keepers = setup.config.average_over == "keepers"
        sent = {**everywhere, "params": mask} if keepers else everywhere
        return share({**client, "params": params}, sent, weight), ()

    shares, _ = setup.over_clients.total(one, state.anchor)(
        client_keys(key, state.client_id, UPLOAD),
        state.client,
        state.mask,
        bits,
        state.weights,
    )
    before = {
        **jax.tree.map(lambda leaf: leaf[0], state.client),
        "params": state.anchor,
    }
    client = mean_of_shares(shares, before)
    return state._replace(client=broadcast(client, state.weights.shape[0]))
