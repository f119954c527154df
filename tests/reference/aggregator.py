"""The server's step along a mean update, of one array, as Reddi et al. print it."""

import numpy as np


def begun(config, params):
    """The moments before the first step."""
    return np.zeros_like(params), np.full_like(params, config.tau**2)


def stepped(config, moments, params, update):
    """One step of `AggregatorConfig`: new parameters and moments, in float64."""
    first, second = moments
    if config.kind == "momentum":
        first = config.beta1 * first + update
        return params + config.rate * first, (first, second)
    first = config.beta1 * first + (1 - config.beta1) * update
    square, rest = update**2, 1 - config.beta2
    second = {
        "adagrad": lambda v: v + square,
        "adam": lambda v: config.beta2 * v + rest * square,
        "yogi": lambda v: v - rest * square * np.sign(v - square),
    }[config.kind](second)
    step = first / (np.sqrt(second) + config.tau)
    return params + config.rate * step, (first, second)
