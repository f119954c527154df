"""FedSL round by round, dense and unquantised: one server, and a model for each client.

Who has no part in a round (absent, or what it sends is not finite) is left out of every
list from the start, so that nothing of it can be used by mistake.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.reference import network, optimizers, pruning
from tests.reference.aggregation import (
    Member,
    Model,
    aggregated,
    difference,
    is_too_long,
)
from tests.reference.cut import over_cut, weights
from tests.reference.half import Half
from tests.reference.running import Running


@dataclass
class FedSL:
    """The method, and all that it carries from round to round.

    Attributes:
      stages: of the whole network, as from `network.vgg`.
      cut: number of them on the client's side.
      config: the settings, under the names of `FedSLConfig`.
      client, server: `(parameters, running statistics)` at the start.
    """

    stages: list
    cut: int
    config: Any
    client: tuple
    server: tuple
    t: int = 0
    ids: list = field(default_factory=list)
    clients: list = field(default_factory=list)
    masks: list = field(default_factory=list)
    scores: dict = field(default_factory=dict)

    def __post_init__(self):
        self.below = [layer for stage in self.stages[: self.cut] for layer in stage]
        self.above = [layer for stage in self.stages[self.cut :] for layer in stage]
        self.optimizer = optimizers.named(self.config.optimizer, self.config.momentum)
        self.anchor = Model(*self.client)
        params, statistics = self.server
        self.server = Half(params, statistics, self.optimizer.begin(params))
        self.running = Running(self.config.granularity)

    def round(self, cohort, *, order=(), drawn=None):
        """Steps 1 to 9.

        Args:
          cohort: a `Visitor` for each of K places.
          order: of the places, where clients act one after another.
          drawn: masks of the K places, where importance is random.

        Returns:
          The loss of each place, None without a part; and which places were left out.
        """
        part = [k for k, visitor in enumerate(cohort) if visitor.answers]
        left_out = [v.examples > 0 and not v.answers for v in cohort]
        if self.t % self.config.interval == 0:
            self.begin_period(cohort, part, drawn)
        turns, rejected = [k for k in order if k in part], []
        if self.config.client_update == "relay":
            losses, rejected = self.relay(cohort, turns)
        elif self.config.server_update == "sequential":
            losses = self.step_in_turn(cohort, turns)
        else:
            losses = self.step_together(cohort, part)
        if (self.t + 1) % self.config.interval == 0:
            rejected = rejected + self.aggregate(cohort, part)
        for k in rejected:
            left_out[k] = True
        self.t += 1
        return [losses.get(k) for k in range(len(cohort))], left_out

    def rates(self):
        """Learning rates of clients and server in this round."""
        c, factor = self.config, 1.0
        if c.cosine_rounds:
            done = min(self.t / c.cosine_rounds, 1.0)
            factor = (1 + math.cos(math.pi * done)) / 2
        apart = c.server_learning_rate is not None
        return factor * c.learning_rate, factor * (
            c.server_learning_rate if apart else c.learning_rate
        )

    def begin_period(self, cohort, part, drawn):
        """Step 1: the averaged model goes to the cohort, which scores and prunes it."""
        places = zip(self.ids, self.clients, strict=True)
        held = {i: half.optimizer for i, half in places}
        fresh = self.optimizer.begin(self.anchor.params)
        masks = dict(zip(self.ids, self.masks, strict=True))
        self.running.end_period(masks, {i for i in self.ids} & {v.id for v in cohort})
        self.ids = [v.id for v in cohort]
        self.clients = [Half(*self.anchor, held.get(i, fresh)) for i in self.ids]
        scores = {} if drawn is not None else self.scores_of(cohort, part)
        self.masks = drawn or [
            self.mask_from(scores[k], self.ratio(cohort[k].id)) if k in part else None
            for k in range(len(cohort))
        ]

    def ratio(self, client_id):
        """rho_t of a client; of G classes of devices it is in class id mod G."""
        c = self.config
        final = np.atleast_1d(c.prune_ratio)
        final = float(final[client_id % len(final)])
        return pruning.ratio_at(
            self.t, final, c.prune_start, c.prune_end, c.prune_shape
        )

    def mask_from(self, scores, ratio):
        """The mask of these scores."""
        c, params = self.config, self.anchor.params
        return pruning.masks_of(
            params, scores, ratio, c.granularity, c.prune_scope, c.restore
        )

    def scores_of(self, cohort, part):
        """Scores that each client goes by, from the dense model on their batches."""
        c, dense = self.config, self.anchor.params
        grads = dict.fromkeys(part)
        own = dict.fromkeys(part, True)
        if c.importance == "taylor" and c.scoring == "running":
            found = {k: self.running.scores_of(cohort[k].id, dense) for k in part}
            scores = {k: s for k, (s, _) in found.items()}
            own = {k: known for k, (_, known) in found.items()}
            return self.followed(cohort, part, scores, own)
        if c.importance == "taylor":
            together = c.server_update == "merged" and part
            for group in [part] if together else [[k] for k in part]:
                same = dict.fromkeys(group, dense)
                grads |= self.gradients(cohort, group, same).client
        scores = {k: pruning.scores_of(dense, grads[k], c.importance) for k in part}
        return self.followed(cohort, part, scores, own)

    def followed(self, cohort, part, scores, own):
        """The scores that each client goes by; averaged are those of one kind."""
        c = self.config
        averaged = [k for k in part if own[k]] or part
        omega = weights(cohort, averaged, c.client_weight)
        if part:
            self.scores = {
                n: sum(omega[k] * scores[k][n] for k in averaged)
                for n in scores[part[0]]
            }
        return dict.fromkeys(part, self.scores) if c.mask_scope == "common" else scores

    def gradients(self, cohort, part, clients):
        """`Gradients` of those at these places, whose parameters are given."""
        omega = weights(cohort, part, self.config.client_weight)
        return over_cut(
            self.below, self.above, clients, self.server.params, cohort, omega
        )

    def step_together(self, cohort, part):
        """Steps 2 to 8: one step of the server, and one of each of these clients."""
        if not part:
            return {}
        dense = {k: self.clients[k].params for k in part}
        masked = {k: pruning.applied(self.masks[k], dense[k]) for k in part}
        if not self.config.restore:
            for k in part:
                self.clients[k].params = masked[k]
        g = self.gradients(cohort, part, masked)
        client_rate, server_rate = self.rates()
        self.server.step(self.optimizer, g.server, server_rate, g.server_batch)
        for k in part:
            self.running.add(cohort[k].id, dense[k], g.client[k])
            self.clients[k].step(
                self.optimizer,
                g.client[k],
                client_rate,
                g.client_batch[k],
                self.masks[k],
            )
        return g.losses

    def step_in_turn(self, cohort, order):
        """SplitFed v2: a server step with each client in turn."""
        losses = {}
        for k in order:
            losses |= self.step_together(cohort, [k])
        return losses

    def relay(self, cohort, order):
        """The same, each client going on with the model of the one before.

        Who would hand on an update that is too long is passed over.
        """
        losses, rejected, at = {}, [], Model(*self.clients[0].model)
        for k in order:
            one, before = self.clients[k], replace(self.server)
            one.params, one.statistics = at
            held, scored = replace(one), self.running.held(cohort[k].id)
            losses |= self.step_together(cohort, [k])
            start = held.params
            if not self.config.restore:
                start = pruning.applied(self.masks[k], start)
            if is_too_long(self.config, difference(one.params, start)):
                self.server, self.clients[k] = before, held
                self.running.put_back(cohort[k].id, scored)
                rejected.append(k)
            else:
                at = Model(*one.model)
        for half in self.clients:
            half.params, half.statistics = at
        return losses, rejected

    def aggregate(self, cohort, part):
        """Step 9; returns those whose update is too long to be believed."""
        if self.config.client_update == "relay":
            self.anchor = Model(*self.clients[0].model)
            return []
        members = {k: Member(self.clients[k], self.masks[k]) for k in part}
        self.anchor, rejected = aggregated(self.config, self.anchor, members, cohort)
        for half in self.clients:
            half.params, half.statistics = self.anchor
        for k in rejected:
            self.clients[k].optimizer = self.optimizer.begin(self.anchor.params)
        return rejected

    def logits(self, images, ratio=None):
        """Of the delivered model, or of it under one mask of the average scores."""
        params, statistics = self.anchor
        if ratio is not None:
            params = pruning.applied(self.mask_from(self.scores, ratio), params)
        cut, _, _ = network.forward(self.below, params, images, running=statistics)
        server = self.server
        return network.forward(
            self.above, server.params, cut, running=server.statistics
        )[0]
