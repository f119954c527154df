"""FedLP-Q against the reference for every pair of options, after every round."""

import numpy as np
import pytest

from tests.reference.compared_fedlpq import AXES, played
from tests.reference.covering import covering
from tests.reference.test_fedsl_pairs import TOLERANCE, numbered


ROWS = covering(AXES, lambda row: True, tries=50, seed=2)


@pytest.mark.parametrize("row", numbered(ROWS, quick=(1,)))
def test_all_is_as_in_the_reference(row):
    """Parameters, statistics, private heads, losses, logits."""
    for t, name, theirs, mine in played(row):
        np.testing.assert_allclose(
            np.asarray(theirs, float),
            np.asarray(mine, float),
            rtol=TOLERANCE,
            atol=TOLERANCE,
            err_msg=f"round {t}, {name}, {row}",
        )
