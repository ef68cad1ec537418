"""Every marginal of every distribution against brute force over all m! orders, from textbook formulas."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import prefcal as pc
from prefcal.distributions.base import Distribution
from prefcal.distributions.mallows import expected_distance, log_normalizer
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.plackett_luce import log_choice_probs
from prefcal.distributions.race import position_race, topset_race
from prefcal.distributions.stagewise import ordered_subset_probs, position_probs, remaining, topset_probs
from prefcal.views import View, permutation_index
from strategies import (
    all_views,
    dispersions,
    distribution_rows,
    orders,
    pair_probs,
    ranks,
    scores,
)

TOLERANCE = 1e-12


def happens(view: View, outcome: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Whether the outcome of a view's member happens, by its definition."""
    match view.kind:
        case "position":
            item, rank = outcome
            return order.index(item) + 1 == rank
        case "topset":
            return set(order[: view.k]) == set(outcome)
        case "sub":
            return tuple(x for x in order if x in outcome) == outcome
        case _:
            return order[: len(outcome)] == outcome


@lru_cache(maxsize=256)
def incidence(view: View, m: int) -> np.ndarray:
    """(members, outcomes, m!) 1 where the outcome happens."""
    return np.array(
        [
            [[happens(view, tuple(w.tolist()), o) for o in every_order(m)] for w in cells]
            for cells in view.outcomes(m)
        ],
        dtype=float,
    )


def brute_marginal(pmf: dict[tuple[int, ...], float], m: int, view: View) -> np.ndarray:
    """(members, outcomes) sums over all m! orders."""
    return incidence(view, m) @ np.array([pmf[o] for o in every_order(m)])


def normalised(weights: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    total = math.fsum(weights.values())
    return {order: w / total for order, w in weights.items()}


def every_order(m: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(m)))


def plackett_luce_pmf(s: np.ndarray) -> dict[tuple[int, ...], float]:
    def probability(order: tuple[int, ...]) -> float:
        return math.exp(sum(-math.log(sum(math.exp(s[b] - s[a]) for b in order[t:])) for t, a in enumerate(order)))

    return {order: probability(order) for order in every_order(len(s))}


def mallows_pmf(rank: np.ndarray, phi: float) -> dict[tuple[int, ...], float]:
    def distance(order: tuple[int, ...]) -> int:
        return sum(rank[a] > rank[b] for a, b in itertools.combinations(order, 2))

    return normalised({order: phi ** distance(order) for order in every_order(len(rank))})


def babington_smith_pmf(p: np.ndarray) -> dict[tuple[int, ...], float]:
    return normalised(
        {order: math.prod(p[a, b] for a, b in itertools.combinations(order, 2)) for order in every_order(len(p))}
    )


def compare(h: Distribution, pmfs: list[dict[tuple[int, ...], float]], views: list[View] | None = None) -> None:
    m = h.n_items
    for view in all_views(m) if views is None else views:
        marginal = h.marginal(view)
        assert marginal.stderr is None
        assert marginal.probs.shape == (len(h), view.n_members(m), view.n_outcomes(m))
        for i, pmf in enumerate(pmfs):
            np.testing.assert_allclose(
                marginal.probs[i], brute_marginal(pmf, m, view), rtol=0, atol=TOLERANCE, err_msg=view.name
            )


