"""What every label ranker shares: checked input, prediction through a distribution, the score."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray, as_array
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError, require_whole


class LabelRanker(BaseEstimator):  # type: ignore[misc]
    """Base of all label rankers: scikit-learn estimators whose target is a ranking of ``m`` labelled items.

    The target ``y`` holds ranks, (n, m): 1 = best; NaN = not ranked (nothing is known about the item); equal =
    tied, which means that one is better but we do not know which. Gaps in the ranks are errors. ``sample_weight``
    counts rows: weight 2 is the row twice (except where a parameter such as ``n_neighbors`` or ``min_samples_leaf``
    counts rows itself), weight 0 is no row.

    A subclass defines ``fit``, which starts with :meth:`_training_data`, and :meth:`predict_distribution`, which
    starts with :meth:`_features`.

    Attributes
    ----------
    n_items_
        Number of items ``m``.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.
    """

    n_items_: int
    n_features_in_: int

    @abstractmethod
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LabelRanker:
        """Fit to features (n, p) and ranks (n, m)."""

    @abstractmethod
    def predict_distribution(self, X: Any) -> Distribution:
        """Distribution over the rankings of the items for each of (n, p) instances."""

    def predict(self, X: Any) -> IntArray:
        """Most probable ranking of each instance as ranks, (n, m) whole numbers, 1 = best, no ties."""
        return ranks_of_orders(self.predict_distribution(X).mode())

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean Kendall tau of :meth:`predict` with the ranks ``y``; see :func:`kendall_tau`.

        Instances without two items whose order is known are left out.

        Raises
        ------
        DataError
            When no instance is left, and for what :meth:`fit` refuses in ``y``.
        """
        predicted = self.predict(X)
        observed = check_ranks(y, n=len(predicted), m=self.n_items_)
        weight = check_weights(sample_weight, len(predicted))
        tau = kendall_tau(predicted, observed)
        known = ~np.isnan(tau)
        if not (weight[known] > 0).any():
            raise DataError("no instance has two items whose order is known: there is nothing to score", field="y")
        return float(np.average(tau[known], weights=weight[known]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "label_ranker"
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags

    def _training_data(self, X: Any, y: Any, sample_weight: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Check what ``fit`` got and set ``n_features_in_`` and ``n_items_``.

        Returns
        -------
        X (n, p), dense ranks (n, m), weights (n,); rows of weight 0 are gone.
        """
        features = _checked(self, X, reset=True)
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        ranks = check_ranks(y, n=len(features))
        weight = check_weights(sample_weight, len(features))
        keep = weight > 0
        features, ranks, weight = features[keep], ranks[keep], weight[keep]
        _check_every_item_compared(ranks)
        self.n_items_ = ranks.shape[1]
        return features, ranks, weight

    def _features(self, X: Any) -> FloatArray:
        """Check what a prediction got, against what ``fit`` saw."""
        check_is_fitted(self)
        return _checked(self, X, reset=False)


def _checked(ranker: LabelRanker, X: Any, *, reset: bool) -> FloatArray:
    try:
        features: FloatArray = validate_data(ranker, X, reset=reset, dtype=np.float64)
    except ValueError as error:
        raise DataError(str(error)) from None
    return features


def check_ranks(y: Any, *, n: int | None = None, m: int | None = None) -> FloatArray:
    """Dense ranks (n, m) from what a user has: 1 = best, NaN = unranked, equal = tied.

    Parameters
    ----------
    y
        (n, m) ranks: array, frame or nested lists; see :meth:`prefcal.data.outcomes.Outcomes.from_ranks`.
    n, m
        Numbers of instances and items that are expected; None = any.

    Raises
    ------
    DataError
        For gaps, infinities, ranks below 1, rows without ranks or of unequal length, fewer than two items, and
        wrong numbers of instances or items.
    """
    outcomes = Outcomes.from_ranks(y)
    if (outcomes.sizes != outcomes.n_items).any():
        at = int(np.flatnonzero(outcomes.sizes != outcomes.n_items)[0])
        raise DataError(
            f"{outcomes.sizes[at]} ranks where others have {outcomes.n_items}: every instance ranks the same "
            "labelled items; use NaN for items that are not ranked",
            row=f"instance {at}",
            field="y",
        )
    if outcomes.n_items < 2:
        raise DataError("y has one column; a ranking needs at least 2 items (one column of ranks each)", field="y")
    if n is not None and len(outcomes) != n:
        raise DataError(f"y has {len(outcomes)} rows for the {n} rows of X", field="y")
    if m is not None and outcomes.n_items != m:
        raise DataError(f"y ranks {outcomes.n_items} items, the ranker was fitted to {m}", field="y")
    return outcomes.dense()


def check_weights(sample_weight: Any, n: int) -> FloatArray:
    """Weights (n,): numbers >= 0, at least one positive; ones for None. DataError otherwise."""
    if sample_weight is None:
        return np.ones(n)
    weight = as_array(sample_weight, "sample_weight", 1)
    if len(weight) != n:
        raise DataError(f"sample_weight has {len(weight)} numbers for {n} rows")
    bad = ~((weight >= 0) & (weight < np.inf))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(f"sample_weight {weight[at]} is not a finite number >= 0", row=f"instance {at}")
    if not (weight > 0).any():
        raise DataError("sample_weight is zero for every row: there is nothing to learn from")
    return weight


def _check_every_item_compared(ranks: FloatArray) -> None:
    """Raise DataError for an item that is never in a pair whose order is known."""
    best, worst = np.nanmin(ranks, axis=1, keepdims=True), np.nanmax(ranks, axis=1, keepdims=True)
    compared = (~np.isnan(ranks) & (best < worst)).any(axis=0)
    if not compared.all():
        unseen = np.flatnonzero(~compared).tolist()
        raise DataError(
            f"items {unseen} (columns of y, counted from 0) are never ranked against another item in the training "
            "rows, so nothing can be learned about them; drop these columns or add rows that rank them",
            field="y",
        )


def check_number(name: str, value: Any, *, low: float, high: float = np.inf, open_low: bool = False) -> float:
    """Check a real-valued parameter of an estimator; UsageError names it."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not (value > low if open_low else value >= low) or not value <= high or np.isinf(value):
        bound = f"{'>' if open_low else '>='} {low:g}" + ("" if np.isinf(high) else f" and <= {high:g}")
        raise UsageError(f"{name} must be a finite number {bound}, got {value!r}")
    return float(value)


def check_count(name: str, value: Any, *, low: int = 1) -> int:
    """Check a whole-number parameter of an estimator; UsageError names it."""
    require_whole(name, value, low)
    return int(value)


def kendall_tau(predicted: npt.ArrayLike, observed: npt.ArrayLike) -> FloatArray:
    """Kendall tau of each predicted ranking with what is known of the observed one.

    (concordant - discordant) / (pairs of items whose observed order is known). Items that are tied or unranked in
    ``observed`` have no known order and make no pair; a pair that ``predicted`` ties counts 0. For complete
    rankings without ties this is the usual tau (a = b); for bucket orders it is Goodman and Kruskal's gamma when
    ``predicted`` has no ties.

    Parameters
    ----------
    predicted, observed
        (n, m) ranks, 1 = best; NaN in ``observed`` = unranked. Cost O(n m^2).

    Returns
    -------
    (n,) values in [-1, 1]; NaN where no order is known.

    Examples
    --------
    >>> kendall_tau([[1, 2, 3], [1, 2, 3]], [[1, 3, 2], [2, 1, 1]]).round(3).tolist()
    [0.333, -1.0]
    """
    p, o = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    total, known = np.zeros(len(p)), np.zeros(len(p))
    for gap in range(1, p.shape[1]):
        truth = np.nan_to_num(np.sign(o[:, gap:] - o[:, :-gap]))
        total += (truth * np.sign(p[:, gap:] - p[:, :-gap])).sum(axis=1)
        known += np.abs(truth).sum(axis=1)
    with np.errstate(invalid="ignore"):
        tau: FloatArray = np.where(known > 0, total / known, np.nan)
    return tau


def ranks_of_orders(orders: IntArray) -> IntArray:
    """Ranks (n, m), 1 = best, of orderings (n, m), best first."""
    return np.argsort(orders, axis=1) + 1


def ranks_of_scores(scores: FloatArray) -> IntArray:
    """Ranks (n, m), 1 = highest score; equal scores in the order of their index."""
    return ranks_of_orders(np.argsort(-scores, axis=1, kind="stable"))
