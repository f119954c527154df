"""FedSL against the reference for every pair of options, after every round."""

from itertools import combinations

import numpy as np
import pytest

from fedjax_sl.fedsl import FedSLConfig
from tests.reference.compared import played
from tests.reference.covering import covering
from tests.reference.options import AXES, makes_sense


TOLERANCE = 1e-5
"""Both sides are float64, but for constants of the package that are float32."""

ROWS = covering(AXES, makes_sense, tries=50, seed=2)
QUICK = (1, 3, 21)
"""Rows that are compared without `slow`: between them all three ways of acting."""


def tolerance(row, name):
    """How close a number must be.

    A batch norm takes away whatever the bias before it adds, so that its gradient is 0
    but for rounding; Adam makes steps of that, which nothing but running means sees.
    """
    if row["norm"] != "batch" or row["optimizer"] != "adam":
        return TOLERANCE
    return 1.0 if name.endswith("conv/bias") else 10 * TOLERANCE


def numbered(rows, quick):
    marks = [() if n in quick else pytest.mark.slow for n in range(len(rows))]
    return [
        pytest.param(row, id=str(n), marks=mark)
        for n, (row, mark) in enumerate(zip(rows, marks, strict=True))
    ]


@pytest.mark.parametrize("row", numbered(ROWS, QUICK))
def test_all_is_as_in_the_reference(row):
    """Parameters, statistics, optimisers, masks, scores, losses, logits."""
    for t, name, theirs, mine in played(row):
        close = tolerance(row, name)
        np.testing.assert_allclose(
            np.asarray(theirs, float),
            np.asarray(mine, float),
            rtol=close,
            atol=close,
            err_msg=f"round {t}, {name}, {row}",
        )


def test_the_rows_have_every_pair_that_makes_sense():
    met = {
        pair for row in ROWS for pair in combinations(sorted(row.items(), key=str), 2)
    }
    for a, b in combinations(sorted(AXES), 2):
        for pair in (((a, x), (b, y)) for x in AXES[a] for y in AXES[b]):
            refused = dict(pair).get("acting") == "relay" and (
                dict(pair).get("average_over") == "keepers"
                or dict(pair).get("robust") in ("clip", "trim")
            )
            assert (tuple(sorted(pair, key=str)) in met) != refused, pair


@pytest.mark.parametrize(
    "field",
    [{"trim": 0.2}, {"clip_norm": 1.0}, {"average_over": "keepers"}],
    ids=str,
)
def test_a_relay_refuses_what_concerns_a_mean_of_updates(field):
    (name,) = field
    with pytest.raises(ValueError, match=f"^{name}=.*client_update='relay'"):
        FedSLConfig(client_update="relay", **field)
