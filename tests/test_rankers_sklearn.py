"""All rankers as scikit-learn estimators: its own checks, pipelines, grid search, bad input."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from prefcal.errors import DataError
from prefcal.rankers import (
    PLRPC,
    RPC,
    KNNMallows,
    KNNPlackettLuce,
    LabelRanker,
    LabelRankingForest,
    LabelRankingTree,
    LinearPlackettLuce,
    MallowsModel,
    RankClassifier,
    kendall_tau,
)
from rankings import plackett_luce_ranks

RANKERS: list[LabelRanker] = [
    LinearPlackettLuce(),
    MallowsModel(),
    KNNMallows(n_neighbors=5),
    KNNPlackettLuce(n_neighbors=5),
    RPC(),
    PLRPC(),
    RankClassifier(),
    RankClassifier(calibration="temperature", smoothing=0.05, random_state=0),
    LabelRankingTree(random_state=0),
    LabelRankingTree("mallows", random_state=0),
    LabelRankingForest(n_estimators=5, random_state=0),
    LabelRankingForest("mallows", n_estimators=5, random_state=0),
]


def name(ranker: Any) -> str:
    return repr(ranker).replace("\n", "").replace(" ", "")


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    return X, plackett_luce_ranks(2 * X @ rng.normal(size=(3, 4)), rng)


class FromNumbers:
    """Give a ranker the one-dimensional targets of scikit-learn's checks: items are ranked by |y - item|."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        return super().fit(X, self._ranks(y), sample_weight)  # type: ignore[misc]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return super().score(X, self._ranks(y), sample_weight)  # type: ignore[misc]

    @staticmethod
    def _ranks(y: Any) -> Any:
        if y is None:
            return None
        values = np.asarray(y)
        if np.iscomplexobj(values):
            return y
        values = values.reshape(len(values), -1)[:, :1].astype(float)
        distance = np.abs(values - np.arange(3))
        ranks = np.argsort(np.argsort(distance, axis=1, kind="stable"), axis=1) + 1.0
        return np.where(np.isfinite(values), ranks, np.nan)


class LinearFromNumbers(FromNumbers, LinearPlackettLuce): ...


class MallowsFromNumbers(FromNumbers, MallowsModel): ...


class KNNMallowsFromNumbers(FromNumbers, KNNMallows): ...


class KNNPlackettLuceFromNumbers(FromNumbers, KNNPlackettLuce): ...


class RPCFromNumbers(FromNumbers, RPC): ...


class PLRPCFromNumbers(FromNumbers, PLRPC): ...


class RankClassifierFromNumbers(FromNumbers, RankClassifier): ...


class TreeFromNumbers(FromNumbers, LabelRankingTree): ...


class ForestFromNumbers(FromNumbers, LabelRankingForest): ...


def exempt(ranker: Any) -> dict[str, str]:
    """Checks that cannot hold, with the reason (documented at LabelRanker)."""
    if isinstance(ranker, KNNMallows | KNNPlackettLuce | LabelRankingTree | LabelRankingForest):
        return {
            "check_sample_weight_equivalence_on_dense_data": "a parameter counts rows, not weights",
        }
    return {}


