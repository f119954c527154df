"""One half of the network: what a client, or the server, carries and changes."""

from dataclasses import dataclass

import numpy as np

from tests.reference import network


@dataclass
class Half:
    """The client's or the server's half of the network, with its optimiser's state."""

    params: dict
    statistics: dict
    optimizer: dict

    @property
    def model(self):
        """Parameters and running statistics."""
        return self.params, self.statistics

    def step(self, optimizer, grads, rate, batch, mask=None):
        """One optimiser step; what is pruned does not move."""
        one = np.True_
        mask = {n: one for n in grads} if mask is None else mask
        grads = {n: np.where(mask[n], g, 0.0) for n, g in grads.items()}
        change, self.optimizer = optimizer.step(self.optimizer, grads, rate)
        self.params = {
            n: p + np.where(mask[n], change[n], 0.0) for n, p in self.params.items()
        }
        after = network.moved(self.statistics, batch)
        self.statistics = {
            n: np.where(channels_kept(mask, n), after[n], old)
            for n, old in self.statistics.items()
        }


def channels_kept(mask, statistic):
    """Which channels of a running statistic are not pruned."""
    return mask.get(statistic.rsplit("/", 1)[0] + "/scale", np.True_)
