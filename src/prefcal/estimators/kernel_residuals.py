"""What a kernel estimate compares in each instance: the residual of its outcome, and what is conditioned on.

Where a view's outcomes can be listed the residual is one-hot outcome - forecast. Where they cannot (full rankings of
many items) it is the observed ranking against rankings drawn from the forecast. Sampled forecasts are handled so that
residuals keep mean 0: what is conditioned on is never made of the draws that the residual is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.samples import Samples
from prefcal.errors import UsageError
from prefcal.estimators.events import BoolArray, Items, classify_ranks
from prefcal.notions.notion import Notion
from prefcal.views import View, permutation_index

VECTOR_LIMIT = 5040  # numbers in the outcome vectors of one instance
LISTED_ITEMS = 5  # up to here all m! rankings stand for a forecast
_SAMPLED = 256  # rankings a forecast is estimated from where no exact marginal is affordable


@dataclass(frozen=True, slots=True)
class Residuals:
    """A block of ``b`` instances; G members, W outcomes each.

    Parameters
    ----------
    condition
        (b, G, d) what is conditioned on, or (b, 1, d) the same for all members.
    known
        (b, G) whether the outcome is known.
    vector
        (b, G, W) residuals, 0 where unknown; None where ``rankings`` serve.
    probs
        (b, W) the forecast, where outcomes can be redrawn from it (one member, exact).
    rankings
        (b, 1 + s, m) ranks of the observed ranking and of s drawn from the forecast.
    """

    condition: FloatArray
    known: BoolArray
    vector: FloatArray | None = None
    probs: FloatArray | None = None
    rankings: FloatArray | None = None


class Outlook:
    """How residuals of a notion are made for forecasts of ``m`` items.

    Parameters
    ----------
    h
        Forecasts (for their kind and number of items).
    notion, items
        The notion; exchangeable items are renamed by the model's own order.

    Raises
    ------
    UsageError
        When the view's outcomes are too many to list, instances differ in their number of items, or the model states
        probabilities of pairs only.
    """

    def __init__(self, h: Distribution, notion: Notion, items: Items) -> None:
        self.notion, self.renamed, self.m = notion, items == "exchangeable", h.n_items
        pairs = notion.view == View("sub", 2)
        if not h.has_rankings and (not pairs or self.renamed):
            raise UsageError(
                f"{notion.name}: pairwise probabilities state nothing beyond pairs of labelled items; ask for sub-2"
            )
        sizes = np.unique(h.sizes)
        if len(sizes) > 1:
            raise UsageError(
                f"{notion.name}: vector notions need the same number of items in every instance, found {sizes.min()} "
                f"to {sizes.max()}; audit each size apart, or ask for {notion.view.name}:rankwise"
            )
        if isinstance(h, Samples) and h.n_draws < 2:
            raise UsageError(
                f"{notion.name}: one draw an instance cannot be split into what is judged and what is conditioned on"
            )
        self.view = notion.view.resolve(self.m)
        self.full = self.view.kind == "full"
        self.listed = not self.full or self.m <= LISTED_ITEMS
        width = self.view.n_members(self.m) * self.view.n_outcomes(self.m)
        if (self.listed or notion.given == "rankwise") and width > VECTOR_LIMIT:
            raise UsageError(
                f"{notion.name}: {width} outcomes for {self.m} items, more than {VECTOR_LIMIT}; ask for a smaller k, "
                f"{notion.view.name}:confidence, or sub-2"
            )
        # Two outcomes have opposite residuals: one number with the same square.
        self.halved = self.view == View("sub", 2) and notion.given != "rankwise"
        self.members = self.view.n_members(self.m)
        self.width = 1 if self.halved else self.view.n_outcomes(self.m)
        #: Whether a view's subsets are alike once items are named by the model's own order (its positions are not).
        self.pooled = self.renamed and self.view.kind == "sub"
        if notion.given == "rankwise":
            self.listed = True
            self.members, self.width = self.members * self.width, 1
        self.given = self._given(h)

    def _given(self, h: Distribution) -> str:
        if self.notion.given == "rankwise":
            return f"the probability of each outcome of {self.view.name}"
        if self.notion.given == "canonical" and not self.full:
            return f"the {self.view.name} forecast"
        if self.m <= LISTED_ITEMS and h.has_rankings:
            return "all ranking probabilities (square roots)"
        if self._by_support(h):
            return "the probabilities of the listed rankings (square roots)"
        return "pair and top-1 probabilities" if h.has_rankings else "pair probabilities"

    def _by_support(self, h: Distribution) -> bool:
        return isinstance(h, Categorical) and not self.renamed and len(h.orders) <= VECTOR_LIMIT

    def condition(self, h: Distribution, rng: np.random.Generator) -> FloatArray:
        """(b, G or 1, d) what is conditioned on."""
        given = _halves(h)[1]
        place = np.argsort(given.mode(), axis=1) if self.renamed else None
        if self.notion.given == "full" or (self.full and self.notion.given == "canonical"):
            return self._whole(given, place)[:, None, :]
        vector = self._vector(given, place, rng)[0]
        if self.notion.given == "rankwise":
            return vector.reshape(len(h), -1, 1)
        return vector[..., :1] if self.halved else vector

    def residuals(self, h: Distribution, ranks: FloatArray, references: int, rng: np.random.Generator) -> Residuals:
        """Residuals of a block; ``ranks`` (b, m) observed, ``references`` rankings drawn where none can be listed."""
        condition = self.condition(h, rng)
        judged, given = _halves(h)
        own = given.mode() if self.renamed else None
        if not self.listed:
            drawn = np.argsort(_references(judged, references, rng), axis=2).astype(np.float64)
            known = classify_ranks(View("top", 1), ranks)[:, 0] >= 0
            known &= (np.diff(np.sort(ranks, axis=1), axis=1) > 0).all(axis=1)
            observed = np.where(known[:, None], ranks, drawn[:, 0])[:, None]
            rankings = np.concatenate([observed, drawn], axis=1)
            if own is not None:
                rankings = np.take_along_axis(rankings, own[:, None, :], axis=2)
            return Residuals(condition, known[:, None], rankings=rankings)
        place = None if own is None else np.argsort(own, axis=1)
        vector, exact = self._vector(judged, place, rng)
        outcome = classify_ranks(self.view, ranks)
        if own is not None and place is not None:
            if self.view.kind == "position":
                outcome = np.take_along_axis(outcome, own, axis=1)
            outcome = _renamed(outcome, _relabel(self.view, place))
        outcome[np.isnan(vector[..., 0])] = -1  # the model states nothing about this pair
        known = outcome >= 0
        probs = vector[:, 0] if exact and vector.shape[1] == 1 and self.notion.given != "rankwise" else None
        residual = (outcome[..., None] == np.arange(vector.shape[2])) - vector
        residual[~known] = 0.0
        if self.pooled:  # an instance counts once, whatever the number of its subsets
            residual /= np.maximum(known.sum(axis=1), 1)[:, None, None]
        if self.halved:
            residual = residual[..., :1] * np.sqrt(2.0)
        elif self.notion.given == "rankwise":
            known = np.repeat(known, vector.shape[2], axis=1)
            residual = residual.reshape(len(residual), -1, 1)
        return Residuals(np.nan_to_num(condition, nan=0.5), known, residual, probs)

    def _vector(self, h: Distribution, place: IntArray | None, rng: np.random.Generator) -> tuple[FloatArray, bool]:
        """(b, G, W) forecasts with outcomes and members renamed, and whether they are exact."""
        marginal = h.marginal(self.view, rng=rng, n_samples=_SAMPLED)
        vector = marginal.probs
        if place is not None:
            vector = _moved(vector, _relabel(self.view, place))
            if self.view.kind == "position":  # member r: the rank of the model's r-th item
                vector = np.take_along_axis(vector, np.argsort(place, axis=1)[..., None], axis=1)
        return vector, marginal.stderr is None

    def _whole(self, h: Distribution, place: IntArray | None) -> FloatArray:
        """(b, d) what stands for all of h."""
        m = h.n_items
        if m <= LISTED_ITEMS and h.has_rankings:
            probs = h.marginal("full").probs
            # Square roots (Hellinger distances): a few large probabilities would hide all the others.
            return np.sqrt((probs if place is None else _moved(probs, _relabel(View("full"), place)))[:, 0])
        if isinstance(h, Categorical) and self._by_support(h):
            return np.sqrt(h.probs)
        first, second = np.triu_indices(m, 1)
        with np.errstate(over="ignore"):
            p = 1.0 / (1.0 + np.exp(-h.pair_log_odds(first, second)))
        if not h.has_rankings:
            return np.nan_to_num(p, nan=0.5)
        top = np.exp(h.top_log_probs())
        if place is not None:
            pairs = np.empty((len(h), m, m))
            pairs[:, first, second], pairs[:, second, first] = p, 1 - p
            own = np.argsort(place, axis=1)
            rows = np.arange(len(h))[:, None]
            p, top = pairs[rows, own[:, first], own[:, second]], top[rows, own]
        return np.concatenate([p, top], axis=1)


def _halves(h: Distribution) -> tuple[Distribution, Distribution]:
    """What is judged and what is conditioned on: forecasts known by draws are split, others serve as both."""
    if isinstance(h, Samples):
        return Samples(h.orders[:, ::2]), Samples(h.orders[:, 1::2])
    return h, h


def _references(h: Distribution, count: int, rng: np.random.Generator) -> IntArray:
    """(b, count, m) orders drawn from each forecast; of a sample its first, which are draws of the model already."""
    if not isinstance(h, Samples):
        return h.sample(count, rng)
    if h.n_draws < count:
        raise UsageError(f"{count} reference rankings are needed, half the draws of each instance hold {h.n_draws}")
    return h.orders[:, :count]


def _relabel(view: View, place: IntArray) -> IntArray:
    """(b, members or 1, outcomes) index of each outcome once items are named by the model's own order.

    ``place`` (b, m) is the model's own rank of each item, 0-based. Members are not renamed; see ``_moved``.
    """
    m = place.shape[1]
    if view.kind == "sub":  # within each subset: own order 0..k-1
        own = np.argsort(np.argsort(place[:, view.members(m)], axis=-1), axis=-1)  # (b, G, k)
        return permutation_index(own[:, :, View("full").outcomes(view.k)[0]], view.k)
    if view.kind == "position":  # the rank of an item does not depend on names
        return np.broadcast_to(np.arange(m), (len(place), 1, m))
    renamed = place[:, view.outcomes(m)[0]]  # (b, W, L)
    if view.kind == "topset":
        return view.classify(_complete(np.sort(renamed, axis=-1), m))[..., 0][:, None, :]
    return permutation_index(renamed, m)[:, None, :]


def _moved(vector: FloatArray, new: IntArray) -> FloatArray:
    out = np.empty_like(vector)
    np.put_along_axis(out, np.broadcast_to(new, vector.shape), vector, axis=2)
    return out


def _renamed(outcome: IntArray, new: IntArray) -> IntArray:
    """(b, g) outcome indices after :func:`_relabel`; -1 stays."""
    index = np.take_along_axis(
        np.broadcast_to(new, (*outcome.shape, new.shape[2])), np.maximum(outcome, 0)[..., None], axis=2
    )
    return np.where(outcome < 0, -1, index[..., 0])


def _complete(sets: IntArray, m: int) -> IntArray:
    """Any full ordering that starts with the set."""
    inside = (sets[..., None] == np.arange(m)).any(axis=-2)
    rest = np.argsort(inside, axis=-1, kind="stable")[..., : m - sets.shape[-1]]
    return np.concatenate([sets, rest], axis=-1)
