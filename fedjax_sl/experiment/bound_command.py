"""`fedjax-sl bound`: FedSL's convergence bound, its constants estimated from a run."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from fedjax_sl.analysis.constants import Estimate, estimate
from fedjax_sl.analysis.convergence import Constants, Setting, bound, rounds_needed
from fedjax_sl.compression.pruning import ratio_at
from fedjax_sl.experiment.config import FedSLRun
from fedjax_sl.experiment.job import prepare
from fedjax_sl.experiment.methods import split_model
from fedjax_sl.experiment.options import parse
from fedjax_sl.experiment.visits import Visits, batches, visited
from fedjax_sl.fedsl.config import settings_of
from fedjax_sl.fedsl.quantizer import variance_factor
from fedjax_sl.models.split import SplitModel


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Bound the mean squared gradient of FedSL, term by term."""

    run: Annotated[FedSLRun, tyro.conf.arg(name="")]

    visits: Annotated[Visits, tyro.conf.arg(name="")] = Visits()

    target: float | None = None
    """Mean squared gradient to reach, > 0; by default twice the floor of the bound."""

    def __post_init__(self):
        """Checks the ranges."""
        if self.target is not None and not self.target > 0:
            raise ValueError(f"target={self.target}: expected more than 0.")


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
    points = list(visited(job, asked.visits.rounds))
    found = estimate(model, points, batches(job, asked.visits.batches))
    setting = setting_of(job.config, model)
    _print_constants(found.constants, setting.cut, console)
    _print_bound(found, setting, asked.target, console)
