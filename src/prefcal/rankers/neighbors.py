"""Instance-based label ranking: a model of the nearest training rankings for each query."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array
from sklearn.neighbors import NearestNeighbors

from prefcal.data.ragged import FloatArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.mallows import Mallows
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.rankers.base import LabelRanker, check_count, check_number
from prefcal.rankers.mallows_fit import Center, fit_mallows
from prefcal.rankers.pl_fit import fit_plackett_luce


class NeighborsRanker(LabelRanker):
    """What the instance-based rankers share: who the neighbours of a query are, and with what weight.

    Attributes
    ----------
    neighbors_
        The fitted :class:`sklearn.neighbors.NearestNeighbors`.
    rankings_
        (u, m) the distinct training rankings (dense ranks).
    """

    n_neighbors: int
    weights: Literal["uniform", "distance"]
    prior: float
    metric: str
    n_jobs: int | None

    neighbors_: Any
    rankings_: FloatArray
    _ranking_of: Any
    _weight: FloatArray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NeighborsRanker:
        """Store the training data.

        A row's weight multiplies its part as a neighbour; who is a neighbour does not depend on weights (a row of
        weight 0 is no neighbour).

        Raises
        ------
        DataError
            Also for fewer rows (of positive weight) than ``n_neighbors``.
        """
        k = check_count("n_neighbors", self.n_neighbors)
        check_number("prior", self.prior, low=0.0)
        if self.weights not in ("uniform", "distance"):
            raise UsageError.unknown("weights", str(self.weights), ("uniform", "distance"))
        features, ranks, weight = self._training_data(X, y, sample_weight)
        if len(features) < k:
            raise DataError(
                f"n_samples = {len(features)} is less than n_neighbors = {k}; give more rows or a smaller n_neighbors"
            )
        self.neighbors_ = NearestNeighbors(n_neighbors=k, metric=self.metric, n_jobs=self.n_jobs).fit(features)
        self.rankings_, which = distinct_rankings(ranks)
        n = len(features)
        self._ranking_of = csr_array((np.ones(n), (np.arange(n), which)), shape=(n, len(self.rankings_)))
        self._weight = weight
        return self

    def _membership(self, X: Any) -> Any:
        """(q, u) weight of each distinct training ranking for each query."""
        features = self._features(X)
        distance, index = self.neighbors_.kneighbors(features)
        share = np.ones(index.shape)
        if self.weights == "distance":
            # Relative to the nearest: neighbours at distance 0, if there are any, share all the weight.
            nearest = distance[:, :1]
            with np.errstate(invalid="ignore", divide="ignore"):
                share = np.where(nearest > 0, nearest / distance, (distance == 0).astype(np.float64))
            share *= index.shape[1] / share.sum(axis=1, keepdims=True)
        share = share * self._weight[index]
        offsets = np.arange(len(index) + 1) * index.shape[1]
        near = csr_array((share.reshape(-1), index.reshape(-1), offsets), shape=(len(index), len(self._weight)))
        return near @ self._ranking_of

    @abstractmethod
    def predict_distribution(self, X: Any) -> Distribution:
        """Distribution over the rankings for each of (n, p) instances."""


class KNNPlackettLuce(NeighborsRanker):
    """Instance-based Plackett-Luce: maximum likelihood on the rankings of the nearest neighbours.

    Parameters
    ----------
    n_neighbors
        Number of neighbours.
    weights
        ``uniform``, or ``distance``: in proportion to 1 / distance, scaled to a mean of 1.
    prior
        Weight, in rankings, of the evenly spread comparisons added to each neighbourhood; it keeps unanimous
        neighbours from making a probability 0 or 1. 0 = plain maximum likelihood.
    metric
        As in :class:`sklearn.neighbors.NearestNeighbors`. Scale the features first if their units differ.
    n_jobs
        Threads of the neighbour search.

    Notes
    -----
    Equally distant neighbours at the edge of the neighbourhood are taken in no stated order. Partial rankings and
    ties enter with their exact likelihood: see :func:`~prefcal.rankers.pl_fit.fit_plackett_luce`.

    References
    ----------
    W. Cheng, K. Dembczynski, E. Huellermeier (2010), Label ranking methods based on the Plackett-Luce model, ICML.
    """

    def __init__(
        self,
        n_neighbors: int = 20,
        *,
        weights: Literal["uniform", "distance"] = "uniform",
        prior: float = 1.0,
        metric: str = "minkowski",
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.prior = prior
        self.metric = metric
        self.n_jobs = n_jobs

    def predict_distribution(self, X: Any) -> PlackettLuce:
        """Plackett-Luce distribution for each of (n, p) instances."""
        membership = self._membership(X)
        return PlackettLuce(fit_plackett_luce(self.rankings_, membership, prior=self.prior))


class KNNMallows(NeighborsRanker):
    """Instance-based Mallows: centre and dispersion of the rankings of the nearest neighbours.

    Parameters
    ----------
    n_neighbors, weights, metric, n_jobs
        As in :class:`KNNPlackettLuce`.
    center
        ``kemeny`` (exact up to 10 items) or ``borda``, as in :class:`MallowsModel`.
    prior
        Weight, in rankings, of uniformly drawn rankings added to each neighbourhood for its dispersion; with 0
        unanimous neighbours make the prediction certain.

    Notes
    -----
    Ties and unranked items: see :func:`~prefcal.rankers.mallows_fit.fit_mallows`.

    References
    ----------
    W. Cheng, J. Huehn, E. Huellermeier (2009), Decision tree and instance-based learning for label ranking, ICML.
    """

    def __init__(
        self,
        n_neighbors: int = 20,
        *,
        weights: Literal["uniform", "distance"] = "uniform",
        center: Center = "kemeny",
        prior: float = 1.0,
        metric: str = "minkowski",
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.center = center
        self.prior = prior
        self.metric = metric
        self.n_jobs = n_jobs

    def predict_distribution(self, X: Any) -> Mallows:
        """Mallows distribution for each of (n, p) instances."""
        membership = self._membership(X)
        return fit_mallows(self.rankings_, membership, prior=self.prior, center=self.center)[0]


def distinct_rankings(ranks: FloatArray) -> tuple[FloatArray, Any]:
    """Distinct rows (u, m) of ranks, and which of them each row is."""
    filled = np.where(np.isnan(ranks), 0.0, ranks)
    rows, which = np.unique(filled, axis=0, return_inverse=True)
    return np.where(rows == 0.0, np.nan, rows), which.reshape(-1)
