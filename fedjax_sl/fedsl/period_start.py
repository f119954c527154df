"""Start of a period between two aggregations: scoring and pruning for a new cohort."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Link
from fedjax_sl.compression.pruning import ratio_at
from fedjax_sl.compression.scores import (
    magnitude_scores,
    random_scores,
    taylor_scores,
)
from fedjax_sl.compressors.per_layer import total
from fedjax_sl.federation.aggregation import broadcast, choose, weighted_mean
from fedjax_sl.federation.client_pass import Cut
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.faults import as_it_arrives, valid
from fedjax_sl.federation.model_down import send_down
from fedjax_sl.federation.second_cut import SecondCut
from fedjax_sl.federation.split_grad import split_grad
from fedjax_sl.fedsl.cut import allowed, send_back
from fedjax_sl.fedsl.cuts import at_each_cut
from fedjax_sl.fedsl.following import follow_clients
from fedjax_sl.fedsl.held_leaves import leaves_held
from fedjax_sl.fedsl.masks import own_masks
from fedjax_sl.fedsl.running_scores import ranked_by
from fedjax_sl.fedsl.state import (
    MODEL,
    SCORES,
    SCORING,
    Context,
    FedSLState,
    RoundInputs,
    batches,
)
from fedjax_sl.fedsl.statistics import statistics_of
from fedjax_sl.models.class_cuts import cut_models, pick


def _taylor(context: Context, state: FedSLState, inputs: RoundInputs) -> Any:
    """Runs the scoring pass: gradients of the dense models, without dropout.

    Returns:
      The scores, and `[K]` whether the activations of a client were finite.
    """

    def group(each, server, examples, key, real, client, weights, ids, minibatch, own):
        def arrive(sent):
            return jax.vmap(as_it_arrives)(own.fault, sent)

        def back(key, grad, weight, bits):
            # Of all examples, without dropout; padding is none of them.
            may = allowed(jnp.bool_(True), weight > 0, grad.shape)
            return send_back(context.config, key, grad, mask=may, bits=bits)

        def up(sent):
            return arrive(sent), None

        def down(grad, _):
            # Not DOWNLINK, whose draws round the gradients of this round's step.
            keys = client_keys(key, ids, SCORING)
            return jax.vmap(back)(keys, grad, minibatch.weight, own.down_bits), None

        # At dense weights: a masked filter has gradient 0, and could not come back.
        gradients = split_grad(
            context.model,
            client,
            server,
            batches(context.config, key, examples, minibatch, client_id=ids),
            weights=jnp.where(real, weights, 0.0),
            cuts=[
                Cut(up=up, down=down, here=here)
                for here in at_each_cut(context.model, own.own_cut)
            ],
            second=SecondCut(
                down=lambda features: (features, None),
                up=lambda grad, _: (arrive(grad), None),
            ),
            each=each,
        )
        scores = each(taylor_scores)(client["params"], gradients.client)
        # The server's gradient and statistics are dropped: scoring trains nothing.
        return (), (scores, gradients.finite)

    shared = (state.server, inputs.examples, inputs.key)
    own = (state.client, state.weights, state.client_id)
    folded = context.over_clients.fold(group, *shared)
    return folded(*own, inputs.minibatch, inputs.per_client)[1]


def _averaged(scores: Any, good: jax.Array, weights: jax.Array, before: Any) -> Any:
    """Averages the scores of the valid clients, `[K]`; keeps the old mean if none."""
    given = jnp.where(good, weights, 0.0)
    rejected = ((weights > 0) & ~good).any()
    # Without rejections the weights sum to 1; dividing by a rounded sum changes bits.
    whole = jnp.where(rejected & good.any(), given.sum(), 1.0)
    mean = weighted_mean(scores, given / whole)
    return jax.tree.map(partial(jnp.where, good.any()), mean, before)


def _scores(context: Context, state: FedSLState, inputs: RoundInputs) -> Any:
    """Scores the weights of every client.

    Returns:
      The scores, leaves `[K, ...]`; `[K]` bool, whether they are valid; their mean.
    """
    params, good = state.client["params"], state.weights > 0
    known = jnp.ones_like(good)
    if context.config.importance == "magnitude":
        scores = jax.vmap(magnitude_scores)(params)
    elif state.running is not None:
        scores, known = jax.vmap(ranked_by)(state.running, params)
    elif context.config.importance == "random":
        # Keyed by client, so that the server can redraw them, see `mask_bits`.
        keys = client_keys(inputs.key, state.client_id, SCORES)
        scores = jax.vmap(random_scores)(keys, params)
    elif context.config.importance == "taylor":
        scores, finite = _taylor(context, state, inputs)
        good &= finite
    else:
        raise NotImplementedError(context.config.importance)
    # Only what arrives carries the fault: a client ranks its own scores as they are.
    sent = jax.vmap(as_it_arrives)(inputs.per_client.fault, scores)
    good &= jax.vmap(valid)(sent)
    # Magnitudes and Taylor scores have no common scale, so they share no mean.
    of_mean = good & (known | ~(known & good).any())
    mean = _averaged(sent, of_mean, state.weights, state.importance)
    if context.config.mask_scope == "common":
        # All rank by the mean, which is valid if the scores of any client are.
        scores = broadcast(mean, len(good))
        good = jnp.broadcast_to(good.any(), good.shape)
    return scores, good, mean


def _model_received(
    context: Context, state: FedSLState, inputs: RoundInputs
) -> tuple[FedSLState, Link | None]:
    """Sends the averaged model to the clients; None if it goes as it is.

    Each receives the messages of the layers that it holds.
    """
    models = context.config.models
    if not models.active:
        return state, None
    # All client models are equal here.
    params = jax.tree.map(lambda leaf: leaf[0], state.client["params"])
    own = jax.random.fold_in(inputs.key, MODEL)
    down = send_down(models, own, params, residual=state.model_residual)
    everyone = broadcast(down.tree, len(state.client_id))
    client = {**state.client, "params": everyone}
    # From here on it is the model: what it left out is in the residual, if at all.
    after = state._replace(client=client, model_residual=down.residual)
    received = [
        total(leaves_held(at, params, down.messages))
        for at in cut_models(context.model)
    ]
    message = pick(inputs.per_client.own_cut, received)
    # To a cohort of nobody nothing is sent.
    return choose((state.weights > 0).any(), after, state), message


def begin_period(
    context: Context,
    state: FedSLState,
    inputs: RoundInputs,
    client_id: jax.Array,
) -> tuple[FedSLState, Link | None]:
    """The new cohort starts from the averaged model, scores its weights and prunes.

    Or each of its clients from its own, if these are never averaged. A client without
    valid scores, such as an absent one, prunes nothing.

    Args:
      context: model, configuration and mapping.
      state: all client models equal, unless they are their own; `weights` already those
        of the new cohort.
      inputs: of this round; scores are of its mini-batches.
      client_id: `[K]`, the new cohort.

    Returns:
      The state with new masks, kept until the next period; the message of the model, []
      each, or `[K]` if classes are cut at different layers; None if it goes as it is.
    """
    config = context.config
    # First: anchor, scores and masks are of the model as clients receive it.
    state, down = _model_received(context, state, inputs)
    # Before scoring: running scores have to be in the slots of the new cohort.
    state = follow_clients(context, state, client_id)
    scores, good, mean = _scores(context, state, inputs)
    # Only a run knows how many rounds a ramp could take.
    end = config.prune_start if config.prune_end is None else config.prune_end
    ratio = ratio_at(
        state.round,
        inputs.per_client.prune_ratio,
        start=config.prune_start,
        end=end,
        shape=config.prune_shape,
    )
    ratio, own_cut = jnp.where(good, ratio, 0.0), inputs.per_client.own_cut

    def mask_client(params, scores, ratio, own_cut):
        return own_masks(context, own_cut, scores, ratio, params=params)

    if config.client_update == "local":
        each = context.over_clients.map(mask_client)
        mask = each(state.client["params"], scores, ratio, own_cut)
        return state._replace(mask=mask, importance=mean), down
    # All client models are equal here, so one copy serves as the anchor.
    one = jax.tree.map(lambda leaf: leaf[0], state.client)
    anchor, statistics = one["params"], statistics_of(one)
    mask = context.over_clients.map(mask_client, anchor)(scores, ratio, own_cut)
    state = state._replace(
        anchor=anchor, statistics=statistics, mask=mask, importance=mean
    )
    return state, down
