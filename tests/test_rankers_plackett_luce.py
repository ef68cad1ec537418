"""Batched Plackett-Luce fits against Hunter's iteration and a general optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning

from prefcal.rankers import KNNPlackettLuce
from prefcal.rankers.pl_fit import fit_plackett_luce
from prefcal.rankers.stages import Stages
from rankings import bucket_orders, plackett_luce_ranks
from strategies import seeds


def penalised(ranks: np.ndarray, weight: np.ndarray, prior: float, s: np.ndarray) -> float:
    value, _ = Stages(ranks).value_and_gradient(np.broadcast_to(s, ranks.shape))
    m = len(s)
    pairs = sum(np.log(1 / (1 + np.exp(s[b] - s[a]))) for a in range(m) for b in range(m) if a != b)
    return -float(weight @ value) - prior / m * pairs


@settings(max_examples=15, deadline=None)
@given(seed=seeds, m=st.integers(2, 5), prior=st.sampled_from([0.1, 1.0]))
def test_each_group_is_at_its_own_maximum(seed: int, m: int, prior: float) -> None:
    rng = np.random.default_rng(seed)
    ranks = bucket_orders(12, m, rng)
    weights = rng.random((4, 12)) * (rng.random((4, 12)) < 0.6)
    found = fit_plackett_luce(ranks, csr_array(weights), prior=prior, tol=1e-9)
    for w, s in zip(weights, found, strict=True):
        best = minimize(lambda x, w=w: penalised(ranks, w, prior, x), np.zeros(m), options={"gtol": 1e-9})
        np.testing.assert_allclose(s, best.x - best.x.mean(), atol=2e-4)
        assert penalised(ranks, w, prior, s) <= best.fun + 1e-9


def test_fixed_point_of_hunters_iteration() -> None:
    rng = np.random.default_rng(0)
    ranks = plackett_luce_ranks(np.tile(rng.normal(size=5), (200, 1)), rng)
    v = np.ones(5)
    orders = np.argsort(ranks, axis=1)
    wins = np.bincount(orders[:, :-1].ravel(), minlength=5)
    for _ in range(2000):
        offered = np.cumsum(v[orders][:, ::-1], axis=1)[:, ::-1]
        share = np.cumsum(1 / offered[:, :-1], axis=1)
        share = np.hstack([share, share[:, -1:]])
        v = wins / np.bincount(orders.ravel(), weights=share.ravel(), minlength=5)
        v /= v.sum()
    found = fit_plackett_luce(ranks, csr_array(np.ones((1, 200))), prior=0.0, tol=1e-10)[0]
    np.testing.assert_allclose(found, np.log(v) - np.log(v).mean(), atol=1e-7)


def test_groups_leave_when_done_without_touching_the_others() -> None:
    """One hard group among many easy ones, and many chunks, give what each gives alone."""
    rng = np.random.default_rng(1)
    hard = np.tile(np.arange(1.0, 7.0), (20, 1))
    easy = plackett_luce_ranks(np.zeros((80, 6)), rng)
    ranks = np.concatenate([hard, easy])
    weights = np.zeros((10, 100))
    weights[3, :20] = 1.0
    for i in [0, 1, 2, 4, 5, 6, 7, 8, 9]:
        weights[i, 20 + rng.choice(80, 15, replace=False)] = 1.0
    together = fit_plackett_luce(ranks, csr_array(weights), prior=0.01, tol=1e-9)
    for i in range(10):
        alone = fit_plackett_luce(ranks, csr_array(weights[i : i + 1]), prior=0.01, tol=1e-9)
        np.testing.assert_allclose(together[i], alone[0], atol=1e-6)
    assert (np.diff(together[3]) < -2).all()


def test_without_prior_unanimity_has_no_maximum_and_warns() -> None:
    ranks = np.tile(np.arange(1.0, 4.0), (5, 1))
    with pytest.warns(ConvergenceWarning, match="raise prior"):
        fit_plackett_luce(ranks, csr_array(np.ones((1, 5))), prior=0.0, tol=1e-12, max_iter=15)


def test_prior_is_worth_rankings() -> None:
    """Two items, 8 rankings all one way, prior 2: (8 + 1) / (8 + 2)."""
    s = fit_plackett_luce(np.tile([1.0, 2.0], (8, 1)), csr_array(np.ones((1, 8))), prior=2.0, tol=1e-12)[0]
    assert 1 / (1 + np.exp(s[1] - s[0])) == pytest.approx(0.9, abs=1e-9)


def test_neighbours_recover_a_step() -> None:
    rng = np.random.default_rng(2)
    X = np.concatenate([rng.uniform(0, 1, (400, 1)), rng.uniform(9, 10, (400, 1))])
    scores = np.where(X < 5, [1.0, 0.0, -1.0], [-1.0, 0.5, 0.5])
    h = KNNPlackettLuce(400).fit(X, plackett_luce_ranks(scores, rng)).predict_distribution([[0.5], [9.5]])
    np.testing.assert_allclose(h.scores.dense(), [[1.0, 0.0, -1.0], [-1.0, 0.5, 0.5]], atol=0.2)
