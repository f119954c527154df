"""Compressed updates in Flower: a mod for a ClientApp, and a strategy around another.

A client returns its arrays after training; the mod replaces them by the bytes of their
change, and the strategy puts the arrays back before they are aggregated. Both know the
arrays that the server sent, and a key of the server's seed, the round and the node.

Flower is imported when it is used: `pip install 'fedjax-sl[flower]'`.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fedjax_sl.checks import check_integer
from fedjax_sl.compressors.arrays import (
    init_states,
    pack_with_states,
    packed_bits,
    unpack,
)
from fedjax_sl.compressors.compressor import Compressor
from fedjax_sl.errors import InputError
from fedjax_sl.extras import require


Mod = Callable[[Any, Any, Callable[[Any, Any], Any]], Any]

NAME = "fedjax_sl"
"""Of the array that holds the bytes, of its type, and of the states in a context."""

SEED = "compression-seed"
"""Entry of the configuration: the server's seed and the round."""

BITS, BYTES = "compressed-bits", "compressed-bytes"
"""Metrics of a reply: bits of its messages; bytes, with their lengths and padding."""


def compression_mod(compressor: Compressor) -> Mod:
    """Makes a Flower mod that compresses what a client returns after training.

    It is the first of a client's mods, so that the others see arrays. The bits and
    bytes of each message are among the metrics. What a compressor keeps, as the
    residual of error feedback, is in the state of the client's context. Where it cannot
    compress, the reply is an error.

    Args:
      compressor: of the change of each float array; the strategy has the same.

    Returns:
      `mod(message, context, call_next) -> reply`.
    """

    def mod(message: Any, context: Any, call_next: Callable[[Any, Any], Any]) -> Any:
        # Replies to other messages hold no update. A type may have a name behind a dot.
        if message.metadata.message_type.partition(".")[0] != "train":
            return call_next(message, context)
        try:
            # Taken now: the app may change the message.
            key, received = _key(message), _arrays(message)
            reply = call_next(message, context)
            if not reply.has_error():
                _compress(compressor, key, reply, received, context=context)
        except InputError as error:
            return _refusal(error, message)
        return reply

    return mod


def decompressing(strategy: Any, compressor: Compressor, *, seed: int = 0) -> Any:
    """Wraps a Flower strategy whose clients have a `compression_mod`.

    A reply that cannot be read counts as an error of its client.

    Args:
      strategy: a `flwr.serverapp.strategy.Strategy`.
      compressor: as the clients'.
      seed: of all draws of the compressors, below 2^32.

    Returns:
      The strategy.

    Raises:
      ValueError: if the seed is out of range, or Flower is not installed.
    """
    check_integer("seed", seed, 0, 2**32 - 1)
    require("flwr", "decompressing needs")
    from flwr.serverapp.strategy import Strategy  # type: ignore[import-not-found]

    class Decompressing(Strategy):
        def __init__(self):
            self.sent = {}

        def configure_train(self, server_round, arrays, config, grid):
            # With the message: a client that missed rounds has the right key all the
            # same.
            config[SEED] = [seed, server_round]
            found = list(strategy.configure_train(server_round, arrays, config, grid))
            # By node: replies come in any order, and some may not come.
            self.sent = {message.metadata.dst_node_id: message for message in found}
            return found

        def aggregate_train(self, server_round, replies):
            found = [_decompressed(compressor, self.sent, reply) for reply in replies]
            return strategy.aggregate_train(server_round, found)

        def configure_evaluate(self, server_round, arrays, config, grid):
            return strategy.configure_evaluate(server_round, arrays, config, grid)

        def aggregate_evaluate(self, server_round, replies):
            return strategy.aggregate_evaluate(server_round, replies)

        def summary(self):
            strategy.summary()

    return Decompressing()


def _key(message: Any) -> jax.Array:
    """The key of a message from the server: of its seed, the round and the node."""
    for record in message.content.config_records.values():
        if SEED in record:
            seed, server_round = record[SEED]
            node = message.metadata.dst_node_id
            key = jax.random.fold_in(jax.random.key(seed), server_round)
            # A node has 64 bits, of which a call folds 32.
            return jax.random.fold_in(
                jax.random.fold_in(key, node % 2**32), node // 2**32
            )
    raise InputError(
        f"no configuration holds {SEED!r}: expected a strategy by `decompressing`."
    )


def _arrays(message: Any) -> dict[str, np.ndarray]:
    """The arrays of the only record of arrays, by name."""
    return {name: array.numpy() for name, array in _only(message)[1].items()}


def _only(message: Any) -> tuple[str, Any]:
    """The only record of arrays, after its name."""
    records = list(message.content.array_records.items())
    if len(records) != 1:
        raise InputError(f"{len(records)} records of arrays: expected one.")
    return records[0]


def _compress(
    compressor: Compressor,
    key: jax.Array,
    reply: Any,
    received: dict[str, np.ndarray],
    *,
    context: Any,
) -> None:
    """Replaces the arrays of a reply by bytes, and adds metrics."""
    from flwr.app import Array, ArrayRecord, MetricRecord  # type: ignore[import-not-found]

    arrays, (record, _) = _arrays(reply), _only(reply)
    if list(arrays) != list(received):
        raise InputError(
            f"arrays {list(arrays)!s:.80}: expected those that the server sent, "
            f"{list(received)!s:.80}."
        )
    values = list(arrays.values())
    states = _with_leaves(init_states(compressor, values), context.state.get(NAME))
    data, states = pack_with_states(
        compressor, key, values, list(received.values()), states=states
    )
    if leaves := [np.asarray(leaf) for leaf in jax.tree.leaves(states)]:
        context.state[NAME] = ArrayRecord(leaves)
    whole = Array(dtype="uint8", shape=(len(data),), stype=NAME, data=data)
    reply.content[record] = ArrayRecord({NAME: whole})
    if not reply.content.metric_records:
        reply.content["metrics"] = MetricRecord()
    metrics = next(iter(reply.content.metric_records.values()))
    metrics[BITS], metrics[BYTES] = packed_bits(data), len(data)


def _with_leaves(states: list[Any], record: Any) -> list[Any]:
    """States whose leaves are those of a record, if there is one."""
    if record is None:
        return states
    leaves, structure = jax.tree.flatten(states)
    kept = record.to_numpy_ndarrays()
    if [x.shape for x in kept] != [x.shape for x in leaves]:
        raise InputError(
            "the context keeps a state of other arrays, or of another compressor."
        )
    return structure.unflatten(kept)


def _decompressed(compressor: Compressor, sent: dict[int, Any], reply: Any) -> Any:
    """A reply with its arrays; an error of its client if it cannot be read."""
    from flwr.app import Array, ArrayRecord  # type: ignore[import-not-found]

    if reply.has_error():
        return reply
    message = sent[reply.metadata.src_node_id]
    try:
        held, (name, record) = _arrays(message), _only(reply)
        if list(record) != [NAME]:
            raise InputError("the reply is not of a `compression_mod`.")
        data = record[NAME].data
        arrays = unpack(compressor, _key(message), data, list(held.values()))
    except InputError as error:
        return _refusal(error, message)
    reply.content[name] = ArrayRecord(
        {name: Array(x) for name, x in zip(held, arrays, strict=True)}
    )
    return reply


def _refusal(error: InputError, message: Any) -> Any:
    """An error as the reply to a message."""
    from flwr.app import Error, Message  # type: ignore[import-not-found]
    from flwr.common.constant import ErrorCode  # type: ignore[import-not-found]

    code = ErrorCode.MOD_FAILED_PRECONDITION
    return Message(Error(code=code, reason=str(error)), reply_to=message)
