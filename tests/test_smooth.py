"""Smooth ECE: a direct sum over reflected Gaussians, the published reference value, invariances, the cell table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefcal.errors import UsageError
from prefcal.estimators.cells import CellTable
from prefcal.estimators.events import Forecast
from prefcal.estimators.points import Points
from prefcal.estimators.smooth import FLOOR, GRID, cosines, fixed_point, smooth_ece, smooth_ece_at
from strategies import seeds


def published() -> Points:
    """The data of the reference value: p ~ Beta(2, 2), y ~ Bernoulli(p^1.2)."""
    rng = np.random.default_rng(0)
    p = rng.beta(2, 2, 2000)
    return Points.of(p, rng.random(2000) < p**1.2)


def by_images(points: Points, sigma: float, nodes: int = 20_001) -> float:
    """The definition: Gaussians at every reflection of p in 0 and 1, integrated over [0, 1]."""
    t = np.linspace(0.0, 1.0, nodes)
    density = np.zeros(nodes)
    for p, r in zip(points.p, points.residuals, strict=True):
        for shift in range(-12, 13):
            for centre in (2 * shift + p, 2 * shift - p):
                density += r * np.exp(-0.5 * ((t - centre) / sigma) ** 2)
    density /= sigma * np.sqrt(2 * np.pi)
    return float(np.trapezoid(np.abs(density), t))


def events(seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.7, 0.9, n).round(int(rng.integers(2, 9)))
    return p, (rng.random(n) < p ** rng.uniform(0.5, 2.0)).astype(float), rng.exponential(size=n)


def table_of(p: np.ndarray, y: np.ndarray, w: np.ndarray, bins: int = 15) -> CellTable:
    table = CellTable(bins)
    with np.errstate(divide="ignore"):
        forecast = Forecast(p[:, None], np.log(p)[:, None], np.log1p(-p)[:, None], None, np.empty(0))
    cell = np.minimum((p * bins).astype(int), bins - 1)[:, None]
    table.add(forecast, y[:, None], w[:, None], cell)
    return table


def test_reference_value():
    assert smooth_ece(published()).value == pytest.approx(0.0641, abs=5e-5)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.3, 2.0])
def test_against_reflected_gaussians(sigma):
    """Linear sharing between nodes widens the variance by at most 1 / (4 GRID^2); so does the trapezoid."""
    points = Points.of(*events(3, n=40))
    size = np.abs(points.residuals).sum()
    assert smooth_ece_at(points, sigma) == pytest.approx(
        by_images(points, sigma), abs=size / (GRID * sigma) ** 2 + 1e-7
    )


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_value_is_its_own_bandwidth(seed):
    points = Points.of(*events(seed))
    found = smooth_ece(points)
    assert found.bandwidth >= FLOOR
    if found.bandwidth > FLOOR:
        assert found.value == pytest.approx(found.bandwidth, rel=1e-6)
    assert smooth_ece_at(points, found.bandwidth) == pytest.approx(found.value, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=seeds, small=st.floats(0.002, 0.5), factor=st.floats(1.01, 10.0))
def test_falls_with_the_bandwidth_down_to_the_mean_residual(seed, small, factor):
    points = Points.of(*events(seed, n=50))
    left, right = smooth_ece_at(points, small), smooth_ece_at(points, small * factor)
    assert left >= right - 1e-6
    assert right >= abs(points.residuals.sum()) - 1e-12


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_invariances(seed):
    p, y, w = events(seed)
    value = smooth_ece(Points.of(p, y, w)).value
    order = np.random.default_rng(seed).permutation(len(p))
    assert smooth_ece(Points.of(p[order], y[order], w[order])).value == pytest.approx(value, abs=1e-9)
    assert smooth_ece(Points.of(p, y, 7 * w)).value == pytest.approx(value, abs=1e-9)
    assert smooth_ece(Points.of(1 - p, 1 - y, w)).value == pytest.approx(value, abs=1e-6)
    whole = np.concatenate([p, p[:100]]), np.concatenate([y, y[:100]])
    twice = np.where(np.arange(len(p)) < 100, 2.0, 1.0)
    assert smooth_ece(Points.of(p, y, twice)).value == pytest.approx(smooth_ece(Points.of(*whole)).value, abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_the_cell_table_stays_within_its_bound(seed):
    p, y, w = events(seed)
    exact = smooth_ece(Points.of(p, y, w))
    cells = smooth_ece(Points.of_table(table_of(p, y, w)))
    sigma = min(exact.bandwidth, cells.bandwidth)
    mean_residual = float((w * np.abs(y - p)).sum() / w.sum())
    assert abs(exact.value - cells.value) <= 0.8 * mean_residual / (5040 * sigma) + 1e-6


def test_no_residual_no_error():
    found = smooth_ece(Points.of([0.0, 1.0, 0.5, 0.5], [0, 1, 1, 0]))
    assert found.value == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("shift", [0.0, 0.03, -0.2])
def test_draws_agree_with_one_at_a_time(shift):
    """The vectorised fixed point of many residual vectors; four steps on a coarse grid are good to two percent."""
    points = published()
    rng = np.random.default_rng(1)
    noise = (shift + rng.normal(size=(30, len(points.p))) * 0.5) * points.w / points.weight
    fine = fixed_point(cosines(points.p, noise, GRID), 12)[0]
    spread = noise.sum(axis=1).std()
    coarse = fixed_point(cosines(points.p, noise, 256), 4, start=3 * spread)[0]
    np.testing.assert_allclose(coarse, fine, rtol=0.02)
    for row, value in zip(noise[:5], fine, strict=False):
        assert fixed_point(cosines(points.p, row[None], GRID), 12)[0][0] == pytest.approx(value, rel=1e-6)


def test_a_bandwidth_below_the_floor_is_refused():
    with pytest.raises(UsageError, match="at least"):
        smooth_ece_at(published(), FLOOR / 2)
