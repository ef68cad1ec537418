"""Best-of-n optimism: against enumeration of subsets and rankings, invariances, coverage of its intervals."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefcal as pc
from prefcal.decisions import best_of_n, subsets
from prefcal.decisions.subsets import expected_claims, expected_hits
from prefcal.distributions.stagewise import first_probs
from prefcal.errors import DataError, UsageError
from rankings import plackett_luce_probability, plackett_luce_ranks
from strategies import scores, seeds


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def brute(s: np.ndarray, ranks: np.ndarray, n: int, best: int | None) -> tuple[float, float]:
    """Mean claim and hit of one instance over subsets, by enumeration."""
    claims, hits = [], []
    for subset in itertools.combinations(range(len(s)), n):
        if best is not None and best not in subset:
            continue
        inside = s[list(subset)]
        p = softmax(inside)
        top = np.flatnonzero(inside == inside.max())
        truth = min(subset, key=lambda a: ranks[a]) if best is None else best
        claims.append(p.max())
        hits.append(np.mean([subset[t] == truth for t in top]))
    return float(np.mean(claims)), float(np.mean(hits))


@pytest.mark.parametrize("enumerated", [0, 12])
@given(array=scores(max_items=6, max_instances=3, largest=30.0), seed=seeds)
def test_subsets_as_enumerated(enumerated, array, seed):
    """Both ways to the mean claim, the integral and the enumeration."""
    n, m = array.shape
    with mock.patch.object(subsets, "_ENUMERATED", enumerated):
        check_subsets(array, seed, n, m)


def check_subsets(array, seed, n, m):
    rng = np.random.default_rng(seed)
    ranks = np.argsort(rng.random((n, m)), axis=1) + 1.0
    best = ranks.argmin(axis=1)
    for given_best in (None, best):
        claim = expected_claims(array, given_best, m)
        hit = expected_hits(array, ranks, given_best, m)
        for i in range(n):
            for size in range(1, m + 1):
                expected = brute(array[i], ranks[i], size, None if given_best is None else int(best[i]))
                assert claim[i, size] == pytest.approx(expected[0], abs=1e-12)
                assert hit[i, size] == pytest.approx(expected[1], abs=1e-12)


@pytest.mark.parametrize("enumerated", [0, 12])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 50.0, 1e4, 1e15])
def test_any_scale_of_scores(scale, enumerated, monkeypatch):
    monkeypatch.setattr(subsets, "_ENUMERATED", enumerated)
    array = np.random.default_rng(1).normal(size=(2, 9)) * scale
    array[1, 3] = array[1, 4]
    ranks = np.tile(np.arange(1.0, 10.0), (2, 1))
    for best in (None, np.zeros(2, dtype=np.intp)):
        claim = expected_claims(array, best, 9)
        for i, n in itertools.product(range(2), (2, 5, 9)):
            expected = brute(array[i], ranks[i], n, None if best is None else 0)[0]
            assert claim[i, n] == pytest.approx(expected, abs=1e-12)


def test_many_candidates_against_sampled_subsets():
    """A hundred candidates, where enumeration is out of reach."""
    rng = np.random.default_rng(2)
    array = rng.normal(size=(1, 100)) * 2
    sampled = [softmax(array[0, rng.choice(100, 20, replace=False)]).max() for _ in range(20_000)]
    exact = expected_claims(array, None, 20)[0, 20]
    assert abs(exact - np.mean(sampled)) < 5 * np.std(sampled) / math.sqrt(20_000)


@given(array=scores(max_items=13, min_items=13, max_instances=2, largest=5.0), seed=seeds)
def test_integral_and_enumeration_agree(array, seed):
    best = np.random.default_rng(seed).integers(0, 13, len(array))
    for given_best in (None, best):
        by_integral = expected_claims(array, given_best, 13)
        with mock.patch.object(subsets, "_ENUMERATED", 13):
            assert np.allclose(by_integral[:, 1:], expected_claims(array, given_best, 13)[:, 1:], atol=1e-12)


def test_impossible_candidates_come_last():
    logs = np.array([[0.0, -np.inf, -np.inf]])
    assert expected_claims(logs, None, 3)[0, 1:].tolist() == pytest.approx([1.0, (1 + 1 + 0.5) / 3, 1.0])


@given(scores(max_instances=1, min_items=3, max_items=4, largest=3.0))
def test_a_plackett_luce_model_is_calibrated_for_itself(array):
    """Exactly: summed over all rankings with their probabilities, the mean hit is the mean claim, both ways."""
    m = array.shape[1]
    difference = np.zeros((2, m + 1))
    for order in itertools.permutations(range(m)):
        ranks = np.argsort(order)[None] + 1.0
        p = plackett_luce_probability(order, array[0])
        for row, best in enumerate((None, np.array([order[0]]))):
            difference[row] += p * (expected_hits(array, ranks, best, m) - expected_claims(array, best, m))[0]
    assert np.abs(difference[:, 1:]).max() < 1e-11


def other_models() -> dict[str, pc.distributions.base.Distribution]:
    """Two forecasts of four items each; the second of the stage-wise ones has two equal items."""
    scores = np.array([[1.0, 0.2, -0.3, 2.0], [0.5, 0.5, -1.0, 0.0]])
    pairs = 1 / (1 + np.exp(-(scores[:, :, None] - scores[:, None, :]) * [[[2.0]], [[0.7]]]))
    return {
        "Mallows": pc.Mallows(np.array([[1, 2, 3, 4], [3, 1, 4, 2]]), np.array([0.5, 0.8])),
        "StagedPlackettLuce": pc.StagedPlackettLuce(scores, [2.0, 0.5, 1.0]),
        "BabingtonSmith": pc.BabingtonSmith(pairs),
    }


@pytest.mark.parametrize("name", sorted(other_models()))
def test_other_models_with_complete_rankings(name):
    """Sub-n marginals, or sums over all sets, against all m! orders; equally probable items share the choice."""
    rng = np.random.default_rng(3)
    h = other_models()[name]
    ranks = np.argsort(rng.random((2, 4)), axis=1) + 1
    found = best_of_n(h, pc.Outcomes.from_ranks(ranks))
    assert found.subsets == "all"
    orders = list(itertools.permutations(range(4)))
    probs = np.exp([h.log_prob(np.array(o)) for o in orders])
    for s in found.sizes:
        claims, hits = [], []
        for i in range(2):
            for subset in itertools.combinations(range(4), s.n):
                first = np.zeros(4)
                for o, p in zip(orders, probs[:, i], strict=True):
                    first[next(a for a in o if a in subset)] += p
                claims.append(first.max())
                top = np.flatnonzero(first > first.max() - 1e-9)
                hits.append((min(subset, key=lambda a: ranks[i, a]) in top) / len(top))
        assert s.claimed.value == pytest.approx(np.mean(claims), abs=1e-12)
        assert s.realised.value == pytest.approx(np.mean(hits), abs=1e-12)


@pytest.mark.parametrize("m", [1, 2, 5])
def test_first_of_every_set_agrees_with_the_marginals(m):
    """Both recursions over subsets: who comes first of K, from the ordered marginals of K."""
    rng = np.random.default_rng(m)
    h = pc.StagedPlackettLuce(rng.normal(size=(3, m)) * 3, np.linspace(2.0, 0.4, max(m - 1, 1)))
    first = first_probs(h._log_stages(m), m)
    for k in range(2, m + 1):
        view = pc.View.parse(f"sub-{k}" if k < m else "full")
        marginal = h.marginal(view)
        for member, items in enumerate(view.members(m)):
            row = (1 << items).sum()
            for a in items:
                mine = (marginal.outcomes[member, :, 0] == a) if k < m else marginal.outcomes[0, :, 0] == a
                np.testing.assert_allclose(first[row, a], marginal.probs[:, member, mine].sum(axis=1), atol=1e-12)
    np.testing.assert_allclose(first[1:].sum(axis=1), 1.0)
    assert (first[0] == 0).all()


def test_mallows_with_only_the_best_known_uses_the_first_place_alone():
    h = pc.Mallows(np.array([[1, 2, 3]]), 0.5)
    found = best_of_n(h, pc.Outcomes.from_best([1], n_items=3))
    p = np.exp(h.top_log_probs()[0])
    expected = (p[0] / (p[0] + p[1]) + p[1] / (p[1] + p[2])) / 2
    assert found.subsets == "with the best"
    assert found.at(2).claimed.value == pytest.approx(expected)
    assert found.at(2).realised.value == 0.5


def test_a_marginal_that_is_too_large_is_left_out_and_named():
    m = 9
    h = pc.Mallows(np.arange(1, m + 1)[None].repeat(2, 0), 0.5)
    found = best_of_n(h, pc.Outcomes.from_ranks(np.arange(1, m + 1)[None].repeat(2, 0)), sizes=[2, 7, m])
    assert [s.n for s in found.sizes] == [2, m]
    assert list(found.left_out) == [7]


def test_best_of_all_is_top_1_accuracy_and_confidence():
    rng = np.random.default_rng(4)
    h = pc.PlackettLuce(rng.normal(size=(200, 5)))
    y = pc.Outcomes.from_best(rng.integers(0, 5, 200), n_items=5)
    last = best_of_n(h, y).at(5)
    r = pc.audit(h, y, notions=["top-1:confidence"], items="exchangeable")["top-1:confidence"]
    assert last.claimed.value == pytest.approx(r.metrics["mean_forecast"].value, abs=1e-12)
    assert last.realised.value == pytest.approx(r.metrics["accuracy"].value, abs=1e-12)


@given(seeds)
def test_invariances(seed):
    rng = np.random.default_rng(seed)
    lists = [rng.normal(size=rng.integers(1, 6)) for _ in range(8)] + [rng.normal(size=3)]
    best = [int(rng.integers(0, len(s))) for s in lists]
    sizes = [len(s) for s in lists]
    first = best_of_n(pc.PlackettLuce(lists), pc.Outcomes.from_best(best, n_items=sizes))
    shuffle = rng.permutation(len(lists))
    perms = [rng.permutation(k) for k in sizes]  # new place -> old place
    relabelled = [lists[i][perms[i]] for i in shuffle]
    where = [int(np.flatnonzero(perms[i] == best[i])[0]) for i in shuffle]
    second = best_of_n(pc.PlackettLuce(relabelled), pc.Outcomes.from_best(where, n_items=[sizes[i] for i in shuffle]))
    twice = best_of_n(pc.PlackettLuce(lists + lists), pc.Outcomes.from_best(best + best, n_items=sizes + sizes))
    heavy = best_of_n(pc.PlackettLuce(lists), pc.Outcomes.from_best(best, n_items=sizes), weights=[2.0] * len(lists))
    for other in (second, twice, heavy):
        for a, b in zip(first.sizes, other.sizes, strict=True):
            assert a.claimed.value == pytest.approx(b.claimed.value, abs=1e-12)
            assert a.realised.value == pytest.approx(b.realised.value, abs=1e-12)
    pairs_of_rows = np.tile(np.arange(len(lists)), 2)
    clustered = best_of_n(
        pc.PlackettLuce(lists + lists),
        pc.Outcomes.from_best(best + best, n_items=sizes + sizes),
        clusters=pairs_of_rows,
    )
    for a, b in zip(first.sizes, clustered.sizes, strict=True):  # the same rows twice are no new information
        assert a.realised.interval == pytest.approx(b.realised.interval, abs=1e-9)
        assert a.optimism.interval == pytest.approx(b.optimism.interval, abs=1e-9)


def test_weight_0_is_absence():
    h = pc.PlackettLuce([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    y = pc.Outcomes.from_best([0, 0, 1], n_items=2)
    some = best_of_n(h[:2], y[:2])
    without = best_of_n(h, y, weights=[1, 1, 0])
    assert without.sizes[0].optimism.value == some.sizes[0].optimism.value
    assert (without.sizes[0].n_instances, without.coverage["used"]) == (2, 2)


def test_one_incomplete_ranking_makes_all_subsets_hold_the_best():
    h = pc.PlackettLuce([[1.0, 0.0, 2.0], [0.0, 2.0, 1.0]])
    mixed = best_of_n(h, pc.Outcomes.from_ranks([[1, 2, 3], [1, 2, 2]]))
    assert mixed.subsets == "with the best"
    assert mixed.sizes == best_of_n(h, pc.Outcomes.from_best([0, 0], n_items=3)).sizes
    assert best_of_n(h, pc.Outcomes.from_ranks([[1, 2, 3], [1, 2, 3]])).subsets == "all"


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_intervals_cover(factor):
    """Given the forecasts, the interval of the optimism holds its expectation in about 95 % of repetitions."""
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(60, 5)) * 1.5
    h = pc.PlackettLuce(truth * factor)
    p = np.exp(pc.PlackettLuce(truth).top_log_probs())
    expected = {}
    for n in (2, 5):
        hits = np.stack([expected_hits(truth, truth, np.full(60, b), 5)[:, n] for b in range(5)], axis=1)
        claims = np.stack([expected_claims(truth * factor, np.full(60, b), 5)[:, n] for b in range(5)], axis=1)
        expected[n] = float((p * (claims - hits)).sum(axis=1).mean())
    assert (abs(expected[5]) < 1e-12) == (factor == 1.0)
    runs, inside = 300, dict.fromkeys(expected, 0)
    for _ in range(runs):
        y = pc.Outcomes.from_best(plackett_luce_ranks(truth, rng).argmin(axis=1), n_items=5)
        found = best_of_n(h, y, sizes=[2, 5])
        for n, value in expected.items():
            low, high = found.at(n).optimism.interval
            inside[n] += low <= value <= high
    for n, hits_n in inside.items():  # binomial: 0.95 +- 3.5 * 0.0126; conservative is allowed
        assert hits_n / runs > 0.905, n


def test_what_cannot_be_asked():
    h = pc.PlackettLuce([[1.0, 0.0, 0.5]])
    with pytest.raises(UsageError, match="at least 2"):
        best_of_n(h, pc.Outcomes.from_best([0], n_items=3), sizes=[1])
    with pytest.raises(DataError, match="best item is not known"):
        best_of_n(h, pc.Outcomes.from_best([[0, 1]], n_items=3))
    with pytest.raises(UsageError, match="pairwise"):
        best_of_n(pc.Pairwise(np.full((1, 3, 3), 0.5)), pc.Outcomes.from_best([0], n_items=3))
    found = best_of_n(h, pc.Outcomes.from_best([0], n_items=3))
    with pytest.raises(UsageError, match="was not computed"):
        found.at(7)
    assert found.document()["sizes"][0]["optimism"]["interval"] is not None


@given(st.integers(2, 60))
def test_default_sizes_hold_the_ends(m):
    h = pc.PlackettLuce(np.arange(float(m))[None])
    found = best_of_n(h, pc.Outcomes.from_best([m - 1], n_items=m))
    assert (found.sizes[0].n, found.sizes[-1].n) == (2, m)
    assert all(s.realised.value == 1.0 for s in found.sizes)


def test_default_sizes_stop_where_half_of_the_instances_end():
    """Beyond, the numbers would be about a few instances of another kind."""
    lists = [[0.0, 1.0, 2.0]] * 9 + [list(range(30))]
    y = pc.Outcomes.from_best([2] * 9 + [29], n_items=[3] * 9 + [30])
    assert [s.n for s in best_of_n(pc.PlackettLuce(lists), y).sizes] == [2, 3]
    asked = best_of_n(pc.PlackettLuce(lists), y, sizes=[3, 30])
    assert [s.n_instances for s in asked.sizes] == [10, 1]