def check_rest(h: Distribution, pmfs: list[dict[tuple[int, ...], float]]) -> None:
    """Check log_prob, mode, pair log odds and top log probabilities."""
    m = h.n_items
    pairs = np.array(list(itertools.permutations(range(m), 2))).reshape(-1, 2)
    odds = h.pair_log_odds(pairs[:, 0], pairs[:, 1])
    top = np.exp(h.top_log_probs())
    modes = h.mode()
    table = np.stack([np.exp(h.log_prob(np.array(o))) for o in every_order(m)], axis=1)
    for i, pmf in enumerate(pmfs):
        np.testing.assert_allclose(table[i], list(pmf.values()), rtol=1e-10, atol=1e-14)
        assert pmf[tuple(modes[i].tolist())] == pytest.approx(max(pmf.values()), rel=1e-9)
        sub = {(a, b): math.fsum(p for o, p in pmf.items() if o.index(a) < o.index(b)) for a, b in pairs.tolist()}
        expected = np.array([sub[a, b] for a, b in pairs.tolist()])
        np.testing.assert_allclose(expit(odds[i]), expected, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(top[i], brute_marginal(pmf, m, View("top", 1))[0], rtol=0, atol=TOLERANCE)


RNG = np.random.default_rng(20260)
SIX = {
    "plackett-luce": (
        lambda: (s := RNG.normal(size=(2, 6)) * 2, pc.PlackettLuce(s), [plackett_luce_pmf(x) for x in s])[1:]
    ),
    "mallows": (
        lambda: (
            c := np.array([[3, 1, 4, 6, 2, 5], [1, 2, 3, 4, 5, 6]]),
            pc.Mallows(c, [0.7, 0.2]),
            [mallows_pmf(c[0], 0.7), mallows_pmf(c[1], 0.2)],
        )[1:]
    ),
    "babington-smith": (
        lambda: (
            u := np.triu(RNG.uniform(0.05, 0.95, size=(2, 6, 6)), 1),
            p := u + np.tril(1 - u.transpose(0, 2, 1), -1),
            pc.BabingtonSmith(p),
            [babington_smith_pmf(x) for x in p],
        )[2:]
    ),
    "categorical": (
        lambda: (
            o := RNG.permuted(np.tile(np.arange(6), (50, 1)), axis=1),
            q := RNG.dirichlet(np.ones(50), size=2),
            pc.Categorical(o, q),
            [_sum_by_order(o, x) for x in q],
        )[2:]
    ),
}


def _sum_by_order(support: np.ndarray, probs: np.ndarray) -> dict[tuple[int, ...], float]:
    pmf = dict.fromkeys(every_order(support.shape[1]), 0.0)
    for order, p in zip(support.tolist(), probs.tolist(), strict=True):
        pmf[tuple(order)] += p
    return pmf


@pytest.mark.parametrize("name", SIX)
def test_all_views_of_six_items(name: str) -> None:
    h, pmfs = SIX[name]()
    compare(h, pmfs)


def test_all_views_of_six_items_samples_mixture_and_pairs() -> None:
    """The classes that are made from others or from draws, at m = 6 too."""
    drawn = RNG.permuted(np.tile(np.arange(6), (2, 40, 1)), axis=2)
    sampled = pc.Samples(drawn)
    for view in all_views(6):
        for i in range(2):
            expected = brute_marginal(_sum_by_order(drawn[i], np.full(40, 1 / 40)), 6, view)
            np.testing.assert_allclose(sampled.marginal(view).probs[i], expected, rtol=0, atol=TOLERANCE)
    s, rank = RNG.normal(size=(2, 6)), np.array([2, 6, 1, 3, 5, 4])
    weights = np.array([[0.3, 0.7], [0.9, 0.1]])
    first, second = [plackett_luce_pmf(x) for x in s], mallows_pmf(rank, 0.4)
    mixed = [{o: w[0] * f[o] + w[1] * second[o] for o in f} for f, w in zip(first, weights, strict=True)]
    mixture = Mixture([pc.PlackettLuce(s), pc.Mallows(np.tile(rank, (2, 1)), 0.4)], weights)
    compare(mixture, mixed)
    pairs = np.full((2, 6, 6), np.nan)
    for i, pmf in enumerate(mixed):
        for a, b in itertools.permutations(range(6), 2):
            pairs[i, a, b] = math.fsum(p for o, p in pmf.items() if o.index(a) < o.index(b))
    compare(pc.Pairwise(pairs), mixed, [View("sub", 2)])


@settings(max_examples=25, deadline=None)
@given(s=scores())
def test_plackett_luce(s: np.ndarray) -> None:
    h, pmfs = pc.PlackettLuce(s), [plackett_luce_pmf(x) for x in s]
    compare(h, pmfs)
    check_rest(h, pmfs)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(1, 3), m=st.integers(2, 5))
def test_mallows(data: st.DataObject, n: int, m: int) -> None:
    rank = data.draw(ranks(n, m))
    phi = np.array(data.draw(st.lists(dispersions, min_size=n, max_size=n)))
    h, pmfs = pc.Mallows(rank, phi), [mallows_pmf(r, p) for r, p in zip(rank, phi.tolist(), strict=True)]
    compare(h, pmfs)
    check_rest(h, pmfs)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(1, 3), m=st.integers(2, 5))
def test_babington_smith(data: st.DataObject, n: int, m: int) -> None:
    p = data.draw(pair_probs(n, m))
    h, pmfs = pc.BabingtonSmith(p), [babington_smith_pmf(x) for x in p]
    compare(h, pmfs)
    check_rest(h, pmfs)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(1, 3), m=st.integers(2, 5), r=st.integers(1, 12))
