"""The study's models: fitted to one fold, they forecast a distribution for each test row."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.mallows import Mallows
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.studies.label_ranking import neural
from prefcal.studies.label_ranking.protocol import Job, Settings, Split
from prefcal.studies.label_ranking.sets import StudySet

#: Published floor of the Plackett-Luce weights that are coupled from pairs (they sum to 1).
_COUPLED_FLOOR: Final = 1e-6
_COUPLING_STEPS: Final = 100
#: Upper end of the seeds that scikit-learn's trees draw for themselves.
_TREE_SEEDS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Task:
    """One fold of one data set, for one model."""

    data: StudySet
    split: Split
    job: Job
    settings: Settings

    @property
    def published(self) -> bool:
        """Whether the model must be fitted as published, oddities included."""
        return self.job.protocol == "published"

    def fit_rows(self) -> tuple[FloatArray, IntArray]:
        """Features and ranks that fit."""
        return self.data.take(self.split.fit)

    def test_features(self) -> FloatArray:
        """Features to forecast for."""
        return self.data.features[self.split.test]

    def random_state(self, purpose: str) -> int:
        """A seed for scikit-learn, of this job alone."""
        return int(np.random.default_rng(self.job.seed(self.settings, purpose)).integers(2**31 - 1))


Builder = Callable[[Task], Distribution]


def plackett_luce(task: Task) -> PlackettLuce:
    """PL: Plackett-Luce whose log-utilities are a multilayer perceptron of the features."""
    torch = neural.load_torch("the study's model pl")
    features, _ = task.fit_rows()
    with neural.single_thread(torch):
        _, network = _initial(torch, task)
        neural.train_plackett_luce(torch, network, features, task.data.orders[task.split.fit])
        return PlackettLuce(neural.outputs(torch, network, task.test_features()))


def rank_classifier(task: Task) -> Distribution:
    """RC: a multilayer perceptron over rankings as classes, temperature-scaled on the calibration rows.

    Published: the classes are all rankings of the whole file, test rows included, and every other ranking has the
    fixed logit -20. Exact: the classes are the rankings of the fitting rows; calibration rows of other rankings
    do not count for the temperature.
    """
    torch = neural.load_torch("the study's model rc")
    features, ranks = task.fit_rows()
    m = task.data.n_items
    source = task.data.ranks if task.published else ranks
    classes = np.unique(source, axis=0)
    calibration, calibration_ranks = task.data.take(task.split.calibration)
    with neural.single_thread(torch):
        network, _ = _initial(torch, task, len(classes))
        if len(classes) > 1:
            neural.train_classifier(torch, network, features, _class_of(ranks, classes))
        held = _class_of(calibration_ranks, classes)
        known = held >= 0
        temperature = 1.0
        if known.any() and len(classes) > 1:
            logits = neural.outputs(torch, network, calibration[known])
            temperature = neural.fit_temperature(torch, logits, held[known])
        logits = neural.outputs(torch, network, task.test_features()) / temperature
    orders = np.argsort(classes, axis=1)
    if not task.published:
        return Categorical(orders, _softmax(logits))
    # A ranking of the data has e^logit and all m! rankings share a floor of e^-20: a mixture with the uniform law.
    above = logits + np.log(-np.expm1(np.minimum(neural.UNSEEN_LOGIT - logits, -1e-12)))
    share = neural.unseen_share(above, m)
    uniform = Mallows(np.arange(1, m + 1), np.ones(len(logits)))
    return Mixture([Categorical(orders, _softmax(above)), uniform], np.stack([1.0 - share, share], axis=1))


def mallows(task: Task) -> Mallows:
    """Mallows without features: published, the centre of :func:`swap_center`; exact, a Kemeny centre."""
    from prefcal.rankers import MallowsModel

    features, ranks = task.fit_rows()
    test = task.test_features()
    if not task.published:
        model: Mallows = MallowsModel().fit(features, ranks).predict_distribution(test)
        return model
    center = swap_center(ranks)
    distance = kendall_distances(ranks, center)
    phi = mallows_dispersion(float(distance.mean()), ranks.shape[1])
    return Mallows(center, np.full(len(test), phi))


def rpc(task: Task) -> Pairwise:
    """RPC: a calibrated decision tree for each pair of items; it states probabilities of pairs only."""
    return Pairwise(pair_probabilities(task))


def pl_rpc(task: Task) -> PlackettLuce:
    """PL-RPC: the pairs of RPC coupled to a Plackett-Luce model; published, weights below 1e-6 are raised to it."""
    from prefcal.rankers.coupling import pairs_to_plackett_luce

    pairs = pair_probabilities(task)
    if not task.published:
        return pairs_to_plackett_luce(Pairwise(pairs))
    weights = newman_weights(pairs, np.random.default_rng(42))
    return PlackettLuce(np.log(np.maximum(weights, _COUPLED_FLOOR)))


def _ranker(build: Callable[[int], Any]) -> Builder:
    """A prefcal ranker, fitted to the fitting rows."""

    def forecast(task: Task) -> Distribution:
        features, ranks = task.fit_rows()
        model: Distribution = (
            build(task.random_state("ranker")).fit(features, ranks).predict_distribution(task.test_features())
        )
        return model

    return forecast


def _linear_pl(_seed: int) -> Any:
    from prefcal.rankers import LinearPlackettLuce

    return LinearPlackettLuce()


def _knn_mallows(_seed: int) -> Any:
    from prefcal.rankers import KNNMallows

    return KNNMallows()


def _knn_pl(_seed: int) -> Any:
    from prefcal.rankers import KNNPlackettLuce

    return KNNPlackettLuce()


def _forest(seed: int) -> Any:
    from prefcal.rankers import LabelRankingForest

    return LabelRankingForest(random_state=seed)


#: The paper's models, as it names them in its tables.
PAPER_MODELS: Final[dict[str, Builder]] = {
    "pl": plackett_luce,
    "mallows": mallows,
    "rc": rank_classifier,
    "pl-rpc": pl_rpc,
    "rpc": rpc,
}
#: prefcal's own rankers, for the exact protocol.
MORE_MODELS: Final[dict[str, Builder]] = {
    "linear-pl": _ranker(_linear_pl),
    "knn-mallows": _ranker(_knn_mallows),
    "knn-pl": _ranker(_knn_pl),
    "forest": _ranker(_forest),
}
#: Models that need torch.
NEURAL: Final = ("pl", "rc")
#: Names in the tables.
TITLES: Final = {
    "pl": "PL",
    "mallows": "Mallows",
    "rc": "RC",
    "pl-rpc": "PL-RPC",
    "rpc": "RPC",
    "linear-pl": "linear PL",
    "knn-mallows": "kNN-Mallows",
    "knn-pl": "kNN-PL",
    "forest": "forest",
}


def builder(name: str, protocol: str) -> Builder:
    """The builder of a model.

    Raises
    ------
    UsageError
        For an unknown name, or a model that the published study does not have.
    """
    known = PAPER_MODELS if protocol == "published" else PAPER_MODELS | MORE_MODELS
    if name not in known:
        raise UsageError.unknown(f"model of the {protocol} protocol", name, known)
    return known[name]


def predicted_ranks(forecast: Distribution) -> IntArray:
    """(n, m) ranks, 1 = best, of each most probable ranking; of pairs alone, by sums of probabilities (Borda)."""
    from prefcal.rankers.base import ranks_of_orders, ranks_of_scores

    if isinstance(forecast, Pairwise):
        return ranks_of_scores(forecast.probs.sum(axis=2).round(12))
    if isinstance(forecast, Mixture):  # the uniform part does not move the mode
        return ranks_of_orders(forecast.components[0].mode())
    return ranks_of_orders(forecast.mode())


# ----------------------------------------------------------------------------------------------- parts of them


def _initial(torch: Any, task: Task, classes: int | None = None) -> tuple[Any, Any]:
    if classes is None:
        # The classifier comes first, so its size decides the weights of the Plackett-Luce network.
        classes = len(np.unique(task.data.ranks, axis=0))
    return neural.published_initialisation(
        torch,
        inputs=task.data.features.shape[1],
        items=task.data.n_items,
        classes=classes,
        fold=task.job.fold,
        seed=task.settings.seed,
    )


def _class_of(ranks: IntArray, classes: IntArray) -> IntArray:
    """Index (n,) of each ranking among sorted ``classes``; -1 where it is none of them."""
    joined, index = np.unique(np.concatenate([classes, ranks]), axis=0, return_inverse=True)
    index = index.reshape(-1)
    place = np.full(len(joined), -1, dtype=np.intp)
    place[index[: len(classes)]] = np.arange(len(classes))
    return place[index[len(classes) :]]


def _softmax(logits: FloatArray) -> FloatArray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return probs


def pair_probabilities(task: Task) -> FloatArray:
    """P(a before b) (n, m, m) by decision trees with sigmoid calibration in two folds.

    Published: one made-up training row (normal noise as features, the reversed labels as ranking) keeps most pairs
    from being unanimous, and the trees' tie-breaking follows one generator through all folds. A pair with fewer than
    two rows of either order cannot be calibrated in two folds; it gets the rule of succession, as in
    :class:`prefcal.rankers.RPC`.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.tree import DecisionTreeClassifier

    features, ranks = task.fit_rows()
    m = task.data.n_items
    test = task.test_features()
    probs = np.full((len(test), m, m), 0.5)
    if task.published:
        legacy = published_generator(task)
        features = np.vstack([features, legacy.normal(0.0, 0.1, features.shape[1])])
        ranks = np.vstack([ranks, np.arange(m, 0, -1)])
    else:
        legacy = np.random.RandomState(task.random_state("pairs"))
    with _global_generator(legacy):
        for a in range(m):
            for b in range(a + 1, m):
                loses = ranks[:, a] > ranks[:, b]
                if min(int(loses.sum()), int((~loses).sum())) < 2:
                    probs[:, b, a] = (loses.sum() + 1.0) / (len(loses) + 2.0)
                else:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # a sigmoid may not converge on separable scores
                        fitted = CalibratedClassifierCV(DecisionTreeClassifier(), cv=2, method="sigmoid").fit(
                            features, loses
                        )
                    probs[:, b, a] = fitted.predict_proba(test)[:, 1]
                probs[:, a, b] = 1.0 - probs[:, b, a]
    return probs


