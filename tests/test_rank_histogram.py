"""Rank histograms of positions: exact transforms, uniform under calibration, the right shape when not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, chisquare

import prefcal as pc
from prefcal.estimators.rank_histogram import rank_histogram
from prefcal.estimators.uniformity import anderson_darling


def calibrated(n: int, m: int, seed: int) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    rng = np.random.default_rng([seed, n, m])
    h = pc.PlackettLuce(rng.normal(size=(n, m)))
    return h, pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])


def test_u_lies_where_enumeration_says():
    """F(rank - 1) <= u <= F(rank) for every item and outcome, by sums over all 24 rankings."""
    rng = np.random.default_rng(0)
    orders = np.array(list(itertools.permutations(range(4))))
    probs = rng.dirichlet(np.ones(24))
    found = rank_histogram(pc.Categorical(orders, np.tile(probs, (24, 1))), pc.Outcomes.from_orders(orders))
    place = np.argsort(orders, axis=1)
    for i, item in itertools.product(range(24), range(4)):
        below = probs[place[:, item] < place[i, item]].sum()
        at = probs[place[:, item] == place[i, item]].sum()
        assert below - 1e-12 <= found.u[i, item] <= below + at + 1e-12


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("m", [4, 12, 40])
def test_uniform_under_calibration_and_not_otherwise(items, m):
    h, y = calibrated(400, m, 1)
    found = rank_histogram(h, y, items=items)
    assert found.p_adjusted.min() > 1e-3
    assert found.counts.shape == (m, 10)
    assert (found.counts.sum(axis=1) == 400).all()
    assert found.resolution == (0.0 if m == 4 else 1 / 200)
    over = rank_histogram(h.scaled(3.0), y, items=items)
    assert over.p_adjusted.min() < 1e-3
    ends = over.counts[:, [0, -1]].sum() / over.counts.sum()
    assert ends > 0.25  # a U shape: a fifth if calibrated


def test_a_slope_names_the_item_that_is_placed_too_high():
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(800, 5))
    truth = scores.copy()
    truth[:, 3] -= 1.0
    y = pc.Outcomes.from_orders(pc.PlackettLuce(truth).sample(1, rng)[:, 0])
    found = rank_histogram(pc.PlackettLuce(scores), y)
    assert found.ad.argmax() == 3
    assert found.counts[3, -1] > 2 * found.counts[3, 0]
    assert "item 3" in found.estimates()["position_ad"].note


def test_drawn_positions_of_samples_are_their_own():
    """Exchangeable draws: uniform with any number of them, although their frequencies are far from the law."""
    rng = np.random.default_rng(3)
    orders = pc.PlackettLuce(rng.normal(size=(3000, 6))).sample(6, rng)
    found = rank_histogram(pc.Samples(orders[:, 1:]), pc.Outcomes.from_orders(orders[:, 0]))
    assert found.resolution == pytest.approx(1 / 6)
    assert found.p_adjusted.min() > 1e-3


def test_members_of_unequal_lists_and_partial_records():
    h = pc.PlackettLuce([[0.0, 1.0], [0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    y = pc.Outcomes.from_ranks([[1, 2], [2, 3, 1], [1, 2, 3], [1, 2, 2]])
    found = rank_histogram(h, y)
    assert found.items == "exchangeable"
    assert found.n.tolist() == [3, 3, 2]
    assert np.isnan(found.u[3]).all()
    labelled = rank_histogram(pc.PlackettLuce([[0.0, 1.0, np.nan], [0.0, 1.0, 2.0], [np.nan, 0.0, 1.0]]),
                              pc.Outcomes.from_ranks([[1, 2, np.nan], [2, 3, 1], [np.nan, 1, 2]]))  # fmt: skip
    assert labelled.items == "labelled"
    assert labelled.n.tolist() == [2, 3, 2]
    with pytest.raises(pc.DataError, match="two records"):
        rank_histogram(h, pc.Outcomes.from_ranks([[1, 1], [1, 2, 2], [1, 2, 2], [1, 2, 2]]))


def test_the_models_own_order_does_not_depend_on_storage():
    rng = np.random.default_rng(4)
    h, y = calibrated(200, 5, 4)
    scores, ranks = h.scores.dense(), y.dense()
    moved = np.argsort(rng.random(scores.shape), axis=1)
    a = rank_histogram(h.scaled(3.0), y, items="exchangeable")
    b = rank_histogram(
        pc.PlackettLuce(3 * np.take_along_axis(scores, moved, axis=1)),
        pc.Outcomes.from_ranks(np.take_along_axis(ranks, moved, axis=1)),
        items="exchangeable",
    )
    np.testing.assert_allclose(a.ad, b.ad, rtol=0.5)  # V differs
    assert a.n.tolist() == b.n.tolist()


def test_statistics_are_those_of_the_numbers_shown():
    found = rank_histogram(*calibrated(300, 4, 5), bins=8)
    for g in range(4):
        assert found.chi2_p_value[g] == pytest.approx(chisquare(found.counts[g]).pvalue)
        assert (found.ad[g], found.p_value[g]) == anderson_darling(found.u[:, g])[::2]
        assert found.null_band[g].tolist() == binom.ppf([0.025, 0.975], 300, 1 / 8).tolist()
    document = found.document()
    assert [m["n"] for m in document["members"]] == [300] * 4
    assert document == rank_histogram(*calibrated(300, 4, 5), bins=8).document()


def test_false_alarms_of_single_members_and_of_the_family():
    runs = 300
    single = family = chi2 = 0
    for seed in range(runs):
        found = rank_histogram(*calibrated(40, 3, 100 + seed), seed=seed, bins=5)
        single += found.p_value[0] <= 0.05
        chi2 += found.chi2_p_value[1] <= 0.05
        family += found.p_adjusted.min() <= 0.05
    for count in (single, chi2):
        assert binom.ppf(1e-4, runs, 0.05) <= count <= binom.ppf(1 - 1e-4, runs, 0.05)
    assert family <= binom.ppf(1 - 1e-4, runs, 0.05)


def test_clusters_count_once():
    h, y = calibrated(100, 4, 6)
    three = np.repeat(np.arange(100), 3)
    assert rank_histogram(h[three], y[three], clusters=three).n.tolist() == [100] * 4


@pytest.mark.parametrize(
    ("change", "error"), [({"bins": 1}, "bins"), ({"draws": 0}, "size"), ({"items": "some"}, "kind of items")]
)
def test_bad_options(change, error):
    with pytest.raises(pc.UsageError, match=error):
        rank_histogram(*calibrated(10, 3, 7), **change)


def test_pairwise_models_have_no_positions():
    with pytest.raises(pc.UsageError, match="positions"):
        rank_histogram(pc.Pairwise(np.full((4, 3, 3), 0.5)), pc.Outcomes.from_ranks([[1, 2, 3]] * 4))
