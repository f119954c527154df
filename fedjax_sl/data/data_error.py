"""The error of a data set that cannot be had."""

from fedjax_sl.errors import InputError


class DataError(InputError):
    """A data set is not available as requested; the message suggests a remedy."""
