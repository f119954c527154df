"""A signal ends the command line whenever it comes: with its exit code, in silence."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fedjax_sl.runs import signals
from fedjax_sl.runs.signals import ONE_REQUEST, stop_requests
from tests.commands import PATIENCE
from tests.hanging import in_good_time  # noqa: F401


TINY = [
    *("run", "fedsl", "--model.cut", "1", "--model.width", "0.03", "--batch-size", "4"),
    *("--data.num-clients", "3", "--method.cohort-size", "2"),
    *("--rounds", "100000", "--eval-every", "100000", "--folder", "run"),
]
SITE = """
import gc, os, signal, sys, threading

signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as behind "&"
number, moment, module = {number}, {moment!r}, {module!r}
watchers = 0

def send(*_):
    global number
    number, now = 0, number
    if now:
        os.kill(os.getpid(), now)
        any(range(10))

def watch(event, args):
    if event == "import" and args[0] == "fedjax_sl.cli.main":
        os.write(2, b"listening\\n")
    if event == "import" and args[0] == module and number:
        if moment == "collecting":
            gc.callbacks.append(send)
            gc.collect()
        else:
            send()

def start(thread, begin=threading.Thread.start):
    global watchers
    begin(thread)
    watchers += thread.name.endswith("(watch)")
    if watchers == 2:
        watchers = 3
        os.write(2, b"asked\\n")

sys.addaudithook(watch)
threading.Thread.start = start
"""
"""Run by Python as it starts: says when the command line listens to signals, and when a
run does, in a thread of its own; and sends one as a module is imported, or within a
callback of the garbage collector then."""


def started(folder, number=0, moment="", module="", **environment):
    (folder / "sitecustomize.py").write_text(
        SITE.format(number=int(number), moment=moment, module=module)
    )
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "fedjax_sl", *TINY],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_ended(process, number):
    """By the signal, and without a word but that it was heard.

    A shell says 128 + number too of a process that the system ended (-number here), as
    of one that was about to exit, whose interpreter listens no more.
    """
    try:
        said, wrong = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode in (128 + number, -number), said + wrong
    assert "Traceback" not in said + wrong and "Exception" not in said + wrong
    return said, wrong


@pytest.mark.parametrize(
    "number, moment, module",
    [
        (signal.SIGINT, "importing", "jax"),
        (signal.SIGINT, "importing", "jaxlib._jax"),
        (signal.SIGINT, "collecting", "jaxlib._jax"),
        (signal.SIGTERM, "collecting", "jaxlib._jax"),
        pytest.param(
            *(signal.SIGINT, "collecting", "PIL.Image"), marks=pytest.mark.slow
        ),
    ],
)
def test_while_something_is_imported(tmp_path, number, moment, module):
    """Extensions make an ImportError of an exception; collectors of garbage ignore it.

    JAX hangs a callback into the collector, so that this is no rare moment.
    """
    assert_ended(started(tmp_path, number, moment, module), number)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_any_time(tmp_path, number):
    for delay in (0.1, 0.3, 0.8, 1.6, 3, 5, 8, 12):
        folder = tmp_path / str(delay)  # its own: an earlier one may hold a run by then
        folder.mkdir()
        process = started(folder)
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        time.sleep(delay)
        process.send_signal(number)
        time.sleep(1.5 * ONE_REQUEST)
        process.send_signal(number)  # the first may have asked it to stop in good order
        assert_ended(process, number)


ENDING = """
import atexit, os, signal, sys
from fedjax_sl.__main__ import main
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["fedjax-sl", "--version"]
main()
"""


def test_while_the_interpreter_tidies_up():
    """Its own handler would raise there, and its traceback would be the last word."""
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGINT and not done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("in_good_time")
def test_twice_while_a_program_is_compiled(tmp_path):
    """The first is heard, the second obeyed, before the compiler is done."""
    process = started(
        tmp_path,
        JAX_LOG_COMPILES="1",
        JAX_ENABLE_COMPILATION_CACHE="false",
        XLA_FLAGS="",
    )
    assert process.stdout is not None and process.stderr is not None
    # Compilation begins before the run asks for signals, or after.
    seen = ""
    while not all(word in seen for word in ("Compiling jit(some_rounds)", "asked\n")):
        assert process.poll() is None
        seen += process.stderr.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    while "once more to stop at once" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(1.5 * ONE_REQUEST)
    process.send_signal(signal.SIGINT)
    _, wrong = assert_ended(process, signal.SIGINT)
    assert "Finished XLA compilation of jit(some_rounds)" not in seen + wrong


@pytest.mark.parametrize("one_request, ends", [(1e9, 0), (0.0, 1)])
def test_one_soon_after_another_is_the_same(monkeypatch, one_request, ends):
    """As `timeout` sends its own twice, to a process and to its group."""
    heard, ended = [], []
    monkeypatch.setattr(signals, "ONE_REQUEST", one_request)
    monkeypatch.setattr(signals, "end", ended.append)
    with stop_requests(heard.append) as asked:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            while not heard:
                time.sleep(0.001)
    assert asked() == signal.SIGTERM and len(heard) == 1
    assert ended == [signal.SIGINT] * ends


def test_one_that_is_ignored_stays_ignored(tmp_path):
    """As in what a shell starts in the background."""
    code = (
        "import os, signal, sys\n"
        "from fedjax_sl.runs.signals import end, obeying\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with obeying(end):\n"
        "    os.kill(os.getpid(), signal.SIGINT); print('here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "here\n")
