"""FedLP-Q as an `Algorithm`: its round (Algorithm 3), and its special cases."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_sl.algorithm import Algorithm, Cohort, RoundMetrics
from fedjax_sl.checks import check_integer
from fedjax_sl.compression.layers import per_leaf
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.compressors.per_layer import stacked
from fedjax_sl.config_base import Optimizer, StoreName, optimizer_named
from fedjax_sl.errors import InputError
from fedjax_sl.federation import clients
from fedjax_sl.federation.aggregator import server_step
from fedjax_sl.federation.combine import combine
from fedjax_sl.federation.control_variates import averaged_control
from fedjax_sl.federation.levels import after_round
from fedjax_sl.federation.stores import store_named
from fedjax_sl.fedlpq.client import Outcome, run_client
from fedjax_sl.fedlpq.cohort import draw
from fedjax_sl.fedlpq.compute import work
from fedjax_sl.fedlpq.config import FedLPQConfig
from fedjax_sl.fedlpq.init import initial, templates
from fedjax_sl.fedlpq.messages import messages_of
from fedjax_sl.fedlpq.round_start import Started, start_round
from fedjax_sl.fedlpq.state import Context, FedLPQState
from fedjax_sl.fedlpq.traffic import Counts, Layers, links


def _sent_by_some(context: Context, layers: Layers, sent: jax.Array) -> dict[str, Any]:
    """Whether any client sent the layer of each parameter, from `[K, L]` bool."""
    flags = dict(zip(layers.names, sent.any(axis=0), strict=True))
    whole = templates(context)[-1]["params"]
    return per_leaf(flags, whole, by=context.config.unit)


def _next_control(context: Context, state: FedLPQState, before, after):
    """The server's control variate, from those of the cohort `[K, ...]`; or None."""
    if not context.config.control_variates:
        return None
    return averaged_control(state.control, before, after, context.num_clients)


def _metrics(
    context: Context, cohort: Cohort, started: Started, own: Outcome
) -> RoundMetrics:
    """Returns what a round's clients did and what was sent, from `[K, ...]` leaves."""
    layers, each, down = started.layers, started.each, started.down
    sent = each.sender.sent
    counts = Counts(
        present=started.present,
        owned=started.owned,
        sent=sent,
        messages=own.messages,
        down=None if down is None else stacked(down.messages),
    )
    examples = (cohort.weight > 0).sum(axis=(1, 2))
    return RoundMetrics(
        client_id=cohort.client_id,
        loss=own.loss,
        # Of the whole network: layers that a smaller one lacks are not kept, either.
        kept_ratio=sent @ layers.params / layers.params.sum(),
        rejected=(started.present > 0) & ~own.good,
        work=work(context.models, context.input_shape, each.complexity, examples),
        links=links(context.config, layers, counts),
    )


def _round(
    context: Context, state: FedLPQState, cohort: Cohort, key: jax.Array
) -> tuple[FedLPQState, RoundMetrics]:
    """Runs round t of Algorithm 3."""
    config, ids = context.config, cohort.client_id
    started = start_round(context, state, cohort, key)
    each, received, down = started.each, started.received, started.down
    # Steps 2 and 4 to 6. A layer that nobody sends stays as it was received: what that
    # left out is in the residual, if at all.
    averaged, own = combine(
        context.over_clients,
        partial(run_client, context, layers=started.layers),
        (received, cohort.examples, state.control),
        (each,),
        fallback=received,
        trim=config.trim,
    )
    # A rejected client keeps its share, but sent nothing that is used.
    heard = each.share * own.good
    sent = each.sender.sent & (heard > 0)[:, None]
    # Of parameters alone: a change of running statistics is no direction of descent.
    params, moments = server_step(
        config.aggregator,
        state.moments,
        averaged["params"],
        # Not what the server holds: an update is relative to what its client received.
        start=received["params"],
        sent=_sent_by_some(context, started.layers, sent),
    )
    new = state._replace(
        round=state.round + 1,
        variables={**averaged, "params": params},
        # A cohort is drawn without replacement: no head is written twice.
        head=state.head.at[ids].set(own.head),
        residual=context.residuals.put(state.residual, ids, own.residual),
        model_residual=None if down is None else down.residual,
        levels=after_round(config.levels, state.levels, own.loss, heard),
        moments=moments,
        control=_next_control(context, state, each.control, own.control),
        controls=context.residuals.put(state.controls, ids, own.control),
    )
    return new, _metrics(context, cohort, started, own)


def fedlpq(
    model: nn.Module | Sequence[nn.Module],
    config: FedLPQConfig,
    *,
    num_clients: int,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    residuals: StoreName = "device",
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
      residuals: in whose memory they and clients' control variates are kept; the host's
        may be larger.
      over_clients: how a function of one client is mapped over the cohort. A smaller
        network takes less time only if clients are mapped sequentially.
      optimizer: learning rate -> optax optimiser; as configured if not given.

    Returns:
      The algorithm.

    Raises:
      ValueError: if the number of networks does not match the configuration, or an
        optimiser is given with control variates.
    """
    store = store_named(residuals)
    check_integer("num_clients", num_clients, 1)
    models = (model,) if isinstance(model, nn.Module) else tuple(model)
    expected = 1 if config.preference is None else 5
    if len(models) != expected:
        raise InputError(
            f"{len(models)} networks: preference={config.preference!r} expects "
            f"{expected}."
        )
    if optimizer is not None and config.control_variates:
        raise InputError(
            "optimizer with control_variates: expected none, as a control is computed "
            "from the configuration's SGD."
        )
    context = Context(
        models=models,
        input_shape=input_shape,
        num_clients=num_clients,
        config=config,
        optimizer=optimizer
        or optimizer_named(config.optimizer, config.momentum, config.weight_decay),
        over_clients=over_clients,
        residuals=store,
    )
    whole = models[-1]
    return Algorithm(
        init=lambda key: initial(context, key),
        draw=partial(draw, context),
        round=lambda state, cohort, key: _round(context, state, cohort, key),
        predict=lambda state, images: jnp.asarray(
            whole.apply(state.variables, images, False)
        ),
        # Each round draws a cohort: no client begins from a model of its own.
        period=lambda state: state.round,
        # Not the heads: a client's complexity is drawn anew, and a head is of one.
        models=("variables",),
        weights=lambda state: state.variables,
        with_weights=lambda state, found: state._replace(variables=found),
        on_host=("residual", "controls") if residuals == "host" else (),
        messages=partial(messages_of, context),
    )


def fedlp(model, config: FedLPQConfig, **rest) -> Algorithm:
    """FedLP: FedLP-Q without quantisation; arguments as for `fedlpq`."""
    as_it_is = CompressorConfig()
    # Both: a compressor takes the place of the bits, whatever these are.
    config = dataclasses.replace(config, bits=FLOAT_BITS, updates=as_it_is)
    return fedlpq(model, config, **rest)


def fedavg(model, config: FedLPQConfig, **rest) -> Algorithm:
    """FedAvg: every client sends every layer as float32; arguments as for `fedlpq`."""
    # All layers as float32 are FedAvg to the last bit: tests/fedlpq/test_fedlpq.py.
    whole = dataclasses.replace(config, keep_probability=1.0, preference=None)
    return fedlp(model, whole, **rest)
