"""Taylor scores from the local steps of a period, without a pass of their own.

The gradients exist anyway, on the client, so nothing is computed or sent for the scores
(reconstructed). The score of an entry is the mean of (g_i w_i)^2 over the steps of the
last period in which the client trained it: a pruned filter receives no gradient, and
competes again with the score that it had.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.compression.pruning import Mask
from fedjax_sl.compression.scores import Scores, magnitude_scores, taylor_scores
from fedjax_sl.fedsl.config import FedSLConfig


UNTRAINED = -1.0
"""Score of an entry that the client has not trained yet; no other score is negative."""


class RunningScores(NamedTuple):
    """Scores of the clients of a cohort, leaves `[K, ...]`.

    Attributes:
      scores: sums over this period at entries that the client trains; at others the
        mean of the last period in which it did.
      steps: `[K]` int32, steps of this period.
    """

    scores: Scores
    steps: jax.Array


def none_yet(params: Any) -> RunningScores:
    """Scores of clients that have trained nothing, `params` leaves `[K, ...]`."""
    scores = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, UNTRAINED), _kernels_of_each(params)
    )
    clients = jax.tree.leaves(params)[0].shape[0]
    return RunningScores(scores, jnp.zeros(clients, jnp.int32))


def _kernels_of_each(params: Any) -> Scores:
    """Leaves out what is no kernel, for clients `[K, ...]`."""
    # Under a vmap: with the axis of clients a bias would have two, as kernels do.
    return jax.vmap(magnitude_scores)(params)


def _trained(config: FedSLConfig, mask: Mask, scores: Scores) -> Any:
    """Marks the entries that receive a gradient under a mask."""
    # A single weight that is pruned still receives one: its filter's output is no 0.
    whole = config.granularity == "weight"

    def trained(score, keep):
        if score is None:
            return None
        keep = True if keep is None else whole | keep
        return jnp.broadcast_to(keep, score.shape)

    return jax.tree.map(trained, scores, mask, is_leaf=lambda leaf: leaf is None)


def add(
    config: FedSLConfig, running: RunningScores, mask: Mask, params: Any, *, grad: Any
) -> RunningScores:
    """Adds a step of one client.

    Args:
      config: granularity.
      running: of this client, leaves `[...]`.
      mask: m_k.
      params: w, dense: what is pruned keeps its value here.
      grad: g, at the masked weights.

    Returns:
      The scores with (g_i w_i)^2 added.
    """
    first = running.steps == 0

    def add_leaf(score, new, trained):
        # The first step of a period takes the place of the mean of an earlier one.
        return jnp.where(trained, jnp.where(first, 0.0, score) + new, score)

    scores = jax.tree.map(
        add_leaf,
        running.scores,
        taylor_scores(params, grad),
        _trained(config, mask, running.scores),
    )
    return RunningScores(scores, running.steps + 1)


def of_period(config: FedSLConfig, running: RunningScores, mask: Mask) -> RunningScores:
    """Ends a period of one client: sums become means, and no step is counted."""
    # A client without a step, absent all period, keeps the means that it had.
    count = jnp.maximum(running.steps, 1)

    def mean_leaf(score, trained):
        return jnp.where(trained & (running.steps > 0), score / count, score)

    trained = _trained(config, mask, running.scores)
    scores = jax.tree.map(mean_leaf, running.scores, trained)
    return RunningScores(scores, jnp.zeros_like(running.steps))


def ranked_by(running: RunningScores, params: Any) -> tuple[Scores, jax.Array]:
    """Returns the scores by which one client prunes, and [] whether it has its own.

    An entry that it never trained counts as the mean of its kernel's others. A client
    that has trained nothing yet prunes by magnitude.
    """
    # NaN is not >= 0, either: such an entry ranks as if it had not been trained.
    tried = jax.tree.map(lambda score: score >= 0, running.scores)
    # By client, not by kernel: kernels that are ranked together need one scale.
    known = jnp.stack([leaf.any() for leaf in jax.tree.leaves(tried)]).any()

    def fill(score, tried, magnitude):
        # UNTRAINED would rank below all: pruned first, never trained, and so for ever.
        mean = jnp.where(tried, score, 0.0).sum() / jnp.maximum(tried.sum(), 1)
        return jnp.where(known, jnp.where(tried, score, mean), magnitude)

    scores = jax.tree.map(fill, running.scores, tried, magnitude_scores(params))
    return scores, known
