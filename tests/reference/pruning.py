"""Scores, ratio and masks of the client's kernels."""

import math

import numpy as np


def ratio_at(t, final, start, end, shape):
    """rho_t: rho_f (1 - (1 - tau)^3), rho_f tau, or rho_f throughout."""
    if shape == "constant":
        return final
    if end is None or end <= start:
        tau = float(t >= start)
    else:
        tau = min(max((t - start) / (end - start), 0.0), 1.0)
    return final * (tau if shape == "linear" else 1 - (1 - tau) ** 3)


def is_kernel(name):
    return name.endswith("/kernel")


def scores_of(params, grads, importance):
    """(g w)^2 or |w| of each kernel entry; biases and norms have none."""
    kernels = [n for n in params if is_kernel(n)]
    if importance == "magnitude":
        return {n: np.abs(params[n]) for n in kernels}
    return {n: (grads[n] * params[n]) ** 2 for n in kernels}


def lowest(scores, ratio):
    """Marks the floor(ratio M) lowest of M scores; of equal ones the first."""
    count = math.floor(round(ratio * len(scores), 6))
    found = np.zeros(len(scores), bool)
    found[np.argsort(scores, kind="stable")[:count]] = True
    return found


def ranked(scores, ratio, scope):
    """What is kept of several arrays, ranked one by one or all together."""
    flat = {n: s.ravel() for n, s in scores.items()}
    if scope == "global":
        pruned = lowest(np.concatenate(list(flat.values())), ratio)
        pieces = np.split(pruned, np.cumsum([s.size for s in flat.values()])[:-1])
        gone = dict(zip(flat, pieces, strict=True))
    else:
        gone = {n: lowest(s, ratio) for n, s in flat.items()}
    return {n: ~gone[n].reshape(s.shape) for n, s in scores.items()}


def masks_of(params, scores, ratio, granularity, scope, restore):
    """m: for each array of the client, which of its entries are kept.

    A filter goes with its bias and norm, and so do the entries of the next kernel that
    read it; kernels are in network order. What became 0 is never revived, unless
    weights are restored: it is ranked below everything, and pruned at any ratio. Where
    filters are pruned, that is a filter, or all that it has of one input channel: a
    single 0 among others is there by chance.
    """
    mask = {n: np.ones(p.shape, bool) for n, p in params.items()}
    alive = {n: (params[n] != 0) | restore for n in scores}
    if granularity == "weight":
        ranks = {n: np.where(alive[n], s, -np.inf) for n, s in scores.items()}
        kept = ranked(ranks, ratio, scope)
        return mask | {n: kept[n] & alive[n] for n in kept}
    lives = {n: a.any((0, 1, 2)) for n, a in alive.items()}
    living = {n: np.where(alive[n], s, 0.0).sum((0, 1, 2)) for n, s in scores.items()}
    sums = {n: np.where(lives[n], s, -np.inf) for n, s in living.items()}
    inputs = np.True_
    for name, high in ranked(sums, ratio, scope).items():
        filters = high & lives[name]
        stage = name.split("/")[0] + "/"
        for other in (n for n in mask if n.startswith(stage)):
            mask[other] &= filters
        # The first kernel reads the image, of which no channel is ever pruned.
        axes = (0, 1, 2) if inputs is np.True_ else (0, 1)
        mask[name] &= alive[name].any(axes, keepdims=True) & np.reshape(inputs, (-1, 1))
        inputs = filters
    return mask


def applied(mask, arrays):
    return {n: np.where(mask[n], a, 0.0) for n, a in arrays.items()}
