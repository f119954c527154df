"""Traffic and work of FedSL's rounds, computed from a configuration before a run.

A round may start a period and may end one, which makes four kinds of rounds. The
method's own code counts each kind, from expected or from maximal counts.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Links, Work
from fedjax_sl.compression.pruning import kept
from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.compute import scored, work
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.estimates.message_length import (
    longest_at_cut,
    longest_behind,
    longest_model,
    longest_update,
    typical_at_cut,
    typical_behind,
    typical_model,
    typical_update,
)
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.fedsl.thin_cut import bitmap_bits, channels_at_cut
from fedjax_sl.fedsl.traffic import Counts, links, sizes_of
from fedjax_sl.models.class_cuts import cut_models, own_cuts
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.split import SplitModel
from fedjax_sl.traffic import Record, recorded


KINDS = np.array([[False, False], [False, True], [True, False], [True, True]])
"""Whether a period starts with a round, and whether it ends with it."""


def at_rounds(kinds: Record, rounds: np.ndarray, interval: int) -> Record:
    """Looks up the record of each round by its kind.

    Args:
      kinds: of four rounds, in the order of `KINDS`.
      rounds: `[T]`, their numbers.
      interval: I.

    Returns:
      A record of T rounds.
    """
    # The rows of KINDS are in binary order, starts before ends.
    kind = 2 * (rounds % interval == 0) + ((rounds + 1) % interval == 0)
    return jax.tree.map(lambda x: x[kind], kinds)


# The configuration is traced: a search over its numbers compiles once for each cut.
@partial(jax.jit, static_argnames=("model", "batch_size"))
def _expected(
    model: SplitModel, config: FedSLConfig, batch_size: int
) -> tuple[Links, Work]:
    sizes, everyone = sizes_of(config, model), jnp.arange(config.cohort_size)
    per_client = client_configs(config, everyone)
    params = model.init(jax.random.key(0)).client["params"]
    # Where kernels are ranked one by one, counts do not depend on the scores.
    can = prunable(model)
    mask = masks(config, can, magnitude_scores(params), per_client.prune_ratio[0])
    examples = jnp.full_like(everyone, batch_size)
    shape = model.cut_shape()
    channels = channels_at_cut(config, can, mask, shape[-1])
    cut = math.prod(shape[:-1]) * channels.sum()
    sent = jnp.round(batch_size * cut * (1 - per_client.dropout_rate))
    sent = sent.astype(jnp.int32)
    tail = None if model.tail is None else (batch_size, *model.tail_shape())
    behind = typical_behind(config, per_client, examples, tail)
    at_cut = typical_at_cut(config, per_client, sent, (batch_size, *shape))
    channels = jnp.broadcast_to(channels, (len(everyone), shape[-1]))
    bitmap = bitmap_bits(config, per_client.dropout_rate, channels, shape=shape)
    num_kept = jnp.broadcast_to(kept(mask, params), everyone.shape)
    update = typical_update(config, per_client, params, mask)

    def count_kind(kind):
        starts, ends = kind
        passes = scored(config, per_client, examples, starts)
        counts = Counts(
            present=examples > 0,
            examples=examples,
            scored=passes,
            bitmap=bitmap,
            **at_cut._asdict(),
            behind=behind,
            kept=num_kept,
            prunes=num_kept < sizes.params,
            update=update,
            down=typical_model(config, params),
        )
        every_mask = broadcast(mask, len(everyone))
        done = work(config, model, examples, scored=passes, masks=every_mask)
        return links(config, sizes, per_client, counts, starts=starts, ends=ends), done

    # Traced kinds, as a round traces them: one function counts before and in a run.
    return jax.vmap(count_kind)(jnp.asarray(KINDS))


def _of_own_cuts(model: SplitModel, records: Sequence[Record]) -> Record:
    """Picks the counts of each client, `[4, N]`, from those at each of `cut_models`.

    What a client sends and computes depends on its own cut alone.
    """
    own_cut = own_cuts(model, jnp.asarray(records[0].client_id[0]))
    if own_cut is None:
        return records[0]
    own, clients = np.asarray(own_cut), np.arange(len(own_cut))
    return jax.tree.map(lambda *x: np.stack(x, axis=1)[:, own, clients], *records)


def expected(model: SplitModel, config: FedSLConfig, batch_size: int) -> Record:
    """Counts what each kind of round computes and sends, with full batches.

    Args:
      model: the network, cut.
      config: the same for all clients; its ratio holds in every round, and updates
        take all the bits allowed. Random counts are replaced by their expectation.
      batch_size: B.

    Returns:
      A record of four rounds, in the order of `KINDS`, of clients 0 to K - 1.
    """
    ids = np.broadcast_to(np.arange(config.cohort_size), (4, config.cohort_size))
    counted = [
        jax.device_get(_expected(at, config, batch_size)) for at in cut_models(model)
    ]
    return _of_own_cuts(model, [recorded(ids, *each) for each in counted])


def _most(
    model: SplitModel, config: FedSLConfig, examples: np.ndarray, *, batch_size: int
) -> Record:
    """Bounds as `most`, of a network with one cut."""
    sizes, everyone = sizes_of(config, model), jnp.arange(len(examples))
    per_client, real = (
        client_configs(config, everyone),
        jnp.asarray(examples, jnp.int32),
    )
    passes = config.scoring_pass and config.charge_scoring
    shape = model.cut_shape()
    entries, size = real * sizes.cut, batch_size * sizes.cut
    at_cut = longest_at_cut(config, per_client, entries, size=size)
    if config.backward == "mean":
        # One message for all, as long as that of the largest mini-batch.
        at_cut = at_cut._replace(returned=entries.max() * (real > 0))
    features = None if sizes.features is None else real * sizes.features
    behind = longest_behind(
        per_client, features, size=batch_size * (sizes.features or 0)
    )
    params = model.shapes.client["params"]
    update = longest_update(config, per_client, params)
    channels = jnp.ones((len(examples), shape[-1]), bool)
    bitmap = bitmap_bits(config, per_client.dropout_rate, channels, shape=shape)

    def count_kind(kind):
        starts, ends = kind
        counts = Counts(
            present=real > 0,
            examples=real,
            scored=real * (passes & starts),
            bitmap=bitmap,
            **at_cut._asdict(),
            behind=behind,
            # All kept, and a mask sent, as in no round: each count is its own maximum.
            kept=jnp.full_like(real, sizes.params),
            prunes=real > 0,
            update=update,
            down=longest_model(config, params),
        )
        done = work(config, model, real, scored=counts.scored)
        return links(config, sizes, per_client, counts, starts=starts, ends=ends), done

    counted, done = jax.device_get(jax.vmap(count_kind)(jnp.asarray(KINDS)))
    return recorded(np.broadcast_to(everyone, (4, len(examples))), counted, done)


def most(
    model: SplitModel, config: FedSLConfig, examples: np.ndarray, *, batch_size: int
) -> Record:
    """Bounds what each kind of round takes of each client: dense, without dropout.

    Args:
      model: the network, cut.
      config: the configuration.
      examples: `[N]`, in a mini-batch of each client.
      batch_size: B, padding included.

    Returns:
      A record of four rounds, in the order of `KINDS`, of all N clients.
    """
    bounds = [
        _most(at, config, examples, batch_size=batch_size) for at in cut_models(model)
    ]
    return _of_own_cuts(model, bounds)
