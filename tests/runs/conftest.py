"""Runs of which nobody looks at the plots."""

import pytest

from fedjax_sl.runs import run as running


@pytest.fixture(autouse=True, scope="package")
def no_plots():
    """They take a fifth of a short run; those of one are looked at in tests/cli."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "draw_plots", lambda *_: None)
        yield
