"""Packages that are optional, and the extra of this one that installs each."""

from importlib.util import find_spec

from fedjax_sl.errors import InputError


EXTRAS = {
    "tensorflow_datasets": ("tensorflow-datasets", "tfds"),
    "matplotlib": ("matplotlib", "reports"),
    "pyarrow": ("pyarrow", "tables"),
    "tensorboardX": ("tensorboardX", "tensorboard"),
    "dp_accounting": ("dp-accounting", "privacy"),
    "datasets": ("datasets", "hf"),
    "flwr": ("flwr", "flower"),
    "optuna": ("optuna", "optuna"),
}
"""The package of each optional module, and the extra that installs it."""


def lacking(module: str, need: str) -> str:
    """Looks for an optional package, without importing it.

    Args:
      module: a name in `EXTRAS`.
      need: the beginning of a sentence that the package ends, such as "reports need".

    Returns:
      The sentence, with the command that installs the package; empty if it is there.
    """
    # Not imported, which takes a second for some of them.
    if find_spec(module) is not None:
        return ""
    package, extra = EXTRAS[module]
    return f"{need} {package}: pip install 'fedjax-sl[{extra}]'."


def require(module: str, need: str) -> None:
    """Refuses what an optional package is missing for.

    Args:
      module: as of `lacking`.
      need: as of `lacking`.

    Raises:
      ValueError: if it is not installed.
    """
    if sentence := lacking(module, need):
        raise InputError(sentence)
