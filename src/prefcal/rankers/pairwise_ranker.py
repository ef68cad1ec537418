"""Ranking by pairwise comparison: one probabilistic classifier for each pair of items."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.pairwise import Pairwise
from prefcal.errors import UsageError
from prefcal.rankers.base import LabelRanker, ranks_of_scores
from prefcal.rankers.coupling import (
    pairs_to_babington_smith,
    pairs_to_maximum_entropy,
    pairs_to_plackett_luce,
)
from prefcal.rankers.linear_pl import standardization

Coupling = Literal["pairwise", "plackett-luce", "maximum-entropy", "babington-smith"]


class RPC(LabelRanker):
    """Ranking by pairwise comparison: a classifier of "a before b" for each pair, trained where that is known.

    Parameters
    ----------
    base_estimator
        Any scikit-learn classifier with ``predict_proba``; default :class:`sklearn.linear_model.LogisticRegression`.
        Calibrate it with :class:`sklearn.calibration.CalibratedClassifierCV` if its probabilities need it.
    distribution
        What :meth:`predict_distribution` returns. ``pairwise``: the pairs' probabilities and nothing more, which is
        all that RPC states. The others complete them: see :mod:`prefcal.rankers.coupling`; ``maximum-entropy``
        keeps the pairs (up to 7 items; where no distribution has them, the nearest that one has),
        ``plackett-luce`` keeps row sums, ``babington-smith`` multiplies.
    standardize
        Scale features to mean 0 and standard deviation 1 before the classifiers see them.
    n_jobs
        Processes for the pairs' fits.

    Attributes
    ----------
    estimators_
        The classifiers of the pairs (0, 1), (0, 2), .., (m-2, m-1); a number in place of one stands for a pair that
        the training rows all order alike, w in weight: P = (w + 1) / (w + 2) (rule of succession); None for a pair
        that no row orders (not stated).

    Notes
    -----
    :meth:`predict` ranks by the sums over the other items of P(a before b), which minimises the expected Spearman
    distance if the pairs are right; a pair that is not stated counts 1/2.

    References
    ----------
    E. Huellermeier, J. Fuernkranz, W. Cheng, K. Brinker (2008), Label ranking by learning pairwise preferences,
    Artificial Intelligence 172.
    """

    estimators_: list[Any]
    _center: FloatArray
    _scale: FloatArray

    def __init__(
        self,
        base_estimator: Any = None,
        *,
        distribution: Coupling = "pairwise",
        standardize: bool = True,
        n_jobs: int | None = None,
    ) -> None:
        self.base_estimator = base_estimator
        self.distribution = distribution
        self.standardize = standardize
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RPC:
        """Fit one classifier for each pair on the rows that order it; see :class:`LabelRanker`."""
        _check_coupling(self._coupling())
        features, ranks, weight = self._training_data(X, y, sample_weight)
        self._center, self._scale = standardization(features, weight, enabled=self.standardize)
        features = (features - self._center) / self._scale
        base = LogisticRegression(max_iter=1000) if self.base_estimator is None else self.base_estimator
        if not hasattr(base, "predict_proba"):
            raise UsageError(
                f"base_estimator {type(base).__name__} has no predict_proba; use a probabilistic classifier, or wrap "
                "it in sklearn.calibration.CalibratedClassifierCV"
            )
        name = None if sample_weight is None else weight_parameter(base)
        first, second = np.triu_indices(self.n_items_, 1)
        self.estimators_ = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_pair)(base, features, ranks[:, a], ranks[:, b], weight, name)
            for a, b in zip(first, second, strict=True)
        )
        return self

    def predict_pairs(self, X: Any) -> Pairwise:
        """P(a before b) of each pair for each of (n, p) instances."""
        features = self._features(X)
        features = (features - self._center) / self._scale
        n, m = len(features), self.n_items_
        probs = np.full((n, m, m), 0.5)
        for model, a, b in zip(self.estimators_, *np.triu_indices(m, 1), strict=True):
            if model is None:
                p = np.full(n, np.nan)
            elif isinstance(model, float):
                p = np.full(n, model)
            else:
                p = model.predict_proba(features)[:, 1]
            probs[:, a, b], probs[:, b, a] = p, 1.0 - p
        return Pairwise(probs)

    def predict_distribution(self, X: Any) -> Distribution:
        """Distribution for each of (n, p) instances, of the kind that ``distribution`` names."""
        pairs = self.predict_pairs(X)
        match self._coupling():
            case "plackett-luce":
                return pairs_to_plackett_luce(pairs)
            case "maximum-entropy":
                return pairs_to_maximum_entropy(pairs, unrealisable="project")
            case "babington-smith":
                return pairs_to_babington_smith(pairs)
            case _:
                return pairs

    def predict(self, X: Any) -> IntArray:
        """Ranks (n, m) by row sums of the pairwise probabilities; see the class notes."""
        probs = np.nan_to_num(self.predict_pairs(X).probs, nan=0.5)
        # Rounding makes equal sums differ; twelve digits make ties depend on the index only.
        return ranks_of_scores(probs.sum(axis=2).round(12))

    def _coupling(self) -> str:
        return self.distribution


class PLRPC(RPC):
    """RPC completed to a Plackett-Luce model that keeps the row sums of the pairs (and so RPC's ranking).

    See :class:`RPC` for the parameters and :func:`~prefcal.rankers.coupling.pairs_to_plackett_luce` for the model.
    """

    def __init__(self, base_estimator: Any = None, *, standardize: bool = True, n_jobs: int | None = None) -> None:
        self.base_estimator = base_estimator
        self.standardize = standardize
        self.n_jobs = n_jobs

    def _coupling(self) -> str:
        return "plackett-luce"


def _check_coupling(name: str) -> None:
    allowed = ("pairwise", "plackett-luce", "maximum-entropy", "babington-smith")
    if name not in allowed:
        raise UsageError.unknown("distribution", str(name), allowed)


def weight_parameter(base: Any) -> str:
    """How ``fit`` of a classifier, or of the last step of a pipeline, takes weights."""
    if has_fit_parameter(base, "sample_weight"):
        return "sample_weight"
    steps = getattr(base, "steps", None)
    if steps and has_fit_parameter(steps[-1][1], "sample_weight"):
        return f"{steps[-1][0]}__sample_weight"
    raise UsageError(f"base_estimator {type(base).__name__} takes no sample_weight; leave the weights out")


def _fit_pair(
    base: Any, features: FloatArray, rank_a: FloatArray, rank_b: FloatArray, weight: FloatArray, name: str | None
) -> Any:
    """Classifier of "a before b", a constant where only one order occurs, None where none is known."""
    known = (rank_a < rank_b) | (rank_a > rank_b)
    if not known.any():
        return None
    wins = rank_a[known] < rank_b[known]
    if wins.all() or not wins.any():
        total = float(weight[known].sum())
        return (total + 1.0) / (total + 2.0) if wins.all() else 1.0 / (total + 2.0)
    extra = {} if name is None else {name: weight[known]}
    return clone(base).fit(features[known], wins, **extra)
