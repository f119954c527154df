"""Forward and back over the cut, for some clients of a cohort at once."""

import math
from typing import NamedTuple

import numpy as np

from tests.reference import network


class Visitor(NamedTuple):
    """One client of a cohort: who it is, and its mini-batch of this round."""

    id: int
    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    examples: int
    fault: float = 1.0

    @property
    def answers(self):
        return self.examples > 0 and math.isfinite(self.fault)


class Gradients(NamedTuple):
    """What one pass over the cut gives, by place of the client."""

    losses: dict
    client: dict
    server: dict
    client_batch: dict
    server_batch: dict


def weights(cohort, part, by):
    """omega of those who have a part, by place: equal, or by their examples."""
    raw = {k: cohort[k].examples if by == "examples" else 1 for k in part}
    return {k: w / sum(raw.values()) for k, w in raw.items()}


def over_cut(below, above, clients, server, cohort, omega):
    """Steps 2 to 4, 6 and 7.

    The server minimises sum_k omega_k F_k, F_k being the mean over a client's own
    examples; what goes back to client k is the gradient of that, over omega_k.

    Args:
      below, above: the layers of either side.
      clients: parameters of those who have a part, by place.
      server: parameters.
      cohort: a `Visitor` for each place.
      omega: by place.

    Returns:
      Their `Gradients`.
    """
    sent = {
        k: network.forward(below, p, cohort[k].image, cohort[k].weight)
        for k, p in clients.items()
    }
    ends = np.cumsum([len(cohort[k].image) for k in sent])[:-1]
    logits, back, server_batch = network.forward(
        above,
        server,
        np.concatenate([activations for activations, _, _ in sent.values()]),
        np.concatenate([cohort[k].weight for k in sent]),
    )
    found = {
        k: network.mean_loss(y, cohort[k].label, cohort[k].weight)
        for k, y in zip(sent, np.split(logits, ends), strict=True)
    }
    at_cut, of_server = back(np.concatenate([omega[k] * found[k][1] for k in sent]))
    returned = zip(sent, np.split(at_cut, ends), strict=True)
    return Gradients(
        losses={k: loss for k, (loss, _) in found.items()},
        client={k: sent[k][1](d / omega[k])[1] for k, d in returned},
        server=of_server,
        client_batch={k: batch for k, (_, _, batch) in sent.items()},
        server_batch=server_batch,
    )
