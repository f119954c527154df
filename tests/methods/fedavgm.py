"""FedAvg with server momentum (arXiv 1909.06335), as another package would add it."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from fedjax_sl.algorithm import Algorithm, Link, Links, RoundMetrics, Work
from fedjax_sl.config_base import Number, pytree, static
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.cohort import draw_epochs
from fedjax_sl.federation.aggregation import client_weights
from fedjax_sl.federation.clients import ClientMap, scan
from fedjax_sl.federation.combine import Received, combine
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.federation.local_epochs import local_epochs
from fedjax_sl.method_spec import Built, MethodSpec, Preset
from fedjax_sl.models.cost import macs


@pytree
@dataclass(frozen=True, kw_only=True)
class FedAvgMConfig:
    """Settings of FedAvg with server momentum."""

    cohort_size: int = static(3)
    """K, clients that participate in a round."""
    learning_rate: Number = 0.05
    """eta, of the clients' local steps."""
    server_momentum: Number = 0.9
    """beta, of the server's step."""


@dataclass(frozen=True, kw_only=True)
class FedAvgMRun(RunConfig):
    """FedAvg with server momentum on one data set."""

    algorithm: ClassVar[str] = "fedavgm"
    method: FedAvgMConfig = field(default_factory=FedAvgMConfig)
    rounds: int = 12
    batch_size: int = 10
    eval_every: int = 2


class State(NamedTuple):
    """The server's model and the momentum of its steps."""

    round: jax.Array
    variables: Any
    momentum: Any


def fedavgm(model, config: FedAvgMConfig, shape, over: ClientMap = scan) -> Algorithm:
    """The method for a Flax model `(images, train, weight) -> logits`."""
    passes = float(macs(model, shape))

    def init(key):
        variables = dict(model.init(key, jnp.zeros((1, *shape)), False))
        return State(jnp.int32(0), variables, jax.tree.map(jnp.zeros_like, variables))

    def one(whole, examples, index, weight, share, fault):
        local = optax.sgd(config.learning_rate)
        trained, loss = local_epochs(model, local, whole, examples, index, weight)
        trained = arrived(fault, whole, trained)
        good = valid(jax.tree.map(jnp.subtract, trained, whole))
        every = jax.tree.map(lambda _: jnp.bool_(True), whole)
        return Received(trained, every, jnp.where(good, share, 0.0)), (loss, good)

    def round(state, cohort, key):
        shares = client_weights(cohort.num_examples, by="examples")
        own = (cohort.index, cohort.weight, shares, cohort.fault)
        shared, before = (state.variables, cohort.examples), state.variables
        mean, (loss, good) = combine(over, one, shared, own, fallback=before, trim=None)
        momentum = jax.tree.map(
            lambda m, new, old: config.server_momentum * m + new - old,
            *(state.momentum, mean, before),
        )
        new = jax.tree.map(jnp.add, before, momentum)
        present, trained_on = cohort.num_examples > 0, cohort.weight.sum(axis=(1, 2))
        link = Link.float32(sum(x.size for x in jax.tree.leaves(before)) * present)
        metrics = RoundMetrics(
            client_id=cohort.client_id,
            loss=loss,
            kept_ratio=jnp.ones_like(loss),
            rejected=present & ~good,
            work=Work(client=passes * trained_on, server=0.0 * trained_on),
            links=Links.uncut(model_down=link, updates_up=link),
        )
        return State(state.round + 1, new, momentum), metrics

    return Algorithm(
        init=init,
        draw=partial(draw_epochs, cohort_size=config.cohort_size, epochs=1),
        round=round,
        predict=lambda state, images: model.apply(state.variables, images, False),
        period=lambda state: state.round,
        models=("variables",),
    )


class Linear(nn.Module):
    """A layer of logits, compiled in no time."""

    num_classes: int

    @nn.compact
    def __call__(self, images, train, weight=None):
        """`[B, H, W, Ch]` to `[B, C]`."""
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def build(config: FedAvgMRun, train, partition, choose_map) -> Built:
    """From a configuration, a classifier of these images."""
    shape = train.image.shape[1:]
    model, over = Linear(train.num_classes), choose_map(10**7)
    steps = -(-partition.index.shape[1] // config.batch_size)
    return Built(fedavgm(model, config.method, shape, over), steps, over.devices)


SPEC = MethodSpec(
    FedAvgMRun, {"fedavgm": Preset(FedAvgMRun(), "server momentum")}, build
)