def published_generator(task: Task) -> np.random.RandomState:
    """The published run's generator at the start of a fold's pairs.

    It is seeded once; each earlier fold drew one row of noise, and two numbers (one a tree) for each pair.
    """
    generator = np.random.RandomState(task.settings.seed)
    m = task.data.n_items
    for _ in range(task.job.fold):
        generator.normal(0.0, 0.1, task.data.features.shape[1])
        for _ in range(m * (m - 1)):
            generator.randint(0, _TREE_SEEDS)
    return generator


@contextlib.contextmanager
def _global_generator(generator: np.random.RandomState) -> Iterator[None]:
    """Let scikit-learn's trees draw from ``generator``: cloned trees share no generator but numpy's global one."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.set_state(generator.get_state())  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def newman_weights(pairs: FloatArray, rng: np.random.Generator, steps: int = _COUPLING_STEPS) -> FloatArray:
    """Bradley-Terry weights (n, m), summing to 1, after ``steps`` rounds of Newman's (2023) iteration.

    w_a <- sum_b P_ab w_b / (w_a + w_b)  /  sum_b P_ba / (w_a + w_b), from random weights. Its fixed point keeps the
    row sums of the pairs, like :func:`prefcal.rankers.coupling.pairs_to_plackett_luce`.
    """
    n, m = pairs.shape[:2]
    wins = np.where(np.eye(m, dtype=bool), 0.0, pairs)
    losses = wins.transpose(0, 2, 1)
    weights = rng.random((n, m)) + 1e-10
    weights /= weights.sum(axis=1, keepdims=True)
    for _ in range(steps):
        both = weights[:, :, None] + weights[:, None, :] + 1e-10
        weights = (wins * weights[:, None, :] / both).sum(axis=2) / ((losses / both).sum(axis=2) + 1e-10)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return weights


def kendall_distances(ranks: IntArray, center: IntArray) -> IntArray:
    """Number of pairs (n,) that each ranking orders otherwise than the centre (m,), both as ranks."""
    total = np.zeros(len(ranks), dtype=np.intp)
    for gap in range(1, len(center)):
        total += (np.sign(ranks[:, gap:] - ranks[:, :-gap]) != np.sign(center[gap:] - center[:-gap])).sum(axis=1)
    return total


def swap_center(ranks: IntArray) -> IntArray:
    """Published Mallows centre as ranks (m,): the order of mean ranks, improved by the best swap of two items, again
    and again (at most 50 times) while the sum of Kendall distances falls.
    """
    m = ranks.shape[1]
    before = (ranks[:, :, None] < ranks[:, None, :]).sum(axis=0)  # before[a, b] = rankings with a above b
    order = np.argsort(ranks.mean(axis=0))

    def cost(candidate: IntArray) -> int:
        return int(np.triu(before[np.ix_(candidate, candidate)].T, 1).sum())

    best = cost(order)
    for _ in range(50):
        found = None
        for i in range(m):
            for j in range(i + 1, m):
                swapped = order.copy()
                swapped[[i, j]] = swapped[[j, i]]
                value = cost(swapped)
                if value < best:
                    found, best = swapped, value
        if found is None:
            break
        order = found
    return np.argsort(order) + 1


def mallows_dispersion(mean_distance: float, m: int) -> float:
    """Maximum-likelihood phi: the one whose expected Kendall distance is ``mean_distance``.

    As published: theta = -log phi is 20 for unanimous rankings and at least 1e-6.
    """
    from scipy.optimize import brentq

    from prefcal.distributions.mallows import expected_distance

    if mean_distance <= 1e-12:
        return float(np.exp(-20.0))

    def excess(theta: float) -> float:
        return float(expected_distance(np.exp(-theta), m)) - mean_distance

    if excess(1e-6) <= 0:
        return float(np.exp(-1e-6))
    if excess(100.0) >= 0:
        raise DataError(f"no Mallows dispersion has a mean distance of {mean_distance:g}")
    return float(np.exp(-brentq(excess, 1e-6, 100.0, xtol=1e-12)))
