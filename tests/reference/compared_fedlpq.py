"""FedLP-Q of the package and of the reference, side by side, on the same draws."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import enable_x64

from fedjax_sl.algorithm import Batch
from fedjax_sl.compression.layers import leaves_of
from fedjax_sl.fedlpq import FedLPQConfig, fedlpq
from fedjax_sl.fedlpq.submodel import template
from fedjax_sl.models.fedlp_cnn import COMPLEXITIES, POOLED, cifar_cnn
from tests.reference import network
from tests.reference.fedlpq import FedLPQ, Trainee, unit_of
from tests.reference.package import blank, flags_drawn, flat, jittered
from tests.worlds import cohort_of


CLASSES, SHAPE, BATCH, CLIENTS, OWNED = 3, (8, 8, 1), 3, 3, (6, 4, 3, 5, 2)
"""Examples of each of five clients, of whom three take part."""

IDS = ((0, 1, 2), (3, 2, 4), (4, 0, 3))

# Sub-models take long to compile, and so they are drawn less often.
AXES = {
    "scheme": ("homogeneous", "homogeneous", "homogeneous", "sub-models"),
    "unit": ("module", "block", "tensor"),
    "keep": ("all", "some"),
    "client_weight": ("equal", "examples"),
    "optimizer": ("sgd", "momentum", "adam"),
    "local_epochs": (1, 2),
    "faults": ("none", "absent", "nan", "both", "all nan"),
    "robust": ("none", "clip", "trim", "longest"),
}

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.02},
    "momentum": {"optimizer": "sgd", "momentum": 0.5, "learning_rate": 0.02},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
}

ROBUST: dict[str, dict[str, Any]] = {
    "none": {},
    "clip": {"clip_norm": 0.1},
    "trim": {"trim": 0.34},
    "longest": {"max_update_norm": 0.5},
}

MISSING = {
    "none": [((), ()), ((), ())],
    "absent": [((1,), ()), ((0, 2), ())],
    "nan": [((), (2,)), ((), (0, 1))],
    "both": [((0,), (1,)), ((2,), (0,))],
    "all nan": [((), (0, 1, 2)), ((0,), (1, 2))],
}
"""Places of the absent, and of those whose messages are not finite, in two rounds."""


def config_of(row):
    """The configuration of a row; nothing is quantised."""
    return FedLPQConfig(
        cohort_size=CLIENTS,
        bits=32,
        keep_probability={"all": 1.0, "some": (0.4, 0.7)}[row["keep"]],
        preference="u" if row["scheme"] == "sub-models" else None,
        unit=row["unit"],
        client_weight=row["client_weight"],
        local_epochs=row["local_epochs"],
        **OPTIMIZERS[row["optimizer"]],
        **ROBUST[row["robust"]],
    )


@cache
def images(number, epochs):
    """Batches `[5, S, B, ...]` of five clients: in each epoch its own, then padding."""
    rng, steps = np.random.default_rng(number), 2
    place = np.arange(steps * BATCH)
    weight = (place < np.array(OWNED)[:, None]).astype(float)
    shape = (len(OWNED), epochs * steps, BATCH)
    return Batch(
        rng.normal(size=(*shape, *SHAPE)).astype(np.float32),
        rng.integers(0, CLASSES, shape),
        np.tile(weight.reshape(len(OWNED), steps, BATCH), (1, epochs, 1)),
    )


def cohort_at(row, t):
    """The package's cohort of a round, and the reference's."""
    ids = np.array(IDS[t % len(IDS)])
    absent, wrong = (*MISSING[row["faults"]], ((), ()))[t % 3]
    batch = Batch(*(x[ids] for x in images(t, row["local_epochs"])))
    examples, fault = np.array(OWNED)[ids], np.ones(CLIENTS)
    examples[list(absent)], fault[list(wrong)] = 0, np.nan
    weight = batch.weight * (examples > 0)[:, None, None]
    theirs = cohort_of(
        ids, Batch(*map(jnp.asarray, batch._replace(weight=weight))), examples
    )
    return theirs._replace(fault=jnp.asarray(fault)), [
        Trainee(int(i), *(x[k] for x in batch), int(examples[k]), float(fault[k]))
        for k, i in enumerate(ids)
    ]


def layers_of(complexity):
    pooled = [n in POOLED[complexity] for n in range(1, complexity + 2)]
    head = "fc" if complexity == max(COMPLEXITIES) else "private_fc"
    return network.cnn(pooled, [f"{head}1", f"{head}2"])


def begun(row, config):
    """The algorithm, its state, and the reference."""
    chosen = COMPLEXITIES if row["scheme"] == "sub-models" else COMPLEXITIES[-1:]
    models = [
        cifar_cnn(complexity=c, width=0.06, num_classes=CLASSES, lowering="xla")
        for c in chosen
    ]
    algorithm = fedlpq(
        models if len(models) > 1 else models[0],
        config,
        num_clients=len(OWNED),
        input_shape=SHAPE,
    )
    state = blank(algorithm)
    head = 0.3 * np.random.default_rng(2).normal(size=state.head.shape)
    state = state._replace(
        variables=jittered(state.variables, 1),
        complexity=jnp.asarray(np.array([0, 2, 4, 3, 1]) % len(models), jnp.int32),
        head=jnp.asarray(head),
    )
    whole = flat(state.variables["params"])
    shapes = [leaves_of(template(model, SHAPE)["params"]) for model in models]
    heads = [
        unpacked(state.head[i], shapes[int(state.complexity[i])], whole)
        for i in range(len(OWNED))
    ]
    return (
        algorithm,
        state,
        FedLPQ(
            [layers_of(c) for c in chosen],
            config,
            whole,
            flat(state.variables["batch_stats"]),
            [int(c) for c in state.complexity],
            heads,
        ),
    )


def unpacked(vector, shapes, whole):
    """A client's private layers, of which the state has one long vector."""
    found, start = {}, 0
    for path, leaf in sorted(shapes.items()):
        if (name := "/".join(path)) not in whole:
            own = np.asarray(vector[start : start + leaf.size])
            found[name] = own.reshape(leaf.shape)
            start += leaf.size
    return found


