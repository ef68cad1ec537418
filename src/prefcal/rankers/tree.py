"""Label-ranking trees and forests with a Plackett-Luce or Mallows model of the rankings that meet a query."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array
from sklearn.ensemble import RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import chunks
from prefcal.distributions.mallows import Mallows
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import UsageError
from prefcal.rankers.base import LabelRanker, check_number
from prefcal.rankers.mallows_fit import fit_mallows
from prefcal.rankers.neighbors import distinct_rankings
from prefcal.rankers.pl_fit import fit_plackett_luce

Model = Literal["plackett-luce", "mallows"]
_MODELS = ("plackett-luce", "mallows")


class LabelRankingTree(LabelRanker):
    """Regression tree on pairwise preferences; each leaf holds a model of its training rankings.

    A split is chosen to reduce the expected number of pairwise disagreements between two rankings of a node, sum
    over pairs of 2 p (1 - p) with p the share that puts one item first: the squared error of the pairs' indicators.
    A pair whose order is unknown counts 1/2 there; the leaves' models use the exact likelihood.

    Parameters
    ----------
    model
        Model of a leaf: ``plackett-luce`` or ``mallows``.
    max_depth, min_samples_split, min_samples_leaf, max_features, ccp_alpha, random_state
        As in :class:`sklearn.tree.DecisionTreeRegressor`.
    prior
        Weight, in rankings, of the preference-free rankings added to each leaf: see
        :func:`~prefcal.rankers.pl_fit.fit_plackett_luce` and :func:`~prefcal.rankers.mallows_fit.fit_mallows`.

    Attributes
    ----------
    tree_
        The fitted :class:`sklearn.tree.DecisionTreeRegressor`.
    leaves_
        The distribution of each leaf.

    References
    ----------
    W. Cheng, J. Huehn, E. Huellermeier (2009), Decision tree and instance-based learning for label ranking, ICML.
    """

    tree_: Any
    leaves_: PlackettLuce | Mallows
    _leaf_of_node: IntArray

    def __init__(
        self,
        model: Model = "plackett-luce",
        *,
        max_depth: int | None = None,
        min_samples_split: int = 2,
        min_samples_leaf: int = 3,
        max_features: Any = None,
        ccp_alpha: float = 0.0,
        prior: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.ccp_alpha = ccp_alpha
        self.prior = prior
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LabelRankingTree:
        """Grow the tree and fit its leaves; see :class:`LabelRanker` for the arguments."""
        prior = check_number("prior", self.prior, low=0.0)
        features, ranks, weight = self._training_data(X, y, sample_weight)
        self.tree_ = DecisionTreeRegressor(
            max_depth=self.max_depth,
            min_samples_split=self.min_samples_split,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            ccp_alpha=self.ccp_alpha,
            random_state=self.random_state,
        ).fit(features, pair_indicators(ranks), sample_weight=weight)
        rankings, which = distinct_rankings(ranks)
        nodes, leaf = np.unique(self.tree_.apply(features), return_inverse=True)
        self._leaf_of_node = np.full(self.tree_.tree_.node_count, -1, dtype=np.intp)
        self._leaf_of_node[nodes] = np.arange(len(nodes))
        membership = csr_array((weight, (leaf.reshape(-1), which)), shape=(len(nodes), len(rankings)))
        self.leaves_ = _fit_model(self.model, rankings, membership, prior)
        return self

    def predict_distribution(self, X: Any) -> PlackettLuce | Mallows:
        """The leaf's distribution for each of (n, p) instances."""
        features = self._features(X)
        return self.leaves_[self._leaf_of_node[self.tree_.apply(features)]]


