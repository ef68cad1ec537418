"""Partial pooling: against numerical integration, its symmetries, and the coverage of its intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

import prefcal as pc
from prefcal.estimators.shrinkage import pool


def posterior_means(d, s, largest):
    """By integrating mean and spread out with an adaptive rule."""
    d, s = np.asarray(d), np.asarray(s)

    def parts(spread):
        total = s**2 + spread**2
        centre = (d / total).sum() / (1 / total).sum()
        evidence = norm.pdf(d, centre, np.sqrt(total)).prod() / np.sqrt((1 / total).sum())
        return evidence, d + s**2 / total * (centre - d)

    whole = quad(lambda t: parts(t)[0], 0, largest, limit=200)[0]
    return [
        quad(lambda t, i=i: parts(t)[0] * parts(t)[1][i], 0, largest, limit=200)[0] / whole for i in range(len(d))
    ]


@pytest.mark.parametrize(
    ("d", "s"),
    [
        ([0.02, 0.05, 0.10], [0.02, 0.02, 0.05]),
        ([0.0, 0.3], [0.05, 0.05]),
        ([0.1, 0.1, 0.1, 0.1], [0.01, 0.02, 0.03, 0.04]),
    ],
)
def test_means_by_numerical_integration(d, s):
    found = pool(d, s, rng=np.random.default_rng(0))
    assert found.shrunken.tolist() == pytest.approx(posterior_means(d, s, 0.5), abs=2e-5)


def test_draws_belong_to_the_means():
    found = pool([0.02, 0.05, 0.2], [0.02, 0.02, 0.05], rng=np.random.default_rng(1), draws=40_000)
    noise = 5 * found.draws.std(axis=0) / 200
    assert (np.abs(found.draws.mean(axis=0) - found.shrunken) < noise).all()
    assert found.largest.sum() == pytest.approx(1)
    assert found.largest.argmax() == 2
    assert ((found.intervals[:, 0] < found.shrunken) & (found.shrunken < found.intervals[:, 1])).all()


def test_one_group_is_left_alone():
    found = pool([0.07], [0.02], rng=np.random.default_rng(2), draws=40_000)
    assert found.shrunken[0] == pytest.approx(0.07)
    assert found.draws.std() == pytest.approx(0.02, rel=0.03)


def test_noisy_estimates_move_and_sure_ones_stay():
    found = pool([0.0, 0.02, 0.04, 0.2, 0.2], [0.01, 0.01, 0.01, 0.2, 1e-9], rng=np.random.default_rng(3))
    assert found.shrunken[4] == pytest.approx(0.2, abs=1e-6)
    assert found.shrunken[3] < 0.15


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.001, 0.2)), min_size=2, max_size=6),
    st.floats(-1, 1),
    st.randoms(use_true_random=False),
)
def test_shifts_and_orders(pairs, shift, random):
    d, s = np.array(pairs).T
    base = pool(d, s, rng=np.random.default_rng(4), draws=10).shrunken
    assert pool(d + shift, s, rng=np.random.default_rng(4), draws=10).shrunken == pytest.approx(base + shift)
    order = list(range(len(d)))
    random.shuffle(order)
    assert pool(d[order], s[order], rng=np.random.default_rng(4), draws=10).shrunken == pytest.approx(base[order])
    assert base.max() <= d.max() + 1e-12
    assert base.min() >= d.min() - 1e-12


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("k", [3, 10])
def test_intervals_cover_also_the_group_that_looks_worst(k, spread):
    """A flat prior knows nothing of the true spread; 95 % within the noise of the runs."""
    rng = np.random.default_rng([k, int(100 * spread)])
    every, chosen, runs = [], [], 300
    for _ in range(runs):
        truth = 0.06 + spread * rng.normal(size=k)
        s = rng.choice([0.01, 0.03, 0.06], k)
        found = pool(truth + s * rng.normal(size=k), s, rng=rng, draws=1000)
        holds = (found.intervals[:, 0] <= truth) & (truth <= found.intervals[:, 1])
        every.append(holds.mean())
        chosen.append(holds[found.shrunken.argmax()])
    assert 0.925 <= np.mean(every) <= 0.985
    assert np.mean(chosen) >= 0.91  # three standard errors of 300 runs below 95 %


@pytest.mark.parametrize(
    ("d", "s"), [([], []), ([0.1], [0.1, 0.2]), ([np.nan], [0.1]), ([0.1], [-0.1]), ([[0.1]], [[0.1]])]
)
def test_what_cannot_be_pooled_is_refused(d, s):
    with pytest.raises(pc.UsageError):
        pool(d, s, rng=np.random.default_rng(0))
