"""`fedjax-sl bound`: FedSL's convergence bound, its constants estimated from a run."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from fedjax_sl.algorithm import Cohort
from fedjax_sl.analysis.constants import Estimate, estimate
from fedjax_sl.analysis.convergence import Constants, Setting, bound, rounds_needed
from fedjax_sl.compression.pruning import ratio_at
from fedjax_sl.experiment.config import FedSLRun
from fedjax_sl.experiment.job import Job, prepare
from fedjax_sl.experiment.methods import split_model
from fedjax_sl.experiment.options import parse
from fedjax_sl.fedsl.config import settings_of
from fedjax_sl.fedsl.quantizer import variance_factor
from fedjax_sl.fedsl.state import delivered
from fedjax_sl.models.split import SplitModel, SplitParams
from fedjax_sl.simulation import DRAW, run_rounds, start


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Bound the mean squared gradient of FedSL, term by term."""

    run: Annotated[FedSLRun, tyro.conf.arg(name="")]

    points: int = 4
    """Models visited at which gradients are taken, the first before training, >= 2."""

    spacing: int = 10
    """Rounds between two of them, >= 1."""

    batches: int = 8
    """Mini-batches of each client at each of them, >= 2."""

    target: float | None = None
    """Mean squared gradient to reach, > 0; by default twice the floor of the bound."""

    def __post_init__(self):
        """Checks the ranges."""
        for name, least in (("points", 2), ("spacing", 1), ("batches", 2)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}={getattr(self, name)}: expected at least {least}."
                )
        if self.target is not None and not self.target > 0:
            raise ValueError(f"target={self.target}: expected more than 0.")


def _visited(job: Job, points: int, spacing: int) -> list[SplitParams]:
    """The delivered model at the start of a run and after every `spacing` rounds."""
    algorithm, key = job.method.algorithm, jax.random.key(job.config.seed)
    advance = jax.jit(
        partial(run_rounds, algorithm, rounds=spacing, draw=job.method.draw)
    )
    state = jax.jit(partial(start, algorithm))(key)
    found = [delivered(state)]
    for n in range(points - 1):
        state, _ = advance(state, job.train, job.partition, key, first=n * spacing)
        found.append(delivered(state))
    return jax.device_get(found)


def _batches(job: Job, count: int) -> Cohort:
    """So many mini-batches of each client of the first cohort."""
    key = jax.random.fold_in(jax.random.key(job.config.seed), DRAW)
    drawn = [
        job.method.draw(key, job.train, job.partition, round=n, period=0)
        for n in range(count)
    ]
    return drawn[0]._replace(
        index=jnp.concatenate([one.index for one in drawn], axis=1),
        weight=jnp.concatenate([one.weight for one in drawn], axis=1),
    )


def setting_of(config: FedSLRun, model: SplitModel) -> Setting:
    """What the theorem needs of a configuration; of device classes the worst bits."""
    method = config.method
    settings = jax.device_get(settings_of(method, jnp.arange(config.cohort_size)))
    client = jax.eval_shape(model.init, jax.random.key(0)).client["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(client)]
    syncs = np.arange(0, config.rounds, int(method.interval))
    ratio = ratio_at(
        syncs,
        np.mean(settings.prune_ratio),
        start=method.prune_start,
        end=method.prune_end,
        shape=method.prune_shape,
    )
    pruned = float(np.mean(np.broadcast_to(ratio, syncs.shape)))
    return Setting(
        rounds=config.rounds,
        learning_rate=float(method.learning_rate),
        clients=config.cohort_size,
        interval=int(method.interval),
        cut=len(client),
        quantization=variance_factor(method, sizes, int(settings.grad_bits.min())),
        pruned=pruned,
        masked=pruned,
        upload=variance_factor(method, sizes, int(settings.upload_bits.min())),
    )


def _print_constants(constants: Constants, cut: int, console: Console) -> None:
    table = Table(
        title=f"Estimated: beta {constants.smoothness:.3g}, gap {constants.gap:.3g}",
        title_justify="left",
    )
    for column in ("layer", "side", "sigma^2", "G^2", "D^2"):
        table.add_column(column, justify="right")
    rows = zip(constants.variance, constants.gradient, constants.weight, strict=True)
    for number, values in enumerate(rows):
        side = "client" if number < cut else "server"
        table.add_row(str(number + 1), side, *(f"{value:.3g}" for value in values))
    console.print(table)


def _print_bound(
    found: Estimate, setting: Setting, target: float | None, console: Console
) -> None:
    terms = bound(found.constants, setting)
    table = Table(title="Bound on the mean squared gradient", title_justify="left")
    table.add_column("term")
    table.add_column("value", justify="right")
    for name, value in terms._asdict().items():
        table.add_row(name, f"{value:.4g}")
    table.add_row("all", f"{terms.total:.4g}")
    console.print(table)
    target = target or 2 * (terms.total - terms.start)
    needed = rounds_needed(found.constants, setting, target)
    measured = ", ".join(f"{value:.3g}" for value in found.squared_gradient)
    console.print(
        f"rounds to {target:.3g}: {needed:g}; squared gradient measured at the points: "
        f"{measured}. The bound is the theorem's, for plain SGD without momentum; its "
        "constants are estimates from these points alone."
    )


def bound_command(arguments: list[str], console: Console) -> None:
    """Prints constants and terms.

    Raises:
      ValueError: if something asked for is out of range, or the rate above 1 / beta.
    """
    usual = Bound(run=FedSLRun())
    asked = parse(Bound, arguments, command="bound", default=usual)
    job = prepare(asked.run)
    assert isinstance(job.config, FedSLRun)
    model = split_model(job.config.model, job.train)
    visited = _visited(job, asked.points, asked.spacing)
    found = estimate(model, visited, _batches(job, asked.batches))
    setting = setting_of(job.config, model)
    _print_constants(found.constants, setting.cut, console)
    _print_bound(found, setting, asked.target, console)
