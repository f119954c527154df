"""Which sets lie where TensorFlow Datasets keeps them, without importing it."""

import os
from pathlib import Path


DESCRIPTION = "dataset_info.json"
"""In the folder of each version of a set."""


def usual_folder() -> Path:
    """Returns the folder of TensorFlow Datasets if no other is given."""
    named = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(named).expanduser()


def prepared_sets(folder: Path) -> list[str]:
    """Names the prepared sets in a folder, whether they can be read or not.

    Args:
      folder: of sets, which need not exist.

    Returns:
      Such as "cifar10" and "imagenet_resized/32x32", in alphabetical order.
    """
    # SET/VERSION, or SET/CONFIGURATION/VERSION.
    found = [*folder.glob(f"*/*/{DESCRIPTION}"), *folder.glob(f"*/*/*/{DESCRIPTION}")]
    names = {path.parent.parent.relative_to(folder).as_posix() for path in found}
    return sorted(names)
