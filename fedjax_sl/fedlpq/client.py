"""One client's round of FedLP-Q: it trains, and uploads its displacement."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_sl.algorithm import Cohort, Link
from fedjax_sl.compression.layers import draw_layers, per_leaf
from fedjax_sl.federation import levels
from fedjax_sl.federation.aggregation import choose, client_weights
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.combine import Received
from fedjax_sl.federation.control_variates import (
    corrected_gradient,
    effective_steps,
    renewed_control,
)
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.federation.local_epochs import local_epochs
from fedjax_sl.federation.proximal import proximal_gradient
from fedjax_sl.fedlpq import heads, submodel
from fedjax_sl.fedlpq.config import FedLPQConfig, client_configs
from fedjax_sl.fedlpq.init import templates
from fedjax_sl.fedlpq.state import (
    AUGMENTATION,
    LAYERS,
    LEVELS,
    NOISE,
    Context,
    FedLPQState,
)
from fedjax_sl.fedlpq.traffic import Layers
from fedjax_sl.fedlpq.upload import Sender, privatized, upload
from fedjax_sl.training import batch_of, rate_factor


class ClientInputs(NamedTuple):
    """The inputs of a client in a round; leaves `[K, ...]` of a cohort.

    Attributes:
      sender: what its messages depend on.
      noise_key: of the Gaussian mechanism.
      view_key: of the augmentation of its images.
      rate: [] eta, learning rate of its steps in this round.
      complexity: [] int32, index of its network.
      head: `[H]`, its private layers; or the key from which they are drawn.
      index: `[S, B]` int32, examples of its mini-batches.
      weight: `[S, B]` float32, 0 for padding.
      share: [] omega_k, its weight in the average.
      fault: [] factor of its message; None if none is corrupted.
      control: c_k, leaves as the parameters; None without control variates.
    """

    sender: Sender
    noise_key: jax.Array
    view_key: jax.Array
    rate: jax.Array
    complexity: jax.Array
    head: jax.Array
    index: jax.Array
    weight: jax.Array
    share: jax.Array
    fault: jax.Array | None
    control: Any = None


class Outcome(NamedTuple):
    """What a client's round leaves with it; leaves `[K, ...]` of a cohort.

    Attributes:
      messages: that it sent, [] each.
      head: `[H]`, its private layers.
      residual: what its messages left out; None without feedback.
      loss: [] of its local steps.
      good: [] bool, whether its update is valid.
      control: c_k'; None without control variates.
    """

    messages: Link
    head: jax.Array
    residual: Any
    loss: jax.Array
    good: jax.Array
    control: Any = None


def gather_inputs(
    context: Context,
    state: FedLPQState,
    cohort: Cohort,
    key: jax.Array,
    *,
    layers: Layers,
) -> ClientInputs:
    """Gathers the inputs of a cohort's clients, and draws the layers they send.

    Args:
      context: the networks and the configuration.
      state: of the run.
      cohort: of this round.
      key: of this round.
      layers: those of the whole network.

    Returns:
      Leaves `[K, ...]`.
    """
    per_client = client_configs(context.config, cohort.client_id)
    complexity = state.complexity[cohort.client_id]
    share = client_weights(cohort.num_examples, by=context.config.client_weight)
    rate = context.config.learning_rate * rate_factor(context.config, state.round)
    # Keyed by client: a draw does not depend on the rest of the cohort.
    drawn = jax.vmap(draw_layers, in_axes=(0, None, 0))(
        client_keys(key, cohort.client_id, LAYERS),
        len(layers.names),
        per_client.keep_probability,
    )
    return ClientInputs(
        sender=Sender(
            key=client_keys(key, cohort.client_id, LEVELS),
            bits=per_client.bits,
            updates=per_client.updates,
            levels=levels.of_cohort(
                context.config.levels, per_client.updates, state.levels, share
            ),
            residual=context.residuals.take(state.residual, cohort.client_id),
            # Drawn for all U layers: no draw depends on which network a client has.
            sent=jnp.asarray(layers.owned)[complexity] & drawn,
        ),
        noise_key=client_keys(key, cohort.client_id, NOISE),
        view_key=client_keys(key, cohort.client_id, AUGMENTATION),
        rate=jnp.broadcast_to(rate, complexity.shape),
        complexity=complexity,
        head=heads.of_clients(context, state, cohort.client_id, key),
        index=cohort.index,
        weight=cohort.weight,
        share=share,
        fault=cohort.fault,
        control=context.residuals.take(state.controls, cohort.client_id),
    )


def _adjusted(config: FedLPQConfig, received, client: ClientInputs, control):
    """Returns the changes of each gradient: a proximal term, control variates."""

    def adjust(grad, params):
        if config.proximal is not None:
            grad = proximal_gradient(grad, params, received, config.proximal)
        if config.control_variates:
            grad = corrected_gradient(grad, client.control, control)
        return grad

    return adjust


def train(context: Context, whole, examples, client: ClientInputs, *, control):
    """Trains one client for its local epochs on its own network.

    Returns:
      The whole network with the client's layers in place, its head, `[0]` if that is
      reset, and its loss.
    """
    config = context.config
    optimizer = context.optimizer(client.rate)

    # Padding included, alike in each epoch: `check_cohort` lets no other cohort pass.
    each = client.index.shape[0] // config.local_epochs

    def load(step, index, weight):
        # By epoch, in which an example is seen once: the number of the step depends on
        # how many batches the largest client has.
        key = jax.random.fold_in(client.view_key, step // each)
        return batch_of(config, key, examples, index, weight=weight)

    def on(model, shapes):
        def run(whole, client):
            head = heads.of_client(context, model, whole, client.head)
            mine = submodel.take(whole, head, shapes)
            trained, loss = local_epochs(
                model,
                optimizer,
                mine,
                examples,
                index=client.index,
                weight=client.weight,
                load=load,
                adjust=_adjusted(config, mine["params"], client, control),
            )
            if config.head == "reset":
                # Branches agree in shape, and heads that are not kept differ in size.
                head = jnp.zeros(0)
            else:
                head = submodel.pack_head(trained, whole, head.size)
            return submodel.put_back(trained, whole), head, loss

        return run

    pairs = zip(context.models, templates(context), strict=True)
    branches = [on(model, shapes) for model, shapes in pairs]
    # One branch per network: a sequential map pays only for the client's own.
    return jax.lax.switch(client.complexity, branches, whole, client)


def _renewed(config: FedLPQConfig, client: ClientInputs, update, sent, *, control):
    """The client's next control, from the update of the layers that are sent."""
    if not config.control_variates:
        return None
    steps = (client.weight > 0).any(axis=1).sum()
    distance = client.rate * effective_steps(steps, config.momentum)
    return renewed_control(client.control, control, update, sent, distance=distance)


