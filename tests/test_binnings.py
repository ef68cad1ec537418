"""Equal-mass and equal-width errors by plain loops, against the audit's own ECE, and from the cell table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import ece
from prefcal.estimators.binnings import bin_errors, equal_mass_bins, l2_squared_debiased
from prefcal.estimators.points import Points
from strategies import seeds
from test_smooth import events, table_of


@settings(deadline=None, max_examples=30)
@given(seed=seeds, bins=st.integers(1, 30), width=st.sampled_from(["mass", "width"]))
def test_by_plain_loops(seed, bins, width):
    p, y, w = events(seed, n=80)
    points = Points.of(p, y, w)
    found = bin_errors(points, bins, width=width)
    bin_of = dict(zip(points.p.tolist(), found.bins.tolist(), strict=True))
    gaps, shares = [], []
    for b in range(bins):
        inside = np.array([bin_of[v] == b for v in p.tolist()])
        if inside.any():
            gaps.append(abs((w * (y - p))[inside].sum() / w[inside].sum()))
            shares.append(w[inside].sum() / w.sum())
    assert found.l1 == pytest.approx(np.dot(shares, gaps), abs=1e-12)
    assert found.l2 == pytest.approx(np.sqrt(np.dot(shares, np.square(gaps))), abs=1e-12)
    assert found.largest == pytest.approx(max(gaps), abs=1e-12)
    assert found.l1 <= found.l2 + 1e-12 <= found.largest + 2e-12


@settings(deadline=None, max_examples=30)
@given(seed=seeds, bins=st.integers(1, 40), each=st.integers(1, 20))
def test_equal_mass_without_ties(seed, bins, each):
    rng = np.random.default_rng(seed)
    p = rng.permutation(bins * each) / (bins * each)
    index = bin_errors(Points.of(p, rng.random(len(p)) < p), bins).bins
    assert np.bincount(index, minlength=bins).tolist() == [each] * bins


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_weight_two_is_the_row_twice_and_ties_stay_together(seed):
    p, y, _ = events(seed)
    p = p.round(2)
    twice = np.where(np.arange(len(p)) < 50, 2.0, 1.0)
    one = bin_errors(Points.of(p, y, twice), 10)
    other = bin_errors(Points.of(np.concatenate([p, p[:50]]), np.concatenate([y, y[:50]])), 10)
    assert (one.l1, one.l2, one.largest) == pytest.approx((other.l1, other.l2, other.largest), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, bins=st.sampled_from([10, 12, 15, 20, 30]))
def test_from_the_cell_table(seed, bins):
    """Equal width: the audit's own ECE. Equal mass: each edge moves by one cell at most."""
    p, y, w = events(seed)
    p = 0.999 * p + 0.0005 * np.sqrt(0.5)  # off the edges: a cell's mean may be rounded across one
    table = table_of(p, y, w, bins)
    exact, cells = Points.of(p, y, w), Points.of_table(table)
    whole = float(ece(table.residuals, table.member_weights, 1))
    assert bin_errors(exact, bins, width="width").l1 == pytest.approx(whole, abs=1e-12)
    assert bin_errors(cells, bins, width="width").l1 == pytest.approx(whole, abs=1e-12)
    share = float(table.cells[1].max() / w.sum())
    assert abs(bin_errors(exact, bins).l1 - bin_errors(cells, bins).l1) <= 2 * (bins - 1) * share + 1e-12


def test_debiased_square_is_unbiased_with_dependent_events():
    """Units of five events that share one outcome: 4,000 data sets of 40 units in 4 bins."""
    rng = np.random.default_rng(5)
    gap = np.array([0.0, 0.05, -0.1, 0.2])
    share = np.full(4, 0.25)
    unit_bin = np.repeat(np.arange(4), 10)
    found, naive = [], []
    for _ in range(4_000):
        residual = 5 * ((rng.random(40) < 0.5 + gap[unit_bin]) - 0.5) / 200
        sums = np.bincount(unit_bin, residual, 4)
        squares = np.bincount(unit_bin, residual**2, 4) - sums**2 / 10  # each bin has 10 units
        found.append(l2_squared_debiased(sums, squares * 10 / 9, share))
        naive.append(float((sums**2 / share).sum()))
    truth = float((share * gap**2).sum())
    assert np.mean(found) == pytest.approx(truth, abs=4 * np.std(found) / np.sqrt(4_000))
    assert np.mean(naive) > truth + 0.01


def test_bad_input():
    with pytest.raises(UsageError, match="bins"):
        equal_mass_bins(np.ones(3), 0)
    with pytest.raises(UsageError, match="width"):
        bin_errors(Points.of([0.5], [1]), 2, width="depth")
    for p, y, w, what in (
        ([0.5, 1.5], [0, 1], None, "forecasts must be in"),
        ([0.5, np.nan], [0, 1], None, "forecasts must be in"),
        ([0.5, 0.5], [0, 2], None, "outcomes must be in"),
        ([0.5, 0.5], [0, 1], [1, -1], "weights"),
        ([0.5, 0.5], [0, 1], [0, 0], "no event has weight"),
        ([0.5, 0.5], [0], None, "equal length"),
        (["a"], [0], None, "numbers"),
    ):
        with pytest.raises(DataError, match=what):
            Points.of(p, y, w)
