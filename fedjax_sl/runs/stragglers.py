"""Who will be done by a deadline whatever happens, known before a run begins.

As FedCS does (Nishio and Yonetani, 2019), clients that would take too long are left out
before a round rather than waited for. The channel says how fast each is in each round;
what it does is bounded by what it would do with nothing pruned or dropped.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl.analysis.phases import done_by, needs
from fedjax_sl.compression.code_length import code_length_bound
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.configs.run_config import FedLPQRun, FedSLRun, Run
from fedjax_sl.data.partition import Partition
from fedjax_sl.data.sources import Dataset
from fedjax_sl.errors import InputError
from fedjax_sl.fedlpq.config import settings_of as fedlpq_settings
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.fedlpq.traffic import layers_of
from fedjax_sl.fedsl.bit_allocation import WIDTH_BITS
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.config import settings_of as fedsl_settings
from fedjax_sl.fedsl.mask_bits import mask_bits
from fedjax_sl.fedsl.quantizer import coded_bits, scales
from fedjax_sl.models.cost import layer_costs
from fedjax_sl.models.split import SplitModel
from fedjax_sl.runs.methods import networks, split_model
from fedjax_sl.traffic import Record, Traffic


AT_A_TIME = 1000
"""Rounds that are looked at at a time."""


NOT_APART = Traffic(*[np.zeros(1, np.int64)] * len(Traffic._fields))
"""Side information is among all the bits here; none of it is told apart."""


def _size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def most_of_fedsl(
    method: FedSLConfig, split: SplitModel, examples: np.ndarray, rounds: np.ndarray
) -> Record:
    """The most of each round, of every client, dense and nothing dropped.

    Args:
      method: the settings.
      split: the network, cut.
      examples: `[N]` in a mini-batch of each client.
      rounds: `[T]`, their numbers.

    Returns:
      The record, `[T, N]`.
    """
    client = jax.eval_shape(split.init, jax.random.key(0)).client
    params, relay = client["params"], method.client_update == "relay"
    everyone = np.arange(len(examples))
    settings = jax.device_get(fedsl_settings(method, jnp.asarray(everyone)))
    starts = (rounds % method.interval == 0)[:, None]
    ends = ((rounds + 1) % method.interval == 0)[:, None]
    scored = method.importance == "taylor" and method.charge_scoring
    passes = 1 + starts * scored
    entries = examples * math.prod(split.cut_shape())
    label_bits = math.ceil(math.log2(split.num_classes))

    numbers, tensors = _size(params), len(jax.tree.leaves(params))
    mask = mask_bits(method, params)
    bits = np.maximum(settings.upload_bits, settings.grad_bits)
    if method.interval != 1:
        bits = settings.upload_bits
    side = FLOAT_BITS * (tensors * scales(method) + _size(client) - numbers)
    update = numbers * _coded(method, bits) + side + WIDTH_BITS * tensors + mask.up
    model = FLOAT_BITS * _size(client)
    macs = sum(layer.macs for layer in layer_costs(split.client, split.input_shape))
    server = sum(layer.macs for layer in layer_costs(split.server, split.cut_shape()))
    back = entries * _coded(method, settings.down_bits) + FLOAT_BITS * scales(method)
    return Record(
        client_id=np.broadcast_to(everyone, (len(rounds), len(everyone))),
        traffic=Traffic(
            model_down=model * (starts | relay) + mask.down * starts,
            activations_up=passes * entries * FLOAT_BITS
            + entries * (method.dropout_mask == "bitmap"),
            labels_up=passes * examples * label_bits,
            gradients_down=passes * back,
            updates_up=np.where(relay, model, update * ends) + mask.scores_up * starts,
        ),
        side=NOT_APART,
        client_macs=passes * examples * float(macs),
        server_macs=passes * examples * float(server),
    )


def _fedsl(config: FedSLRun, train: Dataset, partition: Partition, rounds) -> Record:
    examples = np.minimum(partition.count.astype(np.int64), config.batch_size)
    split = split_model(config.model, train)
    return most_of_fedsl(config.method, split, examples, rounds)


def _coded(method: FedSLConfig, bits: np.ndarray) -> np.ndarray:
    return np.asarray(coded_bits(method, jnp.asarray(bits)), np.int64)


def _fedlpq(config: FedLPQRun, train: Dataset, partition: Partition, rounds) -> Record:
    """The most of each of these rounds, of every client: every layer of all of it."""
    method, shape = config.method, train.image.shape[1:]
    whole = networks(config, train)[-1]
    layers = layers_of([template(whole, shape)], method.unit)
    everyone = np.arange(len(partition.count))
    settings = jax.device_get(fedlpq_settings(method, jnp.asarray(everyone)))

    def message(bits: int) -> float:
        """Bits of the layers: rounding adds no more than 1 to an index on average."""
        if bits >= FLOAT_BITS:
            return float(FLOAT_BITS * layers.params.sum())
        return sum(
            code_length_bound(
                int(size), 2**bits / math.sqrt(size) + 1, bits=bits, code=method.code
            )
            for size in layers.params
            if size
        )

    known = {int(bits): message(int(bits)) for bits in set(settings.bits.tolist())}
    statistics = FLOAT_BITS * layers.statistics.sum() * method.charge_statistics
    update = [known[int(b)] + statistics + len(layers.names) for b in settings.bits]
    macs = sum(layer.macs for layer in layer_costs(whole, shape))
    once = np.ones((len(rounds), 1))
    none = 0 * once
    model = FLOAT_BITS * (layers.params.sum() + layers.statistics.sum())
    return Record(
        client_id=np.broadcast_to(everyone, (len(rounds), len(everyone))),
        traffic=Traffic(model * once, none, none, none, once * np.array(update)),
        side=NOT_APART,
        client_macs=once * partition.count * method.local_epochs * float(macs),
        server_macs=none,
    )


def in_time(config: Run, train: Dataset, partition: Partition) -> np.ndarray | None:
    """Who will be done by the channel's deadline in each round.

    Who would be late in one round between two draws of clients has no part in any of
    them.

    Args:
      config: the run, nothing in it left open.
      train: training examples.
      partition: who owns which, of N clients.

    Returns:
      `[T', N]` bool, T' >= T; None if nobody is to be left out.

    Raises:
      ValueError: if nobody will ever be done.
    """
    if not config.drop_late:
        return None
    most, period, cohort = _fedlpq, 1, config.cohort_size
    deadline = config.channel.deadline_s or math.inf
    if isinstance(config, FedSLRun):
        most, period = _fedsl, config.method.interval
    # A run that is made longer later has the same last period.
    total = -(-config.rounds // period) * period
    step = -(-AT_A_TIME // period) * period
    parts, least = [], math.inf
    for first in range(0, total, step):
        rounds = np.arange(first, min(first + step, total))
        record = most(config, train, partition, rounds)  # type: ignore[arg-type]
        found = needs(config.channel, record, cohort, first, in_turn=config.in_turn)
        alone = found.own + cohort * found.turn
        done = done_by(deadline, found, cohort)
        in_period = (-1, period, done.shape[1])
        least = min(least, float(alone.reshape(in_period).max(axis=1).min()))
        done = done.reshape(in_period).all(axis=1)
        parts.append(np.repeat(done, period, axis=0))
    if least > deadline:
        raise InputError(
            f"deadline_s={deadline}: expected at least {least:.4g}, "
            "or no client would ever take part (drop_late)."
        )
    return np.concatenate(parts)
