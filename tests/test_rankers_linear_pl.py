"""Linear Plackett-Luce: gradient, agreement with logistic regression, invariances, recovery."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from prefcal.errors import UsageError
from prefcal.rankers import LinearPlackettLuce
from prefcal.rankers.linear_pl import penalized_loss
from prefcal.rankers.stages import Stages
from rankings import bucket_orders, plackett_luce_ranks


def simulate(n: int = 300, p: int = 3, m: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.array([1.0, 10.0, 0.1])[:p]
    scores = (X / np.array([1.0, 10.0, 0.1])[:p]) @ rng.normal(size=(p, m)) + rng.normal(size=m)
    return X, plackett_luce_ranks(scores, rng)


def test_gradient_of_the_penalised_loss() -> None:
    rng = np.random.default_rng(2)
    ranks = bucket_orders(40, 4, rng)
    design = np.hstack([rng.normal(size=(40, 3)), np.ones((40, 1))])
    stages, weight = Stages(ranks), rng.random(40)

    def value(flat: np.ndarray) -> float:
        return penalized_loss(flat.reshape(4, 4), design, stages, weight, 0.7)[0]

    def gradient(flat: np.ndarray) -> np.ndarray:
        return penalized_loss(flat.reshape(4, 4), design, stages, weight, 0.7)[1].reshape(-1)

    assert check_grad(value, gradient, rng.normal(size=16)) < 1e-5


def test_two_items_are_logistic_regression() -> None:
    X, ranks = simulate(m=2)
    ours = LinearPlackettLuce(alpha=0.5, standardize=False, tol=1e-9).fit(X, ranks)
    theirs = LogisticRegression(C=2 / 0.5, tol=1e-10, max_iter=10_000).fit(X, ranks[:, 0] < ranks[:, 1])
    np.testing.assert_allclose(ours.coef_[0] - ours.coef_[1], theirs.coef_[0], rtol=1e-4, atol=1e-6)
    assert ours.intercept_[0] - ours.intercept_[1] == pytest.approx(theirs.intercept_[0], rel=1e-4)


def test_recovers_the_coefficients() -> None:
    rng = np.random.default_rng(3)
    coef = rng.normal(size=(4, 2))
    coef -= coef.mean(axis=0)
    intercept = np.array([1.0, 0.0, -0.5, -0.5])
    X = rng.normal(size=(20_000, 2))
    found = LinearPlackettLuce(alpha=1e-6).fit(X, plackett_luce_ranks(X @ coef.T + intercept, rng))
    np.testing.assert_allclose(found.coef_, coef, atol=0.04)
    np.testing.assert_allclose(found.intercept_, intercept, atol=0.04)


def test_recovers_the_coefficients_from_ties_and_gaps() -> None:
    """A random item hidden, the others coarsened to {best}, {rest} or {first two}, {last}."""
    rng = np.random.default_rng(4)
    coef = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    X = rng.normal(size=(20_000, 2))
    ranks = plackett_luce_ranks(X @ coef.T, rng)
    rows, hidden = np.arange(len(X)), rng.integers(0, 4, len(X))
    among = ranks - (ranks > ranks[rows, hidden][:, None])  # 1..3 among those that are left
    coarse = 1.0 + (among > rng.integers(1, 3, len(X))[:, None])
    coarse[rows, hidden] = np.nan
    found = LinearPlackettLuce(alpha=1e-6).fit(X, coarse)
    np.testing.assert_allclose(found.coef_, coef, atol=0.06)


def test_weight_two_is_the_row_twice_and_weight_zero_no_row() -> None:
    X, ranks = simulate(n=60)
    weight = np.random.default_rng(5).integers(0, 3, 60)
    weighted = LinearPlackettLuce(tol=1e-9).fit(X, ranks, sample_weight=weight)
    repeated = LinearPlackettLuce(tol=1e-9).fit(np.repeat(X, weight, axis=0), np.repeat(ranks, weight, axis=0))
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), atol=1e-5)


def test_order_of_rows_and_labels_does_not_matter() -> None:
    X, ranks = simulate()
    rng = np.random.default_rng(6)
    rows, items = rng.permutation(len(X)), rng.permutation(4)
    base = LinearPlackettLuce(tol=1e-9).fit(X, ranks)
    other = LinearPlackettLuce(tol=1e-9).fit(X[rows], ranks[rows][:, items])
    np.testing.assert_allclose(other.decision_function(X), base.decision_function(X)[:, items], atol=1e-5)


def test_units_of_features_do_not_matter() -> None:
    X, ranks = simulate()
    base = LinearPlackettLuce(tol=1e-9).fit(X, ranks)
    other = LinearPlackettLuce(tol=1e-9).fit(1e6 * X - 3e5, ranks)
    np.testing.assert_allclose(other.decision_function(1e6 * X - 3e5), base.decision_function(X), atol=1e-5)


def test_a_constant_feature_changes_nothing() -> None:
    X, ranks = simulate()
    wide = np.hstack([X, np.full((len(X), 1), 0.1)])
    base, other = LinearPlackettLuce().fit(X, ranks), LinearPlackettLuce().fit(wide, ranks)
    assert (other.coef_[:, -1] == 0).all()
    np.testing.assert_allclose(other.decision_function(wide), base.decision_function(X), atol=1e-6)


def test_the_minimum_is_a_minimum() -> None:
    X, ranks = simulate()
    found = LinearPlackettLuce(alpha=2.0, standardize=False, tol=1e-8).fit(X, ranks)
    design = np.hstack([X, np.ones((len(X), 1))])
    best = np.hstack([found.coef_, found.intercept_[:, None]])
    stages, weight = Stages(ranks), np.ones(len(X))
    assert penalized_loss(best, design, stages, weight, 2.0)[0] == pytest.approx(found.objective_, rel=1e-10)
    for seed in range(20):
        near = best + 0.01 * np.random.default_rng(seed).normal(size=best.shape)
        assert penalized_loss(near, design, stages, weight, 2.0)[0] > found.objective_


def test_too_few_iterations_warn() -> None:
    X, ranks = simulate()
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        LinearPlackettLuce(max_iter=1).fit(X, ranks)


@pytest.mark.parametrize("bad", [{"alpha": -1.0}, {"tol": 0.0}, {"max_iter": 0}, {"alpha": "much"}])
def test_bad_parameters(bad: dict[str, object]) -> None:
    X, ranks = simulate(n=20)
    with pytest.raises(UsageError, match=next(iter(bad))):
        LinearPlackettLuce(**bad).fit(X, ranks)  # type: ignore[arg-type]
