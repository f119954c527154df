"""Optimisers on flat dicts: what they carry, and the step they take."""

import numpy as np


class Sgd:
    """m <- mu m + g, w <- w - rate m."""

    def __init__(self, momentum):
        self.momentum = momentum

    def begin(self, params):
        return {"trace": {n: np.zeros_like(p) for n, p in params.items()}}

    def step(self, state, grads, rate):
        """The change of the parameters, and the next state."""
        trace = {n: self.momentum * state["trace"][n] + g for n, g in grads.items()}
        return {n: -rate * m for n, m in trace.items()}, {"trace": trace}


class Adam:
    """Kingma and Ba, 2015, with their decay rates."""

    first, second, epsilon = 0.9, 0.999, 1e-8

    def begin(self, params):
        zeros = {n: np.zeros_like(p) for n, p in params.items()}
        return {"count": 0, "mu": zeros, "nu": dict(zeros)}

    def step(self, state, grads, rate):
        """The change of the parameters, and the next state."""
        a, b, count = self.first, self.second, state["count"] + 1
        mu = {n: a * state["mu"][n] + (1 - a) * g for n, g in grads.items()}
        nu = {n: b * state["nu"][n] + (1 - b) * g**2 for n, g in grads.items()}
        change = {
            n: -rate
            * (mu[n] / (1 - a**count))
            / (np.sqrt(nu[n] / (1 - b**count)) + self.epsilon)
            for n in grads
        }
        return change, {"count": count, "mu": mu, "nu": nu}


def named(name, momentum):
    """The optimiser of that name."""
    return Adam() if name == "adam" else Sgd(momentum)
