"""The update that a client of FedLP-Q would send next.

Runs do not store messages: the method computes them from the last checkpoint, in one
more round of one client.
"""

from typing import Any

import jax

from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.compressor import Compressor
from fedjax_sl.compressors.qsgd import qsgd
from fedjax_sl.config_base import plain
from fedjax_sl.federation.stores import placed
from fedjax_sl.fedlpq.config import FedLPQConfig, client_configs
from fedjax_sl.fedlpq.messages import Messages
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.method_spec import LastCheckpoint, Restored, SentLayers
from fedjax_sl.simulation import drawn


def _next(restored: Restored, config: FedLPQRun) -> tuple[Any, Any, Messages]:
    """Computes the messages of one client of the next cohort.

    It is the client with the most examples among those that code their messages.

    Returns:
      Its id, the number of these examples, and its `Messages`.
    """
    algorithm, state, train, partition = restored
    messages, method = algorithm.messages, config.method
    assert messages is not None

    @jax.jit
    def found(state, train, partition, key):
        state = placed(state, algorithm.on_host)
        cohort, round_key = drawn(
            algorithm,
            state,
            train,
            partition,
            key=key,
            number=state.round,
            batch_size=config.batch_size,
        )
        bits = client_configs(method, cohort.client_id).bits
        codes = (bits < FLOAT_BITS) | method.updates.active
        examples = codes * cohort.num_examples
        slot = examples.argmax()
        sent = messages(state, cohort, round_key, slot=slot)
        return cohort.client_id[slot], examples[slot], sent

    key = jax.random.key(config.seed)
    return jax.device_get(found(state, train, partition, key))


def _compressor(config: FedLPQConfig, messages: Messages) -> tuple[Compressor, str]:
    """The compressor of a client's layers, and what it is in words."""
    if config.updates.active:
        updates, levels = plain((messages.updates, messages.levels))
        return updates.compressor(levels), updates.said(levels)
    bits = messages.bits.item()
    how = qsgd(levels=2**bits, norm="l2", rounding=config.rounding, coder=config.code)
    return how, f"b = {bits}, {config.code_name}"


def sent_next(seen: LastCheckpoint) -> SentLayers | None:
    """Computes what a client would send in the round after the last checkpoint.

    Args:
      seen: the run's last checkpoint.

    Returns:
      The layers of one client of the next cohort; None if there is no checkpoint, or
      if nothing is coded.

    Raises:
      ValueError: if the run's data is not available, or the checkpoint is damaged.
    """
    config = seen.config
    if not seen.arrays or not config.method.coded:
        return None
    restored = seen.restored()
    client, examples, messages = _next(restored, config)
    if not examples:
        return None
    compressor, said = _compressor(config.method, messages)
    owned = [name for name in messages.layers if messages.owned[name]]
    return SentLayers(
        rounds=int(restored.state.round),
        client=int(client),
        said=said,
        compressor=compressor,
        layers={name: messages.layers[name] for name in owned},
        masks={name: messages.masks[name] for name in owned},
    )
