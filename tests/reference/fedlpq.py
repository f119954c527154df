"""FedLP-Q round by round, unquantised: local epochs, and an average of each layer."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tests.reference import averages, network, optimizers


class Trainee(NamedTuple):
    """One client of a cohort: who it is, and its batches `[S, B, ...]`."""

    id: int
    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    examples: int
    fault: float = 1.0


def unit_of(name, by):
    """The layer that an array such as `block1/conv/kernel` belongs to."""
    parts = name.split("/")
    return {
        "tensor": name,
        "module": "/".join(parts[:-1]),
        "block": parts[0],
    }[by]


@dataclass
class FedLPQ:
    """The method, and all that it carries from round to round.

    Attributes:
      networks: of each complexity, as from `network.cnn`.
      config: the settings, under the names of `FedLPQConfig`.
      params, statistics: of the whole network.
      complexity: of each client, a place in `networks`.
      heads: of each client, its private layers.
    """

    networks: list
    config: Any
    params: dict
    statistics: dict
    complexity: list
    heads: list

    def round(self, cohort, flags=None):
        """One global epoch.

        Args:
          cohort: a `Trainee` for each of K places.
          flags: for each place, the layers that it sends; None for all.

        Returns:
          The loss of each place, None where nobody is; and which were left out.
        """
        losses, sent, left_out = [], [], []
        for k, trainee in enumerate(cohort):
            if not trainee.examples:
                losses.append(None)
                left_out.append(False)
                continue
            loss, params, statistics, head = self.train(trainee)
            losses.append(loss)
            sends = self.sends(flags, k)
            believed = math.isfinite(trainee.fault) and self.believes(params, sends)
            left_out.append(not believed)
            if believed:
                self.heads[trainee.id] = head
                update = {n: p - self.params[n] for n, p in params.items()}
                update = averages.clipped(update, self.config.clip_norm)
                params = {n: self.params[n] + u for n, u in update.items()}
                by_size = self.config.client_weight == "examples"
                weight = trainee.examples if by_size else 1
                sent.append((weight, params | statistics, sends))
        self.params = self.average(self.params, sent)
        self.statistics = self.average(self.statistics, sent)
        return losses, left_out

    def believes(self, params, sends):
        """Whether an update, as it arrives, is not too long."""
        most = self.config.max_update_norm
        update = {n: p - self.params[n] for n, p in params.items() if sends(n)}
        return most is None or averages.length(update) <= most

    def sends(self, flags, k):
        """Whether the client at a place sends an array, by its name."""
        if flags is None:
            return lambda name: True
        return lambda name: flags[k][unit_of(name, self.config.unit)]

    def train(self, trainee):
        """Local epochs; a batch of padding is no step.

        Returns:
          The mean loss; parameters and statistics that the whole network has, too;
          and the private layers.
        """
        c, net = self.config, self.networks[self.complexity[trainee.id]]
        names = {name for _, name in net if name}
        params = {
            n: p
            for n, p in (self.params | self.heads[trainee.id]).items()
            if n.rsplit("/", 1)[0] in names
        }
        statistics = {
            n: s for n, s in self.statistics.items() if n.rsplit("/", 1)[0] in names
        }
        optimizer = optimizers.named(c.optimizer, c.momentum)
        state, losses = optimizer.begin(params), []
        batches = zip(trainee.image, trainee.label, trainee.weight, strict=True)
        for image, label, weight in batches:
            if not weight.sum():
                continue
            logits, back, batch = network.forward(net, params, image, weight)
            loss, gradient = network.mean_loss(logits, label, weight)
            change, state = optimizer.step(state, back(gradient)[1], c.learning_rate)
            params = {n: p + change[n] for n, p in params.items()}
            statistics = network.moved(statistics, batch)
            losses.append(loss)
        head = {n: params[n] for n in self.heads[trainee.id]}
        shared = {n: p for n, p in params.items() if n in self.params}
        return float(np.mean(losses)), shared, statistics, head

    def average(self, old, sent):
        """Each array's mean over its senders; as it was where there are none."""
        return {n: self.average_one(n, before, sent) for n, before in old.items()}

    def average_one(self, name, before, sent):
        mine = [(w, a[name]) for w, a, sends in sent if name in a and sends(name)]
        values, weights = [a for _, a in mine], [w for w, _ in mine]
        everything = [np.True_ for _ in mine]
        if self.config.trim is not None:
            return averages.trimmed_mean(values, everything, before, self.config.trim)
        return averages.keepers_mean(values, weights, everything, before)

    def logits(self, images):
        """Of the whole network."""
        whole = self.networks[-1]
        return network.forward(whole, self.params, images, running=self.statistics)[0]
