"""FedSL of the package and of the reference, side by side, on the same draws."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import enable_x64

from fedjax_sl.algorithm import Batch
from fedjax_sl.fedsl import fedsl
from fedjax_sl.fedsl.running_scores import none_yet
from fedjax_sl.fedsl.statistics import statistics_of
from tests.reference import network
from tests.reference.cut import Visitor
from tests.reference.fedsl import FedSL
from tests.reference.options import BATCH, CLIENTS, PERIODS, config_of, missing
from tests.reference.package import (
    blank,
    flat,
    jittered,
    optimizer_state,
    visiting_order,
)
from tests.worlds import CLASSES, SHAPE, cohort_of, tiny_model


POOLED = (False, True, True)
IDS = ((0, 1, 2), (3, 1, 0), (2, 3, 1))
"""The cohorts of three periods, of four clients."""


@cache
def images(number):
    """A batch of each of the four clients, some of it padding."""
    rng = np.random.default_rng(number)
    real = np.array([BATCH, BATCH - 1, BATCH, 2])
    return Batch(
        rng.normal(size=(4, BATCH, *SHAPE)).astype(np.float32),
        rng.integers(0, CLASSES, (4, BATCH)),
        (np.arange(BATCH) < real[:, None]).astype(float),
    )


def cohort_at(row, t, interval):
    """The package's cohort of a round, and the reference's."""
    period = t // interval
    ids = np.array(IDS[period % PERIODS])
    absent, wrong = missing(row, period)
    batch = Batch(*(x[ids] for x in images(t)))
    examples = np.array([9, 4, 6, 2])[ids]
    fault = np.ones(CLIENTS)
    examples[list(absent)], fault[list(wrong)] = 0, np.nan
    weight = batch.weight * (examples > 0)[:, None]
    theirs = cohort_of(
        ids,
        Batch(*(jnp.asarray(x)[:, None] for x in batch))._replace(
            weight=jnp.asarray(weight)[:, None]
        ),
        examples,
    )._replace(fault=jnp.asarray(fault))
    return theirs, [
        Visitor(int(i), *(x[k] for x in batch), int(examples[k]), float(fault[k]))
        for k, i in enumerate(ids)
    ]


def begun(row, config):
    """The algorithm, its state, and the reference."""
    algorithm = fedsl(tiny_model(row["cut"], row["norm"]), config)
    state = blank(algorithm)
    one = jittered(jax.tree.map(lambda x: x[0], state.client), 1)
    server = jittered(state.server, 2)
    state = state._replace(
        client=jax.tree.map(lambda x: jnp.stack([x] * CLIENTS), one),
        server=server,
        anchor=one["params"],
        client_id=state.client_id - 1,
        statistics=statistics_of(one),
    )
    if state.running is not None:
        state = state._replace(running=none_yet(state.client["params"]))
    halves = [
        (flat(half["params"]), flat(half.get("batch_stats", {})))
        for half in (one, server)
    ]
    stages = network.vgg(row["norm"], POOLED)
    return algorithm, state, FedSL(stages, row["cut"], config, *halves)


def masks_of(state, k):
    """A client's mask as the reference has it."""
    params = flat(state.client["params"], k)
    mask = flat(state.mask, k)
    return {
        n: np.broadcast_to(mask[n] if mask[n] is not None else True, p.shape)
        for n, p in params.items()
    }


def played(row, rounds=6):
    """Plays a row round by round.

    Yields:
      `(round, what, package's, reference's)` for all that is compared.
    """
    config = config_of(row)
    with enable_x64():
        key = jax.random.key(0)
        algorithm, state, ours = begun(row, config)
        step = jax.jit(algorithm.round)
        views = [
            jax.jit(predict)
            for predict in (algorithm.predict, algorithm.views["pruned"])
        ]
        for t in range(rounds):
            round_key = jax.random.fold_in(key, t)
            theirs, cohort = cohort_at(row, t, config.interval)
            order = visiting_order(round_key, theirs.client_id)
            state, metrics = step(state, theirs, round_key)
            random = config.importance == "random"
            drawn = [masks_of(state, k) for k in range(CLIENTS)] if random else None
            losses, left_out = ours.round(cohort, order=order, drawn=drawn)
            if random:
                ours.scores = {
                    n: s for n, s in flat(state.importance).items() if s is not None
                }
            for found in compared(state, metrics, ours, cohort, losses, left_out):
                yield t, *found
            if (t + 1) % config.interval == 0:
                image = images(100).image[0]
                final = float(np.mean(config.prune_ratio))
                for name, view, ratio in zip(
                    ("logits", "pruned logits"), views, (None, final), strict=True
                ):
                    yield t, name, view(state, image), ours.logits(image, ratio)


def compared(state, metrics, ours, cohort, losses, left_out):
    """What there is to compare after one round."""
    for name, x in flat(state.server["params"]).items():
        yield f"server {name}", x, ours.server.params[name]
    for name, x in flat(state.server.get("batch_stats", {})).items():
        yield f"server statistic {name}", x, ours.server.statistics[name]
    yield from states("server", state.server_opt, ours.server.optimizer)
    yield "left out", metrics.rejected, left_out
    synchronised = ours.t % ours.config.interval == 0
    for k, visitor in enumerate(cohort):
        if visitor.answers:
            yield f"loss of {k}", metrics.loss[k], losses[k]
            mask = masks_of(state, k)
            for name, kept in ours.masks[k].items():
                yield f"mask of {k} {name}", mask[name], kept
            kept = sum(m.sum() for m in ours.masks[k].values())
            entries = sum(m.size for m in ours.masks[k].values())
            yield f"kept of {k}", metrics.kept_ratio[k], kept / entries
        yield from states(f"{k}", state.client_opt, ours.clients[k].optimizer, k)
        if visitor.answers or synchronised:
            for name, x in flat(state.client["params"], k).items():
                yield f"client {k} {name}", x, ours.clients[k].params[name]
            for name, x in flat(state.client.get("batch_stats", {}), k).items():
                mine = ours.clients[k].statistics[name]
                yield f"statistic of {k} {name}", x, mine
    for name, scores in ours.scores.items():
        yield f"score {name}", flat(state.importance)[name], scores


def states(who, theirs, mine, at=None):
    """The optimiser's state of one half."""
    theirs = optimizer_state(theirs, at)
    for name, x in theirs.items():
        kind, _, leaf = name.partition(" ")
        if kind in mine:
            yield (
                f"optimiser of {who} {name}",
                x,
                mine[kind][leaf] if leaf else mine[kind],
            )
