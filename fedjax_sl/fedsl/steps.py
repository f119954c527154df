"""Steps 1 to 8 of a round: a period may start, and every client takes its step."""

from typing import NamedTuple

import jax

from fedjax_sl.algorithm import Cohort, Link
from fedjax_sl.federation.aggregation import client_weights
from fedjax_sl.fedsl.client_configs import client_configs
from fedjax_sl.fedsl.held_counts import nothing_down
from fedjax_sl.fedsl.period_start import begin_period
from fedjax_sl.fedsl.sequential import sequential_step
from fedjax_sl.fedsl.state import (
    Context,
    FedSLState,
    MinibatchIndices,
    RoundInputs,
)
from fedjax_sl.fedsl.step import StepReport, step
from fedjax_sl.fedsl.suited import check_cohort
from fedjax_sl.models.class_cuts import own_cuts


class Begun(NamedTuple):
    """A round before its steps.

    Attributes:
      state: after the start of a period, if one starts.
      inputs: of the round.
      down: message of the model, [] each; None if it goes as it is.
    """

    state: FedSLState
    inputs: RoundInputs
    down: Link | None


class Stepped(NamedTuple):
    """A round before a period may end.

    Attributes:
      state: after the steps.
      inputs: of the round.
      report: of the steps.
      down: message of the model, [] each; None if it goes as it is.
    """

    state: FedSLState
    inputs: RoundInputs
    report: StepReport
    down: Link | None


def begin_round(
    context: Context, state: FedSLState, cohort: Cohort, key: jax.Array
) -> Begun:
    """Runs step 1, which is due every I rounds.

    Args:
      context: the model and the configuration.
      state: before the round.
      cohort: of the round.
      key: of the round.

    Returns:
      A `Begun`.

    Raises:
      ValueError: if the cohort is not of the shape that the method takes.
    """
    check_cohort(context, cohort)
    config = context.config
    present = cohort.num_examples > 0
    # From here on an absent client is an empty mini-batch.
    minibatch = MinibatchIndices(
        cohort.index[:, 0], cohort.weight[:, 0] * present[:, None]
    )
    per_client = client_configs(config, cohort.client_id, cohort.fault)
    per_client = per_client._replace(own_cut=own_cuts(context.model, cohort.client_id))
    inputs = RoundInputs(cohort.examples, minibatch, per_client, key)
    # Before a period starts: scores are averaged over those who are here now.
    weights = client_weights(cohort.num_examples, by=config.client_weight)
    state = state._replace(weights=weights)

    def begin(state):
        return begin_period(context, state, inputs, cohort.client_id)

    # A cond, not a select: the scoring pass is only paid when a period starts.
    nothing = nothing_down(config, context.model, per_client)
    starts = state.round % config.interval == 0
    state, down = jax.lax.cond(starts, begin, lambda same: (same, nothing), state)
    return Begun(state, inputs, down)


def run_steps(
    context: Context, state: FedSLState, cohort: Cohort, key: jax.Array
) -> Stepped:
    """Runs steps 1 to 8: a round is one mini-batch step of every client.

    Args:
      context: the model and the configuration.
      state: before the round.
      cohort: of the round.
      key: of the round.

    Returns:
      A `Stepped`.

    Raises:
      ValueError: if the cohort is not of the shape that the method takes.
    """
    state, inputs, down = begin_round(context, state, cohort, key)
    take_step = sequential_step if context.config.sequential else step
    state, report = take_step(context, state, inputs)
    return Stepped(state, inputs, report, down)
