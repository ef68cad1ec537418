"""Plackett-Luce with a scale for each stage, against brute force over all orders and independent draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from prefcal import DataError, PlackettLuce, StagedPlackettLuce, UsageError
from prefcal.distributions import staged


def brute(scores: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All orders and their probabilities, by the definition."""
    orders = np.array(list(itertools.permutations(range(len(scores)))))
    probs = []
    for order in orders:
        p = 1.0
        for t in range(len(order) - 1):
            rest = scores[order[t:]]
            k = len(rest)
            e = np.exp(scales[k - 2] * (rest - rest.max()))
            p *= e[0] / e.sum()
        probs.append(p)
    return orders, np.array(probs)


def scales_for(m: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0.05, 5.0), min_size=m - 1, max_size=m + 1)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_marginal_is_the_sum_over_all_orders(data):
    m, view = data.draw(strategies.items_and_view(max_items=5))
    scores = data.draw(strategies.score_rows(2, m, largest=5.0))
    scales = np.array(data.draw(scales_for(m)))
    h = StagedPlackettLuce(scores, scales)
    got = h.marginal(view)
    assert got.stderr is None
    for i in range(2):
        orders, probs = brute(scores[i], scales)
        index = view.classify(orders)
        for g in range(view.n_members(m)):
            expected = np.bincount(index[:, g], probs, minlength=view.n_outcomes(m))
            np.testing.assert_allclose(got.probs[i, g], expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_log_odds_top_log_prob_and_mode_match_all_orders(data):
    m = data.draw(st.integers(2, 6 if data.draw(st.booleans()) else 4))
    scores = data.draw(strategies.score_rows(1, m, largest=8.0))
    scales = np.array(data.draw(scales_for(m)))
    h = StagedPlackettLuce(scores, scales)
    orders, probs = brute(scores[0], scales)
    log_p = np.array([h.log_prob(o)[0] for o in orders[:24]])
    np.testing.assert_allclose(np.exp(log_p), probs[:24], rtol=1e-9)
    best = h.log_prob(h.mode()[0])[0]
    assert best >= np.log(probs.max()) - 1e-9
    place = np.argsort(orders, axis=1)
    a, b = np.nonzero(~np.eye(m, dtype=bool))
    odds = h.pair_log_odds(a, b)[0]
    before = np.array([probs[place[:, x] < place[:, y]].sum() for x, y in zip(a, b)])
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), before, atol=1e-10)
    top = np.bincount(orders[:, 0], probs, minlength=m)
    np.testing.assert_allclose(np.exp(h.top_log_probs()[0]), top, atol=1e-12)
    # The better-scored of two items is the likelier one, for pairs and for the best.
    assert ((odds >= -1e-9) | (scores[0, a] < scores[0, b])).all()


@settings(max_examples=25, deadline=None)
@given(strategies.scores_with_holes(max_items=5), st.floats(0.1, 3.0))
def test_equal_scales_are_plackett_luce(scores, scale):
    plain, h = PlackettLuce(scores).scaled(scale), StagedPlackettLuce(scores, np.full(scores.shape[1], scale))
    m = scores.shape[1]
    for view in (*[f"sub-{k}" for k in range(2, m)], "position"):
        np.testing.assert_allclose(h.marginal(view).probs, plain.marginal(view).probs, atol=1e-12)
    a, b = np.triu_indices(m, 1)
    np.testing.assert_allclose(h.pair_log_odds(a, b), plain.pair_log_odds(a, b), atol=1e-9)
    np.testing.assert_allclose(h.top_log_probs(), plain.top_log_probs(), atol=1e-12)
    assert (h.mode() == plain.mode()).all()
    np.testing.assert_allclose(h.log_prob(h.mode()), plain.log_prob(h.mode()), atol=1e-10)


def test_ragged_lists_are_like_their_parts():
    rows = [[0.3, -1.0, 2.0], [1.0], [0.5, 0.4, -0.3, 1.0, 0.0]]
    scales = [0.5, 1.0, 1.5, 2.0]
    h = StagedPlackettLuce(rows, scales)
    assert h.sizes.tolist() == [3, 1, 5]
    assert not h.has_labels
    top, mode = h.top_log_probs(), h.mode()
    odds = h.pair_log_odds([0, 3], [1, 0])
    for i, row in enumerate(rows):
        alone = StagedPlackettLuce([row], scales)
        np.testing.assert_allclose(top[i, : len(row)], alone.top_log_probs()[0])
        assert mode[i, : len(row)].tolist() == alone.mode()[0].tolist()
        if len(row) > 1:
            assert odds[i, 0] == pytest.approx(alone.pair_log_odds([0], [1])[0, 0])
    assert np.isnan(odds[0, 1])
    assert np.isneginf(top[0, 3])
    np.testing.assert_allclose(h.log_prob(mode)[2], StagedPlackettLuce(rows[2:], scales).log_prob(mode[2])[0])
    assert np.isnan(h.marginal("sub-2").probs[1]).all()


