import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from analysis.fit import FITS, Points, curve, logistic, power

SIZES = np.geomspace(1e3, 1e6, 12)
ONCE = np.ones((1, len(SIZES)))


@pytest.mark.parametrize("form", FITS)
@given(a=st.floats(-6, 2), b=st.floats(0.1, 2.0))
def test_noise_free_data_are_given_back(form, a, b):
    y = curve(form, a, b, SIZES)
    if form == "logistic" and not ((y > 0.02) & (y < 0.98)).sum() >= 3:
        return  # all right or all wrong says nothing of the slope
    at = Points(SIZES, 10**y if form == "power" else y, np.full(12, 1e6))
    found_a, found_b = FITS[form](at, ONCE)
    tolerance = 1e-8 if form == "power" else 1e-4  # half a right answer in a million is added to each
    assert found_a[0] == pytest.approx(a, abs=40 * tolerance)
    assert found_b[0] == pytest.approx(b, abs=10 * tolerance)


def test_logistic_is_the_maximum_of_the_binomial_likelihood():
    draw = np.random.default_rng(0)
    n = draw.integers(20, 2000, 12)
    right = draw.binomial(n, curve("logistic", -4.0, 1.0, SIZES))
    (a,), (b,) = logistic(Points(SIZES, right / n, n), ONCE)

    def loss(ab):  # half a success and half a failure are added to each, as there
        p = curve("logistic", *ab, SIZES)
        return -np.sum((right + 0.5) * n / (n + 1) * np.log(p) + (n - right + 0.5) * n / (n + 1) * np.log(1 - p))

    best = scipy.optimize.minimize(
        loss, [0.0, 0.1], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000}
    )
    assert [a, b] == pytest.approx(best.x, abs=1e-5)


@pytest.mark.parametrize("form", FITS)
def test_weights_are_repetitions(form):
    draw = np.random.default_rng(1)
    y = draw.uniform(0.1, 0.9, 12)
    w = draw.integers(0, 4, 12)
    n = np.full(12, 100.0)
    weighted = FITS[form](Points(SIZES, y, n), w[None].astype(float))
    repeated = np.repeat(np.arange(12), w)
    plain = FITS[form](Points(SIZES[repeated], y[repeated], n[repeated]), np.ones((1, w.sum())))
    assert np.concatenate(weighted) == pytest.approx(np.concatenate(plain), abs=1e-8)


def test_many_weightings_at_once_are_each_alone():
    draw = np.random.default_rng(2)
    at = Points(SIZES, draw.uniform(0.1, 0.9, 12), np.full(12, 50.0))
    w = draw.integers(0, 3, (20, 12)) + 0.5
    together = np.array(logistic(at, w))
    alone = np.array([np.concatenate(logistic(at, row[None])) for row in w]).T
    assert together == pytest.approx(alone, abs=1e-9)


def test_points_of_one_size_have_no_slope():
    a, b = power(Points(np.full(4, 1e4), np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4)), np.ones((1, 4)))
    assert (b[0], 10 ** a[0]) == (0.0, pytest.approx(24**0.25))


def test_separable_data_end_steep_but_finite():
    a, b = logistic(Points(SIZES, (SIZES > 3e4).astype(float), np.full(12, 1e4)), ONCE)
    assert np.isfinite([*a, *b]).all()
    assert b[0] > 5