def test_categorical_with_repeated_orders(data: st.DataObject, n: int, m: int, r: int) -> None:
    support, probs = data.draw(orders(r, m)), data.draw(distribution_rows(n, r))
    h, pmfs = pc.Categorical(support, probs), [_sum_by_order(support, p) for p in probs]
    compare(h, pmfs)
    check_rest(h, pmfs)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), n=st.integers(1, 3), m=st.integers(2, 4), s=st.integers(1, 9))
def test_samples(data: st.DataObject, n: int, m: int, s: int) -> None:
    drawn = data.draw(orders(n * s, m)).reshape(n, s, m)
    h = pc.Samples(drawn)
    pmfs = [_sum_by_order(x, np.full(s, 1.0 / s)) for x in drawn]
    for view in all_views(m):
        marginal = h.marginal(view)
        for i, pmf in enumerate(pmfs):
            expected = brute_marginal(pmf, m, view)
            np.testing.assert_allclose(marginal.probs[i], expected, rtol=0, atol=TOLERANCE)
            assert marginal.stderr is not None
            spread = np.sqrt(np.clip(expected * (1 - expected), 0, None) / s)
            np.testing.assert_allclose(marginal.stderr[i], spread, atol=1e-7)
    check_rest(h, pmfs)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), m=st.integers(2, 5))
def test_mixture(data: st.DataObject, m: int) -> None:
    s, rank, phi = data.draw(scores(min_items=m, max_items=m)), data.draw(ranks(1, m))[0], data.draw(dispersions)
    n = len(s)
    weights = data.draw(distribution_rows(n, 2))
    h = Mixture([pc.PlackettLuce(s), pc.Mallows(np.tile(rank, (n, 1)), phi)], weights)
    pmfs = []
    for x, w in zip(s, weights, strict=True):
        first, second = plackett_luce_pmf(x), mallows_pmf(rank, phi)
        pmfs.append({o: w[0] * first[o] + w[1] * second[o] for o in first})
    compare(h, pmfs)
    check_rest(h, pmfs)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), n=st.integers(1, 3), m=st.integers(2, 5))
def test_pairwise_gives_back_what_was_stated(data: st.DataObject, n: int, m: int) -> None:
    p = data.draw(pair_probs(n, m))
    h = pc.Pairwise(p)
    marginal = h.marginal("sub-2")
    for g, (a, b) in enumerate(itertools.combinations(range(m), 2)):
        np.testing.assert_array_equal(marginal.probs[:, g], np.stack([p[:, a, b], p[:, b, a]], axis=1))
        np.testing.assert_allclose(h.pair_log_odds([a], [b])[:, 0], np.log(p[:, a, b] / p[:, b, a]), atol=1e-12)


