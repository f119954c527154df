"""Loops are compiled when they are called, with all that they call."""

import subprocess
import sys
import threading

from fedjax_sl.compression.compiled import compiled


@compiled
def _doubled(value):
    return 2 * value


@compiled
def _quadrupled(value):
    return _doubled(_doubled(value))


@compiled
def _eightfold(value):
    return _doubled(_quadrupled(value))


@compiled
def _factorial(value):
    return 1 if value < 2 else value * _factorial(value - 1)


def test_a_loop_may_call_others_and_itself():
    assert _quadrupled(3) == 12 and _doubled(value=3) == 6
    assert _factorial(5) == 120


def test_threads_may_call_one_first():
    found = []

    def call():
        found.append(_eightfold(1))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [8] * 8


def test_numba_is_imported_by_the_first_call():
    code = """
import sys
from fedjax_sl.compression import decode, encode
assert "numba" not in sys.modules
from fedjax_sl.compression.codewords import GAMMA, codeword
assert codeword(1, GAMMA) == (1, 1)
assert "numba" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
