"""Layers in NumPy: each gives its output, and a function that takes gradients back.

`y, back = layer(p, x)` and `dx, dp = back(dy)`; p and dp hold the layer's arrays.
Slow, in float64, and written to be read.
"""

import numpy as np


EPSILON = 1e-5
LEAST_CHANNELS = 16


def conv(p, x):
    """A 3x3 convolution, padded by 1: a sum over its nine taps."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j) for i in range(3) for j in range(3)]

    def seen(image, i, j):
        return image[:, i : i + height, j : j + width]

    y = p["bias"] + sum(seen(padded, i, j) @ p["kernel"][i, j] for i, j in taps)

    def back(dy):
        dpadded, dkernel = np.zeros_like(padded), np.zeros_like(p["kernel"])
        for i, j in taps:
            dkernel[i, j] = np.einsum("bhwc,bhwd->cd", seen(padded, i, j), dy)
            seen(dpadded, i, j)[...] += dy @ p["kernel"][i, j].T
        grads = {"kernel": dkernel, "bias": dy.sum((0, 1, 2))}
        return dpadded[:, 1:-1, 1:-1], grads

    return y, back


def normalised(x, weight, axes):
    """x with mean 0 and variance 1 over the axes, entries counted by their weight."""
    count = weight.sum(axes, keepdims=True)
    mean = (weight * x).sum(axes, keepdims=True) / count
    variance = (weight * (x - mean) ** 2).sum(axes, keepdims=True) / count
    deviation = np.sqrt(variance + EPSILON)
    y = (x - mean) / deviation

    def back(dy):
        through_mean = dy.sum(axes, keepdims=True)
        through_variance = (dy * y).sum(axes, keepdims=True)
        return (dy - weight / count * (through_mean + y * through_variance)) / deviation

    return y, back, mean, variance


def affine(p, x, back_of_x):
    """scale * x + bias in each channel, the last axis."""

    def back(dy):
        axes = tuple(range(dy.ndim - 1))
        grads = {"scale": (dy * x).sum(axes), "bias": dy.sum(axes)}
        return back_of_x(p["scale"] * dy), grads

    return p["scale"] * x + p["bias"], back


def group_norm(p, x):
    """Each example on its own, over groups of at least 16 channels, else all."""
    channels = x.shape[-1]
    groups = next(
        (n for n in range(channels, 0, -1) if channels >= LEAST_CHANNELS * n
         and channels % n == 0),
        1,
    )  # fmt: skip
    split = (*x.shape[:-1], groups, channels // groups)
    whole = np.ones(split)
    y, back, _, _ = normalised(x.reshape(split), whole, (1, 2, 4))
    return affine(
        p, y.reshape(x.shape), lambda dy: back(dy.reshape(split)).reshape(x.shape)
    )


def batch_norm(p, x, weight):
    """Each channel over all real examples; also gives the batch's mean and variance."""
    weight = np.broadcast_to(weight[:, None, None, None], x.shape)
    y, back, mean, variance = normalised(x, weight, (0, 1, 2))
    return *affine(p, y, back), {"mean": mean.ravel(), "var": variance.ravel()}


def known_norm(p, x, running):
    """As batch norm, with running statistics in place of the batch's."""
    deviation = np.sqrt(running["var"] + EPSILON)
    return affine(p, (x - running["mean"]) / deviation, lambda dy: dy / deviation)


def max_pool(x, first=False):
    """The largest entry of each 2x2 window.

    Of equal entries all share the gradient, or the first receives it. Both are right,
    and the two differ wherever pruning leaves a channel with nothing but its bias.
    """
    height, width = x.shape[1] // 2, x.shape[2] // 2
    even = x[:, : 2 * height, : 2 * width]
    windows = even.reshape(len(x), height, 2, width, 2, x.shape[3])
    y = windows.max((2, 4), keepdims=True)

    def back(dy):
        won = windows == y
        if first:
            rows = np.moveaxis(won, 3, 2).reshape(len(x), height, width, 4, -1)
            only = rows & (np.cumsum(rows, 3) == 1)
            won = np.moveaxis(only.reshape(len(x), height, width, 2, 2, -1), 2, 3)
        shares = won / won.sum((2, 4), keepdims=True) * dy.reshape(y.shape)
        dx = np.zeros_like(x)
        dx[:, : 2 * height, : 2 * width] = shares.reshape(even.shape)
        return dx, {}

    return y.reshape(len(x), height, width, -1), back


def relu(x):
    """max(x, 0), whose gradient at 0 is 0."""
    return np.maximum(x, 0), lambda dy: (dy * (x > 0), {})


def dense(p, x):
    """A matrix on the flattened input."""
    flat = x.reshape(len(x), -1)

    def back(dy):
        grads = {"kernel": flat.T @ dy, "bias": dy.sum(0)}
        return (dy @ p["kernel"].T).reshape(x.shape), grads

    return flat @ p["kernel"] + p["bias"], back


def cross_entropy(logits, label):
    """Loss of each example, and its gradient in the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    total = np.exp(shifted).sum(1, keepdims=True)
    rows = np.arange(len(label))
    gradient = np.exp(shifted) / total
    gradient[rows, label] -= 1
    return np.log(total[:, 0]) - shifted[rows, label], gradient
