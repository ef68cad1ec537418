"""Probabilities that a file states outright: of the order of pairs, and of each item to be the best."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, Ragged, as_array
from prefcal.distributions.base import powers
from prefcal.distributions.pairwise import Pairwise, Unranked
from prefcal.distributions.stacked import Stacked
from prefcal.errors import DataError
from prefcal.views import View

# How far the probabilities to be best may be from summing to 1 (and, of two items, from the pair's).
SUM_TOLERANCE = 1e-6


class PairsAndBest(Unranked):
    """The probability of each pair's order and of each item to be the best, and nothing more.

    What is written of forecasts that no scores express. It answers ``sub-2`` and ``top-1``; every other question
    about rankings is refused. As for :class:`Pairwise`, the numbers need not belong to a distribution over rankings.

    Parameters
    ----------
    probs
        (n, m, m), as for :class:`Pairwise`.
    best
        (n, m) probability of each item to be the best; each row sums to 1 within 1e-6.

    Raises
    ------
    DataError
        As :class:`Pairwise`; for rows of ``best`` that are no probabilities or, of two items, not those of the pair.

    Examples
    --------
    >>> h = PairsAndBest([[[0.5, 0.75], [0.25, 0.5]]], [[0.75, 0.25]])
    >>> h.marginal("top-1").probs.tolist()
    [[[0.75, 0.25]]]
    """

    refusal: ClassVar[str] = (
        "probabilities of pairs and of the best item do not determine a distribution over rankings; only sub-2 and "
        "top-1 can be asked"
    )
    tempered: ClassVar[str] = "the log-odds of the pairs, and the log-probabilities to be best"

    def __init__(self, probs: Any, best: Any) -> None:
        self.pairs = Pairwise(probs)
        self.best = as_array(best, "best", 2)
        if self.best.shape != self.pairs.probs.shape[:2]:
            raise DataError(f"best must have shape {self.pairs.probs.shape[:2]}, got {self.best.shape}")
        outside = ~((self.best >= 0) & (self.best <= 1)).all(axis=1)
        uneven = ~(np.abs(self.best.sum(axis=1) - 1.0) <= SUM_TOLERANCE)
        for wrong, why in ((outside, "must be probabilities"), (uneven, "do not sum to 1")):
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                raise DataError(f"the probabilities to be best {why}", row=f"instance {at}", field="best")
        if self.n_items == 2:
            clash = np.abs(self.best[:, 0] - self.pairs.probs[:, 0, 1]) > SUM_TOLERANCE
            if clash.any():
                at = int(np.flatnonzero(clash)[0])
                raise DataError("the better of two is the best, but its probability is another", row=f"instance {at}")

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return self.pairs.n_items

    @property
    def has_best(self) -> bool:
        """True: that is what it states besides pairs."""
        return True

    def __len__(self) -> int:
        return len(self.best)

    def __getitem__(self, index: Any) -> PairsAndBest:
        part = object.__new__(PairsAndBest)
        part.pairs, part.best = self.pairs[index], self.best[index].reshape(-1, self.n_items)
        return part

    def scaled(self, factor: float) -> PairsAndBest:
        """See :meth:`Distribution.scaled`; of two items both say the same."""
        out = object.__new__(PairsAndBest)
        with np.errstate(divide="ignore"):
            out.pairs, out.best = self.pairs.scaled(factor), powers(np.log(self.best), factor)
        return out

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        if view == View("top", 1):
            return self.best[:, None, :], None
        if view == View("sub", 2) or self.n_items == 2:
            return self.pairs._probs(view, rng, n_samples)
        self.refuse(f"view {view.name}")

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Pairwise.pair_log_odds`."""
        return self.pairs.pair_log_odds(first, second)

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`."""
        with np.errstate(divide="ignore"):
            return np.log(self.best)


def from_stated(
    pair_probs: FloatArray | Ragged, best_probs: Ragged | None, sizes: IntArray
) -> Pairwise | PairsAndBest | Stacked:
    """Forecasts of what a file states about pairs and, where it does, about the best item.

    Parameters
    ----------
    pair_probs
        (n, m, m), or rows of ``size * size`` numbers, entry ``a * size + b`` being P(a before b).
    best_probs
        Rows of ``size`` numbers, or None.
    sizes
        (n,) number of items of each instance; instances of unequal size are stacked.
    """
    parts = []
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        if isinstance(pair_probs, Ragged):
            probs = pair_probs.block(rows, size * size).reshape(-1, size, size)
        else:
            probs = pair_probs[rows, :size, :size]
        parts.append(
            (rows, Pairwise(probs) if best_probs is None else PairsAndBest(probs, best_probs.block(rows, size)))
        )
    if len(parts) == 1:
        return parts[0][1]
    return Stacked(parts)
