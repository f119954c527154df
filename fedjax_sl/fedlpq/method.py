"""FedLP-Q as an `Algorithm`: its round (Algorithm 3), and its special cases."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.algorithm import Algorithm, Cohort, RoundMetrics
from fedjax_sl.checks import check_integer
from fedjax_sl.compression.layers import per_leaf
from fedjax_sl.compression.pruning import draw_layers
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.config_base import Optimizer, optimizer_named
from fedjax_sl.errors import InputError
from fedjax_sl.federation import clients
from fedjax_sl.federation.aggregation import client_weights
from fedjax_sl.federation.clients import client_keys
from fedjax_sl.federation.combine import Received, combine
from fedjax_sl.federation.faults import arrived, valid
from fedjax_sl.federation.local_epochs import local_epochs
from fedjax_sl.fedlpq import heads, submodel
from fedjax_sl.fedlpq.cohort import check_cohort, draw
from fedjax_sl.fedlpq.compute import work
from fedjax_sl.fedlpq.config import FedLPQConfig, client_configs
from fedjax_sl.fedlpq.init import initial, templates
from fedjax_sl.fedlpq.state import (
    AUGMENTATION,
    LAYERS,
    LEVELS,
    NOISE,
    Context,
    FedLPQState,
)
from fedjax_sl.fedlpq.traffic import Counts, Layers, layers_of, links
from fedjax_sl.fedlpq.upload import (
    Messages,
    displacement,
    privatized,
    quantized_layers,
    upload,
)
from fedjax_sl.training import batch_of, rate_factor


class _Client(NamedTuple):
    """Inputs of each client of a cohort, leaves `[K, ...]`."""

    key: jax.Array
    noise_key: jax.Array
    view_key: jax.Array
    bits: jax.Array
    complexity: jax.Array
    head: jax.Array
    index: jax.Array
    weight: jax.Array
    sent: jax.Array
    share: jax.Array
    fault: jax.Array | None


def _clients(
    context: Context, layers: Layers, state: FedLPQState, cohort: Cohort, key: jax.Array
) -> _Client:
    """Gathers the inputs of a cohort's clients, and draws the layers they send."""
    per_client = client_configs(context.config, cohort.client_id)
    complexity = state.complexity[cohort.client_id]
    # Keyed by client: a draw does not depend on the rest of the cohort.
    drawn = jax.vmap(draw_layers, in_axes=(0, None, 0))(
        client_keys(key, cohort.client_id, LAYERS),
        len(layers.names),
        per_client.keep_probability,
    )
    return _Client(
        client_keys(key, cohort.client_id, LEVELS),
        client_keys(key, cohort.client_id, NOISE),
        client_keys(key, cohort.client_id, AUGMENTATION),
        per_client.bits,
        complexity,
        heads.of_clients(context, state, cohort.client_id, key),
        cohort.index,
        cohort.weight,
        jnp.asarray(layers.owned)[complexity] & drawn,
        client_weights(cohort.num_examples, by=context.config.client_weight),
        cohort.fault,
    )


def _train(context: Context, whole, examples, rate, client: _Client):
    """Trains one client for its local epochs on its own network.

    Returns:
      The whole network with the client's layers in place, its head, `[0]` if that is
      reset, and its loss.
    """
    config = context.config
    optimizer = context.optimizer(rate)

    def load(step, index, weight):
        key = jax.random.fold_in(client.view_key, step)
        return batch_of(config, key, examples, index, weight)

    def on(model, shapes):
        def run(whole, client):
            head = heads.of_client(context, model, whole, client.head)
            mine = submodel.take(whole, head, shapes)
            trained, loss = local_epochs(
                model,
                optimizer,
                mine,
                examples,
                client.index,
                client.weight,
                load=load,
            )
            if config.head == "reset":
                head = jnp.zeros(0)
            else:
                head = submodel.pack_head(trained, whole, head.size)
            return submodel.put_back(trained, whole), head, loss

        return run

    pairs = zip(context.models, templates(context), strict=True)
    branches = [on(model, shapes) for model, shapes in pairs]
    # One branch per network: a sequential map pays only for the client's own.
    return jax.lax.switch(client.complexity, branches, whole, client)


def _client(context: Context, names, whole, examples, rate, client: _Client):
    """Runs steps 2, 4 and 5 for one client.

    Returns:
      The `Received` of the server, with weight 0 if the update is invalid; and `{layer:
      []}` bits of the messages, as if all were sent, the private head, the loss, and
      whether the update is valid.
    """
    config = context.config
    trained, head, loss = _train(context, whole, examples, rate, client)
    # Noise comes before the quantiser, so that the message itself is privatized.
    trained = privatized(config, client.noise_key, whole, trained)
    rebuilt = upload(
        config, client.key, whole["params"], trained["params"], client.bits
    )
    model = arrived(client.fault, whole, {**trained, "params": rebuilt.params})
    update = jax.tree.map(jnp.subtract, model, whole)
    good = valid(update, config.max_update_norm)
    flags = dict(zip(names, client.sent, strict=True))
    sent = {name: per_leaf(flags, old, by=config.unit) for name, old in whole.items()}
    received = Received(model, sent, jnp.where(good, client.share, 0.0))
    if config.head == "kept":
        # If the update is rejected, the client's head is not changed either.
        head = jnp.where(good, head, client.head)
    return received, (rebuilt.message_bits, head, loss, good)


