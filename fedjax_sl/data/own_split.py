"""The splits that a user's own data may have."""

from fedjax_sl.data.data_error import DataError


def check_split(split: str) -> None:
    """Rejects a split that is neither for training nor for testing.

    Raises:
      DataError: naming it.
    """
    if split not in ("train", "test"):
        raise DataError(f"split={split!r}: expected 'train' or 'test'.")


def no_test_split(why: str) -> DataError:
    """Returns the error of data without a test split, with a way out."""
    return DataError(
        f"{why}: expected a test split, or held_out (--data.held-out) to evaluate on "
        "training images that are set apart."
    )
