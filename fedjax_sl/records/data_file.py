"""data.json: fingerprints of the data that a run or a sweep was started with."""

import json
from pathlib import Path

from fedjax_sl import reading
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.fingerprint import fingerprint
from fedjax_sl.errors import InputError
from fedjax_sl.records import run_folder as folders


RUN = "run"
"""What stands for the number of a run that is in no sweep."""

Fingerprints = dict[str, dict[str, str]]
"""Of each run, by its number, those of its "train" and "test" examples."""


def of_run(train: Dataset, test: Dataset) -> dict[str, str]:
    """Returns the fingerprints of the examples of a run, by split."""
    return {"train": fingerprint(train), "test": fingerprint(test)}


def check_data(folder: Path, found: Fingerprints) -> Fingerprints:
    """Rejects data other than those that a folder's runs were started with.

    Args:
      folder: of a run or a sweep; what an earlier version left tells nothing.
      found: fingerprints of the data of runs that are to be resumed.

    Returns:
      All fingerprints that are known, these among them.

    Raises:
      ValueError: if some differ, or the file is damaged.
      OSError: if it cannot be read.
    """
    path = folder / folders.DATA
    stored = reading.read_json(path) if path.exists() else {}
    if not isinstance(stored, dict):
        raise InputError(f"{path}: expected an object, found {stored!r:.40}.")
    for number, splits in found.items():
        # A run that an earlier version left is not in the file: any data will do.
        before = stored.get(number, splits)
        if not isinstance(before, dict):
            raise InputError(f"{path}: expected an object, found {before!r:.40}.")
        changed = [split for split in splits if before.get(split) != splits[split]]
        if changed:
            raise InputError(
                f"{folder}: the {changed[0]} examples have changed since it was "
                "started; expected the same images and labels in the same order."
            )
    # What is known of a sweep's other runs stays.
    return stored | found


def write_data(folder: Path, found: Fingerprints) -> None:
    """Checks fingerprints, and writes those that are known.

    Raises:
      ValueError: as `check_data`.
      DiskError: if they cannot be written.
    """
    known = check_data(folder, found)
    folders.write_text(folder / folders.DATA, json.dumps(known) + "\n")
