"""Runs of which nobody looks at the plots."""

import pytest

from fedjax_sl.runs import plots


@pytest.fixture(autouse=True, scope="package")
def no_plots():
    """They take a fifth of a short run; those of one are looked at in tests/cli."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda *_: None)
        yield
