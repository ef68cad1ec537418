"""What a set is about, and how little a forecast expected each outcome of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import UsageError
from prefcal.estimators.events import classify_ranks
from prefcal.estimators.inputs import rounded
from prefcal.views import View

Score = Literal["adaptive", "probability"]
PARTIAL_ORDER = "partial-order"
_OUTCOMES = 5040  # of one instance: full rankings of seven items


@dataclass(frozen=True, slots=True)
class Event:
    """What a set is about: the outcomes of a one-member view, or the partial order (view None)."""

    view: View | None
    score: Score

    @classmethod
    def parse(cls, event: str | View, score: str) -> Event:
        """The event of a name; UsageError for others."""
        if score not in ("adaptive", "probability"):
            raise UsageError.unknown("score", str(score), ("adaptive", "probability"))
        if event == PARTIAL_ORDER:
            return cls(None, score)  # type: ignore[arg-type]
        view = View.parse(event)
        if view.kind in ("sub", "position"):
            raise UsageError(
                f"a set is about one outcome an instance; {view.name} has several. Ask for top-1, top-k, topset-k, "
                f"full, or {PARTIAL_ORDER} (all pairs at once)"
            )
        return cls(view, score)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """Name of the event."""
        return PARTIAL_ORDER if self.view is None else self.view.name

    def check(self, h: Distribution) -> None:
        """Raise UsageError where the event has no meaning for the forecasts."""
        if self.view is None:
            return
        if not h.has_rankings and not (self.view == View("top", 1) and h.has_best):
            raise UsageError(f"pairwise probabilities state nothing beyond pairs; ask for {PARTIAL_ORDER}")
        if self.view == View("top", 1):
            return
        sizes = np.unique(h.sizes)
        if len(sizes) > 1:
            raise UsageError(
                f"{self.view.name}: instances have {sizes[0]} to {sizes[-1]} items; ask for top-1 or "
                f"{PARTIAL_ORDER}, or take each size apart"
            )
        self.view.check(h.n_items)
        if self.view.n_outcomes(h.n_items) > _OUTCOMES:
            raise UsageError(
                f"{self.view.name} has {self.view.n_outcomes(h.n_items)} outcomes for {h.n_items} items, more than "
                f"{_OUTCOMES}; ask for a smaller k, or for {PARTIAL_ORDER}, which needs no enumeration"
            )

    def potential(self, dist: Distribution) -> FloatArray:
        """(b, W) score of each outcome of a dense block; of a partial order, of turning each pair round."""
        # Rounded: equal scores must stay equal when candidates come in another order.
        if self.view is None:
            size: FloatArray = np.abs(dist.pair_log_odds(*np.triu_indices(dist.n_items, 1)))
            return rounded(size)
        if self.view == View("top", 1):
            logs = dist.top_log_probs()
        else:
            with np.errstate(divide="ignore"):
                logs = np.log(dist.marginal(self.view).probs[:, 0])
        if self.score == "probability":
            return rounded(-logs)
        # Mass of what is at least as probable. Equal outcomes share a score, so storage order plays no part.
        order = np.argsort(-logs, axis=1, kind="stable")
        ranked = np.take_along_axis(logs, order, axis=1)
        mass = np.cumsum(np.exp(ranked), axis=1)
        last = np.append(
            ranked[:, 1:] < ranked[:, :-1], np.ones((len(logs), 1), bool), axis=1
        )  # end of a run of ties
        ends = np.where(last, np.arange(logs.shape[1]), logs.shape[1])
        ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        out: FloatArray = np.empty_like(logs)
        np.put_along_axis(out, order, np.take_along_axis(mass, ends, axis=1), axis=1)
        return rounded(out)

    def observed(self, dist: Distribution, ranks: FloatArray) -> FloatArray:
        """(b,) score of what happened; NaN where that is not known, or where there was nothing to choose.

        A single candidate has the worst adaptive score there is, 1; counted, it would swell the sets of all others.
        """
        if dist.n_items < 2:
            return np.full(len(ranks), np.nan)
        scores = self.potential(dist)
        if self.view is not None:
            index = self.index(ranks)
            found = np.take_along_axis(scores, np.maximum(index, 0)[:, None], axis=1)[:, 0]
            return np.where(index < 0, np.nan, found)
        known = directions(ranks)
        wrong = known * np.sign(dist.pair_log_odds(*np.triu_indices(dist.n_items, 1))) < 0
        worst = np.where(wrong, scores, 0.0).max(axis=1, initial=0.0)
        return np.where((known != 0).any(axis=1), worst, np.nan)

    def index(self, ranks: FloatArray) -> IntArray:
        """(b,) the outcome of the view that happened; -1 where that is not known."""
        assert self.view is not None
        if ranks.shape[1] == 1:  # one candidate: it is the best
            return np.where(np.isnan(ranks[:, 0]), -1, 0)
        index: IntArray = classify_ranks(self.view, ranks)[:, 0]
        return index


def directions(ranks: FloatArray) -> FloatArray:
    """(b, P) +1 where the first item of a pair is known to be better, -1 the second, 0 where neither is."""
    first, second = np.triu_indices(ranks.shape[1], 1)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.sign(ranks[:, second] - ranks[:, first]))
