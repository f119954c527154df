"""Lengths of what crosses the cut: as expected, and never more than was said."""

import numpy as np
import pytest

from fedjax_sl.compressors.config import CompressorConfig
from fedjax_sl.fedsl.estimates.traffic import expected, most
from fedjax_sl.traffic import traffic
from tests.compressors.family import FAMILY
from tests.fedsl.test_activations import (
    BACK,
    BATCH,
    TOP,
    first_round,
    with_activations,
)
from tests.worlds import tiny_cohort, tiny_model


@pytest.mark.parametrize("name", FAMILY)
def test_no_round_takes_more_than_the_most(name):
    config = with_activations(FAMILY[name], cohort_size=2)
    kinds = traffic_up(expected(tiny_model(), config, batch_size=BATCH))
    bound = most(tiny_model(), config, np.array([BATCH] * 2), batch_size=BATCH)
    assert (kinds <= traffic_up(bound)).all() and (kinds > 0).all()


def traffic_up(record):
    return record.traffic.activations_up


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uniform", "top_k", "eden"])
def test_a_round_is_near_what_was_expected(kind, key):
    config = with_activations(CompressorConfig(kind=kind, bits=3))
    _, _, metrics = first_round(key, config, tiny_cohort(key))
    found = traffic(metrics.links).activations_up
    kinds = traffic_up(expected(tiny_model(), config, batch_size=BATCH))
    np.testing.assert_allclose(found, kinds[2], rtol=0.05)


def test_no_round_takes_more_than_the_most_on_the_way_back():
    config = with_activations(TOP, cohort_size=2, cut_gradients=BACK)
    kinds = expected(tiny_model(), config, batch_size=BATCH).traffic.gradients_down
    examples = np.array([BATCH] * 2)
    bound = most(tiny_model(), config, examples, batch_size=BATCH)
    assert (kinds > 0).all() and (kinds <= bound.traffic.gradients_down).all()
