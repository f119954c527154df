"""FedSL as an `Algorithm`: initial state, round and predictions."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Algorithm, Cohort, RoundMetrics
from fedjax_sl.compression.scores import magnitude_scores
from fedjax_sl.config_base import Optimizer, StoreName, optimizer_named
from fedjax_sl.data.cohort import draw_minibatches
from fedjax_sl.federation import clients, model_down
from fedjax_sl.federation.aggregation import broadcast
from fedjax_sl.federation.aggregator import first_moments
from fedjax_sl.federation.levels import after_round, first_levels
from fedjax_sl.federation.residuals import first_residuals
from fedjax_sl.federation.stores import store_named
from fedjax_sl.fedsl.compute import scored
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.cuts import bitmaps
from fedjax_sl.fedsl.global_model import (
    joined,
    predict,
    predict_pruned,
    weights,
    with_weights,
)
from fedjax_sl.fedsl.held_counts import kept_held, sizes_held, work_held
from fedjax_sl.fedsl.masks import own_masks
from fedjax_sl.fedsl.messages import LINKS, messages_of
from fedjax_sl.fedsl.own_cut import check_class_cuts
from fedjax_sl.fedsl.own_models import (
    check_everyone,
    nobody_yet,
    now_received,
    predict_each,
)
from fedjax_sl.fedsl.period_end import aggregate
from fedjax_sl.fedsl.running_scores import none_yet
from fedjax_sl.fedsl.state import Context, FedSLState, RoundInputs
from fedjax_sl.fedsl.statistics import statistics_of
from fedjax_sl.fedsl.step import StepReport
from fedjax_sl.fedsl.steps import run_steps
from fedjax_sl.fedsl.suited import check_model, suited_map
from fedjax_sl.fedsl.traffic import Counts, links
from fedjax_sl.models.class_cuts import own_cuts
from fedjax_sl.models.split import SplitModel


def _init(context: Context, num_clients: int | None, key: jax.Array) -> FedSLState:
    """Initialises the state: equal client models, nothing pruned, no cohort yet."""
    cohort = context.config.cohort_size
    params = context.model.init(key)
    own = params.client["params"]
    scores = magnitude_scores(own)
    client = broadcast(params.client, cohort)
    # The rate must be no part of the state: each round builds the optimiser anew.
    opt = jax.vmap(context.client_optimizer(0.0).init)(client["params"])
    # Masks have the same shapes at every cut.
    any_cut = own_cuts(context.model, jnp.int32(0))
    nothing_pruned = own_masks(context, any_cut, scores, 0.0)
    return FedSLState(
        round=jnp.int32(0),
        client=client,
        client_opt=opt,
        server=params.server,
        server_opt=context.server_optimizer(0.0).init(params.server["params"]),
        anchor=own,
        # Nothing is pruned yet, but a scan carries masks of one structure throughout.
        mask=broadcast(nothing_pruned, cohort),
        importance=jax.tree.map(jnp.zeros_like, scores),
        # No client has this id: nobody seems to stay when the first period starts.
        client_id=jnp.full((cohort,), -1, jnp.int32),
        weights=jnp.full((cohort,), 1 / cohort, jnp.float32),
        statistics=statistics_of(params.client),
        running=none_yet(client["params"]) if context.config.running_scores else None,
        residual=context.residuals.place(
            first_residuals(context.config.updates, own, num_clients)
        ),
        model_residual=model_down.first_residual(context.config.models, own),
        levels=first_levels(context.config.levels),
        moments=first_moments(context.config.aggregator, own),
        received=nobody_yet(context.config),
    )


def _round(
    context: Context, state: FedSLState, cohort: Cohort, key: jax.Array
) -> tuple[FedSLState, RoundMetrics]:
    """Runs round t, steps 1 to 9; the first and the last only every I rounds."""
    config, before = context.config, state
    state, inputs, report, down = run_steps(context, state, cohort, key)
    per_client, weights = inputs.per_client, state.weights
    present = cohort.num_examples > 0
    starts = before.round % config.interval == 0
    ends = (before.round + 1) % config.interval == 0
    message, good = report.gradient, report.finite
    # Step 9. A relay has handed its model on already; others keep their own.
    if config.client_update == "parallel":
        # A cond, not a select: only a period's last round pays for uploads and a mean.
        state, message, good = jax.lax.cond(
            ends,
            lambda state: aggregate(context, state, inputs, report),
            lambda same: (same, message, good),
            state,
        )
    # The loss of a rejected client must not move the levels of all.
    heard = jnp.where(good & report.finite, weights, 0.0)
    state = state._replace(
        levels=after_round(config.levels, state.levels, report.loss, heard)
    )
    sizes = sizes_held(config, context.model, per_client)
    # The message is the gradient, unless a period ends and sends an update.
    sent = report._replace(gradient=message)
    # Before `received` is set below: who receives a first model now is charged for it.
    counts = _counts(context, state, inputs, sent, starts=starts)._replace(down=down)
    state = state._replace(received=now_received(state, starts & present))
    metrics = RoundMetrics(
        client_id=cohort.client_id,
        loss=report.loss,
        kept_ratio=counts.kept / sizes.params,
        rejected=present & ~(good & report.finite),
        work=work_held(
            config,
            context.model,
            per_client,
            counts.examples,
            scored=counts.scored,
            masks=state.mask,
        ),
        links=links(config, sizes, per_client, counts, starts=starts, ends=ends),
    )
    # `predict` averages by these weights; all 0 would make the global model 0.
    weights = jnp.where(present.any(), weights, before.weights)
    return state._replace(round=state.round + 1, weights=weights), metrics


def _counts(
    context: Context,
    state: FedSLState,
    inputs: RoundInputs,
    report: StepReport,
    *,
    starts: jax.Array,
) -> Counts:
    """Counts what each client of the cohort did in a round."""
    # Weights of this round: absent clients have 0, whatever their slot held before.
    present = state.weights > 0
    examples = (inputs.minibatch.weight > 0).sum(axis=1)
    config, model, per_client = context.config, context.model, inputs.per_client
    num_kept = kept_held(model, per_client, state.mask, state.client["params"])
    params = sizes_held(config, model, per_client).params
    return Counts(
        present=present,
        examples=examples,
        scored=scored(config, per_client, examples, starts),
        bitmap=bitmaps(config, model, per_client, state.mask),
        activations=report.activations,
        returned=report.returned,
        back=report.back,
        behind=report.behind,
        kept=num_kept,
        # By the mask, not the ratio: a small ratio may round down to no filter.
        prunes=(num_kept < params) & present,
        update=report.gradient,
        lacks=None if state.received is None else ~state.received[state.client_id],
    )


def fedsl(
    model: SplitModel,
    config: FedSLConfig,
    *,
    num_clients: int | None = None,
    residuals: StoreName = "device",
    over_clients: clients.ClientMap = clients.in_groups,
    client_optimizer: Optimizer | None = None,
    server_optimizer: Optimizer | None = None,
) -> Algorithm:
    """Lightweight federated split learning (arXiv 2412.06414) as pure functions.

    Args:
      model: a network cut in two.
      config: the configuration; its numbers may be traced.
      num_clients: N, which feedback of updates needs: each client has a residual. K
        if clients keep their own models.
      residuals: in whose memory they are kept; the host's may be larger.
      over_clients: how a function of one client is mapped over the cohort. A server
        whose batch norms keep statistics sees all clients at once, on one device,
        or one at a time if they are sequential.
      client_optimizer: learning rate -> optax optimiser; as configured if not given.
      server_optimizer: the same for the server.

    Returns:
      The algorithm; its view "pruned" is the global model under a common mask. Of
      clients that keep their own models, both are these, under their own masks.

    Noise (`noise_multiplier`) privatizes the clients' models where they are aggregated,
    and nothing else: activations, labels, gradients at the cut and masks are sent
    without noise, and so the server's half is not differentially private.

    Raises:
      ValueError: if the configuration cannot be of this network.
    """
    store = store_named(residuals)
    check_model(config, model)
    check_class_cuts(config, model)
    check_everyone(config, num_clients)
    usual = optimizer_named(config.optimizer, config.momentum, config.weight_decay)
    context = Context(
        model=model,
        config=config,
        client_optimizer=client_optimizer or usual,
        server_optimizer=server_optimizer or usual,
        over_clients=suited_map(over_clients, model, config),
        residuals=store,
    )
    own = config.client_update == "local"
    # Messages of one structure: with several cuts, clients hold different layers.
    coded = any(getattr(config, link).active for link in LINKS) and not model.by_class
    whole, pruned = predict, predict_pruned
    if own:
        whole, pruned = predict_each, partial(predict_each, pruned=True)
    return Algorithm(
        init=partial(_init, context, num_clients),
        draw=partial(draw_minibatches, cohort_size=config.cohort_size),
        round=lambda state, cohort, key: _round(context, state, cohort, key),
        predict=partial(whole, context),
        # As `starts` in `_round`: a new cohort needs masks and optimisers of its own.
        period=lambda state: state.round // config.interval,
        views={"pruned": partial(pruned, context)},
        models=("client", "server", "anchor", "weights"),
        # Own models stay apart in a run that starts from them, too.
        joined=None if own else joined,
        weights=None if own else weights,
        with_weights=with_weights,
        on_host=("residual",) if residuals == "host" else (),
        messages=partial(messages_of, context) if coded else None,
    )
