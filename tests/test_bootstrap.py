"""Cluster bootstrap: coverage by simulation, agreement with exact answers, clusters, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefcal.errors import DataError, UsageError
from prefcal.estimators.bootstrap import bootstrap


def ratio(totals):
    return totals[..., 1] / totals[..., 0]


def skill(totals):
    """Brier skill: 1 - Brier / (mean (1 - mean)), a ratio of three totals."""
    mean = totals[..., 1] / totals[..., 0]
    return 1 - totals[..., 2] / totals[..., 0] / (mean * (1 - mean))


def world(rng, n):
    """Units of three events that share a random effect."""
    p = 1 / (1 + np.exp(-rng.normal(size=(n, 3)) - rng.normal(size=(n, 1))))
    y = rng.random((n, 3)) < p
    return np.column_stack([np.full(n, 3.0), y.sum(axis=1), ((y - p) ** 2).sum(axis=1)])


@pytest.mark.parametrize("method", ["bca", "studentised"])
@pytest.mark.parametrize("n", [50, 200])
def test_coverage_of_a_skill_score(method, n):
    """150 runs each: between 89 % and 99 % (nominal 95, four binomial standard deviations below)."""
    truth = float(skill(world(np.random.default_rng(9), 400_000).sum(axis=0)))
    hits = 0
    for seed in range(150):
        found = bootstrap(world(np.random.default_rng([n, seed]), n), skill, method=method, draws=399, seed=seed)
        hits += found.interval[0] <= truth <= found.interval[1]
    assert hits / 150 >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 150)


@pytest.mark.parametrize("method", ["bca", "studentised"])
def test_a_mean_of_many_units_has_its_normal_interval(method):
    rng = np.random.default_rng(0)
    x = rng.normal(size=4_000)
    found = bootstrap(np.column_stack([np.ones(4_000), x]), ratio, method=method, draws=3_999)
    half = 1.96 * x.std(ddof=1) / math.sqrt(4_000)
    assert found.interval == pytest.approx((x.mean() - half, x.mean() + half), abs=0.15 * half)


def test_bca_follows_a_transformation():
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(60), rng.exponential(size=60)])
    plain, logged = bootstrap(x, ratio), bootstrap(x, lambda t: np.log(ratio(t)))
    # (the acceleration comes from the jackknife of each, so not to the last digit)
    assert np.exp(logged.interval) == pytest.approx(plain.interval, rel=0.02)


def test_clusters_are_units():
    rng = np.random.default_rng(2)
    x = np.column_stack([np.ones(300), rng.random(300)])
    once = bootstrap(x, ratio, seed=4)
    copies = bootstrap(np.tile(x, (3, 1)), ratio, clusters=np.tile(np.arange(300), 3), seed=4)
    assert copies.interval == pytest.approx(once.interval, rel=1e-9)
    naive = bootstrap(np.tile(x, (3, 1)), ratio, seed=4)
    assert naive.interval[1] - naive.interval[0] < 0.7 * (once.interval[1] - once.interval[0])


def test_same_seed_same_bytes():
    x = np.column_stack([np.ones(30), np.arange(30.0)])
    assert bootstrap(x, ratio, seed=3) == bootstrap(x, ratio, seed=3)
    assert bootstrap(x, ratio, seed=3) != bootstrap(x, ratio, seed=4)


def test_no_interval_without_a_reason():
    ones = np.ones((5, 2))
    assert bootstrap(ones[:1], ratio).interval is None
    assert "not finite" in bootstrap(np.array([[0.0, 1.0], [0.0, 2.0]]), ratio).note
    rare = np.zeros((20, 2))
    rare[0] = 1.0  # draws without the first unit are 0 / 0
    found = bootstrap(rare, ratio)
    assert found.interval is None
    assert "bootstrap draws" in found.note
    assert bootstrap(ones, ratio, method="studentised").interval == (1.0, 1.0)


def test_bad_input():
    x = np.ones((5, 2))
    for options, what in (({"method": "t"}, "method"), ({"level": 1.0}, "level"), ({"draws": 5}, "draws")):
        with pytest.raises(UsageError, match=what):
            bootstrap(x, ratio, **options)
    with pytest.raises(UsageError, match="functional"):
        bootstrap(x, lambda t: t)
    with pytest.raises(DataError, match="finite"):
        bootstrap([[1.0, np.nan]], ratio)
    with pytest.raises(DataError, match="shape"):
        bootstrap([1.0, 2.0], ratio)