@parametrize_with_checks(
    [
        LinearFromNumbers(),
        MallowsFromNumbers(),
        KNNMallowsFromNumbers(n_neighbors=3),
        KNNPlackettLuceFromNumbers(n_neighbors=3),
        RPCFromNumbers(),
        PLRPCFromNumbers(),
        RankClassifierFromNumbers(),
        TreeFromNumbers(),
        ForestFromNumbers(n_estimators=5),
    ],
    expected_failed_checks=exempt,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("ranker", RANKERS, ids=name)
def test_predictions_are_rankings_of_the_distribution(ranker: LabelRanker, data: Any) -> None:
    X, y = data
    fitted = clone(ranker).fit(X, y)
    ranks, h = fitted.predict(X), fitted.predict_distribution(X)
    assert ranks.dtype.kind == "i"
    assert (np.sort(ranks, axis=1) == np.arange(1, 5)).all()
    assert len(h) == len(X)
    assert h.n_items == 4
    pairs = h.marginal("sub-2").probs
    np.testing.assert_allclose(pairs.sum(axis=2), 1.0, atol=1e-9)
    assert np.isfinite(h.pair_log_odds([0], [1])).all()
    assert fitted.score(X, y) > fitted.score(X, 5 - y)


@pytest.mark.parametrize("ranker", RANKERS, ids=name)
def test_pickled_and_cloned_rankers_predict_the_same(ranker: LabelRanker, data: Any) -> None:
    X, y = data
    fitted = clone(ranker).fit(X, y)
    again, copy = clone(ranker).fit(X, y), pickle.loads(pickle.dumps(fitted))
    assert (copy.predict(X) == fitted.predict(X)).all()
    assert (again.predict(X) == fitted.predict(X)).all()


@pytest.mark.parametrize("ranker", RANKERS, ids=name)
def test_partial_rankings_and_ties_are_learned_from(ranker: LabelRanker, data: Any) -> None:
    X, y = data
    partial = np.ceil(y / 2)
    partial[::3, 1] = np.nan
    for row in partial:
        known = ~np.isnan(row)
        row[known] = np.unique(row[known], return_inverse=True)[1] + 1
    fitted = clone(ranker).fit(X, partial)
    if not isinstance(ranker, MallowsModel):  # it does not look at X
        assert fitted.score(X, y) > 0.2


@pytest.mark.parametrize("ranker", RANKERS, ids=name)
def test_row_order_does_not_matter(ranker: LabelRanker, data: Any) -> None:
    if isinstance(ranker, LabelRankingForest) or getattr(ranker, "calibration", None):
        pytest.skip("draws rows at random")
    X, y = data
    rows = np.random.default_rng(1).permutation(len(X))
    one = clone(ranker).fit(X, y).predict_distribution(X).marginal("sub-2").probs
    two = clone(ranker).fit(X[rows], y[rows]).predict_distribution(X).marginal("sub-2").probs
    np.testing.assert_allclose(two, one, atol=2e-4)


@pytest.mark.parametrize("ranker", [LinearPlackettLuce(), KNNPlackettLuce(5), PLRPC()], ids=name)
def test_relabelling_items_relabels_the_forecast(ranker: LabelRanker, data: Any) -> None:
    X, y = data
    items = np.array([2, 0, 3, 1])
    one = clone(ranker).fit(X, y).predict_distribution(X)
    two = clone(ranker).fit(X, y[:, items]).predict_distribution(X)
    a, b = np.triu_indices(4, 1)
    np.testing.assert_allclose(
        np.tanh(two.pair_log_odds(a, b)), np.tanh(one.pair_log_odds(items[a], items[b])), atol=2e-4
    )


def test_pipeline_grid_search_and_cross_validation(data: Any) -> None:
    X, y = data
    folds = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KNNMallows()), {"knnmallows__n_neighbors": [1, 5, 20]}, cv=folds
    ).fit(X, y)
    assert search.best_params_["knnmallows__n_neighbors"] in (1, 5, 20)
    expected = cross_val_score(search.best_estimator_, X, y, cv=folds).mean()
    assert search.best_score_ == pytest.approx(expected)
    weights = np.random.default_rng(0).random(len(X))
    pipe = make_pipeline(StandardScaler(), LinearPlackettLuce())
    assert pipe.fit(X, y, linearplackettluce__sample_weight=weights).score(X, y) > 0.3


