"""Linear Plackett-Luce: log-utilities that are linear in the features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from prefcal.data.ragged import FloatArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.rankers.base import LabelRanker, check_count, check_number
from prefcal.rankers.stages import Stages


class LinearPlackettLuce(LabelRanker):
    """Plackett-Luce with log-utility ``coef_[a] . x + intercept_[a]`` for item a.

    Minimises ``sum of w_i * -log P(ranking_i | x_i) + alpha / 2 * |coef|^2`` (convex) by L-BFGS with the analytic
    gradient. Partial rankings and ties enter with their exact likelihood, the sum over all complete rankings that
    agree with them (see :class:`~prefcal.rankers.stages.Stages`).

    Parameters
    ----------
    alpha
        Ridge on the coefficients (of the standardised features), >= 0; not on the intercepts. It is weighed against
        the *sum* over rows. For m = 2 this is scikit-learn's logistic regression with C = 2 / alpha.
    standardize
        Scale features to mean 0 and standard deviation 1 (weighted) before the fit. A constant feature is left out
        of the model (coefficient 0).
    max_iter
        Most L-BFGS iterations; a ConvergenceWarning tells when they do not suffice.
    tol
        Stop when no derivative of the objective, per unit of sample weight, is larger.

    Attributes
    ----------
    coef_
        (m, p) coefficients of the features as given (not standardised); columns sum to 0 over the items.
    intercept_
        (m,) intercepts; they sum to 0.
    n_iter_
        L-BFGS iterations.
    objective_
        The minimum found.

    Notes
    -----
    An item that every row puts above (or below) all others has no finite best intercept: the fit stops where its
    probability is within about ``tol`` of 1, as logistic regression does on one class. With ``alpha = 0`` the same
    holds for coefficients when the rankings are separable by the features.

    References
    ----------
    W. Cheng, K. Dembczynski, E. Huellermeier (2010), Label ranking methods based on the Plackett-Luce model, ICML.

    Examples
    --------
    >>> ranker = LinearPlackettLuce().fit([[-1.0], [0.0], [1.0], [2.0]], [[1, 2, 3], [1, 2, 3], [2, 1, 3], [3, 1, 2]])
    >>> ranker.predict([[-2.0], [3.0]]).tolist()
    [[1, 2, 3], [3, 1, 2]]
    """

    coef_: FloatArray
    intercept_: FloatArray
    n_iter_: int
    objective_: float

    def __init__(
        self, alpha: float = 1.0, *, standardize: bool = True, max_iter: int = 1000, tol: float = 1e-6
    ) -> None:
        self.alpha = alpha
        self.standardize = standardize
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearPlackettLuce:
        """Fit; see :class:`LabelRanker` for the target and the weights.

        Parameters
        ----------
        X
            (n, p) finite features.
        y
            (n, m) ranks, 1 = best, NaN = unranked, equal = tied.
        sample_weight
            (n,) numbers >= 0.

        Raises
        ------
        DataError
            For bad features, ranks or weights, and items never compared with another.
        """
        alpha = check_number("alpha", self.alpha, low=0.0)
        tol = check_number("tol", self.tol, low=0.0, open_low=True)
        max_iter = check_count("max_iter", self.max_iter)
        features, ranks, weight = self._training_data(X, y, sample_weight)
        n, p = features.shape
        m = self.n_items_
        center, scale = standardization(features, weight, enabled=self.standardize)
        design = np.hstack([(features - center) / scale, np.ones((n, 1))])
        stages = Stages(ranks)
        total = weight.sum()

        def objective(flat: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = penalized_loss(flat.reshape(m, p + 1), design, stages, weight, alpha)
            return value / total, gradient.reshape(-1) / total

        found = minimize(
            objective,
            np.zeros(m * (p + 1)),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_iter, "maxfun": 5 * max_iter, "maxcor": 20, "gtol": tol, "ftol": 1e-14},
        )
        self.n_iter_ = int(found.nit)
        if not found.success:
            warnings.warn(
                f"LinearPlackettLuce did not converge in {found.nit} iterations ({found.message}); raise max_iter "
                "or alpha, or standardize the features",
                ConvergenceWarning,
                stacklevel=2,
            )
        parameters = found.x.reshape(m, p + 1)
        parameters -= parameters.mean(axis=0)
        self.coef_ = parameters[:, :p] / scale
        self.intercept_ = parameters[:, p] - self.coef_ @ center
        self.objective_ = float(found.fun * total)
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """Log-utilities (n, m)."""
        features = self._features(X)
        scores: FloatArray = features @ self.coef_.T + self.intercept_
        return scores

    def predict_distribution(self, X: Any) -> PlackettLuce:
        """Plackett-Luce distribution of each of (n, p) instances."""
        return PlackettLuce(self.decision_function(X))


def standardization(features: FloatArray, weight: FloatArray, *, enabled: bool) -> tuple[FloatArray, FloatArray]:
    """Centre and scale (p,) of each feature: weighted mean and standard deviation.

    Constant features get an infinite scale, so that they become 0 and their coefficient vanishes. When not
    ``enabled``: 0 and 1.
    """
    p = features.shape[1]
    if not enabled:
        return np.zeros(p), np.ones(p)
    center = np.average(features, axis=0, weights=weight)
    spread = np.sqrt(np.average((features - center) ** 2, axis=0, weights=weight))
    constant = np.ptp(features, axis=0) == 0
    return center, np.where(constant | (spread == 0), np.inf, spread)


def penalized_loss(
    parameters: FloatArray, design: FloatArray, stages: Stages, weight: FloatArray, alpha: float
) -> tuple[float, FloatArray]:
    """Weighted negative log-likelihood plus ridge, and its gradient.

    Parameters
    ----------
    parameters
        (m, q) coefficients; the last column (intercepts) is not penalised.
    design
        (n, q) features, the last one constant.
    """
    log_likelihood, slope = stages.value_and_gradient(design @ parameters.T)
    value = -float(weight @ log_likelihood) + 0.5 * alpha * float((parameters[:, :-1] ** 2).sum())
    gradient = -(weight[:, None] * slope).T @ design
    gradient[:, :-1] += alpha * parameters[:, :-1]
    return value, gradient
