"""Rank classifier, trees and forests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

import prefcal as pc
from prefcal.errors import DataError, UsageError
from prefcal.rankers import LabelRankingForest, LabelRankingTree, RankClassifier
from prefcal.rankers.mallows_fit import fit_mallows
from prefcal.rankers.pl_fit import fit_plackett_luce
from prefcal.rankers.tree import pair_indicators
from rankings import plackett_luce_ranks


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    return X, plackett_luce_ranks(1.5 * X @ np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]), rng)


def test_rank_classifier_is_the_classifier_of_rankings(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    ranker = RankClassifier(standardize=False).fit(X, y)
    classes, which = np.unique(y, axis=0, return_inverse=True)
    assert (ranker.rankings_ == classes).all()
    expected = LogisticRegression(max_iter=1000).fit(X, which.ravel()).predict_proba(X)
    np.testing.assert_allclose(ranker.predict_proba(X), expected, atol=1e-12)
    h = ranker.predict_distribution(X)
    assert isinstance(h, pc.Categorical)
    np.testing.assert_allclose(np.exp(h.log_prob(np.argsort(classes[2]))), expected[:, 2], atol=1e-12)


def test_temperature_is_the_best_one_on_the_held_out_rows(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    sharp = LogisticRegression(C=1e6, max_iter=5000)
    rng = np.random.default_rng(1)
    X = np.hstack([X, rng.normal(size=(400, 40))])  # noise to over-fit to
    ranker = RankClassifier(sharp, calibration="temperature", random_state=3).fit(X, y)
    assert ranker.temperature_ > 1.2
    held = ranker._split(len(X))[1]
    which = (y[held][:, None] == ranker.rankings_).all(axis=2).argmax(axis=1)
    log_p = ranker.temperature_ * np.log(ranker.predict_proba(X[held]))

    def loss(log_t: float) -> float:
        scaled = log_p / np.exp(log_t)
        p = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return -float(np.log(p[np.arange(len(held)), which]).mean())

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded").x
    assert np.log(ranker.temperature_) == pytest.approx(best, abs=1e-3)


def test_temperature_needs_rows_and_known_rankings() -> None:
    X = np.arange(4.0)[:, None]
    with pytest.raises(DataError, match="leaves 4 rows to fit and 0"):
        RankClassifier(calibration="temperature", calibration_fraction=0.1).fit(X, [[1, 2]] * 4)
    distinct = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [3, 1, 2]]
    with pytest.raises(DataError, match="no held-out ranking"):
        RankClassifier(calibration="temperature", random_state=0).fit(X, distinct)
    with pytest.raises(UsageError, match="calibration 'isotonic'"):
        RankClassifier(calibration="isotonic").fit(X, distinct)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="smoothing must be < 1"):
        RankClassifier(smoothing=1.0).fit(X, distinct)


def test_smoothing_gives_every_ranking_its_share(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    some = (y[:, 0] != 3).nonzero()[0]  # item 0 never last
    plain = RankClassifier().fit(X[some], y[some])
    smooth = RankClassifier(smoothing=0.3).fit(X[some], y[some])
    assert (plain.predict(X) == smooth.predict(X)).all()
    before = plain.predict_distribution(X).marginal("full").probs
    after = smooth.predict_distribution(X).marginal("full").probs
    np.testing.assert_allclose(after, 0.7 * before + 0.3 / 6, atol=1e-12)
    assert before.min() == 0.0


def test_one_ranking_is_one_class() -> None:
    ranker = RankClassifier().fit([[0.0], [1.0]], [[2, 1], [2, 1]])
    assert ranker.estimator_ is None
    assert ranker.predict([[5.0]]).tolist() == [[2, 1]]
    assert ranker.predict_proba([[5.0]]).tolist() == [[1.0]]


def test_partial_rankings_join_a_class() -> None:
    y = [[1, 2, 3]] * 4 + [[1, 2, np.nan], [1, 2, 2], [2, 1, 3]]
    ranker = RankClassifier().fit(np.arange(7.0)[:, None], y)
    assert ranker.rankings_.tolist() == [[1, 2, 3], [2, 1, 3]]


def test_tree_finds_the_step_and_fits_its_leaves() -> None:
    rng = np.random.default_rng(2)
    X = np.repeat([[0.0], [1.0]], 50, axis=0)
    y = plackett_luce_ranks(np.where(X == 0, [2.0, 0.0, -2.0], [-2.0, 0.0, 2.0]), rng)
    weights = np.zeros((2, 100))
    weights[0, :50] = weights[1, 50:] = 1.0
    tree = LabelRankingTree(prior=0.5).fit(X, y)
    assert tree.tree_.get_n_leaves() == 2
    expected = fit_plackett_luce(y, csr_array(weights), prior=0.5)
    np.testing.assert_allclose(tree.predict_distribution([[0.0], [1.0]]).scores.dense(), expected, atol=1e-6)
    mallows = LabelRankingTree("mallows", prior=0.5).fit(X, y).predict_distribution([[0.0], [1.0]])
    best, _ = fit_mallows(y, csr_array(weights), prior=0.5)
    np.testing.assert_allclose(mallows.dispersion, best.dispersion)
    assert (mallows.places == best.places).all()


def test_impurity_of_the_tree_is_the_expected_disagreement() -> None:
    """Mean squared error of the indicators, times 2 a pair, is the mean Kendall distance of two random rows."""
    rng = np.random.default_rng(3)
    y = plackett_luce_ranks(rng.normal(size=(30, 4)), rng)
    indicators = pair_indicators(y)
    impurity = 2 * indicators.var(axis=0).sum()
    distance = np.mean([(indicators[i] != indicators[j]).sum() for i in range(30) for j in range(30)])
    assert impurity == pytest.approx(distance)


def test_forest_of_one_full_tree_is_that_tree(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    for model in ("plackett-luce", "mallows"):
        forest = LabelRankingForest(
            model, n_estimators=1, bootstrap=False, max_features=None, min_samples_leaf=20, random_state=0
        ).fit(X, y)
        tree = LabelRankingTree(model, min_samples_leaf=20, random_state=0).fit(X, y)
        a = forest.predict_distribution(X).marginal("sub-2").probs
        b = tree.predict_distribution(X).marginal("sub-2").probs
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_forest_weights_are_the_mean_share_of_the_leaves(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = simulated
    weight = np.random.default_rng(4).random(len(X))
    forest = LabelRankingForest("mallows", n_estimators=7, min_samples_leaf=5, prior=0.0, random_state=0)
    forest.fit(X, y, weight)
    query = X[:1] + 0.01
    leaves, own = forest.forest_.apply(X), forest.forest_.apply(query)[0]
    share = np.zeros(len(X))
    for t in range(7):
        inside = leaves[:, t] == own[t]
        share[inside] += weight[inside] / weight[inside].sum() / 7
    expected, _ = fit_mallows(y, csr_array(share[None]), prior=0.0)
    found = forest.predict_distribution(query)
    assert (found.places == expected.places).all()
    assert found.dispersion[0] == pytest.approx(expected.dispersion[0], abs=1e-12)


def test_unknown_model_is_refused(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    for ranker in (LabelRankingTree("gumbel"), LabelRankingForest("gumbel")):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="model 'gumbel'"):
            ranker.fit(*simulated)
