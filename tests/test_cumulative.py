"""ECCE-R and ECCE-MAD: brute force, null laws against series of another kind and simulation, ties, the cell table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefcal.estimators.cumulative import cumulative_error, max_abs_survival, path_errors, range_survival
from prefcal.estimators.points import Points
from strategies import seeds
from test_smooth import events, table_of


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_range_is_the_largest_error_of_any_interval_of_forecasts(seed):
    """Brute force over all intervals of distinct forecasts; MAD over those that start at the smallest."""
    p, y, w = events(seed, n=25)
    distinct = np.unique(p)
    sums = np.array([(w * (y - p))[p == v].sum() for v in distinct]) / w.sum()
    every = [abs(sums[a : b + 1].sum()) for a in range(len(sums)) for b in range(a, len(sums))]
    first = [abs(sums[: b + 1].sum()) for b in range(len(sums))]
    found = cumulative_error(Points.of(p, y, w))
    assert found.range == pytest.approx(max(every), abs=1e-12)
    assert found.mad == pytest.approx(max(first), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_order_within_ties_does_not_matter(seed):
    p, y, w = events(seed, n=60)
    p = p.round(1)
    order = np.random.default_rng(seed).permutation(60)
    one, other = cumulative_error(Points.of(p, y, w)), cumulative_error(Points.of(p[order], y[order], w[order]))
    assert one.range == pytest.approx(other.range, abs=1e-12)
    assert one.p_range == pytest.approx(other.p_range, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_the_cell_table_stays_within_its_bound(seed):
    p, y, w = events(seed)
    table = table_of(p, y, w)
    exact, cells = cumulative_error(Points.of(p, y, w)), cumulative_error(Points.of_table(table))
    share = float(table.cells[1].max() / w.sum())
    assert -1e-12 <= exact.range - cells.range <= 2 * share
    assert -1e-12 <= exact.mad - cells.mad <= share


@settings(deadline=None, max_examples=30)
@given(x=st.floats(0.05, 30.0))
def test_laws_are_survival_functions(x):
    for law in (range_survival, max_abs_survival):
        assert 0.0 <= law(x) <= 1.0
        assert law(x) >= law(1.01 * x) - 1e-12
    assert range_survival(x) >= max_abs_survival(x) - 1e-12  # the range is at least the largest distance


@pytest.mark.parametrize(("law", "switch"), [(range_survival, 2.0), (max_abs_survival, 1.0)])
def test_the_two_series_meet(law, switch):
    assert law(switch - 1e-9) == pytest.approx(law(switch), abs=1e-8)


def test_known_values():
    """E[range] = 2 sqrt(2 / pi); E[largest distance] = sqrt(pi / 2); medians and tails by the other series."""
    x = np.linspace(1e-3, 12, 60_001)
    for law, mean in ((range_survival, 2 * math.sqrt(2 / math.pi)), (max_abs_survival, math.sqrt(math.pi / 2))):
        assert np.trapezoid([law(v) for v in x], x) == pytest.approx(mean, abs=2e-3)
    assert max_abs_survival(5.0) == pytest.approx(4 * 0.5 * math.erfc(5 / math.sqrt(2)), rel=1e-9)
    assert range_survival(10.0) == pytest.approx(8 * 0.5 * math.erfc(10 / math.sqrt(2)), rel=1e-9)


def test_laws_against_simulated_paths():
    """4,000 walks of 4,000 steps; a discrete path falls short by about 1.17 (MAD: 0.58) of a step's deviation."""
    rng = np.random.default_rng(0)
    found = [path_errors(rng.standard_normal((2_000, 4_000)) / math.sqrt(4_000)) for _ in range(2)]
    widest, mad = (np.concatenate([f[i] for f in found]) for i in (0, 1))
    for values, law, short in ((widest, range_survival, 1.166), (mad, max_abs_survival, 0.583)):
        shifted = np.sort(values + short / math.sqrt(4_000))
        uniform = np.array([law(v) for v in shifted])
        gap = np.abs(uniform - (1 - (np.arange(len(shifted)) + 0.5) / len(shifted))).max()
        assert gap < 1.63 / math.sqrt(len(shifted)) + 0.005


@pytest.mark.parametrize("n", [500, 2000])
def test_p_values_of_independent_calibrated_events(n):
    rejected = np.zeros(2)
    for seed in range(400):
        rng = np.random.default_rng([n, seed])
        p = rng.random(n)
        found = cumulative_error(Points.of(p, rng.random(n) < p))
        rejected += np.array([found.p_range, found.p_mad]) <= 0.05
    assert (rejected / 400 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 400)).all()
    assert (rejected / 400 >= 0.01).all()


def test_certain_forecasts():
    right, wrong = cumulative_error(Points.of([0, 1], [0, 1])), cumulative_error(Points.of([0, 1], [1, 1]))
    assert (right.range, right.p_range) == (0.0, 1.0)
    assert (wrong.range, wrong.p_range) == (0.5, 0.0)