class LabelRankingForest(LabelRanker):
    """Random forest of label-ranking trees; one model of the forest's weighted neighbours for each query.

    The forest gives each training row the weight w_i(x) = mean over trees of its share of the leaf of x (Meinshausen
    2006); the model is fitted to the training rankings with these weights, scaled to the effective number of rows
    1 / sum of w_i^2 so that ``prior`` has its meaning. This is one distribution of a known family, not a mixture
    of as many as there are trees.

    Parameters
    ----------
    model, prior
        As in :class:`LabelRankingTree`.
    n_estimators, max_depth, min_samples_leaf, max_features, bootstrap, n_jobs, random_state
        As in :class:`sklearn.ensemble.RandomForestRegressor`.

    Attributes
    ----------
    forest_
        The fitted :class:`sklearn.ensemble.RandomForestRegressor`, on the pairs' indicators.
    rankings_
        (u, m) the distinct training rankings (dense ranks).

    References
    ----------
    N. Meinshausen (2006), Quantile regression forests, JMLR 7. Y. Zhou, G. Qiu (2018), Random forest for label
    ranking, Expert Systems with Applications 112.
    """

    forest_: Any
    rankings_: FloatArray
    _shares: Any
    _ranking_of: Any
    _first_leaf: IntArray

    def __init__(
        self,
        model: Model = "plackett-luce",
        *,
        n_estimators: int = 100,
        max_depth: int | None = None,
        min_samples_leaf: int = 2,
        max_features: Any = "sqrt",
        bootstrap: bool = True,
        prior: float = 1.0,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.bootstrap = bootstrap
        self.prior = prior
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LabelRankingForest:
        """Grow the forest; see :class:`LabelRanker` for the arguments."""
        check_number("prior", self.prior, low=0.0)
        _check_model(self.model)
        features, ranks, weight = self._training_data(X, y, sample_weight)
        self.forest_ = RandomForestRegressor(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            max_features=self.max_features,
            bootstrap=self.bootstrap,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        ).fit(features, pair_indicators(ranks), sample_weight=weight)
        n = len(features)
        counts = np.array([tree.tree_.node_count for tree in self.forest_.estimators_])
        self._first_leaf = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        nodes = self._nodes(features)
        # All training rows that fall into a leaf share it, drawn for the tree or not.
        total = np.bincount(
            nodes.reshape(-1), weights=np.repeat(weight, nodes.shape[1]), minlength=self._first_leaf[-1]
        )
        share = weight[:, None] / total[nodes] / nodes.shape[1]
        rows = np.repeat(np.arange(n), nodes.shape[1])
        self._shares = csr_array((share.reshape(-1), (nodes.reshape(-1), rows)), shape=(int(self._first_leaf[-1]), n))
        self.rankings_, which = distinct_rankings(ranks)
        self._ranking_of = csr_array((np.ones(n), (np.arange(n), which)), shape=(n, len(self.rankings_)))
        return self

    def _nodes(self, features: FloatArray) -> IntArray:
        """(n, trees) leaf of each row in each tree, numbered through the forest."""
        nodes: IntArray = self.forest_.apply(features).astype(np.intp) + self._first_leaf[:-1]
        return nodes

    def predict_distribution(self, X: Any) -> PlackettLuce | Mallows:
        """Distribution for each of (n, p) instances."""
        nodes = self._nodes(self._features(X))
        n, trees = nodes.shape
        parts = []
        for rows in chunks(n, self._shares.shape[1], budget=1 << 23):
            part = nodes[rows]
            offsets = np.arange(len(part) + 1) * trees
            visits = csr_array(
                (np.ones(part.size), part.reshape(-1), offsets), shape=(len(part), self._shares.shape[0])
            )
            near = visits @ self._shares
            effective = 1.0 / np.asarray((near * near).sum(axis=1)).reshape(-1)
            near.data *= np.repeat(effective, np.diff(near.indptr))
            parts.append(_fit_model(self.model, self.rankings_, near @ self._ranking_of, self.prior))
        return _joined(parts)


def pair_indicators(ranks: FloatArray) -> FloatArray:
    """(n, m (m-1) / 2) 1 where the first item of a pair is ranked before the second, 0 after, 1/2 unknown."""
    first, second = np.triu_indices(ranks.shape[1], 1)
    lead = np.nan_to_num(np.sign(ranks[:, second] - ranks[:, first]))
    return 0.5 + 0.5 * lead


def _check_model(model: str) -> None:
    if model not in _MODELS:
        raise UsageError.unknown("model", str(model), _MODELS)


def _fit_model(model: Model, rankings: FloatArray, membership: Any, prior: float) -> PlackettLuce | Mallows:
    _check_model(model)
    if model == "mallows":
        return fit_mallows(rankings, membership, prior=prior)[0]
    return PlackettLuce(fit_plackett_luce(rankings, membership, prior=prior))


def _joined(parts: list[PlackettLuce | Mallows]) -> PlackettLuce | Mallows:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Mallows):
        places = np.concatenate([part.places for part in parts if isinstance(part, Mallows)])
        return Mallows(places + 1, np.concatenate([part.dispersion for part in parts if isinstance(part, Mallows)]))
    return PlackettLuce(np.concatenate([part.scores.dense() for part in parts if isinstance(part, PlackettLuce)]))
