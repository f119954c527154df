"""Maps a FedSL configuration to the quantities of its convergence theorem."""

import dataclasses
from functools import partial
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedjax_sl.analysis.fedsl_bound import Choice, Setting
from fedjax_sl.compression.pruning import kept_in_each, ratio_at
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.compression.scores import magnitude_scores, of_kernels
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl.client_configs import ClientConfigs, client_configs
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.fedsl.config_checks import LINKS
from fedjax_sl.fedsl.masks import masks
from fedjax_sl.fedsl.message import number_bits
from fedjax_sl.fedsl.quantizer import variance_factor
from fedjax_sl.fedsl.run_config import FedSLRun
from fedjax_sl.fedsl.usual_rates import usual_rates
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.split import SplitModel


def _named(config: Any, found: dict[str, bool]) -> list[str]:
    """Formats the fields that were found, with their values."""
    return [
        f"{name}={attrgetter(name)(config)!r}" for name, there in found.items() if there
    ]


def _another_method(config: FedSLRun) -> list[str]:
    """Lists options that make it another algorithm than the theorem's."""
    method = config.method
    pruned = bool(np.any(np.asarray(method.prune_ratio) > 0))
    client, server = usual_rates(method)
    another = {
        "server_update": method.server_update != "merged",
        "client_update": method.client_update != "parallel",
        "backward": method.backward != "own",
        "optimizer": method.optimizer != "sgd",
        "cosine_rounds": method.cosine_rounds > 0,
        "warmup_rounds": method.warmup_rounds > 0,
        "weight_decay": method.weight_decay is not None,
        # Rates as they take effect: one that is given as the clients' is none apart.
        "server_learning_rate": server != client,
        "restore": pruned and not method.restore,
        "average_over": pruned and method.average_over != "all",
        "rounding": method.coded and method.rounding != "stochastic",
        **{
            f"{name}.kind": getattr(method, name).active
            for name in (*LINKS, "aggregator")
        },
        "proximal": method.proximal is not None,
        "clip_norm": method.clip_norm is not None,
        "trim": method.trim is not None,
        "max_update_norm": method.max_update_norm is not None,
    }
    of_run = {
        "corruption_probability": config.corruption_probability > 0,
        "model.tail": config.model.tail > 0,
        "model.cut": len(np.unique(config.model.cut)) > 1,
    }
    return _named(method, another) + _named(config, of_run)


def check_covered(config: FedSLRun) -> None:
    """Rejects a configuration that the theorem does not cover.

    Raises:
      ValueError: naming the first option that is not covered.
    """
    for setting in _another_method(config):
        raise InputError(
            f"{setting}: the bound is not of it, but of SGD at one constant rate on "
            "both sides of the cut, by all clients at the same time, pruned weights "
            "restored, values rounded without bias and updates averaged as they are."
        )


def ignored(config: FedSLRun) -> list[str]:
    """Lists options of a run that the theorem ignores, such as momentum."""
    method = config.method
    of_method = {
        "momentum": bool(np.any(np.asarray(method.momentum) > 0)),
        "cohort_size": method.cohort_size < config.data.num_clients,
        "client_weight": method.client_weight == "examples",
        "down_bits": bool(np.any(np.asarray(method.down_bits) < FLOAT_BITS)),
        # Constants are estimated under dropout of single, rescaled activations.
        "rescale": dropout_of(config) > 0 and not method.rescale,
        "dropout_per": dropout_of(config) > 0 and method.dropout_per != "element",
    }
    of_run = {
        "failure_probability": config.failure_probability > 0,
        "drop_stragglers": config.drop_stragglers,
    }
    return _named(method, of_method) + _named(config, of_run)


def dropout_of(config: FedSLRun) -> float:
    """The largest dropout rate of any client."""
    return float(np.max(config.method.dropout_rate))


def _of_everyone(config: FedSLRun) -> ClientConfigs:
    """Per-client parameters of all N clients."""
    everyone = jnp.arange(config.data.num_clients)
    return jax.device_get(client_configs(config.method, everyone))


