"""A test that waits for ever fails instead."""

import signal

import pytest


SECONDS = 300
"""Far more than any of them takes on a busy machine."""


@pytest.fixture
def in_good_time():
    """Interrupts the test if it does not end."""

    def interrupt(*_):
        raise AssertionError(f"it has waited for {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
