"""The error for invalid input."""


class InputError(ValueError):
    """An argument is out of range or not available; the message is one sentence."""
