"""What a run that came from elsewhere asks for."""

import warnings
from pathlib import Path

from fedjax_sl.configs.run_config import RunConfig


def warn_of_data(config: RunConfig, folder: Path) -> None:
    """Says which data will be opened, unless they lie where one expects them.

    That is in the run's folder, or where TensorFlow Datasets keeps its sets.

    Args:
      config: of the run.
      folder: its.
    """
    name, place = config.data.name, config.data.dir
    if name == "digits" or place is None:  # embedded, or in the usual folder
        return
    from tensorflow_datasets.core.constants import DATA_DIR  # half a second

    here = Path(place).expanduser().resolve()
    usual = (folder.resolve(), Path(DATA_DIR).expanduser().resolve())
    if not any(here.is_relative_to(one) for one in usual):
        warnings.warn(
            f"the configuration in {folder} asks for data set {name!r} in {place}, "
            "which lies outside of the run and of the usual data folder: it is opened.",
            stacklevel=2,
        )
