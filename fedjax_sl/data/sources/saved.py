"""A `DatasetDict` that `save_to_disk` wrote: `hf:DIR`."""

from pathlib import Path

from fedjax_sl.data.data_error import DataError
from fedjax_sl.data.dataset import Dataset
from fedjax_sl.data.hugging_face import from_hugging_face
from fedjax_sl.data.own_split import check_split, no_test_split
from fedjax_sl.extras import require


def saved(place: str, split: str, image_size: int | None) -> Dataset:
    """Loads a split; "validation" stands for a "test" that is missing.

    Args:
      place: folder that `datasets.DatasetDict.save_to_disk` wrote.
      split: "train" or "test".
      image_size: pixels a side to resize to, or None.

    Returns:
      The split.

    Raises:
      ValueError: if the package `datasets` is not installed, the folder cannot be read
        or has no such split, or its columns do not form a data set.
    """
    check_split(split)
    require("datasets", "a saved DatasetDict needs")
    import datasets  # type: ignore[import-not-found]  # an extra, and slow

    if not (Path(place) / "dataset_dict.json").is_file():
        raise DataError(f"{place}: expected a DatasetDict that save_to_disk wrote.")
    try:
        tables = datasets.DatasetDict.load_from_disk(place)
    # Arrow and `datasets` have many errors of their own.
    except Exception as error:
        reason = [*str(error).splitlines(), type(error).__name__][0]
        raise DataError(f"{place} cannot be read: {reason}") from error
    own = split if split in tables or split == "train" else "validation"
    if own == "validation" and own not in tables:
        raise no_test_split(f"it has the splits {', '.join(tables)}")
    # The training split, too: it numbers the classes.
    kept = {name: table for name, table in tables.items() if name in ("train", own)}
    return from_hugging_face(kept, image_size=image_size)[own]