def run_client(
    context: Context, whole, examples, control, client: ClientInputs, *, layers: Layers
):
    """Runs steps 2, 4 and 5 for one client.

    Args:
      context: the networks and the configuration.
      whole: variables of the whole network, as the client receives them.
      examples: all training examples.
      control: c, the server's control variate; None without.
      client: its inputs.
      layers: those of the whole network.

    Returns:
      The `Received` of the server, with weight 0 if the update is invalid; and the
      client's `Outcome`.
    """
    config = context.config
    trained, head, loss = train(context, whole, examples, client, control=control)
    # Noise comes before the quantiser, so that the message itself is privatized.
    trained = privatized(config, client.noise_key, whole, trained)
    rebuilt = upload(
        config, client.sender, whole["params"], trained["params"], layers=layers
    )
    model = arrived(client.fault, whole, {**trained, "params": rebuilt.params})
    flags = dict(zip(layers.names, client.sender.sent, strict=True))
    # Norm statistics, which are not quantised, follow the flag of their layer.
    sent = {name: per_leaf(flags, old, by=config.unit) for name, old in whole.items()}
    # The server judges what it gets: layers that are not sent have no length.
    update = jax.tree.map(
        lambda new, old, flag: jnp.where(flag, new - old, 0.0), model, whole, sent
    )
    # The length excludes norm statistics, as in FedSL; they have to be finite.
    good = valid(update["params"], config.max_update_norm) & valid(update)
    # Weight 0, not other flags: with it no layer of the client counts as sent.
    received = Received(model, sent, jnp.where(good, client.share, 0.0))
    if config.head == "kept":
        # If the update is rejected, the client's head is not changed either.
        head = jnp.where(good, head, client.head)
    used, before = received.weight > 0, client.sender.residual
    # Both ends know which messages were used: of others no residual is kept.
    residual = choose(used, rebuilt.residual, before)
    renewed = _renewed(
        config, client, update["params"], sent["params"], control=control
    )
    return received, Outcome(
        messages=rebuilt.messages,
        head=head,
        residual=residual,
        loss=loss,
        good=good,
        control=choose(used, renewed, client.control),
    )
