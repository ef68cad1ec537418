"""Davidson's ties: recovery, oracles, and what the strict part means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.base import Context, Data
from prefcal.recalibration.fitting import recalibrate
from prefcal.recalibration.ties import Ties
from recalibration_contract import check_order_kept, check_saved, data_of


def chances(margin: np.ndarray, nu: float) -> np.ndarray:
    """Win, tie, loss for utilities exp(margin) against 1, straight from the paper's formula."""
    a = np.exp(margin)
    total = a + 1 + nu * np.sqrt(a)
    return np.stack([a / total, nu * np.sqrt(a) / total, 1 / total], axis=-1)


def simulated(n: int, seed: int, *, nu: float = 0.5, scale: float = 0.6) -> Data:
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(n, 2)) * 2
    p = chances(scale * (s[:, 0] - s[:, 1]), nu)
    outcome = (rng.random(n)[:, None] > np.cumsum(p, axis=1)).sum(axis=1)
    ranks = np.array([[1.0, 2.0], [1.0, 1.0], [2.0, 1.0]])[outcome]
    return data_of(pc.PlackettLuce(s), pc.Outcomes.from_ranks(ranks, ties="equal"))


def test_scale_and_nu_are_recovered():
    hits = np.zeros(3)
    for seed in range(100):
        found = Ties.fit(simulated(500, seed)).estimates
        for k, (name, true) in enumerate((("scale", 0.6), ("nu", 0.5), ("tie_at_equal_scores", 0.2))):
            low, high = found[name].interval
            hits[k] += low <= true <= high
    assert (hits >= 88).all()  # 95 expected, three binomial standard errors


