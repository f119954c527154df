"""Taylor scores of each client from its own steps, kept by who it is."""

import numpy as np

from tests.reference import pruning


class Running:
    """What the clients of a cohort know of their weights.

    Attributes:
      known: for each client, the mean of each kernel entry's last period; nan where it
        was never trained.
      sums, steps: of this period.
    """

    def __init__(self, granularity):
        self.by_filter = granularity == "filter"
        self.known, self.sums, self.steps = {}, {}, {}

    def add(self, client, params, grads):
        """A step of this client, at its dense parameters."""
        new = pruning.scores_of(params, grads, "taylor")
        before = self.sums.get(client, dict.fromkeys(new, 0.0))
        self.sums[client] = {n: before[n] + s for n, s in new.items()}
        self.steps[client] = self.steps.get(client, 0) + 1

    def held(self, client):
        """What may have to be put back."""
        return self.sums.get(client), self.steps.get(client)

    def put_back(self, client, held):
        """A step that did not count."""
        self.sums[client], self.steps[client] = held
        if held[0] is None:
            del self.sums[client], self.steps[client]

    def end_period(self, masks, staying):
        """Sums become means where they were trained; who leaves is forgotten."""
        for client, sums in self.sums.items():
            mean = {n: s / self.steps[client] for n, s in sums.items()}
            nothing = {n: np.full(s.shape, np.nan) for n, s in mean.items()}
            old = self.known.get(client, nothing)
            trained = {n: masks[client][n] | (not self.by_filter) for n in mean}
            self.known[client] = {
                n: np.where(trained[n], mean[n], old[n]) for n in mean
            }
        self.known = {c: s for c, s in self.known.items() if c in staying}
        self.sums, self.steps = {}, {}

    def scores_of(self, client, params):
        """What the client ranks, and whether it is its own: else magnitudes."""
        if client not in self.known:
            return pruning.scores_of(params, None, "magnitude"), False
        known = self.known[client]
        return {n: filled(s) for n, s in known.items()}, True


def filled(scores):
    """With the mean of the others where there is none; 0 if there is no other."""
    known = scores[~np.isnan(scores)]
    return np.where(np.isnan(scores), known.mean() if known.size else 0.0, scores)
