"""FedSL's bound beside what a run measured: kept in its folder, and drawn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_sl import reading
from fedjax_sl.analysis.fedsl_bound import Setting, bound
from fedjax_sl.compression.pruning import ratio_at
from fedjax_sl.compression.quantization import FLOAT_BITS
from fedjax_sl.configs.run_config import FedSLRun
from fedjax_sl.errors import InputError
from fedjax_sl.fedsl.config import Settings, settings_of, usual_rates
from fedjax_sl.fedsl.period_end import number_bits
from fedjax_sl.fedsl.quantizer import variance_factor
from fedjax_sl.models.split import SplitModel
from fedjax_sl.records import run_folder as folders
from fedjax_sl.theory.bound_constants import Estimate
from fedjax_sl.theory.coverage import left_out


class Theory(NamedTuple):
    """What the theorem says of a run, and what was seen of it.

    Attributes:
      points: `[P]` rounds done where gradients were taken, the first 0.
      measured: `[P]` squared gradient there.
      rounds: `[V]` rounds R of the bound.
      bound: `[V]` on the mean squared gradient of the first R rounds.
      unpruned: `[V]` the same without the terms of pruning.
      momentum: of the run; the theorem has none.
      left_out: settings of the run that the theorem leaves out, momentum among them.
    """

    points: list[int]
    measured: list[float]
    rounds: list[int]
    bound: list[float]
    unpruned: list[float]
    momentum: float
    left_out: list[str] = []

    @property
    def running_mean(self) -> np.ndarray:
        """`[P - 1]` mean of what was measured before each point but the first."""
        sums = np.cumsum(self.measured)[:-1]
        return sums / np.arange(1, len(self.points))


def _of_everyone(config: FedSLRun) -> Settings:
    """What holds for each of the N clients, of whatever class."""
    everyone = jnp.arange(config.data.num_clients)
    return jax.device_get(settings_of(config.method, everyone))


def ratios(config: FedSLRun) -> np.ndarray:
    """rho_t of every round, its mean over all clients, `[T]`."""
    method, settings = config.method, _of_everyone(config)
    interval = int(method.interval)
    found = ratio_at(
        np.arange(config.rounds) // interval * interval,
        np.mean(settings.prune_ratio),
        start=method.prune_start,
        end=method.prune_end,
        shape=method.prune_shape,
    )
    return np.broadcast_to(np.asarray(found, np.float64), (config.rounds,))


def setting_of(config: FedSLRun, model: SplitModel) -> Setting:
    """What the theorem needs of a configuration; of device classes the worst bits.

    With I = 1 an update is quantised once: as the gradient of the one local step, or
    where that takes 32 bits, as what is uploaded.
    """
    method, settings = config.method, _of_everyone(config)
    step = settings.grad_bits
    if method.interval == 1:
        step = np.asarray(number_bits(method, settings))
    client = jax.eval_shape(model.init, jax.random.key(0)).client["params"]
    sizes = [leaf.size for leaf in jax.tree.leaves(client)]
    upload = FLOAT_BITS if method.interval == 1 else int(settings.upload_bits.min())
    pruned = float(ratios(config).mean())
    return Setting(
        rounds=config.rounds,
        learning_rate=float(usual_rates(method)[0]),
        clients=config.cohort_size,
        interval=int(method.interval),
        cut=len(client),
        quantization=variance_factor(method, sizes, int(step.min())),
        pruned=pruned,
        masked=pruned,
        upload=variance_factor(method, sizes, upload),
    )


def theory_of(
    config: FedSLRun, setting: Setting, points: Sequence[int], found: Estimate
) -> Theory:
    """The bound of a configuration up to each round, beside what was measured.

    Args:
      config: of the run.
      setting: its, as from `setting_of`.
      points: rounds done where gradients were taken.
      found: there.

    Returns:
      A `Theory`.

    Raises:
      ValueError: if the theorem does not cover the learning rate.
    """
    most = max(1, points[-1])
    rounds = np.unique(np.geomspace(1, most, 60).round().astype(int))
    ratio = ratios(config)
    ratio = np.concatenate([ratio, np.full(max(0, most - len(ratio)), ratio[-1])])
    mean = np.cumsum(ratio) / np.arange(1, len(ratio) + 1)
    terms = [
        bound(
            found.constants,
            setting._replace(rounds=int(r), pruned=mean[r - 1], masked=mean[r - 1]),
        )
        for r in rounds
    ]
    return Theory(
        points=list(points),
        measured=found.squared_gradient.tolist(),
        rounds=rounds.tolist(),
        bound=[one.total for one in terms],
        unpruned=[one.total - one.pruning - one.masking for one in terms],
        momentum=float(config.method.momentum),
        left_out=left_out(config),
    )


def write(theory: Theory, folder: Path) -> None:
    """Keeps it in a run's folder."""
    text = json.dumps(theory._asdict(), indent=2) + "\n"
    folders.write_text(folder / folders.BOUND, text)


def read(folder: Path) -> Theory | None:
    """What `write` kept in a run's folder, if anything.

    Raises:
      ValueError: if it cannot be understood.
    """
    path = folder / folders.BOUND
    if not path.exists():
        return None
    try:
        values: dict[str, Any] = reading.read_json(path)
        return Theory(**values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: expected what `bound` writes.") from error
