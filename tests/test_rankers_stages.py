"""The Plackett-Luce likelihood of partial and tied rankings against enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefcal.rankers.stages import Stages, log_before
from rankings import agreeing_orders, bucket_orders, plackett_luce_probability
from strategies import seeds


def brute_force(ranks: np.ndarray, scores: np.ndarray) -> float:
    return float(np.log(sum(plackett_luce_probability(o, scores) for o in agreeing_orders(ranks))))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, m=st.integers(2, 5), scale=st.sampled_from([0.3, 3.0, 15.0]))
def test_likelihood_equals_the_sum_over_agreeing_orders(seed: int, m: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ranks = bucket_orders(20, m, rng)
    scores = scale * rng.normal(size=ranks.shape)
    value, _ = Stages(ranks).value_and_gradient(scores)
    expected = [brute_force(r, s) for r, s in zip(ranks, scores, strict=True)]
    np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, m=st.integers(2, 5), scale=st.sampled_from([0.3, 3.0]))
def test_derivatives_match_differences(seed: int, m: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ranks = bucket_orders(10, m, rng)
    scores = scale * rng.normal(size=ranks.shape)
    stages = Stages(ranks)
    _, gradient = stages.value_and_gradient(scores)
    curvature = stages.curvature(scores)
    h = 1e-5
    for a in range(m):
        up, down = scores.copy(), scores.copy()
        up[:, a] += h
        down[:, a] -= h
        (high, high_slope), (low, low_slope) = stages.value_and_gradient(up), stages.value_and_gradient(down)
        np.testing.assert_allclose(gradient[:, a], (high - low) / (2 * h), atol=1e-8)
        np.testing.assert_allclose(curvature[:, :, a], -(high_slope - low_slope) / (2 * h), atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, m=st.integers(2, 6), scale=st.sampled_from([1.0, 30.0, 1000.0]))
def test_likelihood_is_concave_and_does_not_see_a_common_shift(seed: int, m: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    ranks = bucket_orders(20, m, rng)
    scores = scale * rng.normal(size=ranks.shape)
    stages = Stages(ranks)
    value, gradient = stages.value_and_gradient(scores)
    curvature = stages.curvature(scores)
    assert np.isfinite(value).all()
    assert (value <= 1e-12).all()
    np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-14 * (100 + scale))
    np.testing.assert_allclose(curvature.sum(axis=2), 0.0, atol=1e-14 * (100 + scale))
    assert np.linalg.eigvalsh(curvature).min() > -1e-14 * (100 + scale)
    shifted, _ = stages.value_and_gradient(scores + 7.0)
    np.testing.assert_allclose(shifted, value, rtol=1e-10, atol=1e-12)


def test_relabelling_the_items_relabels_the_derivatives() -> None:
    rng = np.random.default_rng(0)
    ranks, relabel = bucket_orders(50, 6, rng), rng.permutation(6)
    scores = rng.normal(size=ranks.shape)
    value, gradient = Stages(ranks).value_and_gradient(scores)
    other_value, other_gradient = Stages(ranks[:, relabel]).value_and_gradient(scores[:, relabel])
    np.testing.assert_allclose(other_value, value, atol=1e-12)
    np.testing.assert_allclose(other_gradient, gradient[:, relabel], atol=1e-12)


def test_outcomes_of_a_bucket_pattern_sum_to_one() -> None:
    """The ways to choose 3 of 8 items as best bucket exhaust what can happen."""
    sets = list(itertools.combinations(range(8), 3))
    ranks = np.full((len(sets), 8), 2.0)
    for row, best in zip(ranks, sets, strict=True):
        row[list(best)] = 1.0
    scores = np.tile(4.0 * np.random.default_rng(1).normal(size=8), (len(sets), 1))
    value, _ = Stages(ranks).value_and_gradient(scores)
    assert np.exp(value).sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("size", [2, 4, 5, 12, 30, 31, 60, 100, 150])
@pytest.mark.parametrize("rest", [-20.0, -1.0, 0.0, 3.0])
def test_bucket_of_equal_items_has_the_closed_form(size: int, rest: float) -> None:
    """Equal items that all arrive before the first of a group of rate r: product of j / (j + r)."""
    log_p, slopes, _ = log_before(np.zeros((1, size)), np.array([rest]))
    j, r = np.arange(1, size + 1), np.exp(rest)
    assert log_p[0] == pytest.approx(-np.log1p(r / j).sum(), rel=1e-11, abs=1e-12)
    # Growing all items by a common factor is shrinking r by it.
    assert slopes.sum() == pytest.approx((r / (j + r)).sum(), rel=1e-10)


@pytest.mark.parametrize("size", [6, 14])
def test_bucket_of_unequal_items_equals_inclusion_and_exclusion(size: int) -> None:
    rng = np.random.default_rng(size)
    scores = 3.0 * rng.normal(size=size)
    scores -= scores.max()
    inside = (np.arange(1 << size)[:, None] >> np.arange(size)) & 1
    v = np.exp(scores)
    total = math.fsum((-1.0) ** inside.sum(axis=1) / (1.0 + inside @ v))  # r = 1
    log_p, _, _ = log_before(scores[None], np.zeros(1))
    assert np.exp(log_p[0]) == pytest.approx(total, abs=1e-13 * (1 << size))