def test_missing_items_keep_their_labels():
    scores = np.array([[np.nan, 1.0, 0.0, -1.0], [0.5, 0.2, 0.1, 0.0]])
    h = StagedPlackettLuce(scores, [0.5, 1.0, 2.0])
    orders, probs = brute(scores[0, 1:], np.array([0.5, 1.0]))
    sub = h.marginal("sub-2").probs[0]  # members (0,1) (0,2) (0,3) (1,2) (1,3) (2,3)
    assert np.isnan(sub[:3]).all()
    place = np.argsort(orders, axis=1)
    assert sub[4, 0] == pytest.approx(probs[place[:, 0] < place[:, 2]].sum())
    position = h.marginal("position").probs[0]
    np.testing.assert_allclose(position[1, :3], [probs[place[:, 0] == r].sum() for r in range(3)])
    drawn = h.sample(50, 0)
    assert (np.sort(drawn[0, :, :3], axis=1) == [1, 2, 3]).all()
    assert (drawn[0, :, 3] == -1).all()
    with pytest.raises(UsageError, match="row 0"):
        h.log_prob([[0, 1, 2, -1], [0, 1, 2, 3]])


def test_draws_follow_the_probabilities():
    scores, scales = np.array([[0.7, 0.0, -0.4, 0.2]]), np.array([2.0, 0.3, 1.0])
    drawn = StagedPlackettLuce(scores, scales).sample(40_000, 1)[0]
    orders, probs = brute(scores[0], scales)
    count = np.array([(drawn == o).all(axis=1).sum() for o in orders])
    chi2 = ((count - 40_000 * probs) ** 2 / (40_000 * probs)).sum()
    assert chi2 < 23 + 5 * np.sqrt(46)


def test_large_scores_keep_their_log_odds():
    """Both ways of the pair recursion: products where they cannot underflow, logarithms beyond."""
    scores = np.array([[0.0, 200.0, -300.0, 1.0], [0.0, 2.0, -3.0, 1.0]])
    h = StagedPlackettLuce(scores, [1.0, 1.5, 0.7])
    a, b = np.array([1, 0, 3]), np.array([2, 2, 0])
    odds = h.pair_log_odds(a, b)
    assert odds[0, 0] == pytest.approx(350.0, rel=0.05)  # at least 0.7 * 500, at most what later stages add
    np.testing.assert_allclose(odds[1], h[1:].pair_log_odds(a, b)[0], rtol=1e-9)
    assert np.isfinite(odds).all()


def test_many_items_are_averaged_with_an_honest_error(monkeypatch):
    """The average over draws agrees with the exact recursion within its own standard error, and is reproducible."""
    scores = np.random.default_rng(3).normal(size=(4, 7)) * 2
    h = StagedPlackettLuce(scores, np.linspace(2.0, 0.5, 6))
    exact = h.marginal("sub-2")
    monkeypatch.setattr(staged, "MAX_EXACT_ITEMS", 5)
    drawn = h.marginal("sub-2")
    assert exact.stderr is None
    assert drawn.stderr is not None
    z = (drawn.probs - exact.probs)[..., 0] / drawn.stderr[..., 0]
    assert np.abs(z).max() < 4.5
    assert z.std() == pytest.approx(1.0, abs=0.35)
    assert (drawn.stderr**2 <= exact.probs * (1 - exact.probs) / staged.PAIR_DRAWS * 1.3 + 1e-12).all()
    np.testing.assert_array_equal(drawn.probs, h.marginal("sub-2").probs)
    np.testing.assert_allclose(drawn.probs.sum(axis=2), 1.0)


def test_beyond_the_recursion_sampling_needs_a_seed():
    h = StagedPlackettLuce(np.zeros((1, 20)), np.linspace(2.0, 1.0, 19))
    assert np.abs(h.pair_log_odds([0], [1])[0, 0]) < 1e-9
    with pytest.raises(UsageError, match="rng"):
        h.marginal("position")
    with pytest.raises(UsageError, match="mode"):
        h.mode()
    assert StagedPlackettLuce(np.arange(20.0)[None], np.linspace(1.0, 2.0, 19)).mode()[0, 0] == 19


@pytest.mark.parametrize("scales", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 1.0]]])
def test_bad_scales_are_refused(scales):
    with pytest.raises(DataError, match="scale"):
        StagedPlackettLuce([[0.0, 1.0, 2.0]], scales)