# The ratios are traced: a search over them compiles once for each cut.
@partial(jax.jit, static_argnames="model")
def _pruned_share(
    model: SplitModel, config: FedSLConfig, ratio: jax.Array
) -> jax.Array:
    can = prunable(model)
    params = model.init(jax.random.key(0)).client["params"]
    # Scores decide how many are pruned only where all layers are ranked as one.
    scores = magnitude_scores(params)
    kernels = of_kernels(params, can.kernels)
    total = sum(leaf.size for leaf in jax.tree.leaves(kernels))

    def share(one):
        left = of_kernels(
            kept_in_each(masks(config, can, scores, one), params), can.kernels
        )
        return 1 - sum(jax.tree.leaves(left)) / total

    # One after another: side by side, masks of every ratio would be in memory.
    return lax.map(share, ratio)


def ratios(config: FedSLRun, model: SplitModel) -> np.ndarray:
    """rho_t of every round: the share of pruned weights, mean over all clients, `[T]`.

    Counted as in a run: of M filters floor(rho M) are pruned, and where filters are, a
    kernel loses the inputs of those before it, too: up to 1 - (1 - rho)^2 of its
    weights (reconstructed).

    Args:
      config: of the run; T is its rounds.
      model: its network, cut.
    """
    method, per_client = config.method, _of_everyone(config)
    interval = int(method.interval)
    found = ratio_at(
        # A mask is frozen for a period: its ratio is that of the period's start.
        np.arange(config.rounds)[:, None] // interval * interval,
        per_client.prune_ratio[None],
        start=method.prune_start,
        end=method.prune_end,
        shape=method.prune_shape,
    )
    shape = config.rounds, len(per_client.prune_ratio)
    found = np.broadcast_to(np.asarray(found), shape)
    ratio, place = np.unique(found, return_inverse=True)
    # Before the mean: the share of a mean ratio is not the mean of the shares.
    share = np.asarray(_pruned_share(model, method, ratio), np.float64)
    return share[place.reshape(shape)].mean(axis=1)


def setting_of(config: FedSLRun, model: SplitModel) -> Setting:
    """Returns the theorem's quantities; of several device classes, the fewest bits."""
    method, per_client = config.method, _of_everyone(config)
    step = per_client.grad_bits
    # With I = 1 an update is quantised once: as the gradient, or if that takes 32
    # bits, when it is uploaded.
    if method.interval == 1:
        step = np.asarray(number_bits(method, per_client))
    client = model.shapes.client["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(client)]
    # T6 is of a second quantisation, which I = 1 does not have.
    upload = FLOAT_BITS if method.interval == 1 else int(per_client.upload_bits.min())
    pruned = float(ratios(config, model).mean())
    return Setting(
        rounds=config.rounds,
        learning_rate=float(usual_rates(method)[0]),
        # A round's mean is of K clients: its noise falls with K, whatever N is.
        clients=config.cohort_size,
        interval=int(method.interval),
        # Stages, as the constants are of: a block of several kernels is one of them.
        cut=len(client),
        # The fewest bits have the largest factor, which holds for every class.
        quantization=variance_factor(method, sizes, int(step.min())),
        pruned=pruned,
        # kappa = rho takes the gradient's energy to be spread evenly over weights.
        masked=pruned,
        upload=variance_factor(method, sizes, upload),
    )


def with_choice(run: FedSLRun, choice: Choice) -> FedSLRun:
    """Applies a choice to a configuration, in all rounds and for all clients."""
    method = dataclasses.replace(
        run.method,
        prune_ratio=choice.ratio,
        prune_shape="constant",
        prune_start=0,
        prune_end=0,
        bits=choice.bits,
        # None, so that both follow `bits`, the only number that a choice has.
        grad_bits=None,
        upload_bits=None,
        quantizer_error=None,
        dropout_rate=choice.rate,
        interval=choice.interval,
    )
    model = dataclasses.replace(run.model, cut=choice.cut)
    return dataclasses.replace(run, model=model, method=method)
