"""Federated split learning and layer-wise compression as compiled JAX programs.

The names of `fedjax_sl.api` are those of the package. They are imported when first
asked for: JAX takes seconds, in which the command line listens to signals already.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from fedjax_sl.api import *  # noqa: F403

    __version__: str


def __getattr__(name: str) -> Any:
    """A module of the package, which may be callable, a public name or the version.

    Raises:
      AttributeError: if there is no such name.
    """
    if name == "__version__":
        # Of the installed package: pyproject.toml alone says which it is.
        from importlib import metadata

        return metadata.version("fedjax-sl")
    # Modules first: `fedsl`, `fedlpq` and `sweep` are modules that can be called.
    if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    # Tools ask any module for private names, which must not import JAX.
    if not name.startswith("_") or name == "__all__":
        public = import_module("fedjax_sl.api")
        if name == "__all__" or name in public.__all__:
            return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With the public names."""
    return sorted({*globals(), *import_module("fedjax_sl.api").__all__})
