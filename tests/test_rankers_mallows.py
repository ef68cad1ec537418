"""Mallows fits: Kemeny centres, dispersions, ties and completions against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array

import prefcal as pc
from prefcal.errors import UsageError
from prefcal.rankers import KNNMallows, MallowsModel
from prefcal.rankers.kemeny import borda_orders, kemeny_orders, order_cost
from prefcal.rankers.mallows_fit import fit_mallows, most_probable_completion
from rankings import agreeing_orders, bucket_orders, plackett_luce_ranks
from strategies import seeds


def all_orders(m: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(m))))


@settings(max_examples=30, deadline=None)
@given(seed=seeds, m=st.integers(2, 6), whole=st.booleans())
def test_kemeny_orders_are_optimal(seed: int, m: int, whole: bool) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (6, m, m)).astype(float) if whole else rng.random((6, m, m))
    counts[:, np.arange(m), np.arange(m)] = 0.0
    orders, optimal = kemeny_orders(counts)
    assert optimal.all()
    every = all_orders(m)
    for c, order in zip(counts, orders, strict=True):
        best = order_cost(np.broadcast_to(c, (len(every), m, m)), every).min()
        assert order_cost(c[None], order[None])[0] == pytest.approx(best, abs=1e-9)


def test_kemeny_beyond_ten_items_says_when_it_is_certain() -> None:
    rng = np.random.default_rng(0)
    m = 14
    clear = np.triu(np.full((m, m), 3.0), 1) + np.tril(np.ones((m, m)), -1)
    relabel = rng.permutation(m)
    vague = rng.random((m, m)) * (1 - np.eye(m))
    counts = np.stack([clear[np.ix_(relabel, relabel)], vague])
    orders, optimal = kemeny_orders(counts)
    assert optimal.tolist() == [True, False]
    assert relabel[orders[0]].tolist() == list(range(m))
    assert order_cost(counts, orders)[1] < order_cost(counts, borda_orders(counts))[1]
    assert sorted(orders[1].tolist()) == list(range(m))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, m=st.integers(2, 5))
def test_completion_is_the_nearest_agreeing_order(seed: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = bucket_orders(10, m, rng, missing=0.4)
    center = np.array([rng.permutation(m) + 1 for _ in range(10)])
    filled = most_probable_completion(ranks, center)
    for given_ranks, c, found in zip(ranks, center, filled, strict=True):
        order = tuple(int(a) for a in np.argsort(found))
        allowed = agreeing_orders(given_ranks, list(range(m)))
        assert order in allowed

        def distance(o: tuple[int, ...], c: np.ndarray = c) -> int:
            return sum(c[a] > c[b] for a, b in itertools.combinations(o, 2))

        assert distance(order) == min(distance(o) for o in allowed)


def log_likelihood(ranks: np.ndarray, weight: np.ndarray, center: np.ndarray, phi: float) -> float:
    m = ranks.shape[1]
    total = 0.0
    for r, w in zip(ranks, weight, strict=True):
        orders = np.array(agreeing_orders(r, list(range(m))))
        h = pc.Mallows(center, np.full(len(orders), phi))
        total += w * np.log(np.exp(h.log_prob(orders)).sum())
    return total


@settings(max_examples=10, deadline=None)
@given(seed=seeds, ties=st.booleans())
def test_fit_is_the_maximum_likelihood_over_all_centres(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    ranks = bucket_orders(5, 3, rng, missing=0.0) if ties else plackett_luce_ranks(rng.normal(size=(5, 3)), rng)
    if (ranks.max(axis=1) == 1).all():
        return
    weight = rng.random(5) + 0.1
    model, exact = fit_mallows(ranks, csr_array(weight[None]), prior=0.0)
    assert exact.all()
    found = log_likelihood(ranks, weight, model.places[0] + 1, float(model.dispersion[0]))

    def worst(center: np.ndarray) -> float:
        return minimize_scalar(
            lambda phi: -log_likelihood(ranks, weight, center, phi), bounds=(1e-9, 1 - 1e-9), method="bounded"
        ).fun

    best = max(-worst(center) for center in all_orders(3) + 1)
    assert found >= best - 1e-6


def test_recovers_centre_and_dispersion() -> None:
    truth = pc.Mallows([3, 1, 4, 2, 5], 0.4)
    orders = truth.sample(20_000, 0)[0]
    found = MallowsModel().fit(np.zeros((len(orders), 1)), np.argsort(orders, axis=1) + 1)
    assert found.center_.tolist() == [3, 1, 4, 2, 5]
    assert found.dispersion_ == pytest.approx(0.4, abs=0.01)
    # Only the two best known, in order: a bucket order with a tied rest.
    top = np.minimum(np.argsort(orders, axis=1) + 1, 3)
    found = MallowsModel().fit(np.zeros((len(orders), 1)), top)
    assert found.dispersion_ == pytest.approx(0.4, abs=0.015)


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("phi", [0.2, 0.5, 0.8])
def test_dispersion_does_not_shrink_with_missing_items(missing: int, phi: float) -> None:
    orders = pc.Mallows([3, 1, 4, 2, 5], phi).sample(8000, 0)[0]
    ranks = np.argsort(orders, axis=1) + 1.0
    rng = np.random.default_rng(0)
    hidden = np.argsort(rng.random(ranks.shape), axis=1) < missing
    among = np.argsort(np.argsort(np.where(hidden, np.inf, ranks), axis=1), axis=1) + 1.0
    found = MallowsModel().fit(np.zeros((len(ranks), 1)), np.where(hidden, np.nan, among))
    if phi < 0.7:
        assert found.center_.tolist() == [3, 1, 4, 2, 5]
    assert found.dispersion_ == pytest.approx(phi, abs=0.03)


def test_ends_of_the_dispersion() -> None:
    X = np.zeros((4, 1))
    assert MallowsModel().fit(X, [[1, 2, 3]] * 4).dispersion_ == 0.0
    assert 0.0 < MallowsModel(prior=1.0).fit(X, [[1, 2, 3]] * 4).dispersion_ < 0.2
    assert MallowsModel().fit(X[:2], [[1, 2, 3], [3, 2, 1]]).dispersion_ == 1.0


def test_borda_and_kemeny_centres_can_differ() -> None:
    """Condorcet's favourite, first with 3 of 5 voters, has not the best mean rank."""
    ranks = [[1, 2, 3, 4]] * 3 + [[4, 1, 2, 3]] * 2
    X = np.zeros((5, 1))
    assert MallowsModel().fit(X, ranks).center_.tolist() == [1, 2, 3, 4]
    assert MallowsModel(center="borda").fit(X, ranks).center_.tolist() == [2, 1, 3, 4]
    with pytest.raises(UsageError, match="center 'mean'"):
        MallowsModel(center="mean").fit(X, ranks)  # type: ignore[arg-type]


