"""The update that a client of FedSL would send next, at the end of a period.

Runs do not store messages: the method computes them from the last checkpoint, in the
rounds that are left of its period.
"""

from typing import Any

import jax

from fedjax_sl.config_base import plain
from fedjax_sl.errors import InputError
from fedjax_sl.federation.stores import placed
from fedjax_sl.fedsl.messages import Messages
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.method_spec import LastCheckpoint, Restored, SentLayers
from fedjax_sl.simulation import drawn, run_rounds


def _next(restored: Restored, config: FedSLRun, last: int) -> tuple[Any, Any, Messages]:
    """Computes the messages of the client with the most examples, in round `last`.

    Returns:
      Its id, the number of these examples, and its `Messages`.
    """
    algorithm, state, train, partition = restored
    messages, first = algorithm.messages, int(state.round)
    if messages is None:
        raise InputError(
            f"cut={config.model.cut}: expected one cut of all clients, whose messages "
            "then have one form."
        )

    @jax.jit
    def found(state, train, partition, key):
        state = placed(state, algorithm.on_host)
        how = {"key": key, "batch_size": config.batch_size}
        data = (train, partition)
        if last > first:
            state, _ = run_rounds(
                algorithm, state, *data, first=first, rounds=last - first, **how
            )
        cohort, round_key = drawn(algorithm, state, *data, number=last, **how)
        slot = cohort.num_examples.argmax()
        sent = messages(state, cohort, round_key, slot=slot)
        return cohort.client_id[slot], cohort.num_examples[slot], sent

    key = jax.random.key(config.seed)
    return jax.device_get(found(state, train, partition, key))


def sent_next(seen: LastCheckpoint) -> SentLayers | None:
    """Computes the update that a client would send after the last checkpoint.

    Args:
      seen: the run's last checkpoint.

    Returns:
      The tensors of one client; None if there is no checkpoint, if updates have no
      compressor, or if no client participates.

    Raises:
      ValueError: if the run's data is not available, or the checkpoint is damaged.
    """
    config, method = seen.config, seen.config.method
    if not seen.arrays or not method.updates.active:
        return None
    restored = seen.restored()
    # Updates are sent in the last round of a period.
    left = method.interval - 1 - int(restored.state.round) % method.interval
    last = int(restored.state.round) + left
    client, examples, messages = _next(restored, config, last)
    if not examples:
        return None
    updates, levels = plain((messages.updates, messages.levels))
    return SentLayers(
        rounds=last,
        client=int(client),
        said=updates.said(levels),
        compressor=updates.compressor(levels),
        layers=messages.tensors,
        masks=messages.masks,
    )
