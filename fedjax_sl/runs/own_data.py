"""A run on a program's own data, into a folder that every command understands."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.runs.build import on_data, selected
from fedjax_sl.runs.recorder import Keeping
from fedjax_sl.runs.restore import check_folder
from fedjax_sl.runs.run import run
from fedjax_sl.runs.tracking import Tracking


def run_on(
    config: RunConfig,
    folder: str | Path,
    *,
    train: Dataset,
    test: Dataset | None = None,
    overwrite: bool = False,
    keeping: Keeping | None = None,
    tracking: Tracking | None = None,
    quiet: bool = False,
) -> dict[str, Any] | None:
    """Runs a method on data that are in memory, or resumes such a run.

    Args:
      config: of the run, such as `FedSLRun(...)`; its data set is called as `train` is,
        and how many examples are used, their partition and noise are as configured.
      folder: of the run.
      train: training examples, such as `Dataset.from_arrays(...)`.
      test: examples to evaluate on; None with `held_out`.
      overwrite: replace an earlier run in the folder.
      keeping: `Keeping(resume=True)` resumes, or starts if there is nothing yet; and
        how often checkpoints are taken.
      tracking: other tools that receive the metrics.
      quiet: show no progress.

    Returns:
      The contents of summary.json; of several processes, to the first.

    Raises:
      ValueError: if an argument is out of its range, or the folder holds another run,
        or this one with other data.
      OSError: if something cannot be written.
      Diverged: if a loss is no longer finite.
      Stopped: if a signal requested it; the run can be resumed.
    """
    # config.json then names these data, and a resumed run with others is refused.
    data = dataclasses.replace(
        config.data, name=train.name, image_size=train.image.shape[1]
    )
    config = dataclasses.replace(config, data=data)
    folder, keeping = Path(folder), keeping or Keeping()
    check_folder(folder, config, resume=keeping.resume, overwrite=overwrite)
    return run(
        on_data(config, *selected(config, train, test)),
        folder,
        console=Console(quiet=quiet, highlight=False, markup=False),
        keeping=keeping,
        tracked=tracking or Tracking(),
        overwrite=overwrite,
    )
