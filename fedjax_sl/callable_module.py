"""A module that may be called as the function that it is named after.

`fedjax_sl.fedsl` is the method, and also the package that `fedjax_sl.fedsl.config` lies
in; so it is with `fedlpq` and `sweep`.
"""

from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """To be the class of such a module."""

    @property
    def __wrapped__(self) -> Any:
        """The function, as `inspect.signature` looks for it."""
        return vars(self)[self.__name__.rpartition(".")[2]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.__wrapped__(*args, **kwargs)
