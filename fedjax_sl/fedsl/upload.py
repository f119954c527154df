"""Upload of one client: its update, coded, and what the server makes of it."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import apply_mask
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation.aggregation import choose
from fedjax_sl.federation.combine import Received, clipped
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.federation.privacy import gaussian_mechanism
from fedjax_sl.fedsl.held_leaves import leaves_held, with_leaves_held
from fedjax_sl.fedsl.message import sent
from fedjax_sl.fedsl.state import Context, start_of
from fedjax_sl.fedsl.statistics import statistics_kept
from fedjax_sl.models.class_cuts import by_own_cut, held
from fedjax_sl.models.split import SplitModel, Variables


class Client(NamedTuple):
    """The state of a client at the end of a period; leaves `[K, ...]` of a cohort.

    Attributes:
      key: of its quantiser.
      noise_key: of the Gaussian mechanism.
      variables: w_k and its norm statistics.
      mask: m_k.
      bits: [] b of its message.
      updates: compressor of its message.
      levels: [] q_k of that compressor; None as its bits say.
      residual: state of that compressor; None if it keeps none.
      weight: [] omega_k, 0 if it sends no update.
      fault: [] factor of its message; None if none is corrupted.
      own_cut: [], as from `own_cuts`.
    """

    key: jax.Array
    noise_key: jax.Array
    variables: Variables
    mask: Any
    bits: jax.Array
    updates: CompressorConfig
    levels: jax.Array | None
    residual: Any
    weight: jax.Array
    fault: jax.Array | None
    own_cut: jax.Array | None = None


def _privatized(context: Context, key, update, mask):
    """Clips a client's update and adds noise, before it is coded."""
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


def update_of(context: Context, client: Client, at: SplitModel, start: Any) -> Any:
    """Computes m_k * (w_k - w_0), clipped and with noise if configured.

    Args:
      context: of the run.
      client: one client.
      at: the network at its cut.
      start: w_0, what it started from, of all layers before any cut.

    Returns:
      What its message is of, leaves `[...]`, of the layers that it holds.
    """
    params, mask = client.variables["params"], client.mask
    params, mask, start = (held(at, tree) for tree in (params, mask, start))
    update = apply_mask(jax.tree.map(jnp.subtract, params, start), mask)
    # Noise comes before the quantiser, so that the message itself is privatized.
    return _privatized(context, client.noise_key, update, mask)


class _Held(NamedTuple):
    """One client's model as the server receives it.

    Attributes:
      params: those that it holds, from its message; those that it does not, as they
        are.
      link: [] each, of the message.
      residual: after it, as `Client.residual`.
      good: [] bool, whether the update is finite and short enough.
    """

    params: Any
    link: Link
    residual: Any
    good: jax.Array


def _received(context: Context, client: Client, at: SplitModel, begun: Any) -> _Held:
    """Rebuilds the layers that one client holds, w_0 + Q_b(w_k - w_0)."""
    config, everything = context.config, client.variables["params"]
    params, mask, start = (held(at, t) for t in (everything, client.mask, begun))
    update = update_of(context, client, at, begun)
    message = sent(
        config,
        client.updates,
        client.key,
        update,
        mask=mask,
        bits=client.bits,
        levels=client.levels,
        state=leaves_held(at, everything, client.residual),
    )
    rebuilt = jax.tree.map(jnp.add, start, message.values)
    # start + (params - start) may differ from params in the last bit.
    if config.clip_norm is None and not config.updates.active:
        exact = partial(jnp.where, client.bits >= FLOAT_BITS)
        rebuilt = jax.tree.map(exact, params, rebuilt)
    # From here on it is the message as received: the server judges no other.
    params = arrived(client.fault, start, rebuilt)
    return _Held(
        # The server trains the copies of deeper layers itself: no message codes them.
        params={**everything, **params},
        link=message.link,
        residual=with_leaves_held(at, everything, client.residual, message.state),
        good=valid(jax.tree.map(jnp.subtract, params, start), config.max_update_norm),
    )


def upload(context: Context, anchor, client: Client):
    """Uploads one client's update.

    Returns:
      The `Received` of the server; the link of the message, the client's residual
      after it, and [] whether it is valid.
    """
    config, own_cut = context.config, client.own_cut
    start = start_of(config, anchor, client.mask)
    message = by_own_cut(
        context.model, own_cut, lambda at: _received(context, client, at, start)
    )
    received = {**client.variables, "params": message.params}
    # The update excludes norm statistics, and what others hold; `received` has them.
    good = message.good & valid(received)
    # None sends all: a pruned entry counts, with the value that it started from.
    everywhere = jax.tree.map(lambda _: None, message.params)
    keepers = config.average_over == "keepers"
    kept = {
        **statistics_kept(context, own_cut, client.mask, client.variables),
        "params": client.mask if keepers else everywhere,
    }
    # Weight 0, not another shape: the mean then leaves the client out.
    weight = jnp.where(good, client.weight, 0.0)
    # Both ends know which messages were used: of others no residual is kept.
    residual = choose(weight > 0, message.residual, client.residual)
    return Received(received, kept, weight), (message.link, residual, good)
