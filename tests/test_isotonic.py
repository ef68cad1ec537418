"""Isotonic decomposition: min-max formula, quadratic optimality, exact identities, the cell table, the band."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from prefcal.errors import DataError, UsageError
from prefcal.estimators.isotonic import decomposition, isotonic_curve, miscalibrations, pool, recalibrated
from prefcal.estimators.points import Points
from strategies import seeds
from test_smooth import events, table_of


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_fit_is_the_min_max_of_block_means(seed):
    """c_j = max over a <= j of min over b >= j of the mean outcome of points a..b."""
    points = Points.of(*events(seed, n=15))
    k = len(points.p)
    mean = [[np.average(points.y[a : b + 1], weights=points.w[a : b + 1]) for b in range(a, k)] for a in range(k)]
    expected = [max(min(mean[a][b - a] for b in range(j, k)) for a in range(j + 1)) for j in range(k)]
    np.testing.assert_allclose(recalibrated(points), expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_many_rows_at_once_are_the_same_as_one_by_one(seed):
    rng = np.random.default_rng(seed)
    y, w = rng.normal(size=(6, 40)).round(1) + np.linspace(0, rng.integers(0, 4), 40), rng.exponential(size=40)
    together = pool(y, w)
    np.testing.assert_allclose(together, np.concatenate([pool(row[None], w) for row in y]), atol=1e-12)
    assert (np.diff(together, axis=1) >= 0).all()
    np.testing.assert_allclose(together @ w, y @ w, atol=1e-9)  # pooling keeps the mean


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_scores_add_up(seed):
    p, y, w = events(seed)
    p = np.clip(p, 1e-6, 1 - 1e-6)
    mean = np.average(y, weights=w)
    for score, loss, unc in (
        ("brier", (y - p) ** 2, mean * (1 - mean)),
        ("log", -np.where(y == 1, np.log(p), np.log1p(-p)), -mean * math.log(mean) - (1 - mean) * math.log1p(-mean)),
    ):
        found = decomposition(Points.of(p, y, w), score)
        assert found.score == pytest.approx(np.average(loss, weights=w), rel=1e-9)
        assert found.unc == pytest.approx(unc, rel=1e-9)
        assert found.mcb - found.dsc + found.unc == pytest.approx(found.score, abs=1e-10)
        assert min(found.mcb, found.dsc) >= 0


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_an_increasing_recalibration_leaves_dsc_and_ends_mcb(seed):
    p, y, w = events(seed)
    points = Points.of(p, y, w)
    before = decomposition(points)
    after = decomposition(Points.of(p**3, y, w))
    assert after.dsc == pytest.approx(before.dsc, abs=1e-12)
    mended = Points.of(np.interp(p, points.p, recalibrated(points)), y, w)
    for score in ("brier", "log"):
        assert decomposition(mended, score).mcb == pytest.approx(0.0, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_fractional_outcomes_count_in_the_brier_score(seed):
    p, _, w = events(seed, n=50)
    y = np.random.default_rng(seed).choice([0.0, 0.5, 1.0], 50)
    found = decomposition(Points.of(p, y, w))
    assert found.score == pytest.approx(np.average((y - p) ** 2, weights=w), rel=1e-9)
    assert found.unc == pytest.approx(np.average(y**2, weights=w) - np.average(y, weights=w) ** 2, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_the_cell_table_stays_within_its_bound(seed):
    p, y, w = events(seed)
    table = table_of(p, y, w)
    total = float(table.sums[3] / table.sums[0])
    exact, cells = decomposition(Points.of(p, y, w)), decomposition(Points.of_table(table), total=total)
    share = float(table.cells[1].max() / w.sum())
    assert cells.score == pytest.approx(exact.score, rel=1e-12)
    assert cells.unc == pytest.approx(exact.unc, abs=1e-12)
    assert -1e-12 <= exact.mcb - cells.mcb <= share / 4
    assert exact.dsc - cells.dsc == pytest.approx(exact.mcb - cells.mcb, abs=1e-10)


def test_the_impossible_is_infinite():
    found = decomposition(Points.of([0.0, 0.5, 0.5], [1, 0, 1]), "log")
    assert math.isinf(found.mcb)
    assert math.isfinite(found.dsc)
    assert decomposition(Points.of([0.0, 1.0], [0, 1]), "log").score == 0.0


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_draws_agree_with_the_decomposition(seed):
    p, y, w = events(seed, n=60)
    points = Points.of(np.clip(p, 0.001, 0.999), y, w)
    brier, log = miscalibrations(points.y[None], points.p, points.w / points.weight)
    assert brier[0] == pytest.approx(decomposition(points).mcb, abs=1e-12)
    assert log[0] == pytest.approx(decomposition(points, "log").mcb, abs=1e-10)


def test_band_by_unit_is_wider_where_units_repeat():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    y = rng.random(300) < p
    alone = isotonic_curve(p, y, seed=1)
    units = isotonic_curve(np.tile(p, 4), np.tile(y, 4), clusters=np.tile(np.arange(300), 4), seed=1)
    events_alone = isotonic_curve(np.tile(p, 4), np.tile(y, 4), seed=1)
    np.testing.assert_allclose(units.recalibrated, alone.recalibrated, atol=1e-12)
    np.testing.assert_allclose(units.low, alone.low, atol=1e-12)  # the same units are drawn
    assert (units.high - units.low).mean() > 1.3 * (events_alone.high - events_alone.low).mean()
    again = isotonic_curve(p, y, seed=1)
    assert again.low.tobytes() == alone.low.tobytes()


def test_band_covers_in_the_middle():
    """Pointwise, calibrated data, 60 runs: the band holds the truth at p = 0.2 .. 0.8 in at least 85 %."""
    hits = []
    for seed in range(60):
        rng = np.random.default_rng([3, seed])
        p = rng.random(300)
        curve = isotonic_curve(p, rng.random(300) < p, draws=99, seed=seed)
        at = np.array([0.2, 0.35, 0.5, 0.65, 0.8])
        hits.append((np.interp(at, curve.p, curve.low) <= at) & (at <= np.interp(at, curve.p, curve.high)))
    assert np.mean(hits) >= 0.85


def test_bad_input():
    with pytest.raises(UsageError, match="spherical"):
        decomposition(Points.of([0.5], [1]), "spherical")
    with pytest.raises(UsageError, match="draws"):
        isotonic_curve([0.5], [1], draws=10)
    with pytest.raises(DataError, match="clusters"):
        isotonic_curve([0.5], [1], clusters=[1, 2])
