"""Pairwise probabilities that are not tied to a distribution over full rankings."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, as_array
from prefcal.distributions.base import Distribution, check_factor, check_pairs
from prefcal.errors import DataError, UsageError
from prefcal.views import View

# How far P(a before b) + P(b before a) may be from 1.
COMPLEMENT_TOLERANCE = 1e-6
_MOST_ODDS = 700.0  # exp of it is a normal float


class Unranked(Distribution):
    """Numbers that need not belong to any distribution over rankings; questions about whole rankings are refused."""

    has_rankings: ClassVar[bool] = False
    #: Why such a question has no answer, and what does.
    refusal: ClassVar[str]

    def refuse(self, what: str) -> NoReturn:
        """Raise UsageError: ``what`` does not follow from what is stated."""
        raise UsageError(f"{what}: {self.refusal}")

    def log_prob(self, orders: npt.ArrayLike) -> NoReturn:
        """Raise UsageError: no probabilities of full rankings are stated."""
        self.refuse("log_prob")

    def sample(self, size: int, rng: np.random.Generator | int) -> NoReturn:
        """Raise UsageError: there is no distribution over rankings to draw from."""
        self.refuse("sample")

    def mode(self) -> NoReturn:
        """Raise UsageError: there is no most probable ranking."""
        self.refuse("mode")


class Pairwise(Unranked):
    """The probability of each pair's order, and nothing more.

    Pairwise probabilities (one binary classifier a pair, an LLM judge) need not belong to any distribution over
    rankings. They have a ``sub-2`` marginal and pair log odds; every question about longer rankings is refused.

    Parameters
    ----------
    probs
        (n, m, m); ``probs[i, a, b]`` is P(a before b) of instance i. The diagonal is ignored. NaN = not stated; a
        pair stated in one direction only is completed by the complement.

    Raises
    ------
    DataError
        For values outside [0, 1] and pairs whose two directions do not sum to 1 within 1e-6.

    Examples
    --------
    >>> h = Pairwise([[[0.5, 0.75], [0.25, 0.5]]])
    >>> h.marginal("sub-2").probs.tolist()
    [[[0.75, 0.25]]]
    """

    refusal: ClassVar[str] = (
        "pairwise probabilities do not determine a distribution over rankings, only sub-2 can be asked; "
        "BabingtonSmith(probs) or PlackettLuce(scores) give a full distribution"
    )
    tempered: ClassVar[str] = "the log-odds of the pairs"

    def __init__(self, probs: Any) -> None:
        self.probs = check_pair_probs(probs)

    @classmethod
    def _wrap(cls, probs: FloatArray) -> Pairwise:
        self = object.__new__(cls)
        self.probs = probs
        return self

    @property
    def n_items(self) -> int:
        """Number of items ``m`` of the universe."""
        return int(self.probs.shape[1])

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, index: Any) -> Pairwise:
        part = self.probs[index]
        return self._wrap(part if part.ndim == 3 else part[None])

    def scaled(self, factor: float) -> Pairwise:
        """See :meth:`Distribution.scaled`; pairs that are not stated stay so."""
        return self._wrap(scaled_pair_probs(self.probs, check_factor(factor)))

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """The stated probabilities; NaN for pairs that are not stated."""
        m = self.n_items
        if view.kind != "sub" or view.k != 2:
            if m > 2 or view.kind not in ("full", "sub"):
                self.refuse(f"view {view.name}")
            view = View("sub", 2)
        pairs = view.outcomes(m)
        return self.probs[:, pairs[..., 0], pairs[..., 1]], None

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; NaN where the pair is not stated."""
        a, b = check_pairs(first, second, self.n_items)
        with np.errstate(divide="ignore"):
            return np.log(self.probs[:, a, b]) - np.log(self.probs[:, b, a])

    def top_log_probs(self) -> NoReturn:
        """Raise UsageError: who is best of more than two does not follow from pairs."""
        self.refuse("top_log_probs")


def scaled_pair_probs(probs: FloatArray, factor: FloatArray | float) -> FloatArray:
    """(n, m, m) pairwise probabilities with their log-odds multiplied by a number, or by one for each instance.

    Certain ones stay certain, and others do not become so: their log-odds stay within +-700.
    """
    by = np.asarray(factor, dtype=np.float64).reshape(-1, 1, 1)
    with np.errstate(divide="ignore"):
        odds = np.log(probs) - np.log(probs.transpose(0, 2, 1))
    with np.errstate(over="ignore"):
        finite = np.clip(np.where(np.isinf(odds), 0.0, odds) * by, -_MOST_ODDS, _MOST_ODDS)
        return np.asarray(1.0 / (1.0 + np.exp(-np.where(np.isinf(odds), odds, finite))))


def check_pair_probs(probs: Any) -> FloatArray:
    """Check and complete (n, m, m) pairwise probabilities; NaN where neither direction is stated.

    Raises DataError with the instance and the pair.
    """
    array = as_array(probs, "probs", 3)
    n, m, other = array.shape
    if m != other or n == 0 or m < 2:
        raise DataError(f"probs must have shape (n, m, m) with n >= 1 and m >= 2, got {array.shape}")
    array = array.copy()
    items = np.arange(m)
    array[:, items, items] = 0.5
    outside = (array < 0) | (array > 1)
    if outside.any():
        i, a, b = (int(x) for x in np.argwhere(outside)[0])
        raise DataError(
            f"P({a} before {b}) = {array[i, a, b]:g} is not a probability", row=f"instance {i}", field="probs"
        )
    turned = array.transpose(0, 2, 1)
    clash = np.abs(array + turned - 1.0) > COMPLEMENT_TOLERANCE
    if clash.any():
        i, a, b = (int(x) for x in np.argwhere(clash)[0])
        raise DataError(
            f"P({a} before {b}) = {array[i, a, b]:g} and P({b} before {a}) = {array[i, b, a]:g} do not sum to 1; "
            "leave out (NaN) a direction that is not stated",
            row=f"instance {i}",
            field="probs",
        )
    return np.where(np.isnan(array), 1.0 - turned, array)
