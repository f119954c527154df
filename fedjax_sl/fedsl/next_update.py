"""The message that a client of FedSL would send or receive next, on any link.

Runs do not store messages: the method computes them from the last checkpoint, in the
rounds that are left until there is one.
"""

from typing import Any

import jax

from fedjax_sl.config_base import plain
from fedjax_sl.errors import InputError
from fedjax_sl.federation.stores import placed
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.config_checks import AT_CUTS
from fedjax_sl.fedsl.message import Messages
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.method_spec import LastCheckpoint, Restored, SentLayers
from fedjax_sl.simulation import drawn, run_rounds


WHAT = {
    "updates": "client {client}'s update",
    "models": "the server's model",
    "activations": "client {client}'s activations",
    "cut_gradients": "the gradients that client {client} receives",
    "features": "the features that client {client} receives",
    "feature_gradients": "client {client}'s gradients of its features",
}
"""Messages in words."""


def _next(
    restored: Restored, config: FedSLRun, link: str, *, last: int
) -> tuple[Any, Any, Messages]:
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
        # Cohort and key of that very round: the message is the one that a run sends.
        cohort, round_key = drawn(algorithm, state, *data, number=last, **how)
        slot = cohort.num_examples.argmax()
        sent = messages(state, cohort, round_key, slot=slot, link=link)
        return cohort.client_id[slot], cohort.num_examples[slot], sent

    key = jax.random.key(config.seed)
    return jax.device_get(found(state, train, partition, key))


def _rounds_left(method: FedSLConfig, link: str, done: int) -> int:
    """Returns the rounds until there is a message on a link, after so many."""
    first = done % method.interval
    if link == "models":
        # 0 where a period starts: that very round sends a model.
        return -first % method.interval
    # Updates are sent in the last round of a period, activations in every one.
    return method.interval - 1 - first if link == "updates" else 0


def sent_next(seen: LastCheckpoint, link: str = "updates") -> SentLayers | None:
    """Computes the message that a client would send or receive after the checkpoint.

    Args:
      seen: the run's last checkpoint.
      link: one of `messages.LINKS`.

    Returns:
      The tensors of one client; None if there is no checkpoint, if the link has no
      compressor, or if no client participates.

    Raises:
      ValueError: if the run's data is not available, the checkpoint is damaged, or the
        clients go one after another.
    """
    config, method = seen.config, seen.config.method
    if not seen.arrays or not getattr(method, link).active:
        return None
    if method.sequential and link in AT_CUTS:
        raise InputError(
            f"link={link!r}: expected clients side by side, as those that go one after "
            "another send to a server that changes in between."
        )
    restored = seen.restored()
    done = int(restored.state.round)
    last = done + _rounds_left(method, link, done)
    client, examples, messages = _next(restored, config, link, last=last)
    # Nobody participates in that round, as where all are stragglers.
    if not examples:
        return None
    how, levels = plain((messages.how, messages.levels))
    return SentLayers(
        rounds=last,
        client=int(client),
        what=WHAT[link].format(client=client),
        said=how.said(levels),
        compressor=how.compressor(levels),
        layers=messages.tensors,
        masks=messages.masks,
    )
