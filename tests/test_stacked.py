"""Stacked distributions say what their parts say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import prefcal as pc
from prefcal.distributions import categorical
from prefcal.distributions.stacked import Stacked, stack
from prefcal.errors import UsageError


def parts(m=4):
    rng = np.random.default_rng(0)
    a = pc.PlackettLuce(rng.normal(size=(3, m)))
    b = pc.Mallows(np.argsort(rng.random((4, m)), axis=1) + 1, 0.4)
    return [([6, 0, 3], a), ([1, 2, 4, 5], b)]


@pytest.mark.parametrize("view", ["full", "sub-2", "sub-3", "top-1", "top-2", "topset-2", "position"])
def test_every_instance_is_what_its_part_says(view):
    whole = stack(parts())
    assert isinstance(whole, Stacked)
    probs = whole.marginal(view).probs
    for rows, dist in parts():
        for i, row in enumerate(rows):
            assert np.array_equal(probs[row], dist[i].marginal(view).probs[0])
            assert np.array_equal(whole[row].marginal(view).probs[0], probs[row])
    some = np.array([5, 0, 6])
    assert np.array_equal(whole[some].marginal(view).probs, probs[some])


def test_parts_of_plackett_luce_become_one_whatever_their_gaps():
    rng = np.random.default_rng(1)
    dense = rng.normal(size=(6, 5))
    dense[1, 2] = dense[4, 0] = np.nan
    whole = pc.PlackettLuce(dense)
    for rows in ([[0, 1, 2], [3, 4, 5]], [[5, 2], [0, 1, 3, 4]], [[1], [0], [2, 3, 4, 5]]):
        found = stack([(r, whole[r]) for r in rows])
        assert isinstance(found, pc.PlackettLuce)
        assert np.array_equal(found.scores.dense(), dense, equal_nan=True)
    lists = [rng.normal(size=s).tolist() for s in (2, 4, 3, 1, 4)]
    ragged = pc.PlackettLuce(lists)
    found = stack([([4, 1], ragged[[4, 1]]), ([0, 2, 3], ragged[[0, 2, 3]])])
    assert isinstance(found, pc.PlackettLuce)
    assert not found.has_labels
    assert np.array_equal(found.scores.values, ragged.scores.values)


def test_lists_of_unequal_length():
    """Short parts are padded; an audit of the whole equals that of the same model in one piece."""
    rng = np.random.default_rng(2)
    lists = [rng.normal(size=2 + i % 3).tolist() for i in range(60)]
    model = pc.PlackettLuce(lists)
    rows = [np.flatnonzero(model.sizes == s) for s in (2, 3, 4)]
    whole = Stacked([(r, pc.PlackettLuce([lists[i] for i in r])) for r in rows])
    assert np.array_equal(whole.sizes, model.sizes)
    assert not whole.has_labels
    for view in ("sub-2", "sub-3", "position"):
        assert np.allclose(whole.marginal(view).probs, model.marginal(view).probs, equal_nan=True, atol=1e-15)
    assert np.array_equal(whole.mode(), model.mode())
    assert np.allclose(whole.top_log_probs(), model.top_log_probs())
    first, second = np.triu_indices(4, 1)
    assert np.allclose(whole.pair_log_odds(first, second), model.pair_log_odds(first, second), equal_nan=True)
    orders = whole.sample(3, 0)
    assert ((orders >= 0).sum(axis=2) == model.sizes[:, None]).all()
    assert np.allclose(whole.log_prob(orders[:, 0]), model.log_prob(orders[:, 0]))
    with pytest.raises(UsageError, match="no outcome about all"):
        whole.marginal("top-2")
    y = pc.Outcomes.from_best([int(np.argmax(s)) for s in lists], n_items=model.sizes)
    for notion in ("sub-2", "top-1:confidence"):
        a, b = (pc.audit(h, y, notions=notion, seed=1)[notion] for h in (whole, model))
        assert a.value == pytest.approx(b.value, abs=1e-12)
        assert a.n_events == b.n_events


def of_one_kind(kind: str, m: int, rng: np.random.Generator) -> list[pc.distributions.base.Distribution]:
    """Three forecasts of a kind, 3, 1 and 2 instances; lists that overlap in part, in different orders."""
    if kind == "Mallows":
        return [pc.Mallows(np.argsort(rng.random((n, m)), axis=1) + 1, rng.random(n)) for n in (3, 1, 2)]
    if kind == "Pairwise":
        upper = [np.triu(rng.random((n, m, m)), 1) for n in (3, 1, 2)]
        return [pc.Pairwise(u + np.tril(1 - u.transpose(0, 2, 1), -1)) for u in upper]
    every = np.array(list(itertools.permutations(range(m))))
    lists = [rng.permutation(len(every))[:r] for r in (3, 5, 1)]
    return [
        pc.Categorical(every[r], rng.dirichlet(np.ones(len(r)), size=n))
        for r, n in zip(lists, (3, 1, 2), strict=True)
    ]


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("kind", ["Categorical", "Pairwise", "Mallows"])
def test_parts_of_one_kind_become_one(kind, m):
    rng = np.random.default_rng(m)
    models = of_one_kind(kind, m, rng) if m > 2 or kind != "Categorical" else [
        pc.Categorical([[0, 1]], np.ones((3, 1))), pc.Categorical([[1, 0]], [[1.0]]),
        pc.Categorical([[1, 0], [0, 1]], rng.dirichlet(np.ones(2), size=2)),
    ]  # fmt: skip
    rows = [[4, 0, 2], [5], [1, 3]]
    whole = stack(list(zip(rows, models, strict=True)))
    assert type(whole).__name__ == kind
    apart = Stacked(list(zip(rows, models, strict=True)))
    assert len(whole) == 6
    first, second = np.triu_indices(m, 1)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(whole.pair_log_odds(first, second), apart.pair_log_odds(first, second))
    if kind == "Pairwise":
        return
    for order in itertools.permutations(range(m)):
        np.testing.assert_array_equal(whole.log_prob(order), apart.log_prob(order))
    for view in ("full", "top-1", "sub-2", "position"):
        np.testing.assert_allclose(whole.marginal(view).probs, apart.marginal(view).probs, atol=1e-15)
    np.testing.assert_array_equal(np.exp(whole.log_prob(whole.mode())), np.exp(apart.log_prob(apart.mode())))


def test_lists_are_joined_only_where_the_table_fits(monkeypatch):
    parts = [
        ([0, 1], pc.Categorical([[0, 1], [1, 0]], np.full((2, 2), 0.5))),
        ([2], pc.Categorical([[1, 0]], [[1.0]])),
    ]
    assert isinstance(stack(parts), pc.Categorical)
    monkeypatch.setattr(categorical, "MARGINAL_LIMIT", 5)
    whole = stack(parts)
    assert isinstance(whole, Stacked)
    assert np.exp(whole.log_prob([1, 0])).tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("kind", ["Categorical", "Pairwise", "Mallows"])
def test_parts_about_different_numbers_of_items_stay_apart(kind):
    rng = np.random.default_rng(5)
    models = [of_one_kind(kind, 3, rng)[0], of_one_kind(kind, 4, rng)[1]]
    whole = stack([([0, 1, 3], models[0]), ([2], models[1])])
    assert isinstance(whole, Stacked)
    assert whole.sizes.tolist() == [3, 3, 4, 3]


def test_rows_that_do_not_cover_are_refused():
    a = pc.PlackettLuce(np.zeros((2, 3)))
    for bad in ([([0, 1], a), ([1, 2], a)], [([0, 2], a)], [([0], a)], []):
        with pytest.raises(UsageError):
            stack(bad)
