"""Warns of a ratio that prunes nothing, because layers have too few filters."""

import jax
import numpy as np

from fedjax_sl.checks import is_plain
from fedjax_sl.compression.pruning import number_pruned
from fedjax_sl.fedsl.config import FedSLConfig
from fedjax_sl.models.class_cuts import cut_models
from fedjax_sl.models.prunable import prunable
from fedjax_sl.models.split import SplitModel


def unpruned(config: FedSLConfig, model: SplitModel) -> tuple[str, ...]:
    """Returns a warning if a positive ratio prunes no filter of any layer.

    Of M filters floor(rho M) are pruned: with rho = 0.35, none of two.

    Args:
      config: of the method; if its ratios are traced, there is nothing to say.
      model: the network, cut.
    """
    ratio = config.prune_ratio
    if not is_plain(ratio) or config.granularity != "filter" or not np.any(ratio):
        return ()
    together = config.prune_scope == "global"
    most = max(
        (sum if together else max)([0, *(group.size for group in prunable(at).groups)])
        for at in cut_models(model)
    )
    # Numbers, also where a program that builds the method is being traced.
    with jax.ensure_compile_time_eval():
        if int(number_pruned(most, np.max(ratio))) > 0:
            return ()
    where = "in all" if together else "in a layer"
    return (
        f"prune_ratio={ratio}: no filter is pruned, because the client's half has at "
        f"most {most} {where}",
    )