BAD: dict[str, tuple[Any, Any, str]] = {
    "gap": ([[1.0], [2.0]], [[1, 3], [1, 2]], "gap"),
    "zero rank": ([[1.0], [2.0]], [[0, 1], [1, 2]], "rank 0"),
    "infinite rank": ([[1.0], [2.0]], [[1, np.inf], [1, 2]], "rank inf"),
    "nothing ranked": ([[1.0], [2.0]], [[np.nan, np.nan], [1, 2]], "no item is ranked"),
    "unseen item": ([[1.0], [2.0]], [[1, 2, np.nan], [2, 1, np.nan]], r"items \[2\].*never ranked"),
    "only ties": ([[1.0], [2.0]], [[1, 1], [1, 1]], "never ranked against"),
    "one item": ([[1.0], [2.0]], [[1], [1]], "at least 2 items"),
    "lengths": ([[1.0], [2.0]], [[1, 2], [1, 2, 3]], "2 ranks where others have 3"),
    "one dimension": ([[1.0], [2.0]], [1, 2], "one row of numbers"),
    "rows": ([[1.0], [2.0]], [[1, 2]], "1 rows for the 2 rows"),
    "no target": ([[1.0], [2.0]], None, "target y is None"),
    "NaN feature": ([[np.nan], [2.0]], [[1, 2], [2, 1]], "contains NaN"),
    "infinite feature": ([[np.inf], [2.0]], [[1, 2], [2, 1]], "infinity"),
    "text feature": ([["a"], ["b"]], [[1, 2], [2, 1]], "convert"),
    "no rows": (np.zeros((0, 1)), np.zeros((0, 2)), "0 sample"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("ranker", [LinearPlackettLuce(), KNNMallows(1), RPC(), LabelRankingTree()], ids=name)
def test_bad_training_data_is_refused(ranker: LabelRanker, case: str) -> None:
    X, y, message = BAD[case]
    with pytest.raises(DataError, match=message):
        clone(ranker).fit(X, y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0], "1 numbers for 80"),
        ([-1.0] * 80, "instance 0.*-1.0"),
        ([0.0] * 80, "zero for every row"),
        ([np.nan] * 80, "nan"),
        (2.0, "1 dimensions"),
    ],
)
def test_bad_weights_are_refused(weight: Any, message: str, data: Any) -> None:
    with pytest.raises(DataError, match=message):
        LinearPlackettLuce().fit(*data, sample_weight=weight)


def test_bad_predictions_are_refused(data: Any) -> None:
    X, y = data
    fitted = LinearPlackettLuce().fit(X, y)
    with pytest.raises(DataError, match=r"2 features.*expecting 3"):
        fitted.predict(X[:, :2])
    with pytest.raises(DataError, match=r"5 items.*fitted to 4"):
        fitted.score(X, np.tile(np.arange(1, 6), (len(X), 1)))
    with pytest.raises(DataError, match="nothing to score"):
        fitted.score(X, np.ones_like(y))
    with pytest.raises(NotFittedError):
        LinearPlackettLuce().predict(X)
    with pytest.raises(DataError, match="n_samples = 80 is less than n_neighbors = 81"):
        KNNMallows(81).fit(X, y)


def test_every_ranker_lives_with_constant_features(data: Any) -> None:
    _, y = data
    for ranker in RANKERS:
        h = clone(ranker).fit(np.ones((len(y), 2)), y).predict_distribution(np.ones((3, 2)))
        assert len(h) == 3


def test_kendall_tau_against_scipy() -> None:
    rng = np.random.default_rng(2)
    a = np.array([rng.permutation(6) + 1 for _ in range(50)])
    b = np.array([rng.permutation(6) + 1 for _ in range(50)])
    expected = [kendalltau(x, z).statistic for x, z in zip(a, b, strict=True)]
    np.testing.assert_allclose(kendall_tau(a, b), expected, atol=1e-12)


def test_kendall_tau_of_partial_rankings_counts_known_pairs() -> None:
    observed = [[1, 2, 2, np.nan], [1, 1, 1, 1], [np.nan, np.nan, 2, 1]]
    predicted = [[2, 1, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]
    np.testing.assert_array_equal(kendall_tau(predicted, observed), [0.0, np.nan, -1.0])


def test_score_leaves_out_rows_without_known_pairs_and_weighs_the_others() -> None:
    fitted = MallowsModel().fit([[0.0], [0.0]], [[1, 2], [1, 2]])
    X, y = [[0.0], [0.0], [0.0]], [[1, 2], [2, 1], [1, 1]]
    assert fitted.score(X, y) == 0.0
    assert fitted.score(X, y, sample_weight=[3.0, 1.0, 5.0]) == 0.5


def test_importing_the_rankers_loads_nothing_heavy() -> None:
    code = "import sys, prefcal.rankers; print([m for m in ('sklearn', 'scipy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_raise() -> None:
    import prefcal.rankers

    with pytest.raises(AttributeError, match="NoSuchRanker"):
        _ = prefcal.rankers.NoSuchRanker
    assert "LinearPlackettLuce" in dir(prefcal.rankers)
