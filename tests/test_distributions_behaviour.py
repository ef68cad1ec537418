"""What all distributions have in common, and what each does at its limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_expit

import prefcal as pc
from distribution_samples import M, N, build, some_pair_probs
from prefcal.distributions import base, stagewise
from prefcal.distributions.base import Distribution
from prefcal.distributions.mixture import Mixture
from prefcal.errors import UsageError
from prefcal.views import View
from strategies import all_views, ragged_scores, scores, scores_with_holes, seeds

FULL = ["plackett-luce", "mallows", "babington-smith", "categorical", "samples", "mixture", "stacked"]


ALL = [*FULL, "pairwise"]


PAIRS = np.array(list(itertools.permutations(range(M), 2)))


def summary(h: Distribution) -> list[np.ndarray]:
    """What a distribution says, instance by instance."""
    said = [h.marginal("sub-2").probs, h.pair_log_odds(PAIRS[:, 0], PAIRS[:, 1])]
    if h.has_rankings:
        said += [h.marginal("top-2").probs, h.mode(), h.top_log_probs(), h.log_prob(np.arange(h.n_items))]
    return said


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "index",
    [
        2,
        -1,
        slice(1, 4),
        slice(None, None, -2),
        [3, 0, 0],
        np.array([4, 1]),
        np.array([True, False, True, False, True]),
    ],
    ids=["int", "negative", "slice", "step", "list", "indices", "mask"],
)
def test_indexing_picks_instances(name: str, index: Any) -> None:
    h = build(name)
    rows = np.atleast_1d(np.arange(N)[index])
    part = h[index]
    assert type(part) is type(h)
    assert len(part) == len(rows)
    assert part.n_items == M
    assert part.sizes.tolist() == [M] * len(rows)
    for whole, picked in zip(summary(h), summary(part), strict=True):
        np.testing.assert_allclose(picked, whole[rows], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ALL)
def test_no_instance_left_is_no_error(name: str) -> None:
    """A mask that picks nothing (an empty group) gives empty results of the right shape."""
    h = build(name)[np.zeros(N, dtype=bool)]
    assert len(h) == 0
    for full, empty in zip(summary(build(name)), summary(h), strict=True):
        assert empty.shape == (0, *full.shape[1:])
    if h.has_rankings:
        assert h.sample(3, 0).shape == (0, 3, M)
        for view in all_views(M):
            assert h.marginal(view).probs.shape == (0, view.n_members(M), view.n_outcomes(M))
    assert list(h.blocks()) == []


@pytest.mark.parametrize(
    "h",
    [pc.PlackettLuce([[3.0]]), pc.Mallows([1], 0.5), pc.Categorical([[0]], [[1.0]])],
    ids=["pl", "mallows", "categorical"],
)
def test_one_item(h: Distribution) -> None:
    assert h.mode().tolist() == [[0]]
    assert h.log_prob([0]).tolist() == [0.0]
    assert h.top_log_probs().tolist() == [[0.0]]
    assert h.sample(2, 0).tolist() == [[[0], [0]]]


@pytest.mark.parametrize("name", ALL)
def test_blocks_put_together_give_the_whole(name: str) -> None:
    h = build(name)
    whole = summary(h)
    seen = np.zeros(N, dtype=int)
    for block in h.blocks(elements=2 * M):
        assert block.columns is None
        seen[block.rows] += 1
        for a, b in zip(whole, summary(block.dist), strict=True):
            np.testing.assert_allclose(a[block.rows], b, rtol=1e-14, atol=1e-15)
    assert (seen == 1).all()


@pytest.mark.parametrize("name", FULL)
def test_draws_follow_the_probabilities(name: str) -> None:
    """Every count of 24 rankings x 5 instances within 5 standard errors (chance of a false alarm under 1e-4)."""
    h, size = build(name), 20_000
    drawn = h.sample(size, 3)
    assert drawn.shape == (N, size, M)
    np.testing.assert_array_equal(drawn, h.sample(size, np.random.default_rng(3)))
    share = base.frequencies(View("full").classify(drawn), math.factorial(M))[:, 0]
    p = h.marginal("full").probs[:, 0]
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / size) + 1e-12).all()
    assert (share[p == 0] == 0).all()


@pytest.mark.parametrize("name", FULL)
def test_marginals_sum_to_one_and_log_prob_is_the_full_marginal(name: str) -> None:
    h = build(name)
    for view in all_views(M):
        np.testing.assert_allclose(h.marginal(view).probs.sum(axis=2), 1.0, atol=1e-12)
    full = h.marginal("full")
    by_log = np.stack([np.exp(h.log_prob(order)) for order in full.outcomes[0]], axis=1)
    np.testing.assert_allclose(by_log, full.probs[:, 0], atol=1e-13)
    np.testing.assert_allclose(np.exp(h.log_prob(h.mode())), full.probs[:, 0].max(axis=1), rtol=1e-12)


def test_names_of_one_view_agree() -> None:
    h = build("plackett-luce")
    full = h.marginal("full").probs
    for name in ("sub-4", "top-4", "top-3"):
        marginal = h.marginal(name)
        assert marginal.view.name == name
        np.testing.assert_array_equal(marginal.probs, full)
    np.testing.assert_array_equal(h.marginal("topset-1").probs, h.marginal("top-1").probs)
    np.testing.assert_array_equal(np.asarray(h.marginal("topset-1")), h.marginal("topset-1").probs)


@settings(max_examples=20, deadline=None)
@given(s=scores(max_items=4), data=st.data())
def test_relabelling_items_relabels_the_outcomes(s: np.ndarray, data: st.DataObject) -> None:
    m = s.shape[1]
    new = np.array(data.draw(st.permutations(range(m))))  # item a becomes item new[a]
    renamed = np.empty_like(s)
    renamed[:, new] = s
    rank = np.argsort(np.argsort(s, axis=1), axis=1) + 1
    moved = np.empty_like(rank)
    moved[:, new] = rank
    with np.errstate(over="ignore"):
        p = 1 / (1 + np.exp(s[:, None, :] - s[:, :, None]))
    turned = np.empty_like(p)
    turned[:, new[:, None], new] = p
    for h, g in [
        (pc.PlackettLuce(s), pc.PlackettLuce(renamed)),
        (pc.Mallows(rank, 0.4), pc.Mallows(moved, 0.4)),
        (pc.BabingtonSmith(p), pc.BabingtonSmith(turned)),
    ]:
        for order in itertools.permutations(range(m)):
            np.testing.assert_allclose(
                h.log_prob(np.array(order)), g.log_prob(new[list(order)]), rtol=1e-9, atol=1e-9
            )
        for view in all_views(m):
            a, b = h.marginal(view), g.marginal(view)
            for member, outcomes in enumerate(a.outcomes):
                for w, outcome in enumerate(outcomes.tolist()):
                    at = _renamed(view, outcome, new, b.outcomes)
                    np.testing.assert_allclose(a.probs[:, member, w], b.probs[:, at[0], at[1]], atol=1e-12)


def _renamed(view: View, outcome: list[int], new: np.ndarray, outcomes: np.ndarray) -> tuple[int, int]:
    """Member and place of an outcome whose items got new names."""
    if view.kind == "position":
        wanted = [int(new[outcome[0]]), outcome[1]]
    elif view.kind == "topset":
        wanted = sorted(new[outcome].tolist())
    else:
        wanted = new[outcome].tolist()
    member, place = np.argwhere((outcomes == wanted).all(axis=2))[0].tolist()
    return member, place


def textbook_rows(array: np.ndarray) -> list[dict[int, float]]:
    """For each row the items that it has and their scores."""
    return [{j: x for j, x in enumerate(row.tolist()) if not math.isnan(x)} for row in array]


@settings(max_examples=30, deadline=None)
@given(array=scores_with_holes())
def test_missing_items(array: np.ndarray) -> None:
    """An instance with holes is Plackett-Luce on the items that it has; what concerns others is NaN."""
    m = array.shape[1]
    h = pc.PlackettLuce(array)
    rows = textbook_rows(array)
    assert h.sizes.tolist() == [len(r) for r in rows]
    for k in range(2, m + 1):
        if k == m and not h.scores.is_dense:
            continue
        marginal = h.marginal(View("sub", k))
        for g, members in enumerate(marginal.members.tolist()):
            for i, row in enumerate(rows):
                if all(a in row for a in members):
                    alone = pc.PlackettLuce([[row[a] for a in members]]).marginal(View("sub", k))
                    np.testing.assert_allclose(marginal.probs[i, g], alone.probs[0, 0], atol=1e-13)
                else:
                    assert np.isnan(marginal.probs[i, g]).all()
    position, mode, top = h.marginal("position").probs, h.mode(), h.top_log_probs()
    drawn = h.sample(7, 0)
    log_p = h.log_prob(mode)
    pairs = np.array(list(itertools.permutations(range(m), 2)))
    odds = h.pair_log_odds(pairs[:, 0], pairs[:, 1])
    for i, row in enumerate(rows):
        items = list(row)
        alone = pc.PlackettLuce([list(row.values())])
        assert mode[i].tolist() == [items[j] for j in alone.mode()[0]] + [-1] * (m - len(items))
        assert log_p[i] == pytest.approx(alone.log_prob(alone.mode())[0], abs=1e-12)
        for draw in drawn[i].tolist():
            assert sorted(draw[: len(items)]) == items
            assert set(draw[len(items) :]) <= {-1}
        absent = [j for j in range(m) if j not in row]
        assert np.isneginf(top[i, absent]).all()
        np.testing.assert_allclose(top[i, items], alone.top_log_probs()[0], atol=1e-13)
        assert np.isnan(position[i, absent]).all()
        assert (position[i, items, len(items) :] == 0).all()
        np.testing.assert_allclose(position[i, items].sum(axis=1), 1.0, atol=1e-12)
        if len(items) > 1:
            expected = alone.marginal("position").probs[0]
            np.testing.assert_allclose(position[i, items, : len(items)], expected, atol=1e-13)
        for e, (a, b) in enumerate(pairs.tolist()):
            if a in row and b in row:
                assert odds[i, e] == row[a] - row[b]
            else:
                assert math.isnan(odds[i, e])


@settings(max_examples=20, deadline=None)
@given(array=scores_with_holes(), ragged=ragged_scores(), seed=seeds)
def test_ragged_blocks_cover_every_instance_once(array: np.ndarray, ragged: list[list[float]], seed: int) -> None:
    for h in (pc.PlackettLuce(array), pc.PlackettLuce(ragged)):
        shown: dict[int, dict[int, float]] = {}
        for block in h.blocks(elements=4):
            assert isinstance(block.dist, pc.PlackettLuce)
            dense = block.dist.scores.dense()
            for i, row in enumerate(np.arange(len(h))[block.rows].tolist()):
                columns = range(dense.shape[1]) if block.columns is None else block.columns[i].tolist()
                assert row not in shown
                shown[row] = dict(zip(columns, dense[i].tolist(), strict=True))
        assert [shown[i] for i in range(len(h))] == textbook_rows(h.scores.dense())
    order = np.random.default_rng(seed).permutation(len(array))
    np.testing.assert_array_equal(pc.PlackettLuce(array)[order].mode(), pc.PlackettLuce(array).mode()[order])


def test_ragged_lists_equal_the_same_rows_with_holes() -> None:
    ragged = pc.PlackettLuce([[1.0, 2.0, 0.5], [3.0], [0.0, -1.0]])
    holes = pc.PlackettLuce([[1.0, 2.0, 0.5], [3.0, math.nan, math.nan], [0.0, -1.0, math.nan]])
    for name in ("sub-2", "position"):
        np.testing.assert_array_equal(ragged.marginal(name).probs, holes.marginal(name).probs)
    np.testing.assert_array_equal(ragged.mode(), holes.mode())
    np.testing.assert_array_equal(ragged.top_log_probs(), holes.top_log_probs())
    np.testing.assert_array_equal(ragged.log_prob(ragged.mode()), holes.log_prob(ragged.mode()))
    np.testing.assert_array_equal(ragged.sample(4, 1), holes.sample(4, 1))
    np.testing.assert_array_equal(ragged[1:].mode(), holes[1:].mode())


@pytest.mark.parametrize("size", [1e4, 1e9, 1e150, 1e300, 1.7e308])
def test_scores_of_any_size(size: float) -> None:
    h = pc.PlackettLuce([[size, -size, 0.0], [size, size, -size]])
    for view in all_views(3):
        probs = h.marginal(view).probs
        np.testing.assert_allclose(probs.sum(axis=2), 1.0, atol=1e-12)
    np.testing.assert_allclose(h.marginal("top-1").probs[:, 0], [[1, 0, 0], [0.5, 0.5, 0]], atol=1e-15)
    assert h.mode().tolist() == [[0, 2, 1], [0, 1, 2]]
    np.testing.assert_allclose(h.log_prob(h.mode()), [0.0, -math.log(2)], atol=1e-15)
    assert (h.log_prob([1, 2, 0]) <= -size).all()
    assert h.pair_log_odds([0, 0], [1, 2])[0, 0] == 2 * size
    np.testing.assert_allclose(np.exp(h.top_log_probs()), h.marginal("top-1").probs[:, 0], atol=1e-15)
    drawn = h.sample(4000, 0)
    assert (drawn[0] == [0, 2, 1]).all()
    assert abs((drawn[1, :, 0] == 0).mean() - 0.5) < 5 * math.sqrt(0.25 / 4000)  # equal scores stay a fair coin
    assert (drawn[1, :, 2] == 2).all()


def test_pair_log_odds_keep_what_probabilities_lose() -> None:
    tiny = 1e-200
    p = np.full((1, 4, 4), 0.5)
    for a, b in itertools.combinations(range(4), 2):
        p[0, a, b], p[0, b, a] = 1.0, tiny
    h = pc.BabingtonSmith(p)
    brute = _log_odds_by_enumeration(np.log(p[0]), 0, 3)
    assert h.pair_log_odds([0], [3])[0, 0] == pytest.approx(brute, rel=1e-12)
    mallows = pc.Mallows([1, 2, 3, 4], tiny)
    assert mallows.pair_log_odds([0], [3])[0, 0] == pytest.approx(brute, rel=1e-12)
    assert np.isposinf(pc.Mallows([1, 2, 3, 4], 0.0).pair_log_odds([0], [3])[0, 0])
    mixed = Mixture([mallows, pc.Mallows([1, 2, 3, 4], tiny**1.5)], [0.5, 0.5])
    assert mixed.pair_log_odds([0], [3])[0, 0] == pytest.approx(brute + math.log(2), rel=1e-12)


def _log_odds_by_enumeration(log_p: np.ndarray, a: int, b: int) -> float:
    totals = {True: -math.inf, False: -math.inf}
    for order in itertools.permutations(range(len(log_p))):
        weight = sum(log_p[x, y] for x, y in itertools.combinations(order, 2))
        key = order.index(a) < order.index(b)
        totals[key] = float(np.logaddexp(totals[key], weight))
    return totals[True] - totals[False]


def test_babington_smith_with_impossible_orders() -> None:
    """0 surely before 1: what remains is spread over the three orders that agree."""
    p = np.full((1, 3, 3), 0.5)
    p[0, 0, 1], p[0, 1, 0] = 1.0, 0.0
    h = pc.BabingtonSmith(p)
    full = dict(zip(map(tuple, View("full").outcomes(3)[0].tolist()), h.marginal("full").probs[0, 0], strict=True))
    assert full == pytest.approx({o: (1 / 3 if o.index(0) < o.index(1) else 0.0) for o in full}, abs=1e-15)
    assert np.isneginf(h.log_prob([1, 0, 2])[0])
    assert np.isposinf(h.pair_log_odds([0], [1])[0, 0])
    assert h.mode().tolist() == [[0, 1, 2]]
    assert not (np.argsort(h.sample(500, 0), axis=2)[..., 0] > np.argsort(h.sample(500, 0), axis=2)[..., 1]).any()


@pytest.mark.parametrize("phi", [0.0, 1.0])
def test_mallows_at_its_ends(phi: float) -> None:
    h = pc.Mallows([3, 1, 2], phi)
    drawn = h.sample(3000, 0)
    if phi == 0.0:
        assert (drawn == [1, 2, 0]).all()
        assert h.log_prob([1, 2, 0])[0] == 0.0
        assert np.isneginf(h.log_prob([2, 1, 0])[0])
        assert np.isneginf(h.top_log_probs()[0]).tolist() == [True, False, True]
    else:
        assert h.mode().tolist() == [[0, 1, 2]]
        assert h.log_prob([2, 1, 0])[0] == pytest.approx(-math.log(6))
        assert (h.pair_log_odds([0, 1], [1, 2]) == 0).all()


def test_sampled_marginal_when_the_exact_one_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    h = pc.BabingtonSmith(some_pair_probs())
    exact = h.marginal("sub-3")
    monkeypatch.setattr(stagewise, "SUBSET_STATES_LIMIT", 10)
    with pytest.raises(UsageError, match="rng"):
        h.marginal("sub-3")
    sampled = h.marginal("sub-3", rng=0, n_samples=5000)
    assert sampled.stderr is not None
    np.testing.assert_allclose(sampled.stderr, np.sqrt(sampled.probs * (1 - sampled.probs) / 5000))
    assert (np.abs(sampled.probs - exact.probs) <= 5 * np.sqrt(exact.probs * (1 - exact.probs) / 5000)).all()
    mixed = Mixture([h, h], [0.5, 0.5]).marginal("sub-3", rng=0, n_samples=5000)
    assert mixed.stderr is not None
    np.testing.assert_allclose(mixed.stderr, sampled.stderr / math.sqrt(2), rtol=0.2, atol=1e-3)


def test_scaled_is_a_temperature() -> None:
    s = np.array([[1.0, -2.0, 0.5]])
    h = pc.PlackettLuce(s).scaled(0.5)
    np.testing.assert_array_equal(h.scores.dense(), s / 2)
    np.testing.assert_allclose(np.log(h.marginal("sub-2").probs[0, :, 0]), log_expit([1.5, 0.25, -1.25]), rtol=1e-13)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="factor"):
            h.scaled(bad)


def test_categorical_uses_probabilities_as_given() -> None:
    probs = np.array([[0.25, 0.75]], dtype=np.float32) * np.float32(1.00003)
    h = pc.Categorical([[0, 1], [1, 0]], probs)
    assert h.marginal("full").probs[0, 0].tolist() == probs[0].tolist()


def test_pairwise_completes_and_keeps_holes() -> None:
    nan = math.nan
    h = pc.Pairwise([[[nan, 0.75, nan], [nan, nan, nan], [nan, 0.125, nan]]])
    marginal = h.marginal("sub-2").probs[0]
    np.testing.assert_array_equal(marginal, [[0.75, 0.25], [nan, nan], [0.875, 0.125]])
    np.testing.assert_allclose(h.pair_log_odds([0, 0, 1], [1, 2, 2])[0], [math.log(3), nan, math.log(7)])
    assert pc.Pairwise([[[0, 1.0], [0.0, 0]]]).marginal("full").probs.tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    "name", ["log_prob", "sample", "mode", "top_log_probs", "full", "top-1", "sub-3", "position"]
)
def test_pairwise_refuses_what_it_cannot_know(name: str) -> None:
    h: Any = pc.Pairwise(some_pair_probs())
    assert not h.has_rankings
    calls: dict[str, Callable[[], Any]] = {
        "log_prob": lambda: h.log_prob([0, 1, 2, 3]),
        "sample": lambda: h.sample(1, 0),
        "mode": h.mode,
        "top_log_probs": h.top_log_probs,
    }
    with pytest.raises(UsageError, match="BabingtonSmith"):
        calls.get(name, lambda: h.marginal(name))()
