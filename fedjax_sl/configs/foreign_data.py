"""Warnings about data that a foreign config.json names."""

import warnings
from pathlib import Path

from fedjax_sl.configs.run_config import RunConfig


def warn_of_data(config: RunConfig, folder: Path) -> None:
    """Warns before data are read from an unexpected place.

    Expected places are the run's folder and the data folder of TensorFlow Datasets.

    Args:
      config: configuration of the run.
      folder: folder of the run.
    """
    name, data_dir = config.data.name, config.data.dir
    if name == "digits" or data_dir is None:  # embedded, or in the usual folder
        return
    # Imported late: it takes half a second.
    from tensorflow_datasets.core.constants import DATA_DIR

    # Resolved: a link in the run's folder may lead out of it.
    here = Path(data_dir).expanduser().resolve()
    usual = (folder.resolve(), Path(DATA_DIR).expanduser().resolve())
    if not any(here.is_relative_to(expected) for expected in usual):
        warnings.warn(
            f"the configuration in {folder} asks for data set {name!r} in {data_dir}, "
            "which lies outside of the run and of the usual data folder: it is opened.",
            stacklevel=2,
        )
