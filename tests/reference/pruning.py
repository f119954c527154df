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


def masks_of(params, scores, ratio, granularity, scope):
    """m: for each array of the client, which of its entries are kept.

    A filter goes with its bias and norm, and so do the entries of the next kernel that
    read it; kernels are in network order.
    """
    mask = {n: np.ones(p.shape, bool) for n, p in params.items()}
    if granularity == "weight":
        return mask | ranked(scores, ratio, scope)
    summed = {n: s.sum((0, 1, 2)) for n, s in scores.items()}
    inputs = None
    for name, kept in ranked(summed, ratio, scope).items():
        stage = name.split("/")[0] + "/"
        for other in (n for n in mask if n.startswith(stage)):
            mask[other] &= kept
        if inputs is not None:
            mask[name] &= inputs[:, None]
        inputs = kept
    return mask


def hard_masks_of(params, scores, ratio, granularity, scope):
    """The same, where a weight, or a whole filter, that became 0 is never revived."""
    alive = {n: params[n] != 0 for n in scores}
    ranked_first = {
        n: ~(a.any((0, 1, 2)) if granularity == "filter" else a)
        for n, a in alive.items()
    }
    scores = {n: np.where(ranked_first[n], -1.0, s) for n, s in scores.items()}
    mask = masks_of(params, scores, ratio, granularity, scope)
    for kernel, lives in alive.items():
        mask[kernel] &= lives
        stage = kernel.split("/")[0] + "/"
        for other in (n for n in mask if n.startswith(stage) and n != kernel):
            mask[other] &= ~ranked_first[kernel] if granularity == "filter" else True
    return mask


def applied(mask, arrays):
    return {n: np.where(mask[n], a, 0.0) for n, a in arrays.items()}
