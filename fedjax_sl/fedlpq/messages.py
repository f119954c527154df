"""The messages of a client before they are coded, as if every layer were sent."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compression.layers import to_units
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Payload
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import compress_each, init_layers
from fedjax_sl.federation.model_down import compress_down
from fedjax_sl.fedlpq.client import train
from fedjax_sl.fedlpq.config import FedLPQConfig
from fedjax_sl.fedlpq.round_start import start_round
from fedjax_sl.fedlpq.state import MODEL, Context, FedLPQState
from fedjax_sl.fedlpq.upload import (
    Sender,
    displacement,
    privatized,
    quantized_layers,
)


class Messages(NamedTuple):
    """The messages of a client before they are coded.

    Attributes:
      layers: payload of each layer, by name, whether it is sent or not; without a
        compressor a `Quantized`.
      masks: `[M_l]` bool by name, the entries that may be sent: all.
      owned: [] bool by name, whether the client's network has the layer.
      bits: [] b of the quantiser; at 32, float32 values are sent instead.
      how: compressor, in place of b.
      levels: [] q_k of that compressor; None as its bits say.
    """

    layers: dict[str, Payload]
    masks: dict[str, jax.Array]
    owned: dict[str, jax.Array]
    bits: jax.Array
    how: CompressorConfig
    levels: jax.Array | None


def _everything(gap: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.ones(x.shape, bool) for name, x in gap.items()}


def _payloads(
    config: FedLPQConfig, sender: Sender, gap: dict[str, Any]
) -> dict[str, Payload]:
    """Compresses or quantises every layer of a displacement, `{layer: [M_l]}`."""
    if not sender.updates.active:
        return quantized_layers(config, sender.key, gap, sender.bits)
    how = sender.updates.compressor(sender.levels)
    states = sender.residual or init_layers(how, gap)
    found = compress_each(how, sender.key, gap, _everything(gap), states=states)
    # In the order of the leaves of a dict.
    return dict(zip(sorted(gap), found, strict=True))


def _of_model(context: Context, state: FedLPQState, key: jax.Array) -> Messages:
    """Compresses the whole network, for all clients alike."""
    config = context.config
    whole = to_units(state.variables["params"], by=config.unit)
    # The key of `received_model`: this is the message that a run sends.
    own = jax.random.fold_in(key, MODEL)
    found = compress_down(config.models, own, whole, residual=state.model_residual)
    return Messages(
        # In the order of the leaves of a dict.
        layers=dict(zip(sorted(whole), found, strict=True)),
        masks=_everything(whole),
        owned={name: jnp.bool_(True) for name in whole},
        bits=jnp.int32(FLOAT_BITS),
        how=config.models,
        levels=None,
    )


def messages_of(
    context: Context,
    state: FedLPQState,
    cohort: Cohort,
    key: jax.Array,
    *,
    slot: jax.Array,
    link: str,
) -> Messages:
    """Runs steps 2 and 4 of a round for one client alone; or compresses the model.

    Args:
      context: the networks and the configuration.
      state: before the round.
      cohort: of the round.
      key: of the round.
      slot: [] of the client in the cohort.
      link: "updates" or "models".

    Returns:
      The `Messages`.

    Raises:
      ValueError: if the cohort's steps are not those of local epochs.
    """
    if link == "models":
        return _of_model(context, state, key)
    config = context.config
    # Of all clients: levels that adapt depend on the others, too.
    started = start_round(context, state, cohort, key)
    layers, whole = started.layers, started.received
    client = jax.tree.map(lambda leaf: leaf[slot], started.each)
    trained, _, _ = train(
        context, whole, cohort.examples, client, control=state.control
    )
    # With the run's own noise: what is shown is what was to be sent.
    trained = privatized(config, client.noise_key, whole, trained)
    gap = displacement(config, whole["params"], trained["params"])
    sender = client.sender
    return Messages(
        layers=_payloads(config, sender, gap),
        masks=_everything(gap),
        owned=dict(zip(layers.names, started.owned[slot], strict=True)),
        bits=sender.bits,
        how=sender.updates,
        levels=sender.levels,
    )