@pytest.mark.parametrize("phi", [0.0, 1e-300, 1e-12, 0.3, 1 - 1e-12, 1.0])
def test_mallows_pair_marginal_follows_the_gap_formula(phi: float) -> None:
    """P(i before j) = h(g+1) - h(g), h(g) = g / (1 - phi^g), in exact rational arithmetic."""
    m, exact = 9, Fraction(phi)
    h = pc.Mallows(np.arange(1, m + 1), phi)
    pairs = h.marginal("sub-2")
    for g, (i, j) in enumerate(itertools.combinations(range(m), 2)):
        gap = j - i
        if exact == 1:
            expected = Fraction(1, 2)
        else:
            expected = (gap + 1) / (1 - exact ** (gap + 1)) - gap / (1 - exact**gap)
        assert pairs.probs[0, g, 0] == pytest.approx(float(expected), abs=1e-15)
        if 0 < exact < 1:
            odds = expected / (1 - expected)
            if odds < 2:
                log_odds = math.log1p(float(odds - 1))
            else:
                log_odds = math.log(odds.numerator) - math.log(odds.denominator)
            assert h.pair_log_odds([i], [j])[0, 0] == pytest.approx(log_odds, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("phi", [0.0, 1e-200, 0.4, 1 - 1e-12, 1.0])
@pytest.mark.parametrize("m", [1, 2, 6])
def test_mallows_normaliser_and_mean_distance(phi: float, m: int) -> None:
    weights = {}
    for order in every_order(m):
        weights[order] = sum(a > b for a, b in itertools.combinations(order, 2))
    total = math.fsum(phi**d for d in weights.values())
    mean = math.fsum(d * phi**d for d in weights.values()) / total
    assert float(log_normalizer(phi, m)) == pytest.approx(math.log(total), abs=1e-13)
    assert float(expected_distance(phi, m)) == pytest.approx(mean, rel=1e-13)
    both = expected_distance(np.array([[phi, 1.0]]), m)
    assert both.shape == (1, 2)
    assert both[0, 1] == pytest.approx(m * (m - 1) / 4)


@pytest.mark.parametrize(("m", "k"), [(7, 3), (8, 2), (7, 5), (6, 6)])
def test_subset_recursion_agrees_with_closed_forms(m: int, k: int) -> None:
    """The dynamic programme for any stage-wise model against the closed forms of Plackett-Luce and Mallows."""
    rng = np.random.default_rng(m * k)
    view = View("sub", k)
    patterns = permutation_index(view.outcomes(m), m)
    s = rng.normal(size=(3, m)) * 3
    table = ordered_subset_probs(log_choice_probs(s.T, m - 1), m, k)
    log_table = ordered_subset_probs(log_choice_probs(s.T, m - 1), m, k, log=True)
    np.testing.assert_allclose(np.exp(log_table), table, rtol=1e-11)
    np.testing.assert_allclose(
        np.moveaxis(table[patterns], -1, 0), pc.PlackettLuce(s).marginal(view).probs, rtol=0, atol=TOLERANCE
    )
    phi = np.array([0.0, 0.35, 1.0])
    place = np.argsort(rng.random((3, m)), axis=1)
    stages = [mallows_stage(place, phi, t) for t in range(m - 1)]
    table = ordered_subset_probs(stages, m, k)
    np.testing.assert_allclose(
        np.moveaxis(table[patterns], -1, 0), pc.Mallows(place + 1, phi).marginal(view).probs, rtol=0, atol=TOLERANCE
    )


def mallows_stage(place: np.ndarray, phi: np.ndarray, t: int) -> np.ndarray:
    """Choice probabilities of Mallows, c = phi^r / (1 + .. + phi^(|S|-1)), r = place among S in the centre."""
    here = place.T[remaining(place.shape[1], t)]  # (sets, size, n)
    r = np.argsort(np.argsort(here, axis=1), axis=1)
    with np.errstate(divide="ignore"):
        return np.log(phi**r / sum(phi**s for s in range(here.shape[1])))


def test_mallows_sub_marginals_of_16_items_fit_together() -> None:
    """Mallows sub-2 follows from sub-3 by adding up."""
    h = pc.Mallows(np.random.default_rng(5).permutation(16) + 1, 0.8)
    three = h.marginal("sub-3")
    two = h.marginal("sub-2").probs[0]
    members = View("sub", 2).members(16)
    cell = {(a, b): two[g, 0] for g, (a, b) in enumerate(members.tolist())}
    for g, (a, b, _) in enumerate(three.members.tolist()):
        orders_ = three.outcomes[g].tolist()
        total = sum(p for o, p in zip(orders_, three.probs[0, g], strict=True) if o.index(a) < o.index(b))
        assert total == pytest.approx(cell[a, b], abs=1e-13)


SPREADS = [0.0, 1.0, 30.0, 700.0, 1e4]


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("m", [2, 3, 9])
def test_race_integrals_agree_with_the_subset_recursion(m: int, spread: float) -> None:
    s = np.random.default_rng(m).normal(size=(m, 3)) * spread
    stages = log_choice_probs(s, m)
    np.testing.assert_allclose(position_race(s), position_probs(stages, m), rtol=0, atol=TOLERANCE)
    for k in range(1, m):
        sets = View("topset", k).outcomes(m)[0]
        np.testing.assert_allclose(topset_race(s, sets), topset_probs(stages, m, k), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("m", [20, 60, 150])
def test_race_integrals_of_many_equal_items_are_uniform(m: int) -> None:
    position = position_race(np.zeros((m, 1)))
    np.testing.assert_allclose(position, 1.0 / m, rtol=0, atol=TOLERANCE)
    sets = np.array([np.arange(m - 2)])
    assert topset_race(np.zeros((m, 1)), sets)[0, 0] == pytest.approx(1.0 / math.comb(m, 2), abs=TOLERANCE)


def test_race_integrals_are_used_for_many_items_and_add_up() -> None:
    s = np.random.default_rng(0).normal(size=(2, 18)) * 4
    h = pc.PlackettLuce(s)
    position = h.marginal("position").probs
    np.testing.assert_allclose(position.sum(axis=2), 1.0, atol=TOLERANCE)
    np.testing.assert_allclose(position.sum(axis=1), 1.0, atol=TOLERANCE)
    np.testing.assert_allclose(position[:, :, 0], np.exp(h.top_log_probs()), atol=TOLERANCE)
    rest = h.marginal("topset-17").probs[:, 0, ::-1]  # the set of all but the last item, i.e. the item at the end
    np.testing.assert_allclose(position[:, :, -1], rest, atol=TOLERANCE)
