"""Rankings as classes: a classifier over the rankings seen in training."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.mallows import Mallows
from prefcal.distributions.mixture import Mixture
from prefcal.errors import DataError, UsageError
from prefcal.rankers.base import LabelRanker, check_number, ranks_of_orders
from prefcal.rankers.linear_pl import standardization
from prefcal.rankers.mallows_fit import fit_mallows, most_probable_completion
from prefcal.rankers.neighbors import distinct_rankings
from prefcal.rankers.pairwise_ranker import weight_parameter


class RankClassifier(LabelRanker):
    """Rank classifier: each ranking that occurs in training is a class.

    Parameters
    ----------
    base_estimator
        Any scikit-learn classifier with ``predict_proba``; default :class:`sklearn.linear_model.LogisticRegression`.
    calibration
        ``temperature``: fit on part of the rows, then choose T > 0 so that probabilities proportional to p^(1/T)
        have the least log loss on the others (those whose ranking is a class); None: fit on all rows.
    calibration_fraction
        Share of the rows held out for the temperature, drawn at random.
    smoothing
        Probability in [0, 1) given to a ranking drawn uniformly from all m!. With 0, every ranking that training
        lacks is impossible, and one such outcome makes the log loss infinite.
    standardize
        Scale features to mean 0 and standard deviation 1 first.
    random_state
        Seed of the held-out part.

    Attributes
    ----------
    rankings_
        (r, m) ranks of the classes.
    temperature_
        T; 1 without calibration.
    estimator_
        The classifier; None when there is one class.

    Notes
    -----
    A partial or tied training ranking counts as its most probable completion under the Mallows centre of all
    training rankings: a class needs a complete ranking.

    Examples
    --------
    >>> ranker = RankClassifier(smoothing=0.06).fit([[0.0], [0.1], [5.0]], [[1, 2, 3], [1, 2, 3], [3, 2, 1]])
    >>> h = ranker.predict_distribution([[0.0]])
    >>> float(np.exp(h.log_prob([0, 2, 1]))[0].round(12))  # never seen: smoothing / 3!
    0.01
    """

    rankings_: IntArray
    temperature_: float
    estimator_: Any
    _center: FloatArray
    _scale: FloatArray

    def __init__(
        self,
        base_estimator: Any = None,
        *,
        calibration: Literal["temperature"] | None = None,
        calibration_fraction: float = 0.2,
        smoothing: float = 0.0,
        standardize: bool = True,
        random_state: Any = None,
    ) -> None:
        self.base_estimator = base_estimator
        self.calibration = calibration
        self.calibration_fraction = calibration_fraction
        self.smoothing = smoothing
        self.standardize = standardize
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RankClassifier:
        """Fit the classifier (and the temperature); see :class:`LabelRanker` for the arguments."""
        if self.calibration not in (None, "temperature"):
            raise UsageError.unknown("calibration", str(self.calibration), ("None", "temperature"))
        if check_number("smoothing", self.smoothing, low=0.0, high=1.0) == 1.0:
            raise UsageError("smoothing must be < 1: with 1 nothing that was learned is left")
        features, ranks, weight = self._training_data(X, y, sample_weight)
        ranks = _completed(ranks, weight)
        fit_rows, held = self._split(len(features))
        self._center, self._scale = standardization(features[fit_rows], weight[fit_rows], enabled=self.standardize)
        features = (features - self._center) / self._scale
        rankings, which = distinct_rankings(ranks[fit_rows])
        self.rankings_ = rankings.astype(np.intp)
        self.estimator_ = None
        if len(rankings) > 1:
            base = LogisticRegression(max_iter=1000) if self.base_estimator is None else self.base_estimator
            if not hasattr(base, "predict_proba"):
                raise UsageError(
                    f"base_estimator {type(base).__name__} has no predict_proba; use a probabilistic one"
                )
            extra = {} if sample_weight is None else {weight_parameter(base): weight[fit_rows]}
            with warnings.catch_warnings():
                # Scikit-learn suspects a regression problem where most rows have a class of their own.
                warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
                self.estimator_ = clone(base).fit(features[fit_rows], which, **extra)
        self.temperature_ = 1.0
        if self.calibration is not None:
            self.temperature_ = self._fit_temperature(features[held], ranks[held], weight[held])
        return self

    def _split(self, n: int) -> tuple[IntArray, IntArray]:
        if self.calibration is None:
            return np.arange(n), np.arange(0)
        fraction = check_number("calibration_fraction", self.calibration_fraction, low=0.0, high=1.0, open_low=True)
        held = round(n * fraction)
        if held < 1 or held >= n:
            raise DataError(
                f"n_samples = {n} with calibration_fraction = {fraction:g} leaves {n - held} rows to fit and {held} "
                "to calibrate; both need at least one"
            )
        order = check_random_state(self.random_state).permutation(n)
        return np.sort(order[held:]), np.sort(order[:held])

    def _fit_temperature(self, features: FloatArray, ranks: FloatArray, weight: FloatArray) -> float:
        same = (ranks[:, None, :] == self.rankings_[None]).all(axis=2)
        known = same.any(axis=1)
        if not known.any():
            raise DataError(
                "no held-out ranking occurs among the fitted ones, so no temperature can be chosen; there are too "
                "many different rankings for a rank classifier, or too few rows"
            )
        with np.errstate(divide="ignore"):
            log_p = np.log(self._probabilities(features[known]))
        at = same[known].argmax(axis=1)
        share = weight[known] / weight[known].sum()

        def loss(log_t: float) -> float:
            scaled = np.maximum(log_p, -1e4) * math.exp(-log_t)
            own = scaled[np.arange(len(at)), at]
            return float(share @ (np.logaddexp.reduce(scaled, axis=1) - own))

        return math.exp(minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded", options={"xatol": 1e-8}).x)

    def _probabilities(self, features: FloatArray) -> FloatArray:
        if self.estimator_ is None:
            return np.ones((len(features), 1))
        probs: FloatArray = np.asarray(self.estimator_.predict_proba(features), dtype=np.float64)
        probs /= probs.sum(axis=1, keepdims=True)
        return probs

    def predict_proba(self, X: Any) -> FloatArray:
        """Probability (n, r) of each of ``rankings_``, temperature applied, before smoothing."""
        features = self._features(X)
        probs = self._probabilities((features - self._center) / self._scale)
        with np.errstate(divide="ignore"):
            powered = np.log(probs) / self.temperature_
        powered = np.exp(powered - powered.max(axis=1, keepdims=True))
        scaled: FloatArray = powered / powered.sum(axis=1, keepdims=True)
        return scaled

    def predict_distribution(self, X: Any) -> Distribution:
        """:class:`Categorical` over ``rankings_``; mixed with the uniform distribution when ``smoothing`` > 0."""
        probs = self.predict_proba(X)
        seen = Categorical(np.argsort(self.rankings_, axis=1), probs)
        if self.smoothing == 0.0:
            return seen
        uniform = Mallows(np.arange(1, self.n_items_ + 1), np.ones(len(seen)))
        return Mixture([seen, uniform], [1.0 - self.smoothing, self.smoothing])

    def predict(self, X: Any) -> IntArray:
        """Ranks (n, m) of the most probable class."""
        best = self.predict_proba(X).argmax(axis=1)
        ranks: IntArray = self.rankings_[best]
        return ranks


def _completed(ranks: FloatArray, weight: FloatArray) -> FloatArray:
    """Complete rankings without ties; complete ones unchanged."""
    m = ranks.shape[1]
    partial = ~(np.sort(ranks, axis=1) == np.arange(1, m + 1)).all(axis=1)
    if not partial.any():
        return ranks
    model, _ = fit_mallows(ranks, csr_array(weight[None, :]), prior=1.0)
    center = np.broadcast_to(ranks_of_orders(np.argsort(model.places, axis=1)), ranks.shape)
    out = ranks.copy()
    out[partial] = most_probable_completion(ranks[partial], center[partial])
    return out