def test_weights_count_rows() -> None:
    rng = np.random.default_rng(0)
    ranks, weight = bucket_orders(30, 5, rng), rng.integers(0, 4, 30)
    one = MallowsModel().fit(np.zeros((30, 1)), ranks, sample_weight=weight)
    two = MallowsModel().fit(np.zeros((weight.sum(), 1)), np.repeat(ranks, weight, axis=0))
    assert one.center_.tolist() == two.center_.tolist()
    assert one.dispersion_ == pytest.approx(two.dispersion_, abs=1e-12)


def test_all_neighbours_are_the_model_without_features() -> None:
    rng = np.random.default_rng(1)
    X, ranks = rng.normal(size=(25, 2)), plackett_luce_ranks(rng.normal(size=(25, 4)), rng)
    near = KNNMallows(25, prior=0.5).fit(X, ranks).predict_distribution(X[:3])
    whole = MallowsModel(prior=0.5).fit(X, ranks)
    np.testing.assert_allclose(near.dispersion, whole.dispersion_, atol=1e-12)
    assert (near.places + 1 == whole.center_).all()


def test_nearby_neighbours_weigh_more() -> None:
    X = np.array([[0.0], [1.0], [1.1]])
    ranks = [[1, 2], [2, 1], [2, 1]]
    near = KNNMallows(3, weights="distance", prior=0.0).fit(X, ranks)
    assert near.predict([[0.0], [0.1], [1.0]]).tolist() == [[1, 2], [1, 2], [2, 1]]
    assert KNNMallows(3).fit(X, ranks).predict([[0.1]]).tolist() == [[2, 1]]
    with pytest.raises(UsageError, match="weights 'dudani'"):
        KNNMallows(3, weights="dudani").fit(X, ranks)  # type: ignore[arg-type]
