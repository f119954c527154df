"""Privacy accounted for by a library, against integrals and closed forms."""

import logging
import math

import numpy as np
import pytest
from scipy import integrate, optimize
from scipy.stats import norm

from fedjax_sl.analysis.privacy import Participation, epsilon, participation
from fedjax_sl.traffic import Record, Traffic


def spent(noise, aggregates, most=1, drawn=(10, 100), delta=1e-5):
    return epsilon(
        noise,
        Participation(aggregates, most),
        cohort_size=drawn[0],
        num_clients=drawn[1],
        delta=delta,
    )


def exactly(noise, times, delta):
    """epsilon of the Gaussian mechanism (Balle and Wang, 2018), k times being one."""
    a = math.sqrt(times) / noise

    def excess(e):
        tail = norm.cdf(-a / 2 - e / a)
        return norm.cdf(a / 2 - e / a) - math.exp(e) * tail - delta

    return optimize.brentq(excess, 0, 100)


@pytest.mark.parametrize(("noise", "times"), [(1.0, 1), (2.0, 10), (5.0, 100)])
def test_without_sampling_it_is_the_gaussian_mechanism(noise, times):
    known = spent(noise, 200, times).known
    exact = exactly(noise, times, 1e-5)
    assert exact <= known <= 1.15 * exact
    everyone = spent(noise, times, times, drawn=(10, 10))
    # Another update in the place of one is twice as far as none.
    assert everyone.drawn == pytest.approx(spent(noise / 2, times, times).known)
    # Nor is it sampling by chance where the chance is 1, however little noise there is.
    for z in (noise, 0.3):
        everyone = spent(z, times, times, drawn=(10, 10))
        assert everyone.poisson == pytest.approx(everyone.known, rel=1e-9)


def test_sampling_by_chance_is_the_integral():
    """Renyi divergence of (1 - q) N(0, z^2) + q N(1, z^2) from N(0, z^2), by quad."""
    noise, q, times, delta = 1.5, 0.1, 40, 1e-5

    def bound(order):
        def integrand(x):
            ratio = np.log1p(q * np.expm1((2 * x - 1) / (2 * noise**2)))
            return np.exp(order * ratio + norm.logpdf(x, scale=noise))

        span = 12 * noise + order
        moment, _ = integrate.quad(integrand, -span, span, limit=500)
        rdp = times * math.log(moment) / (order - 1)
        return rdp + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)

    found = spent(noise, times).poisson
    least = optimize.minimize_scalar(bound, bounds=(1.01, 33), method="bounded").fun
    assert least * (1 - 1e-6) <= found <= least * (1 + 1e-3)
    assert found <= min(map(bound, range(2, 33))) * (1 + 1e-6)


def test_orders_without_a_value_are_no_news(caplog, monkeypatch):
    """A series of the accountant's that does not converge, here for small orders."""
    caplog.set_level("WARNING")
    monkeypatch.setattr(logging.getLogger("absl"), "propagate", True)
    assert spent(0.5, 40).poisson < spent(0.5, 40, 40).known
    assert not caplog.records


@pytest.mark.slow
def test_more_noise_protects_more_and_more_rounds_less():
    few, many, noisier = spent(2.0, 10, 3), spent(2.0, 50, 9), spent(4.0, 50, 9)
    for name in few._fields:
        assert getattr(few, name) < getattr(many, name)
        assert getattr(noisier, name) < getattr(many, name)
    assert many.poisson < many.drawn
    rarely = spent(2.0, 50, 9, drawn=(2, 100))
    assert rarely.drawn < rarely.known == many.known
    assert spent(0.0, 1) == (math.inf, math.inf, math.inf)
    assert spent(1.0, 0, 0) == (0.0, 0.0, 0.0)


def test_participation_counts_who_sent_an_update():
    sent = np.array([[1, 1], [0, 0], [5, 0], [7, 7]])
    none = np.zeros_like(sent)
    record = Record(
        np.array([[0, 3], [1, 2], [3, 0], [3, 1]]),
        Traffic(none, sent + 1, none, none, sent, none, none),
        Traffic(*[none] * 7),
        none,
        none,
        none,
    )
    assert participation(record) == (3, 3)
    empty = record._replace(traffic=Traffic(*[none] * 7))
    assert participation(empty) == (0, 0)
