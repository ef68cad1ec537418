"""The likelihood of what was observed, against sums over all rankings, and its derivatives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies
from prefcal.data.ragged import Ragged
from prefcal.distributions.base import Distribution
from prefcal.recalibration.choices import Several, Single, choices, pair_choices
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob


def bucket_ranks(n: int, m: int, seed: int) -> np.ndarray:
    """(n, m) ranks with ties and unranked items; at least one ranked."""
    rng = np.random.default_rng(seed)
    ranks = rng.integers(1, 4, size=(n, m)).astype(float)
    ranks[rng.random((n, m)) < 0.3] = np.nan
    ranks[np.arange(n), rng.integers(0, m, n)] = 1.0
    return ranks


def brute(h: Distribution, ranks: np.ndarray) -> np.ndarray:
    """Log of the summed probability of all full rankings that agree; NaN where nothing was observed."""
    n, m = ranks.shape
    orders = np.array(list(itertools.permutations(range(m))))
    out = np.full(n, np.nan)
    for i in range(n):
        if len(np.unique(ranks[i][~np.isnan(ranks[i])])) < 2:
            continue
        agree = [not any(ranks[i, o[s]] > ranks[i, o[t]] for s in range(m) for t in range(s + 1, m)) for o in orders]
        with np.errstate(divide="ignore"):
            out[i] = np.log(sum(np.exp(h[i : i + 1].log_prob(o)[0]) for o in orders[agree]))
    return out


def models(n: int, m: int, seed: int) -> dict[str, Distribution]:
    rng = np.random.default_rng(seed)
    orders = list(itertools.permutations(range(m)))
    probs = rng.dirichlet(np.full(len(orders), 0.3), size=n)
    upper = np.triu(rng.uniform(0.05, 0.95, size=(n, m, m)), 1)
    pairs = upper + np.tril(1 - upper.transpose(0, 2, 1), -1) + 0.5 * np.eye(m)
    plain = pc.PlackettLuce(rng.normal(size=(n, m)) * 3)
    mallows = pc.Mallows(np.argsort(rng.random((n, m)), axis=1) + 1, rng.choice([0.0, 0.3, 0.9, 1.0], n))
    return {
        "PlackettLuce": plain,
        "Mallows": mallows,
        "Categorical": pc.Categorical(orders, probs),
        "BabingtonSmith": pc.BabingtonSmith(pairs),
        "Samples": pc.Samples(np.argsort(rng.random((n, 60, m)), axis=2)),
        "Mixture": pc.Mixture([plain, mallows], [0.3, 0.7]),
        "StagedPlackettLuce": pc.StagedPlackettLuce(rng.normal(size=(n, m)), rng.uniform(0.3, 2.0, m - 1)),
    }


@pytest.mark.parametrize("name", sorted(models(1, 3, 0)))
@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_every_model_sums_over_the_rankings_that_agree(name, m):
    n = 12 if m == 5 else 25
    h = models(n, m, m)[name]
    y = pc.Outcomes.from_ratings(-bucket_ranks(n, m, m))
    expected, got = brute(h, y.dense()), observed_log_prob(h, y)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isneginf(got), np.isneginf(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(got[finite], expected[finite], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(models(1, 3, 0)))
def test_outcomes_of_a_view_have_its_marginal(name):
    """Best item, full ranking and single pairs: the marginals of top-1, full and sub-2."""
    h = models(6, 4, 1)[name]
    with np.errstate(divide="ignore"):
        top = np.log(h.marginal("top-1").probs[:, 0])
        full = np.log(h.marginal("full").probs[:, 0])
        sub = np.log(h.marginal("sub-2").probs)
    best = pc.Outcomes.from_best([0, 1, 2, 3, 0, 1], n_items=4)
    np.testing.assert_allclose(observed_log_prob(h, best), top[range(6), [0, 1, 2, 3, 0, 1]], rtol=1e-9)
    order = pc.Outcomes.from_orders(list(itertools.islice(itertools.permutations(range(4)), 6)))
    np.testing.assert_allclose(observed_log_prob(h, order), full[range(6), range(6)], rtol=1e-9)
    pairs = pc.Outcomes.from_pairs([[5, 0, 3], [5, 3, 0], [2, 1, 2]], n_items=4)
    np.testing.assert_allclose(observed_log_prob(h, pairs), [sub[5, 2, 0], sub[5, 2, 1], sub[2, 3, 0]], rtol=1e-9)


def test_ties_judged_equal_count_like_an_unknown_order():
    h = models(5, 4, 2)["PlackettLuce"]
    ranks = [[1, 1, 2, 3]] * 5
    equal, unknown = (pc.Outcomes.from_ranks(ranks, ties=t) for t in ("equal", "unknown"))
    np.testing.assert_array_equal(observed_log_prob(h, equal), observed_log_prob(h, unknown))


def test_pairwise_probabilities_take_pairs_one_by_one():
    probs = np.array([[[0.5, 0.8, 0.9], [0.2, 0.5, np.nan], [0.1, np.nan, 0.5]]])
    y = pc.Outcomes.from_orders([[0, 1, 2]])
    assert observed_log_prob(pc.Pairwise(probs), y)[0] == pytest.approx(np.log(0.8) + np.log(0.9))
    certain = pc.Pairwise([[[0.5, 0.0], [1.0, 0.5]]])
    assert np.isneginf(observed_log_prob(certain, pc.Outcomes.from_orders([[0, 1]])))[0]


@settings(max_examples=30, deadline=None)
@given(strategies.score_rows(1, 6, largest=40.0), st.integers(1, 5), st.floats(0.05, 3.0))
def test_sets_in_unknown_order_keep_relative_precision(scores, b, scale):
    """The race integral against the sum over orders inside the set, down to probabilities of e^-500."""
    inside, outside = scores[:, :b] * scale, scores[:, b:] * scale
    total = -np.inf
    for order in itertools.permutations(range(b)):
        rest, log_p = np.logaddexp.reduce(outside[0]), 0.0
        for t in range(b - 1, -1, -1):
            rest = np.logaddexp(rest, inside[0, order[t]])
            log_p += inside[0, order[t]] - rest
        total = np.logaddexp(total, log_p)
    got = Several(slice(0, 1), 6, True, scores[:, :b], scores[:, b:]).jets(scale)[0][0]
    assert got == pytest.approx(total, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(strategies.score_rows(3, 5, largest=4.0), st.integers(1, 4), st.floats(0.1, 3.0))
def test_derivatives_match_differences(scores, b, scale):
    choice = (
        Single(slice(0, 3), 5, True, scores[:, 1:] - scores[:, :1])
        if b == 1
        else Several(slice(0, 3), 5, True, scores[:, :b], scores[:, b:])
    )
    step = 1e-4
    low, middle, high = (choice.jets(scale + k * step)[0] for k in (-1, 0, 1))
    value, first, second = choice.jets(scale)
    np.testing.assert_allclose(value, middle)
    np.testing.assert_allclose(first, (high - low) / (2 * step), atol=1e-6 * (1 + np.abs(first).max()))
    np.testing.assert_allclose(second, (high - 2 * middle + low) / step**2, atol=2e-4 * (1 + np.abs(second).max()))
    slope, curvature = choice.slopes(scale)
    np.testing.assert_allclose(slope, first, atol=1e-12)
    np.testing.assert_allclose(curvature, np.maximum(-second, 0), atol=1e-12)
    np.testing.assert_allclose(choice.log_prob(np.full(3, scale)), value, rtol=1e-12)


def test_huge_and_tiny_scores_stay_finite_or_say_impossible():
    scores = np.array([[1e300, -1e300, 0.0], [5e-324, 0.0, 0.0], [700.0, 0.0, -700.0]])
    y = pc.Outcomes.from_orders([[1, 0, 2]] * 3)
    got = observed_log_prob(pc.PlackettLuce(scores), y)
    assert not np.isnan(got).any()
    assert got[1] == pytest.approx(-np.log(6))
    assert got[2] == pytest.approx(-700.0)


def test_ragged_lists_and_missing_items():
    rows = [[0.5, 1.0], [0.2, -0.3, 0.7, 0.0], [1.0]]
    h = pc.PlackettLuce(rows)
    y = pc.Outcomes.from_ratings([[2.0, 1.0], [1.0, 3.0, 2.0, 2.0], [1.0]])
    got = observed_log_prob(h, y)
    assert got[0] == pytest.approx(0.5 - np.logaddexp(0.5, 1.0))
    alone = observed_log_prob(pc.PlackettLuce([rows[1]]), pc.Outcomes.from_ratings([[1.0, 3.0, 2.0, 2.0]]))
    assert got[1] == pytest.approx(alone[0])
    assert np.isnan(got[2])
    holes = pc.PlackettLuce([[np.nan, 0.5, 1.0]])
    assert observed_log_prob(holes, pc.Outcomes.from_ranks([[np.nan, 1, 2]]))[0] == pytest.approx(got[0])


def test_row_order_and_item_names_do_not_matter():
    h, y = models(20, 5, 4)["PlackettLuce"], pc.Outcomes.from_ratings(-bucket_ranks(20, 5, 9))
    whole, rows = observed_log_prob(h, y), np.random.default_rng(1).permutation(20)
    np.testing.assert_array_equal(observed_log_prob(h[rows], y[rows]), whole[rows])
    items = np.random.default_rng(2).permutation(5)
    turned = observed_log_prob(
        pc.PlackettLuce(h.scores.dense()[:, items]), pc.Outcomes.from_ratings(-y.dense()[:, items])
    )
    np.testing.assert_allclose(turned, whole, rtol=1e-12)


def test_many_items_need_no_enumeration():
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(3, 60)))
    best = pc.Outcomes.from_best([range(20)] * 3, n_items=60)
    got = observed_log_prob(h, best)
    assert np.isfinite(got).all()
    equal = observed_log_prob(pc.PlackettLuce(np.zeros((1, 60))), pc.Outcomes.from_best([range(20)], n_items=60))
    from scipy.special import gammaln

    assert equal[0] == pytest.approx(gammaln(21) + gammaln(41) - gammaln(61), rel=1e-10)


def test_what_has_no_exact_way_is_refused():
    h = pc.StagedPlackettLuce(np.zeros((1, 20)), np.ones(19))
    y = pc.Outcomes.from_best([[0, 1]], n_items=20)
    with pytest.raises(pc.DataError, match="no exact likelihood under StagedPlackettLuce beyond 18"):
        observed_log_prob(h, y)
    with pytest.raises(pc.DataError, match=r"name instance|one outcome for each"):
        observed_log_prob(pc.PlackettLuce(np.zeros((2, 2))), pc.Outcomes.from_best([0, 0, 1], n_items=2))


def test_choices_say_how_many_items_were_left():
    h = pc.PlackettLuce(np.zeros((3, 4)))
    y = pc.Outcomes.from_ranks([[1, 2, 3, 4], [1, 2, 2, 2], [1, np.nan, 2, 3]])
    found = sorted((c.left, c.complete, len(c)) for c in choices(h, y))
    assert found == [(2, False, 1), (2, True, 1), (3, False, 1), (3, True, 1), (4, True, 2)]
    pair = pair_choices(pc.Pairwise(np.full((3, 4, 4), 0.5)), y)
    assert sum(len(c) for c in pair) == 6 + 3 + 3


def test_mean_log_loss_leaves_out_what_tells_nothing():
    h = pc.PlackettLuce(np.zeros((2, 2)))
    y = pc.Outcomes(Ragged.from_dense(np.array([[1.0, 2.0], [1.0, 1.0]]), drop_nan=False), "unknown", np.arange(2))
    assert mean_log_loss(h, y) == pytest.approx(np.log(2))
    assert mean_log_loss(h, y, np.array([3.0, 1.0])) == pytest.approx(np.log(2))
    assert np.isnan(mean_log_loss(h[1:], y[1:]))
