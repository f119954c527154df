"""Panels of a report on a FedLP-Q run: the messages of a client, layer by layer.

Runs do not store messages: the method computes them from the last checkpoint, in one
more round of one client.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_sl.algorithm import Cohort
from fedjax_sl.compression.code_length import code_length, entropy
from fedjax_sl.compression.quantization import FLOAT_BITS, Quantized
from fedjax_sl.fedlpq.config import client_configs
from fedjax_sl.fedlpq.run_config import FedLPQRun
from fedjax_sl.method_spec import LastCheckpoint, LayerBars, Restored, SentLayers
from fedjax_sl.simulation import drawn


class CodeLengths(NamedTuple):
    """Code lengths of layers, `[U]` each, in bits per element.

    Attributes:
      layers: their names.
      entropy: of the indices; no code of single elements is shorter.
      payload: codewords and signs.
      message: the whole message, with the norm and the codeword of b.
    """

    layers: Sequence[str]
    entropy: np.ndarray
    payload: np.ndarray
    message: np.ndarray


def _of_one(cohort: Cohort, slot: jax.Array) -> Cohort:
    """Restricts a cohort to one of its clients."""
    # Examples are of all clients, and have no axis of slots to cut.
    each = cohort._replace(examples=None)  # type: ignore[arg-type]
    single = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, slot, 1), each)
    return single._replace(examples=cohort.examples)


def _next(restored: Restored, config: FedLPQRun) -> tuple[Any, Any, Any]:
    """Computes the messages of one client of the next cohort.

    It is the client with the most examples among those that code their messages.

    Returns:
      Its id, the number of these examples, and its `Messages`, leaves `[1, ...]`.
    """
    algorithm, state, train, partition = restored
    messages = algorithm.messages
    assert messages is not None

    @jax.jit
    def found(state, train, partition, key):
        cohort, round_key = drawn(
            algorithm,
            state,
            train,
            partition,
            key=key,
            number=state.round,
            batch_size=config.batch_size,
        )
        codes = client_configs(config.method, cohort.client_id).bits < FLOAT_BITS
        examples = codes * cohort.num_examples
        single = _of_one(cohort, examples.argmax())
        return single.client_id[0], examples.max(), messages(state, single, round_key)

    key = jax.random.key(config.seed)
    return jax.device_get(found(state, train, partition, key))


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
    method = config.method
    if not seen.arrays or method.updates.active or not method.coded:
        return None
    restored = seen.restored()
    client, examples, messages = _next(restored, config)
    if not examples:
        return None
    layers = {
        name: Quantized(layer.norm[0], layer.level[0])
        for name, layer in messages.layers.items()
        if messages.owned[name][0]
    }
    return SentLayers(
        rounds=int(restored.state.round),
        client=int(client),
        bits=int(messages.bits[0]),
        code=config.method.code,
        layers=layers,
    )


def code_lengths(sent: SentLayers) -> CodeLengths:
    """Computes bits per element of each message, `|message| / M`, and entropy."""
    header = code_length(np.zeros(0, np.int64), bits=sent.bits, code=sent.code)
    whole = {
        name: code_length(levels, bits=sent.bits, code=sent.code)
        for name, levels in sent.levels.items()
    }
    sizes = np.array([levels.size for levels in sent.levels.values()])
    message = np.array(list(whole.values()))
    return CodeLengths(
        layers=list(whole),
        entropy=np.array([entropy(levels) for levels in sent.levels.values()]),
        payload=(message - header) / sizes,
        message=message / sizes,
    )


def messages(seen: LastCheckpoint) -> LayerBars | None:
    """Bits per element of each layer's message, beside the entropy of its indices."""
    sent = sent_next(seen)
    if sent is None:
        return None
    found = code_lengths(sent)
    sizes = [levels.size for levels in sent.levels.values()]
    whole = np.average(found.message, weights=sizes)
    least = np.average(found.entropy, weights=sizes)
    return LayerBars(
        name="code_length",
        heading="Code length and entropy",
        alt="Bars: bits per element of each layer's message, with the entropy of its "
        f"indices; {whole:.3g} and {least:.3g} over all elements.",
        axis="bits per element",
        layers=found.layers,
        parts={
            "codewords and signs": found.payload,
            "norm and header": found.message - found.payload,
        },
        marks={"entropy of indices": found.entropy},
        caption=f"The update of client {sent.client} as it would be sent after round "
        f"{sent.rounds}, were every layer sent: computed for this page from the last "
        f"checkpoint and the run's data. b = {sent.bits}, Elias {sent.code}; the "
        "entropy is that of single indices with their signs.",
    )
