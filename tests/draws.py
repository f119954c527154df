"""How many examples a property test draws, and how to draw more of them.

The profile "reproducible" draws the same examples every time; "more" draws fifty times
as many, new ones each time: `pytest --hypothesis-profile more`.
"""

from hypothesis import settings


USUAL, MORE = 100, 50


def register() -> None:
    """Makes both profiles known, and loads the reproducible one."""
    settings.register_profile(
        "reproducible", max_examples=USUAL, derandomize=True, deadline=None
    )
    settings.register_profile("more", max_examples=MORE * USUAL, deadline=None)
    settings.load_profile("reproducible")


def examples(count: int) -> int:
    """So many, or more of them in proportion if the profile draws more."""
    return count * settings.default.max_examples // USUAL
