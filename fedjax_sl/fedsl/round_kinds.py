"""Traffic and work of FedSL's rounds, computed from a configuration before a run.

A round may start a period and may end one, which makes four kinds of rounds. The
method's own code counts each kind, from expected or from maximal counts.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.algorithm import Link, Links, Work
from fedjax_sl.compression.pruning import kept
from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.compressors import send
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.fedsl.bit_allocation import BitAllocation
from fedjax_sl.fedsl.client_configs import ClientConfigs, client_configs
from fedjax_sl.fedsl.compute import scored, work
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.cut import bitmap_bits, channels_at_cut
from fedjax_sl.fedsl.period_start import masks
from fedjax_sl.fedsl.traffic import Counts, links, sizes_of
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


class _AtCut(NamedTuple):
    """Messages at the cut, and how many activations are sent, `[K]`."""

    activations: Link
    returned: jax.Array
    back: Link | None


def _typical(
    config: FedSLConfig,
    per_client: ClientConfigs,
    entries: jax.Array,
    shape: tuple[int, ...],
) -> _AtCut:
    """What is sent of so many activations of each client.

    What a compressor makes of an array depends on its values: here on a normal
    distribution, of activations only half of it, as after a ReLU.
    """

    def of_client(own, entries):
        mask = (jnp.arange(math.prod(shape)) < entries).reshape(shape)
        draws = jax.random.normal(jax.random.key(0), shape)
        keys = jax.random.split(jax.random.key(1))
        up = send(own.activations.compressor(), keys[0], jax.nn.relu(draws), mask)
        down = send(own.cut_gradients.compressor(), keys[1], draws, up.sent)
        return _AtCut(up.bits, up.sent.sum(dtype=jnp.int32), down.bits)

    if not config.compressed_cut:
        return _AtCut(Link.float32(entries), entries, None)
    # One after another: all batches at once could take more than a machine has.
    found = jax.lax.map(lambda client: of_client(*client), (per_client, entries))
    if config.cut_gradients.kind == "float32":
        return found._replace(back=None)
    return found


def _longest(configs: CompressorConfig, entries: jax.Array, size: int) -> Link:
    """The longest messages of so many activations, `[N]`, with settings `[N]`."""
    return jax.vmap(lambda own, n: own.compressor().wire.most(n, size))(
        configs, entries
    )


@partial(jax.jit, static_argnames=("model", "batch_size"))
def _expected(
    model: SplitModel, config: FedSLConfig, batch_size: int
) -> tuple[Links, Work]:
    sizes, everyone = sizes_of(config, model), jnp.arange(config.cohort_size)
    per_client = client_configs(config, everyone)
    params = model.init(jax.random.key(0)).client["params"]
    # Where kernels are ranked one by one, counts do not depend on the scores.
    mask = masks(config, magnitude_scores(params), per_client.prune_ratio[0])
    examples = jnp.full_like(everyone, batch_size)
    shape = model.cut_shape()
    channels = channels_at_cut(config, mask, shape[-1])
    cut = math.prod(shape[:-1]) * channels.sum()
    sent = jnp.round(batch_size * cut * (1 - per_client.dropout_rate))
    at_cut = _typical(config, per_client, sent.astype(jnp.int32), (batch_size, *shape))
    channels = jnp.broadcast_to(channels, (len(everyone), shape[-1]))
    bitmap = bitmap_bits(config, per_client.dropout_rate, channels, shape=shape)
    num_kept = jnp.broadcast_to(kept(mask, params), everyone.shape)

    def count_kind(kind):
        starts, ends = kind
        passes = scored(config, per_client, examples, starts)
        counts = Counts(
            present=examples > 0,
            examples=examples,
            scored=passes,
            bitmap=bitmap,
            **at_cut._asdict(),
            kept=num_kept,
            prunes=num_kept < sizes.params,
            update=BitAllocation(per_client.upload_bits, jnp.zeros_like(everyone)),
        )
        done = work(model, examples, passes, broadcast(mask, len(everyone)))
        return links(config, sizes, per_client, counts, starts=starts, ends=ends), done

    return jax.vmap(count_kind)(jnp.asarray(KINDS))


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
    counted, done = jax.device_get(_expected(model, config, batch_size))
    ids = np.broadcast_to(np.arange(config.cohort_size), (4, config.cohort_size))
    return recorded(ids, counted, done)


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
    sizes, everyone = sizes_of(config, model), jnp.arange(len(examples))
    per_client, real = (
        client_configs(config, everyone),
        jnp.asarray(examples, jnp.int32),
    )
    bits = per_client.upload_bits
    # The message may then be the gradient, with bits of its own.
    if config.interval == 1:
        bits = jnp.maximum(bits, per_client.grad_bits)
    passes = config.scoring_pass and config.charge_scoring
    shape = model.cut_shape()
    entries, size = real * sizes.cut, batch_size * sizes.cut
    at_cut = _AtCut(
        _longest(per_client.activations, entries, size),
        entries,
        _longest(per_client.cut_gradients, entries, size),
    )
    if config.cut_gradients.kind == "float32":
        at_cut = at_cut._replace(back=None)
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
            # All kept, and a mask sent, as in no round: each count is its own maximum.
            kept=jnp.full_like(real, sizes.params),
            prunes=real > 0,
            update=BitAllocation(bits, jnp.zeros_like(real)),
        )
        done = work(model, real, counts.scored)
        return links(config, sizes, per_client, counts, starts=starts, ends=ends), done

    counted, done = jax.device_get(jax.vmap(count_kind)(jnp.asarray(KINDS)))
    return recorded(np.broadcast_to(everyone, (4, len(examples))), counted, done)