def _rate(config: FedLPQConfig, state: FedLPQState) -> jax.Array:
    """Learning rate of the local steps in a round, []."""
    return config.learning_rate * rate_factor(config, state.round)


def _round(
    context: Context, state: FedLPQState, cohort: Cohort, key: jax.Array
) -> tuple[FedLPQState, RoundMetrics]:
    """Runs round t of Algorithm 3."""
    config = context.config
    check_cohort(context, cohort)
    layers = layers_of(templates(context), config.unit)
    each = _clients(context, layers, state, cohort, key)
    owned = jnp.asarray(layers.owned)[each.complexity]
    rate = _rate(config, state)
    averaged, (lengths, new_heads, loss, good) = combine(
        context.over_clients,
        partial(_client, context, layers.names),
        (state.variables, cohort.examples, rate),
        (each,),
        state.variables,
        trim=config.trim,
    )
    # A layer with statistics but without parameters has no message.
    none = jnp.zeros_like(each.bits)
    message_bits = jnp.stack([lengths.get(n, none) for n in layers.names], axis=1)
    present = (cohort.num_examples > 0).astype(jnp.int32)
    counts = Counts(present, each.bits, owned, each.sent, message_bits)
    kept_ratio = each.sent @ layers.params / layers.params.sum()
    new = state._replace(
        round=state.round + 1,
        variables=averaged,
        head=state.head.at[cohort.client_id].set(new_heads),
    )
    examples = (cohort.weight > 0).sum(axis=(1, 2))
    return new, RoundMetrics(
        client_id=cohort.client_id,
        loss=loss,
        kept_ratio=kept_ratio,
        rejected=(present > 0) & ~good,
        work=work(context.models, context.input_shape, each.complexity, examples),
        links=links(config, layers, counts),
    )


def _messages(
    context: Context, state: FedLPQState, cohort: Cohort, key: jax.Array
) -> Messages:
    """Runs steps 2 and 4 alone, for the messages of a cohort before they are coded."""
    check_cohort(context, cohort)
    layers = layers_of(templates(context), context.config.unit)
    each = _clients(context, layers, state, cohort, key)

    def quantize_client(whole, examples, rate, client):
        trained, _, _ = _train(context, whole, examples, rate, client)
        trained = privatized(context.config, client.noise_key, whole, trained)
        gap = displacement(context.config, whole["params"], trained["params"])
        return quantized_layers(context.config, client.key, gap, client.bits)

    shared = (state.variables, cohort.examples, _rate(context.config, state))
    mapped = clients.scan.map(quantize_client, *shared)
    quantized = mapped(each)
    owned = jnp.asarray(layers.owned)[each.complexity]
    return Messages(quantized, dict(zip(layers.names, owned.T, strict=True)), each.bits)


def fedlpq(
    model: nn.Module | Sequence[nn.Module],
    config: FedLPQConfig,
    *,
    num_clients: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    over_clients: clients.ClientMap = clients.scan,
    optimizer: Optimizer | None = None,
) -> Algorithm:
    """FedLP-Q (Entropy 2023, 25, 1205) as pure functions.

    Args:
      model: the network, `(images, train, weight) -> logits`; or, with a preference for
        sub-models, the five networks of rising complexity.
      config: the configuration; its numbers may be traced.
      num_clients: N; each client has a complexity and a private head.
      input_shape: `(H, W, Ch)` of one example.
      over_clients: how a function of one client is mapped over the cohort. A smaller
        network takes less time only if clients are mapped sequentially.
      optimizer: learning rate -> optax optimiser; as configured if not given.

    Returns:
      The algorithm.

    Raises:
      ValueError: if the number of networks does not match the configuration.
    """
    check_integer("num_clients", num_clients, 1)
    models = (model,) if isinstance(model, nn.Module) else tuple(model)
    expected = 1 if config.preference is None else 5
    if len(models) != expected:
        raise InputError(
            f"{len(models)} networks: preference={config.preference!r} expects "
            f"{expected}."
        )
    context = Context(
        models=models,
        input_shape=input_shape,
        num_clients=num_clients,
        config=config,
        optimizer=optimizer
        or optimizer_named(config.optimizer, config.momentum, config.weight_decay),
        over_clients=over_clients,
    )
    whole = models[-1]
    return Algorithm(
        init=lambda key: initial(context, key),
        draw=partial(draw, context),
        round=lambda state, cohort, key: _round(context, state, cohort, key),
        predict=lambda state, images: jnp.asarray(
            whole.apply(state.variables, images, False)
        ),
        period=lambda state: state.round,
        models=("variables", "head"),
        messages=lambda state, cohort, key: _messages(context, state, cohort, key),
    )


def fedlp(model, config: FedLPQConfig, **rest) -> Algorithm:
    """FedLP: FedLP-Q without quantisation; arguments as for `fedlpq`."""
    return fedlpq(model, dataclasses.replace(config, bits=FLOAT_BITS), **rest)


def fedavg(model, config: FedLPQConfig, **rest) -> Algorithm:
    """FedAvg: every client sends every layer as float32; arguments as for `fedlpq`."""
    whole = dataclasses.replace(config, keep_probability=1.0, preference=None)
    return fedlp(model, whole, **rest)
