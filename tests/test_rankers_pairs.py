"""RPC, and the ways from pairs to distributions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import prefcal as pc
from prefcal.errors import DataError, UsageError
from prefcal.rankers import (
    PLRPC,
    RPC,
    LinearPlackettLuce,
    pairs_to_babington_smith,
    pairs_to_maximum_entropy,
    pairs_to_plackett_luce,
)
from prefcal.rankers.coupling import triangle_excess
from rankings import plackett_luce_ranks
from strategies import pair_probs, seeds


def off_diagonal(m: int) -> np.ndarray:
    return 1.0 - np.eye(m)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), m=st.integers(2, 6))
def test_plackett_luce_keeps_row_sums_and_their_order(data: st.DataObject, m: int) -> None:
    probs = data.draw(pair_probs(3, m, low=1e-4))
    h = pairs_to_plackett_luce(probs)
    s = h.scores.dense()
    mu = 1 / (1 + np.exp(s[:, None, :] - s[:, :, None]))
    np.testing.assert_allclose((mu * off_diagonal(m)).sum(axis=2), (probs * off_diagonal(m)).sum(axis=2), atol=1e-8)
    sums = (probs * off_diagonal(m)).sum(axis=2)
    for row, total in zip(s, sums, strict=True):
        for a, b in itertools.permutations(range(m), 2):
            if total[a] > total[b] + 1e-6:
                assert row[a] > row[b]


def test_plackett_luce_is_zermelos_fixed_point() -> None:
    rng = np.random.default_rng(0)
    upper = np.triu(rng.uniform(0.1, 0.9, (5, 5)), 1)
    probs = upper + np.tril(1 - upper.T, -1)
    v = np.ones(5)
    for _ in range(5000):
        mu = v[:, None] / (v[:, None] + v) * off_diagonal(5)
        v = v * probs.sum(axis=1) / mu.sum(axis=1)
    found = pairs_to_plackett_luce(probs[None]).scores.dense()[0]
    np.testing.assert_allclose(found, np.log(v) - np.log(v).mean(), atol=1e-8)


def test_a_plackett_luce_model_comes_back() -> None:
    h = pc.PlackettLuce([[2.0, 0.0, -3.0, 1.0]])
    first, second = np.triu_indices(4, 1)
    probs = np.full((1, 4, 4), np.nan)
    probs[0, first, second] = h.marginal("sub-2").probs[0, :, 0]
    np.testing.assert_allclose(pairs_to_plackett_luce(probs).scores.dense(), h.scores.dense(), atol=1e-8)
    chain = probs.copy()  # neighbours only
    chain[0, [0, 0, 1], [2, 3, 3]] = np.nan
    np.testing.assert_allclose(pairs_to_plackett_luce(chain).scores.dense(), h.scores.dense(), atol=1e-8)


def test_unconnected_pairs_are_refused_and_certain_ones_clipped() -> None:
    probs = np.full((1, 4, 4), np.nan)
    probs[0, 0, 1] = probs[0, 2, 3] = 0.7
    with pytest.raises(DataError, match="do not connect"):
        pairs_to_plackett_luce(probs)
    certain = pairs_to_plackett_luce([[[0.5, 1.0], [0.0, 0.5]]], clip=1e-3)
    assert certain.marginal("sub-2").probs[0, 0, 0] == pytest.approx(0.999, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, m=st.integers(3, 6), spread=st.floats(0.05, 0.5))
def test_maximum_entropy_exists_exactly_where_a_linear_program_finds_a_mixture(
    seed: int, m: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.uniform(0.5 - spread, 0.5 + spread, (m, m)), 1)
    probs = upper + np.tril(1 - upper.T, -1) + 0.5 * np.eye(m)
    orders = np.array(list(itertools.permutations(range(m))))
    place = np.argsort(orders, axis=1)
    first, second = np.triu_indices(m, 1)
    system = np.vstack([(place[:, first] < place[:, second]).T, np.ones(len(orders))]).astype(float)
    target = np.append(probs[first, second], 1.0)
    feasible = linprog(np.zeros(len(orders)), A_eq=system, b_eq=target).status == 0
    if feasible:
        h = pairs_to_maximum_entropy(probs[None])
        np.testing.assert_allclose(h.marginal("sub-2").probs[0, :, 0], target[:-1], atol=1e-8)
        # No feasible direction raises the entropy: log p is a sum over pairs (the span of the constraints).
        log_p = np.log(h.probs[0])
        residual = log_p - system.T @ np.linalg.lstsq(system.T, log_p, rcond=None)[0]
        assert np.abs(residual).max() < 1e-6
    else:
        with pytest.raises(DataError, match="no distribution"):
            pairs_to_maximum_entropy(probs[None])
    if m <= 5:
        assert feasible == (triangle_excess(probs[None])[0] <= 0)


def test_projection_is_near_and_leaves_realisable_pairs_alone() -> None:
    cyclic = np.array([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]])
    fine = np.array([[0.5, 0.6, 0.6], [0.4, 0.5, 0.6], [0.4, 0.4, 0.5]])
    with pytest.raises(DataError, match=r"instance 1.*P\(0<1\) \+ P\(1<2\) \+ P\(2<0\) = 2.4 > 2"):
        pairs_to_maximum_entropy([fine, cyclic])
    h = pairs_to_maximum_entropy([fine, cyclic], unrealisable="project")
    pairs = h.marginal("sub-2").probs[:, :, 0]
    np.testing.assert_allclose(pairs[0], 0.6, atol=1e-8)
    # The nearest realisable matrix has the excess of .4 spread evenly: 2/3 each.
    np.testing.assert_allclose(pairs[1], [2 / 3, 1 / 3, 2 / 3], atol=0.01)


def test_maximum_entropy_limits() -> None:
    with pytest.raises(UsageError, match="at most 7 items, got 8"):
        pairs_to_maximum_entropy(np.full((1, 8, 8), 0.5))
    with pytest.raises(DataError, match=r"P\(0 before 1\) is not stated"):
        pairs_to_maximum_entropy(np.full((1, 3, 3), np.nan))
    certain = pairs_to_maximum_entropy([[[0.5, 1.0, 1.0], [0.0, 0.5, 0.7], [0.0, 0.3, 0.5]]])
    np.testing.assert_allclose(certain.probs[0], [0.7, 0.3, 0, 0, 0, 0], atol=1e-8)
    with pytest.raises(UsageError, match="'ignore'"):
        pairs_to_maximum_entropy(np.full((1, 3, 3), 0.5), unrealisable="ignore")  # type: ignore[arg-type]


def test_babington_smith_is_the_normalised_product() -> None:
    rng = np.random.default_rng(3)
    upper = np.triu(rng.uniform(0.1, 0.9, (4, 4)), 1)
    probs = upper + np.tril(1 - upper.T, -1)
    h = pairs_to_babington_smith(probs[None])
    orders = list(itertools.permutations(range(4)))
    products = np.array([np.prod([probs[a, b] for a, b in itertools.combinations(o, 2)]) for o in orders])
    found = [np.exp(h.log_prob(np.array(o)))[0] for o in orders]
    np.testing.assert_allclose(found, products / products.sum(), atol=1e-12)


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(300, 2))
    return X, plackett_luce_ranks(X @ rng.normal(size=(2, 4)), rng)


def test_rpc_is_one_logistic_regression_a_pair(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    probs = RPC(standardize=False).fit(X, y).predict_pairs(X).probs
    for a, b in itertools.combinations(range(4), 2):
        alone = LogisticRegression(max_iter=1000).fit(X, y[:, a] < y[:, b]).predict_proba(X)[:, 1]
        np.testing.assert_allclose(probs[:, a, b], alone, atol=1e-12)
    np.testing.assert_allclose(probs + probs.transpose(0, 2, 1), 1.0, atol=1e-12)


def test_rpc_recovers_the_pairs_of_a_plackett_luce_model(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    linear = LinearPlackettLuce().fit(X, y).predict_distribution(X).marginal("sub-2").probs
    pairs = RPC().fit(X, y).predict_distribution(X).marginal("sub-2").probs
    assert np.abs(linear - pairs).mean() < 0.05


@pytest.mark.parametrize("kind", ["plackett-luce", "maximum-entropy", "babington-smith"])
def test_rpc_completes_the_pairs(kind: str, simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    ranker = RPC(distribution=kind).fit(X, y)  # type: ignore[arg-type]
    h, pairs = ranker.predict_distribution(X), ranker.predict_pairs(X)
    assert h.has_rankings
    gap = np.abs(h.marginal("sub-2").probs - pairs.marginal("sub-2").probs).max()
    if kind == "maximum-entropy":
        assert gap < 0.02
        assert np.median(np.abs(h.marginal("sub-2").probs - pairs.marginal("sub-2").probs).max(axis=(1, 2))) < 1e-8
    if kind == "plackett-luce":
        assert (PLRPC().fit(X, y).predict(X) == ranker.predict(X)).all()
        assert (pc.PlackettLuce(h.scores).mode() == np.argsort(ranker.predict(X), axis=1)).mean() > 0.99


def test_rpc_takes_other_classifiers_and_weights(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    weight = np.random.default_rng(5).random(len(X))
    assert RPC(DecisionTreeClassifier(max_depth=3, random_state=0)).fit(X, y, weight).score(X, y) > 0.2
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    piped = RPC(pipe, standardize=False).fit(X, y, weight).predict_pairs(X).probs
    scaled = StandardScaler().fit_transform(X)
    direct = RPC(LogisticRegression(), standardize=False).fit(scaled, y, weight).predict_pairs(scaled).probs
    np.testing.assert_allclose(piped, direct, atol=1e-10)
    with pytest.raises(UsageError, match="KNeighborsClassifier takes no sample_weight"):
        RPC(KNeighborsClassifier()).fit(X, y, weight)
    with pytest.raises(UsageError, match="no predict_proba"):
        RPC(Perceptron()).fit(X, y)
    with pytest.raises(UsageError, match="distribution 'gumbel'"):
        RPC(distribution="gumbel").fit(X, y)  # type: ignore[arg-type]


def test_rpc_without_evidence_or_with_one_sided_evidence() -> None:
    """Items 0 and 2 never meet; 0 always beats 1 (4 rows of weight 1): 5 / 6."""
    y = [[1, 2, np.nan]] * 4 + [[np.nan, 1, 2], [np.nan, 2, 1]]
    X = np.arange(6.0)[:, None]
    ranker = RPC().fit(X, y)
    probs = ranker.predict_pairs(X).probs
    np.testing.assert_allclose(probs[:, 0, 1], 5 / 6)
    assert np.isnan(probs[:, 0, 2]).all()
    assert ranker.predict(X)[0, 0] == 1
    assert len(PLRPC().fit(X, y).predict_distribution(X)) == 6
