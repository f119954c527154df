"""Counts the programs that a test compiles."""

import jax
import pytest


COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compiled():
    """A list that grows by one with each program that is compiled."""
    seconds = []

    def listen(event, duration, **_):
        seconds.extend([duration] if event == COMPILED else [])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seconds
    jax.monitoring.unregister_event_duration_listener(listen)
