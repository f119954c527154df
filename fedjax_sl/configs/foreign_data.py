"""Warnings about data that a foreign config.json names."""

import warnings
from pathlib import Path

from fedjax_sl.configs.run_config import RunConfig
from fedjax_sl.data.sources import place_of
from fedjax_sl.extras import lacking


def warn_of_data(config: RunConfig, folder: Path) -> None:
    """Warns before data are read from an unexpected place.

    Expected places are the run's folder and, of sets of TensorFlow Datasets, its data
    folder.

    Args:
      config: configuration of the run.
      folder: folder of the run.
    """
    name, data_dir = config.data.name, config.data.dir
    usual = [folder]
    if own := place_of(name):
        data_dir = own[1]
    elif name == "digits" or data_dir is None:  # embedded, or in the usual folder
        return
    elif lacking("tensorflow_datasets", ""):  # nothing will be opened
        return
    else:
        # Imported late: it takes half a second.
        from tensorflow_datasets.core.constants import DATA_DIR

        usual.append(Path(DATA_DIR))
    # Resolved: a link in the run's folder may lead out of it.
    here, *usual = (path.expanduser().resolve() for path in (Path(data_dir), *usual))
    if not any(here.is_relative_to(expected) for expected in usual):
        warnings.warn(
            f"the configuration in {folder} asks for data set {name!r} in {data_dir}, "
            "which lies outside of the run and of the usual data folder: it is opened.",
            stacklevel=2,
        )
