"""`fedjax-sl bound`: a convergence bound, its constants estimated from a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from fedjax_sl.analysis.fedsl_bound import Constants, Setting, bound, rounds_needed
from fedjax_sl.cli.line import Line
from fedjax_sl.configs.foreign_data import warn_of_data
from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.configs.serialization import from_json
from fedjax_sl.errors import InputError
from fedjax_sl.extras import lacking, require
from fedjax_sl.methods import presets, theory_of
from fedjax_sl.records import run_folder as folders
from fedjax_sl.runs.build import prepare
from fedjax_sl.theory import bound_curve
from fedjax_sl.theory.bound_constants import Estimate, estimate, under_dropout
from fedjax_sl.theory.bound_curve import BoundCurve, said_of
from fedjax_sl.theory.trajectory import Trajectory, batches, models_along


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Bound the mean squared gradient of a run, term by term."""

    run: Annotated[RunConfig, tyro.conf.arg(name="")]

    trajectory: Annotated[Trajectory, tyro.conf.arg(name="")] = Trajectory()

    folder: Path | None = None
    """A finished run: its settings, and its models from first to last. It is run again
    to see them; bound.json and plots/bound.svg are added to the folder."""

    picture: Path | None = None
    """An SVG of the bound beside what is measured; with a folder, the one in it."""

    target: float | None = None
    """Mean squared gradient to reach, > 0; by default twice the floor of the bound."""

    def __post_init__(self):
        """Checks the ranges."""
        if self.target is not None and not self.target > 0:
            raise InputError(f"target={self.target}: expected more than 0.")
        if self.picture is not None:
            require("matplotlib", f"picture={self.picture}: pictures need")


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
    found: Estimate,
    setting: Setting,
    options: Bound,
    console: Console,
    *,
    last_ratio: float,
) -> None:
    terms = bound(found.constants, setting)
    table = Table(title="Bound on the mean squared gradient", title_justify="left")
    table.add_column("term")
    table.add_column("value", justify="right")
    dropped = theory_of(options.run).dropout(options.run) > 0
    for name, value in terms._asdict().items():
        # What enlarges the constants is in every term that they are in.
        counted = name == "dropout" and dropped and not value
        table.add_row(name, "in sigma^2, G^2" if counted else f"{value:.4g}")
    table.add_row("all", f"{terms.total:.4g}")
    console.print(table)
    # Only the first term falls with the rounds: no run is long enough for the others.
    target = options.target or 2 * (terms.total - terms.start)
    needed = rounds_needed(found.constants, setting, target)
    if needed > setting.rounds:
        # What follows the run is pruned at its last ratio, and so more than its mean.
        longer = setting._replace(pruned=last_ratio, masked=last_ratio)
        needed = rounds_needed(found.constants, longer, target)
    floor = "" if options.target else ", twice the floor that no rounds get below"
    measured = ", ".join(f"{value:.3g}" for value in found.squared_gradient)
    console.print(
        f"rounds to a bound of {target:.3g}{floor}: {needed:g}; squared gradient "
        f"measured at the points: {measured}. The bound's constants are "
        "estimates from these points alone. "
        + said_of(theory_of(options.run).ignored(options.run))
    )


def _usual(folder: Path | None) -> Bound:
    """The defaults: the run's configuration, and some eleven points of it.

    Raises:
      ValueError: if the folder is that of a run whose method has no bound.
    """
    if folder is None:
        return Bound(run=usual_run())
    if not (folder / folders.CONFIG).exists():
        raise InputError(f"{folder}: expected the folder of a run.")
    config = from_json(folder / folders.CONFIG)
    # For its refusal: a method without a bound has no options of one.
    theory_of(config)
    spacing = max(1, config.rounds // 10)
    trajectory = Trajectory(points=config.rounds // spacing + 1, spacing=spacing)
    return Bound(run=config, trajectory=trajectory, folder=folder)


def usual_run() -> RunConfig:
    """Of the first method that has a convergence bound."""
    return next(p.run for spec, p in presets().values() if spec.theory)


def bound_command(line: Line, console: Console) -> None:
    """Prints constants and terms, and draws them beside what is measured.

    Raises:
      ValueError: if an option is out of range, or the rate above 1 / beta.
      OSError: if something cannot be read or written.
    """
    options = line.parse(_usual(line.start.folder))
    theory = theory_of(options.run)
    # Before the run is trained again.
    theory.check_covered(options.run)
    if options.folder is not None:
        warn_of_data(options.run, options.folder)
    job = prepare(options.run)
    model = theory.model(job.config, job.train)
    points = list(models_along(job, options.trajectory.rounds))
    cohort = batches(job, options.trajectory.batches)
    found = estimate(model, points, cohort)
    # The theorem's f is averaged over dropout, which enlarges sigma and G alone.
    rate = theory.dropout(job.config)
    found = found._replace(
        constants=under_dropout(found.constants, model, points, cohort, rate=rate)
    )
    setting = theory.setting(job.config, model)
    _print_constants(found.constants, setting.cut, console)
    ratio = theory.ratios(job.config, model)
    _print_bound(found, setting, options, console, last_ratio=float(ratio[-1]))
    picture = options.picture
    if options.folder is not None:
        picture = picture or options.folder / folders.PLOTS / "bound.svg"
    if picture is None:
        return
    beside = bound_curve.curve_of(
        job.config, setting, options.trajectory.rounds, found, ratio=ratio
    )
    if options.folder is not None:
        # For `report`, which draws it without training.
        bound_curve.write(beside, options.folder)
    _draw(beside, picture, console)


def _draw(found: BoundCurve, picture: Path, console: Console) -> None:
    """Draws the bound beside what is measured, if Matplotlib is installed."""
    if sentence := lacking("matplotlib", f"{picture} is left out: pictures need"):
        console.print(sentence, soft_wrap=True)
        return
    # Late: it takes a second, and is an extra.
    from fedjax_sl.reports import comparison_figures

    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(comparison_figures.svg(comparison_figures.theory(found)))
    console.print(f"bound and measurement: {picture}", soft_wrap=True)