def played(row, rounds=4):
    """Plays a row round by round.

    Yields:
      `(round, what, package's, reference's)` for all that is compared.
    """
    config = config_of(row)
    with enable_x64():
        key = jax.random.key(0)
        algorithm, state, ours = begun(row, config)
        step, predict = jax.jit(algorithm.round), jax.jit(algorithm.predict)
        names = sorted({unit_of(n, config.unit) for n in ours.params | ours.statistics})
        for t in range(rounds):
            round_key = jax.random.fold_in(key, t)
            theirs, cohort = cohort_at(row, t)
            state, metrics = step(state, theirs, round_key)
            drawn = flags_drawn(config, round_key, theirs.client_id, len(names))
            flags = [dict(zip(names, own, strict=True)) for own in drawn]
            losses, left_out = ours.round(cohort, flags)
            for found in compared(state, metrics, ours, cohort, losses, left_out):
                yield t, *found
            image = images(100, 1).image[0, 0]
            yield t, "logits", predict(state, image), ours.logits(image)


def compared(state, metrics, ours, cohort, losses, left_out):
    """What there is to compare after one round."""
    for name, x in flat(state.variables["params"]).items():
        yield name, x, ours.params[name]
    for name, x in flat(state.variables["batch_stats"]).items():
        yield f"statistic {name}", x, ours.statistics[name]
    for i, head in enumerate(ours.heads):
        mine = [head[n].ravel() for n in sorted(head)]
        mine = np.concatenate(mine) if mine else np.zeros(0)
        yield f"head of {i}", state.head[i][: mine.size], mine
    yield "left out", metrics.rejected, left_out
    for k, trainee in enumerate(cohort):
        if trainee.examples:
            yield f"loss of {k}", metrics.loss[k], losses[k]
