"""Forecasts and outcomes of a view of labelled items, block by block: what rankwise and kernel errors start from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import UsageError, require_whole
from prefcal.estimators.events import classify_ranks
from prefcal.estimators.inputs import check_alignment
from prefcal.estimators.null import OutcomeSimulator
from prefcal.views import View

_BLOCK = 1 << 17  # probabilities of a block: they stay in the cache, twice as fast as 2^19
_DRAWN = 1 << 22


@dataclass(frozen=True, slots=True)
class LabelledBlock:
    """Some instances: ``p`` (b, G, W) forecasts, ``outcome`` (b, G) indices or -1 = not known, ``ranks`` (b, m)."""

    rows: slice
    p: FloatArray
    outcome: IntArray
    ranks: FloatArray


class LabelledView:
    """A view of labelled items of forecasts with their outcomes.

    Parameters
    ----------
    h, y
        Forecasts and outcomes of the same instances and items; several records of an instance repeat its forecast.
    view
        The view; G members with W outcomes each.
    subsets
        Indices into :meth:`View.members`: only these members (a sample of the subsets of ``sub-k``).

    Raises
    ------
    DataError
        When forecasts and outcomes do not belong together.
    UsageError
        When the view has no meaning here: pairwise probabilities beyond pairs, lists without labels.
    """

    def __init__(self, h: Distribution, y: Outcomes, view: str | View, subsets: Sequence[int] | None = None) -> None:
        self.view = View.parse(view)
        if not (y.instance == np.arange(len(y))).all():
            h = h[y.instance]
        check_alignment(h, y)
        m = h.n_items
        self.view.check(m)
        if not h.has_rankings and self.view != View("sub", 2):
            raise UsageError(
                f"{self.view.name}: pairwise probabilities state nothing beyond pairs; ask for sub-2, or make a "
                "distribution over rankings first (BabingtonSmith)"
            )
        self.even = bool((h.sizes == m).all())
        if not self.even and not h.has_labels:
            raise UsageError(
                "lists of unequal length do not say which item is which; give an (n, m) array with NaN where an "
                "instance lacks an item"
            )
        self.h, self.y, self.m = h, y, m
        self.subsets = None if subsets is None else _members(subsets, self.view, m)
        self.n_members = self.view.n_members(m) if self.subsets is None else len(self.subsets)
        self.n_outcomes = self.view.n_outcomes(m)

    def outcomes(self) -> IntArray:
        """(G, W, length) what the outcomes are, see :meth:`View.outcomes`."""
        if self.subsets is None:
            return self.view.outcomes(self.m)
        if self.view.kind == "sub":
            return self.view.members(self.m)[self.subsets][:, View("full").outcomes(self.view.k)[0]]
        return self.view.outcomes(self.m)[self.subsets]

    def classify(self, ranks: FloatArray) -> IntArray:
        """(..., G) outcome of (bucket) ranks (..., m); -1 where it is not known."""
        if self.subsets is None:
            return classify_ranks(self.view, ranks)
        if self.view.kind == "sub":
            return classify_ranks(View("full"), ranks[..., self.view.members(self.m)[self.subsets]])[..., 0]
        return classify_ranks(self.view, ranks)[..., self.subsets]

    def blocks(self, rng: np.random.Generator, draws: int = 0) -> Iterator[LabelledBlock]:
        """Blocks of instances in order; ``rng`` is used where a marginal can only be sampled."""
        ranks = self.y.dense()
        whole = self.view.n_members(self.m) * self.n_outcomes
        step = max(1, min(_BLOCK // whole, _DRAWN // (max(draws, 1) * self.n_members * max(self.view.k, 1))))
        for start in range(0, len(ranks), step):
            rows = slice(start, min(start + step, len(ranks)))
            p = self.h[rows].marginal(self.view, rng=rng).probs
            if self.subsets is not None:
                p = p[:, self.subsets]
            outcome = self.classify(ranks[rows])
            outcome[np.isnan(p[..., 0])] = -1  # the model does not say, or the instance lacks an item
            yield LabelledBlock(rows, p, outcome, ranks[rows])

    def redraw(self, block: LabelledBlock, draws: int, rng: np.random.Generator) -> IntArray:
        """(draws, b, G) outcomes drawn from the forecasts, seen through the same observation as the real ones.

        Pairwise probabilities state no dependence between the pairs of an instance: they are drawn independently.
        """
        if not self.h.has_rankings:
            drawn = (rng.random((draws, *block.outcome.shape)) >= block.p[..., 0]).astype(np.intp)
        else:
            part = Block(block.rows, self.h[block.rows], None)
            drawn = self.classify(OutcomeSimulator(part, block.ranks).draw(draws, rng))
        drawn[:, np.isnan(block.p[..., 0])] = -1
        return drawn

    def check_redraw(self, draws: int) -> None:
        """Raise UsageError unless outcomes can be redrawn."""
        require_whole("draws", draws, 0)
        if draws and not self.even:
            raise UsageError("null draws need forecasts of all items in every instance; pass draws=0, or use audit()")


def _members(subsets: Sequence[int], view: View, m: int) -> IntArray:
    index = np.asarray(subsets)
    count = view.n_members(m)
    if (
        index.ndim != 1
        or len(index) == 0
        or index.dtype.kind not in "iu"
        or (index < 0).any()
        or (index >= count).any()
    ):
        raise UsageError(f"subsets must be a list of indices of the {count} members of {view.name}, got {subsets!r}")
    if len(np.unique(index)) < len(index):
        raise UsageError("subsets names a member twice")
    return index.astype(np.intp)
