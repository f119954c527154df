"""The message that a client of FedLP-Q would send or receive next.

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


LINKS = {"updates": "client {client}'s update", "models": "the server's model"}
"""Links whose messages are shown, by the option of their compressor, and in words."""


def _next(
    restored: Restored, config: FedLPQRun, link: str
) -> tuple[Any, Any, Messages]:
    """Computes the messages of one client of the next cohort.

    It is the client with the most examples among those whose messages are coded.

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
        # A class of devices at 32 bits sends float32, which has no code to show.
        codes = (bits < FLOAT_BITS) | getattr(method, link).active
        examples = codes * cohort.num_examples
        slot = examples.argmax()
        sent = messages(state, cohort, round_key, slot=slot, link=link)
        return cohort.client_id[slot], examples[slot], sent

    key = jax.random.key(config.seed)
    return jax.device_get(found(state, train, partition, key))


def _compressor(config: FedLPQConfig, messages: Messages) -> tuple[Compressor, str]:
    """The compressor of a client's layers, and what it is in words."""
    if messages.how.active:
        how, levels = plain((messages.how, messages.levels))
        return how.compressor(levels), how.said(levels)
    bits = messages.bits.item()
    # The method's quantiser as a compressor: every code that this has can be compared.
    how = qsgd(levels=2**bits, norm="l2", rounding=config.rounding, coder=config.code)
    return how, f"b = {bits}, {config.code_name}"


def sent_next(seen: LastCheckpoint, link: str = "updates") -> SentLayers | None:
    """Computes what a client would send or receive in the round after the checkpoint.

    Args:
      seen: the run's last checkpoint.
      link: one of `LINKS`.

    Returns:
      The layers of one client of the next cohort; None if there is no checkpoint, or
      if nothing is coded.

    Raises:
      ValueError: if the run's data is not available, or the checkpoint is damaged.
    """
    config = seen.config
    coded = {"updates": config.method.coded, "models": config.method.models.active}
    if not seen.arrays or not coded[link]:
        return None
    restored = seen.restored()
    client, examples, messages = _next(restored, config, link)
    # Nobody participates in that round, or nobody's message is coded.
    if not examples:
        return None
    compressor, said = _compressor(config.method, messages)
    owned = [name for name in messages.layers if messages.owned[name]]
    return SentLayers(
        rounds=int(restored.state.round),
        client=int(client),
        what=LINKS[link].format(client=client),
        said=said,
        compressor=compressor,
        layers={name: messages.layers[name] for name in owned},
        masks={name: messages.masks[name] for name in owned},
    )
