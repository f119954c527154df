"""Convergence bound of FedSL: the mean squared gradient, term by term.

Reconstructed: the printed theorem of arXiv 2412.06414 was not available. With nothing
pruned or quantised it is the bound of split federated learning with client drift.
"""

import math
from typing import NamedTuple

import numpy as np

from fedjax_sl.errors import InputError


class Constants(NamedTuple):
    """Constants that the theorem assumes of a task, by layer from the input.

    Attributes:
      smoothness: beta, of every client's loss.
      gap: f(w_0) - f*.
      variance: sigma_j^2, `[L]`, of a mini-batch gradient.
      gradient: G_j^2, `[L]`, mean square of a mini-batch gradient.
      weight: D_j^2, `[L]`, squared norm of the weights.
    """

    smoothness: float
    gap: float
    variance: np.ndarray
    gradient: np.ndarray
    weight: np.ndarray


class Setting(NamedTuple):
    """Hyperparameters that enter the bound.

    Attributes:
      rounds: R.
      learning_rate: gamma, at most 1 / beta.
      clients: N.
      interval: I, rounds between aggregations.
      cut: L_c, layers of the client.
      quantization: q_b with E|Q(g) - g|^2 <= q_b |g|^2, of client gradients; with
        I = 1 of the uploads, which are quantised once.
      pruned: mean of rho_t over rounds.
      masked: mean of kappa_t, the share of the gradient's energy where weights are
        pruned; the ratio itself if it is spread evenly.
      upload: q_u, the same as q_b for uploads every I > 1 rounds.
      dropout: T7, the bias that dropped activations add; 0 ignores it.
    """

    rounds: int
    learning_rate: float
    clients: int
    interval: int
    cut: int
    quantization: float = 0.0
    pruned: float = 0.0
    masked: float = 0.0
    upload: float = 0.0
    dropout: float = 0.0


class Choice(NamedTuple):
    """A candidate configuration; fields are in the order of tables.

    Attributes:
      cut: L_c.
      ratio: rho.
      bits: b.
      rate: p, the dropout rate.
      interval: I.
    """

    cut: int
    ratio: float
    bits: int
    rate: float
    interval: int

    def __str__(self) -> str:
        return (
            f"cut {self.cut}, pruned {self.ratio:g}, {self.bits} bits, dropped "
            f"{self.rate:g}, interval {self.interval}"
        )


class Terms(NamedTuple):
    """The bound's seven terms, T1 to T7.

    Attributes:
      start: the initial gap; the only term that falls with the rounds.
      noise: sampling and quantisation.
      drift: client models diverge between aggregations.
      pruning: gradients are taken at pruned weights.
      masking: pruned weights are not trained.
      upload: quantised uploads.
      dropout: T7 as given.
    """

    start: float
    noise: float
    drift: float
    pruning: float
    masking: float
    upload: float
    dropout: float

    @property
    def total(self) -> float:
        """The bound, the sum of its terms."""
        return float(sum(self))


def _check(constants: Constants, setting: Setting) -> None:
    layers = len(constants.gradient)
    if not constants.smoothness > 0:
        raise InputError(
            f"smoothness={constants.smoothness:g}: expected more than 0; it is 0 where "
            "the models that gradients were taken at do not differ."
        )
    # The proof drops a term in -(1 - beta gamma), which must not be positive.
    if not 0 < setting.learning_rate * constants.smoothness <= 1:
        raise InputError(
            f"learning_rate={setting.learning_rate:g}: the bound holds up to 1 / beta, "
            f"{1 / constants.smoothness:.3g}."
        )
    if not 1 <= setting.cut <= layers:
        raise InputError(f"cut={setting.cut}: expected 1 to {layers} layers.")
    for name in ("rounds", "clients", "interval"):
        if getattr(setting, name) < 1:
            raise InputError(f"{name}={getattr(setting, name)}: expected at least 1.")


def bound(constants: Constants, setting: Setting) -> Terms:
    """Bounds (1/R) sum_t E|grad f(w_t)|^2, w_t the average over clients.

    `2 gap / (gamma R) + beta gamma / N (sum_j sigma_j^2 + q_b G_c)
    + [I > 1] C 4 beta^2 gamma^2 I^2 (1 + q_b) G_c + 3 beta^2 rho D_c + 3 kappa G_c
    + [I > 1] beta gamma / N q_u I (1 + q_b) G_c + T7`, with G_c and D_c the sums of
    G_j^2 and D_j^2 over the client's layers, and C = 3, or 1 if nothing is pruned.

    Args:
      constants: of the task.
      setting: hyperparameters.

    Returns:
      The terms.

    Raises:
      ValueError: if the rate is above 1 / beta, or a setting out of range.
    """
    _check(constants, setting)
    beta, gamma = constants.smoothness, setting.learning_rate
    energy = float(np.sum(constants.gradient[: setting.cut]))
    weight = float(np.sum(constants.weight[: setting.cut]))
    spread = (1 + setting.quantization) * energy
    # The server does not quantise its gradient.
    noise = float(np.sum(constants.variance)) + setting.quantization * energy
    # C and [I > 1] of the bound.
    # Pruning splits the bias in three, and Cauchy-Schwarz weighs each part by 3.
    factor, apart = (3 if setting.pruned > 0 else 1), setting.interval > 1
    return Terms(
        start=2 * constants.gap / (gamma * setting.rounds),
        noise=beta * gamma / setting.clients * noise,
        # (I - 1)^2 would do for 4 I^2; this is the form of the bound it extends.
        drift=apart * factor * (2 * beta * gamma * setting.interval) ** 2 * spread,
        pruning=3 * beta**2 * setting.pruned * weight,
        masking=3 * setting.masked * energy,
        upload=apart
        * (beta * gamma / setting.clients * setting.upload * setting.interval * spread),
        dropout=setting.dropout,
    )


def rounds_needed(constants: Constants, setting: Setting, target: float) -> float:
    """Returns the least R whose bound is at most `target`, or infinity if none is."""
    terms = bound(constants, setting)
    left = target - (terms.total - terms.start)
    # The other terms alone exceed the target: more rounds do not help.
    if left <= 0:
        return math.inf
    rounds = math.ceil(2 * constants.gap / (setting.learning_rate * left))
    # A global model exists only at the end of a period of I rounds.
    return -(-rounds // setting.interval) * setting.interval
