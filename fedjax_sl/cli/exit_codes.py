"""How a command ends: an exit code for each kind of end, and what is said of it.

Those from 64 on are named as in BSD's sysexits.h.
"""

import errno
import platform
import sys
import traceback
from importlib import metadata

import jax

from fedjax_sl.errors import InputError
from fedjax_sl.runs.segments import Diverged
from fedjax_sl.runs.signals import Stopped


# The last two as shells report signals: 128 + SIGINT, 128 + SIGPIPE.
BAD_INPUT, DIVERGED, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
INTERNAL, OUT_OF_MEMORY, DISK = 70, 71, 74  # EX_SOFTWARE, EX_OSERR, EX_IOERR

_NOT_USABLE = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
"""Of a path that was given, where `disk.DiskError` is of one that was written to."""

# Of paths, too, but of no class of their own.
_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS)


def report(error: Exception) -> int:
    """Says why a command ends.

    Args:
      error: what it ends with.

    Returns:
      The exit code.
    """
    if isinstance(error, Stopped):
        # The run has said so already, and how it is resumed.
        return 128 + error.number
    code, said = _kind(error)
    # Of bad input a traceback would only hide the sentence.
    if code == INTERNAL:
        traceback.print_exception(error, file=sys.stderr)
    print(said, file=sys.stderr)
    return code


def _kind(error: Exception) -> tuple[int, str]:
    """The exit code, and a sentence."""
    if isinstance(error, InputError):
        return BAD_INPUT, f"error: {error}"
    if isinstance(error, Diverged):
        return DIVERGED, f"diverged: {error}"
    if isinstance(error, OSError):
        given = isinstance(error, _NOT_USABLE) or error.errno in _NO_NAME
        return BAD_INPUT if given else DISK, f"error: {error}"
    # JAX has no type of its own for it.
    exhausted = isinstance(error, jax.errors.JaxRuntimeError) and (
        "RESOURCE_EXHAUSTED" in str(error)
    )
    if exhausted or isinstance(error, MemoryError):
        # A MemoryError may have no text.
        first = (str(error) or "no more memory").splitlines()[0]
        return OUT_OF_MEMORY, (
            f"out of memory: {first}; fewer clients at a time (--mapping, --chunk), a "
            "smaller batch or a narrower model take less."
        )
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("fedjax-sl", "jax", "jaxlib")
    )
    return INTERNAL, (
        f"internal error: {type(error).__name__}. This is a bug in fedjax-sl, not an "
        "error in your command. Please report it to its maintainers with the lines "
        f"above and the command ({versions}, Python {platform.python_version()} on "
        f"{platform.platform()})."
    )
