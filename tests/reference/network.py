"""Networks as lists of layers, and the gradients of their loss by hand.

A network is a list of `(kind, name)`; its parameters and statistics are flat dicts of
arrays such as `stage_00/conv/kernel`.
"""

from functools import partial

import numpy as np

from tests.reference import layers


KEPT = 0.9
"""Part of a running statistic that a step keeps."""


def of_layer(arrays, name):
    """The arrays of one layer, by their last name."""
    start = name + "/"
    return {p.removeprefix(start): a for p, a in arrays.items() if p.startswith(start)}


def named(name, arrays):
    """The inverse of `of_layer`."""
    return {f"{name}/{key}": array for key, array in arrays.items()}


def applied(kind, p, x, weight, running):
    """One layer: output, gradient function, statistics of the batch."""
    if kind == "batch" and running is not None:
        return *layers.known_norm(p, x, running), {}
    if kind == "batch":
        return layers.batch_norm(p, x, weight)
    if kind in ("pool", "pool_first", "relu"):
        pool = partial(layers.max_pool, first=kind == "pool_first")
        return *(layers.relu if kind == "relu" else pool)(x), {}
    layer = {"conv": layers.conv, "group": layers.group_norm, "dense": layers.dense}
    return *layer[kind](p, x), {}


def forward(network, params, x, weight=None, running=None):
    """The whole network, or a part of it.

    Args:
      network: list of `(kind, name)`.
      params: by name.
      x: `[B, ...]`.
      weight: `[B]`, 0 for padding, which statistics of a batch leave out.
      running: statistics by name, used in place of the batch's.

    Returns:
      Outputs; `back(dy) -> dx, gradients by name`; statistics of the batch by name.
    """
    x, backs, found = np.asarray(x, float), [], {}
    for kind, name in network:
        known = None if running is None else of_layer(running, name)
        x, back, statistics = applied(kind, of_layer(params, name), x, weight, known)
        backs.append((name, back))
        found |= named(name, statistics)

    def back_through(dy):
        grads = {}
        for name, back in reversed(backs):
            dy, own = back(dy)
            grads |= named(name, own)
        return dy, grads

    return x, back_through, found


def moved(running, batch):
    """Running statistics after one more batch."""
    return {n: KEPT * old + (1 - KEPT) * batch[n] for n, old in running.items()}


def vgg(norm, pooled, classifier=1):
    """Stages of convolution, norm, pooling and ReLU, then dense layers.

    A norm and the pooling after it are one operation of the package, in which equal
    entries share their gradient; a pooling alone gives it to the first.

    Args:
      norm: "group", "batch" or "none".
      pooled: for each convolution, whether a pooling follows.
      classifier: number of dense layers.

    Returns:
      A list of layers for each stage.
    """
    stages, kind = [], "pool_first" if norm == "none" else "pool"
    for number, pool in enumerate(pooled):
        name = f"stage_{number:02d}"
        stage = [("conv", f"{name}/conv")]
        stage += [(norm, f"{name}/norm")] if norm != "none" else []
        stages.append(stage + [(kind, "")] * pool + [("relu", "")])
    for number in range(len(pooled), len(pooled) + classifier):
        stage = [("dense", f"stage_{number:02d}/dense")]
        last = number == len(pooled) + classifier - 1
        stages.append(stage if last else [*stage, ("relu", "")])
    return stages


def cnn(pooled, head):
    """Blocks of convolution, ReLU, batch norm and pooling, then dense layers.

    Args:
      pooled: for each convolution, whether a pooling follows.
      head: names of the dense layers.

    Returns:
      A list of layers.
    """
    found = []
    for number, pool in enumerate(pooled, 1):
        name = f"block{number}"
        found += [("conv", f"{name}/conv"), ("relu", ""), ("batch", f"{name}/bn")]
        found += [("pool", "")] * pool
    return found + [("dense", name) for name in head]


def mean_loss(logits, label, weight):
    """Mean loss over the real examples of a batch, and its gradient in the logits."""
    share = weight / weight.sum()
    each, gradient = layers.cross_entropy(logits, label)
    return float(share @ each), share[:, None] * gradient
