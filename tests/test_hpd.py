"""Coverage of highest-probability regions: by enumeration, uniform under calibration, silent on what is not known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, goodness_of_fit, kstest, uniform

import prefcal as pc
from prefcal.estimators.hpd import hpd_coverage
from prefcal.estimators.uniformity import anderson_darling, binomial_band, holm, kolmogorov_smirnov, one_per_cluster

ORDERS_3 = np.array(list(itertools.permutations(range(3))))


def calibrated(n: int, m: int, seed: int) -> tuple[pc.PlackettLuce, np.ndarray]:
    rng = np.random.default_rng([seed, n, m])
    h = pc.PlackettLuce(rng.normal(size=(n, m)))
    return h, np.argsort(h.sample(1, rng)[:, 0], axis=1) + 1.0


def seen(ranks: np.ndarray, how: str) -> np.ndarray:
    """Ranks as they are known when only a part of the ranking was observed."""
    out = ranks.copy()
    if how.startswith("top-"):
        k = int(how[4:])
        out[ranks > k] = k + 1
    elif how.startswith("topset-"):
        out = np.where(ranks <= int(how[7:]), 1.0, 2.0)
    elif how.startswith("sub-"):
        hidden = np.argsort(np.random.default_rng(0).random(ranks.shape), axis=1)[:, int(how[4:]) :]
        np.put_along_axis(out, hidden, np.nan, axis=1)
    return out


def test_u_lies_where_enumeration_says():
    """H <= u <= H + T for each of the six outcomes, and both ends by plain Python sums; ties included."""
    probs = np.array([0.3, 0.1, 0.1, 0.2, 0.1, 0.2])
    h = pc.Categorical(ORDERS_3, np.tile(probs, (6, 1)))
    found = hpd_coverage(h, pc.Outcomes.from_orders(ORDERS_3))
    for i, p in enumerate(probs):
        above = sum(q for q in probs if q > p + 1e-12)
        level = sum(q for q in probs if abs(q - p) < 1e-12)
        assert above <= found.u[i] <= above + level + 1e-12
    many = hpd_coverage(
        pc.Categorical(ORDERS_3, np.tile(probs, (4000, 1))), pc.Outcomes.from_orders(np.tile(ORDERS_3[3], (4000, 1)))
    )
    assert kstest(many.u, uniform(0.3, 0.4).cdf).pvalue > 1e-3  # V spreads it over all of its step


@pytest.mark.parametrize("m", [4, 9])
@pytest.mark.parametrize("how", ["full", "top-1", "top-2", "topset-2", "sub-2", "sub-3"])
def test_u_is_uniform_under_calibration_whatever_was_observed(how, m):
    h, ranks = calibrated(1500, m, 1)
    y = pc.Outcomes.from_ratings(-seen(ranks, how))
    found = hpd_coverage(h, y)
    assert sum(found.coverage.values()) == found.n == 1500
    assert all("left out" not in name for name in found.coverage)
    assert found.ks_p_value > 1e-3
    assert found.ad_p_value > 1e-3
    assert found.resolution == (1 / 200 if how == "full" and m == 9 else 0.0)
    over = hpd_coverage(h.scaled(2.5), y)
    assert over.ad_p_value < 1e-3
    assert over.curve[9].observed < over.curve[9].null_band[0]  # regions of half the mass hold too few outcomes


def test_drawn_and_listed_ranks_agree(monkeypatch):
    h, ranks = calibrated(400, 5, 2)
    y = pc.Outcomes.from_ranks(ranks)
    listed = hpd_coverage(h, y)
    monkeypatch.setattr("prefcal.estimators.hpd.LISTED_OUTCOMES", 10)
    drawn = hpd_coverage(h, y, draws=999)
    assert (listed.resolution, drawn.resolution) == (0.0, 1 / 1000)
    assert np.abs(listed.u - drawn.u).max() < 5 * 0.5 / np.sqrt(999) + 0.01


def test_drawn_ranks_are_exactly_uniform_with_few_draws():
    """Four draws only: still uniform, not just on a grid of five."""
    h, ranks = calibrated(4000, 8, 3)
    found = hpd_coverage(h, pc.Outcomes.from_ranks(ranks), draws=4)
    assert found.resolution == 0.2
    assert found.ks_p_value > 1e-3


def test_sizes_and_kinds_may_differ_and_the_rest_is_counted():
    h = pc.PlackettLuce([[0.0, 1.0], [0.0, 1.0, 2.0], [2.0, 0.0, 1.0, 0.5], [0.3, 0.2, 0.1, 0.0], [0.0, 1.0, 2.0]])
    y = pc.Outcomes.from_ranks([[1, 2], [2, 1, 1], [1, 2, 3, 3], [1, 1, 2, 2], [1, None, 2]])
    found = hpd_coverage(h, y)
    assert found.coverage == {"full ranking": 1, "topset-2": 2, "top-2": 1, "order of 2 items": 1}
    bad = pc.Outcomes.from_ranks([[1, 2], [1, 2, 3], [1, 2, 2, 3], [1, 2, 2, 3], [1, 1, 1]])
    left = hpd_coverage(h, bad)
    assert left.n == 2
    assert np.isnan(left.u).tolist() == [False, False, True, True, True]
    assert sum(v for k, v in left.coverage.items() if k.startswith("left out")) == 3


def test_an_impossible_outcome_lies_outside_every_region():
    h = pc.Categorical([[0, 1, 2], [0, 2, 1]], np.tile([0.6, 0.4], (5, 1)))
    found = hpd_coverage(h, pc.Outcomes.from_orders([[2, 1, 0]] * 5))
    np.testing.assert_allclose(found.u, 1.0)


def test_pairs_of_pairwise_models_are_judged_and_samples_refused():
    rng = np.random.default_rng(4)
    p = rng.uniform(0.05, 0.95, 2000)
    probs = np.full((2000, 2, 2), 0.5)
    probs[:, 0, 1], probs[:, 1, 0] = p, 1 - p
    order = np.where((rng.random(2000) < p)[:, None], [1, 2], [2, 1])
    found = hpd_coverage(pc.Pairwise(probs), pc.Outcomes.from_ranks(order))
    assert found.n == 2000
    assert found.ks_p_value > 1e-3
    with pytest.raises(pc.UsageError, match="rank_histogram"):
        hpd_coverage(pc.Samples(np.tile(np.arange(3), (5, 4, 1))), pc.Outcomes.from_ranks([[1, 2, 3]] * 5))


def test_one_record_of_each_cluster_is_tested():
    h, ranks = calibrated(300, 4, 5)
    four = np.repeat(np.arange(300), 4)
    found = hpd_coverage(h[four], pc.Outcomes.from_ranks(ranks[four]), clusters=four)
    assert found.n == 300
    assert found.ks_p_value > 1e-3
    pairs = pc.Outcomes.from_pairs([[0, 0, 1], [0, 1, 2], [1, 2, 0]], n_items=4)
    assert hpd_coverage(h[:2], pairs).n == 2


def test_nothing_to_judge_is_an_error():
    with pytest.raises(pc.DataError, match="two records"):
        hpd_coverage(calibrated(3, 4, 0)[0], pc.Outcomes.from_ranks([[1, 1, 1, 1]] * 3))


def test_what_goes_into_results():
    h, ranks = calibrated(200, 4, 6)
    found = hpd_coverage(h, pc.Outcomes.from_ranks(ranks))
    metrics = found.estimates()
    assert metrics["hpd_ks"].p_value == found.ks_p_value
    assert metrics["hpd_ad"].null_mean == 1.0
    document = found.document()
    assert "u" not in document
    assert [c["nominal"] for c in document["curve"]][:2] == [0.05, 0.1]
    assert hpd_coverage(h, pc.Outcomes.from_ranks(ranks)).document() == document


def test_false_alarms_of_both_tests():
    runs, n = 300, 25
    rejected = np.zeros(2)
    for seed in range(runs):
        h, ranks = calibrated(n, 4, 100 + seed)
        found = hpd_coverage(h, pc.Outcomes.from_ranks(ranks), seed=seed)
        rejected += [found.ks_p_value <= 0.05, found.ad_p_value <= 0.05]
    assert (rejected <= binom.ppf(0.9999, runs, 0.05)).all()
    assert (rejected >= binom.ppf(0.0001, runs, 0.05)).all()


@pytest.mark.parametrize("n", [3, 40])
def test_uniformity_tests_agree_with_scipy(n):
    u = np.random.default_rng(n).random(n) ** 1.2
    distance, mean, p = kolmogorov_smirnov(u)
    assert (distance, p) == pytest.approx(tuple(kstest(u, "uniform"))[:2])
    expected = goodness_of_fit(uniform, u, known_params={"loc": 0, "scale": 1}, statistic="ad",
                               n_mc_samples=2000, rng=np.random.default_rng(0))  # fmt: skip
    statistic, _, p = anderson_darling(u)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=5 * 0.5 / np.sqrt(2000))
    draws = [kolmogorov_smirnov(x)[0] for x in np.random.default_rng(1).random((2000, n))]
    assert mean == pytest.approx(np.mean(draws), rel=0.05)


def test_anderson_darling_is_finite_at_the_ends():
    assert anderson_darling(np.array([0.0, 1.0, 0.5]))[2] >= 0.0
    assert anderson_darling(np.full(1000, 1.0))[2] < 1e-6


def test_holm_and_bands_and_clusters():
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.04, 0.03])), [0.03, np.nan, 0.06, 0.06])
    low, high = binomial_band(100, np.array([0.5]))
    assert (low[0], high[0]) == (0.4, 0.6)
    chosen = one_per_cluster(np.array([0, 2, 3, 5]), np.array([0, 0, 0, 1, 1, 1]), 0)
    assert len(chosen) == 2
    assert chosen[0] in (0, 2)
    assert chosen[1] in (3, 5)
