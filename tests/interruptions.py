"""A process that ends, or a disk that is full, at the n-th operation on a folder."""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedjax_sl.runs import signals
from tests.commands import PATIENCE


class Killed(BaseException):
    """As SIGKILL: nothing is done afterwards."""


_watching: Callable[[str, tuple], None] | None = None


def _hook(event: str, args: tuple) -> None:
    if _watching is not None:
        _watching(event, args)


sys.addaudithook(_hook)

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
_TAKES_SPACE = {"open", "os.mkdir", "write", "os.fsync"}


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or any(
        c in (mode or "") for c in "wa+"
    )


class Counter:
    """Counts operations on a folder; from the n-th on they fail."""

    def __init__(self, folder: Path, last: int, fail: Callable[[], BaseException]):
        self.folder, self.last, self.fail = str(folder), last, fail
        self.events, self.only = [], None

    @property
    def failed(self) -> bool:
        """Whether it has come to the n-th."""
        return len(self.events) > self.last

    def _inside(self, path, dir_fd=-1) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        elif isinstance(dir_fd, int) and dir_fd >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fspath(path))
        return os.fspath(path).startswith(self.folder)

    def event(self, event: str, args: tuple) -> None:
        """As an audit hook is called."""
        if event == "open":
            if args[0] is None or not _writes(args[1], args[2]):
                return
            inside = self._inside(args[0])
        elif event in _CHANGES:
            dir_fd = args[-1] if event != "os.truncate" else -1
            inside = self._inside(args[0], dir_fd)
        else:
            return
        if inside:
            self.count(event, args[0])

    def count(self, event: str, path) -> None:
        """One more; fails if it is the n-th or later."""
        if self.only is not None and event not in self.only:
            return
        self.events.append((event, str(path)))
        if self.failed:
            raise self.fail()


@contextmanager
def _watched(counter: Counter) -> Iterator[Counter]:
    global _watching
    open_file, fsync = io.open, os.fsync

    def opened(path, mode="r", *args, **kwargs):
        file = open_file(path, mode, *args, **kwargs)
        if isinstance(path, int) or not _writes(mode, 0) or not counter._inside(path):
            return file
        write = file.write

        def half_written(text):
            try:
                counter.count("write", path)
            except BaseException:
                write(text[: len(text) // 2])
                file.flush()
                raise
            return write(text)

        file.write = half_written
        return file

    def synced(descriptor):
        # Of many in a row the first stands for all.
        again = counter.events and counter.events[-1][0] == "os.fsync"
        if counter._inside(descriptor) and (counter.failed or not again):
            counter.count("os.fsync", descriptor)
        fsync(descriptor)

    io.open, os.fsync, _watching = opened, synced, counter.event
    try:
        yield counter
    finally:
        io.open, os.fsync, _watching = open_file, fsync, None


def killed(folder: Path, last: int):
    """Ends what the block does at the n-th operation on a folder."""
    return _watched(Counter(folder, last, Killed))


def full_disk(folder: Path, last: int):
    """From the n-th on, whatever takes space in a folder fails, and says no path."""
    counter = Counter(
        folder, last, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    )
    counter.only = _TAKES_SPACE
    return _watched(counter)


_heard = threading.Event()


def heed_signals(monkeypatch) -> None:
    """Lets `send` wait until a signal has been acted on."""
    obeying = signals.obeying

    def heeding(act):
        def acted(number):
            act(number)
            _heard.set()

        return obeying(acted)

    monkeypatch.setattr(signals, "obeying", heeding)


def send(number: int) -> None:
    """Sends this process a signal, which a thread acts on, however busy it is."""
    _heard.clear()
    signal.raise_signal(number)
    assert _heard.wait(PATIENCE)