def test_the_fit_maximises_the_likelihood():
    from scipy.optimize import minimize

    data = simulated(300, 1)
    s, ranks = data.h.scores.dense(), data.y.dense()
    column = np.where(ranks[:, 0] < ranks[:, 1], 0, np.where(ranks[:, 0] == ranks[:, 1], 1, 2))

    def loss(x):
        p = chances(x[0] * (s[:, 0] - s[:, 1]), np.exp(x[1]))[np.arange(300), column]
        even = 1 / (1 + 2 * np.exp(-x[1]))
        spread = np.sqrt(((s - s.mean(axis=1, keepdims=True)) ** 2).mean())
        return -np.log(p).sum() - 0.5 * np.log(even * (1 - even)) + 0.5 * (x[0] * spread / 10) ** 2

    best = minimize(loss, [0.3, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    fit = Ties.fit(data)
    np.testing.assert_allclose([fit.scale, fit.log_nu], best, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(strategies.scores_with_holes(max_items=4), st.floats(0.01, 3), st.floats(0.01, 5))
def test_pair_probabilities_are_davidsons(scores, scale, nu):
    h = pc.PlackettLuce(scores)
    fit = Ties(scale, float(np.log(nu)), (0.0,) * 4, scale, 0.1, 0.2)
    first, second = np.triu_indices(h.n_items, 1)
    p = fit.pair_probabilities(h, first, second)
    margin = scale * (scores[:, first] - scores[:, second])
    np.testing.assert_allclose(p, chances(margin, nu), atol=1e-12)
    np.testing.assert_array_equal(p[..., 1], fit.tie_probability(h, first, second))
    # Given that it is no tie, the pair is the returned Plackett-Luce model's.
    strict = 1 / (1 + np.exp(-fit.apply(h, Context()).pair_log_odds(first, second)))
    np.testing.assert_allclose(p[..., 0] / (p[..., 0] + p[..., 2]), strict, atol=1e-12)
    # Counting a tie as one half pulls towards one half.
    credit = fit.expected_credit(h, first, second)
    seen = ~np.isnan(credit)
    assert (np.abs(credit - 0.5)[seen] <= np.abs(strict - 0.5)[seen] + 1e-12).all()


def test_strict_pairs_are_calibrated_and_half_points_are_not():
    data = simulated(20_000, 5, nu=2.0, scale=1.0)
    fit = recalibrate(data.h, data.y, "ties")
    g, ranks = fit(data.h), data.y.dense()
    strict = ranks[:, 0] != ranks[:, 1]
    y = np.where(ranks[:, 0] < ranks[:, 1], 1.0, np.where(strict, 0.0, 0.5))
    p = 1 / (1 + np.exp(-g.pair_log_odds([0], [1])[:, 0]))
    sure = p > 0.7
    assert abs((y - p)[sure & strict].mean()) < 0.02
    assert (y - p)[sure].mean() < -0.05  # ties as half points: the strict model looks over-confident
    credit = fit.expected_credit(data.h, [0], [1])[:, 0]
    assert abs((y - credit)[sure].mean()) < 0.02
    assert fit.record is not None
    assert fit.record.n_records == 20_000


def test_more_than_two_items_enter_by_their_pairs():
    s = np.random.default_rng(0).normal(size=(50, 3))
    noisy = -s + 0.8 * np.random.default_rng(1).normal(size=(50, 3))
    ranks = np.digitize(noisy, [-0.5, 0.5]).astype(float)
    ranks[0, 2] = np.nan
    y = pc.Outcomes.from_ratings(-ranks, ties="equal")
    triple = Ties.fit(data_of(pc.PlackettLuce(s), y))
    at, a, b = zip(*[(i, a, b) for i in range(50) for a, b in ((0, 1), (0, 2), (1, 2)) if i or b != 2], strict=True)
    pairs = np.stack([s[list(at), list(a)], s[list(at), list(b)]], axis=1)
    outcome = pc.Outcomes.from_ratings(
        -np.stack([ranks[list(at), list(a)], ranks[list(at), list(b)]], 1), ties="equal"
    )
    single = Ties.fit(Data(pc.PlackettLuce(pairs), outcome, np.ones(len(at)), np.array(at)))
    assert single.scale == pytest.approx(triple.scale, rel=1e-2)  # only the prior's unit differs
    assert single.log_nu == pytest.approx(triple.log_nu, abs=1e-2)


def test_bounds_and_warnings():
    data = simulated(100, 0, nu=0.0)
    none = Ties.fit(data)
    assert none.tied == 0
    assert none.nu < 0.1
    assert "no observed pair was tied" in " ".join(none.warnings)
    h = data.h
    every = Ties.fit(data_of(h, pc.Outcomes.from_ranks([[1, 1]] * 100, ties="equal")))
    assert every.nu > 10
    assert "every observed pair" in " ".join(every.warnings)
    wrong = Ties.fit(data_of(pc.PlackettLuce(h.scores.with_values(-h.scores.values)), data.y))
    assert "NEGATIVE" in " ".join(wrong.warnings)
    check_order_kept(h, wrong.apply(h, Context()))


def test_what_cannot_be_fitted():
    h = pc.PlackettLuce([[0.0, 1.0]] * 3)
    with pytest.raises(DataError, match="equally good"):
        Ties.fit(data_of(h, pc.Outcomes.from_ranks([[1, 2]] * 3)))
    with pytest.raises(DataError, match="equal within"):
        Ties.fit(data_of(pc.PlackettLuce([[1.0, 1.0]] * 3), pc.Outcomes.from_ranks([[1, 2]] * 3, ties="equal")))
    alone = pc.Outcomes.from_ranks([[1, np.nan]] * 3, ties="equal")
    with pytest.raises(DataError, match="ranked"):
        Ties.fit(data_of(h, alone))
    with pytest.raises(UsageError, match="PlackettLuce"):
        Ties.fit(simulated(50, 0)).tie_probability(pc.Mallows([1, 2], 0.5), [0], [1])


def test_saved_maps(tmp_path):
    check_saved(Ties.fit(simulated(200, 0)), tmp_path)
