"""The Babington Smith model: a ranking from independent paired comparisons, kept if they agree."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import check_factor, check_orders, chunks
from prefcal.distributions.pairwise import check_pair_probs, scaled_pair_probs
from prefcal.distributions.stagewise import StageWise, after, remaining
from prefcal.errors import DataError, UsageError

# The recursion over subsets holds about m 2^(m-1) numbers an instance: 18 MiB for 18 items.
MAX_ITEMS = 18


class BabingtonSmith(StageWise):
    """Babington Smith: P(order) proportional to the product of P(a before b) over its pairs.

    The model compares each pair independently and keeps the result when it is a ranking. Its pairwise marginals
    are *not* the given probabilities (see :class:`~prefcal.distributions.pairwise.Pairwise` for those).

    Parameters
    ----------
    probs
        (n, m, m) ``probs[i, a, b]`` = probability that a wins the comparison with b; the diagonal is ignored; NaN
        in one direction is completed by the complement. At most 18 items.

    Raises
    ------
    DataError
        For values outside [0, 1], pairs that do not sum to 1 within 1e-6 or are not stated, and certain (0 or 1)
        comparisons that form a cycle, so that no ranking is possible.
    UsageError
        For more than 18 items.

    Notes
    -----
    It is stage-wise: c(i | S) = prod over j in S - i of p_ij times Z(S - i) / Z(S), where Z(S) sums the products of
    all rankings of S. All Z take O(m^2 2^m) an instance, in log space; marginals then cost what
    :class:`~prefcal.distributions.stagewise.StageWise` states. ``sub-k`` whose recursion would pass 2^24 numbers an
    instance is estimated by sampling, with standard errors, and needs ``rng``.

    References
    ----------
    B. Babington Smith (1950), discussion of Ross, Journal of the Royal Statistical Society B 12, 153-162.

    Examples
    --------
    >>> h = BabingtonSmith([[[0.5, 0.8], [0.2, 0.5]]])
    >>> h.marginal("full").probs.round(12).tolist()
    [[[0.8, 0.2]]]
    """

    tempered: ClassVar[str] = "the log-odds of the comparisons"

    def __init__(self, probs: Any) -> None:
        array = check_pair_probs(probs)
        m = array.shape[1]
        if m > MAX_ITEMS:
            gib = m * 2.0 ** (m - 1) * 8 / 2**30
            raise UsageError(
                f"BabingtonSmith takes at most {MAX_ITEMS} items, got {m}: its recursion over subsets would hold "
                f"{gib:.3g} GiB for each instance; use PlackettLuce or Mallows for so many items"
            )
        missing = np.isnan(array)
        if missing.any():
            i, a, b = (int(x) for x in np.argwhere(missing)[0])
            raise DataError(
                f"P({a} before {b}) is not stated; BabingtonSmith needs every pair (Pairwise does not)",
                row=f"instance {i}",
                field="probs",
            )
        cyclic = _has_cycle(array.transpose(0, 2, 1) == 0.0)
        if cyclic.any():
            raise DataError(
                "certain comparisons (the other direction has probability 0) form a cycle, so no ranking is possible",
                row=f"instance {int(np.flatnonzero(cyclic)[0])}",
                field="probs",
            )
        self.probs = array

    @classmethod
    def _wrap(cls, probs: FloatArray) -> BabingtonSmith:
        self = object.__new__(cls)
        self.probs = probs
        return self

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return int(self.probs.shape[1])

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, index: Any) -> BabingtonSmith:
        part = self.probs[index]
        return self._wrap(part if part.ndim == 3 else part[None])

    def scaled(self, factor: float) -> BabingtonSmith:
        """See :meth:`Distribution.scaled`: every ranking's probability to the power ``factor``, renormalised."""
        return self._wrap(scaled_pair_probs(self.probs, check_factor(factor)))

    def _log_pairs(self) -> FloatArray:
        """(m, m, n) log probabilities, 0 on the diagonal."""
        with np.errstate(divide="ignore"):
            log_p = np.log(np.moveaxis(self.probs, 0, -1))
        items = np.arange(self.n_items)
        log_p[items, items] = 0.0
        return log_p

    def _levels(self, log_p: FloatArray) -> tuple[list[FloatArray], FloatArray]:
        """Log choice probabilities of all stages, and log Z of all items (n,)."""
        m, n = len(log_p), log_p.shape[-1]
        log_z: FloatArray = np.zeros((1, n))  # of the empty set
        stages: list[FloatArray] = []
        for t in range(m - 1, -1, -1):
            free = remaining(m, t)
            terms = log_z[after(m, t)]
            for q in range(m - t):
                for r in range(m - t):
                    terms[:, q] += log_p[free[:, q], free[:, r]]
            top = terms.max(axis=1)
            top = np.where(np.isneginf(top), 0.0, top)  # a set that is never what remains: no choice is possible
            with np.errstate(divide="ignore"):
                log_z = top + np.log(np.exp(terms - top[:, None]).sum(axis=1))
            stages.append(terms - np.where(np.isneginf(log_z), 0.0, log_z)[:, None])
        return stages[::-1], log_z[0]

    def _log_stages(self, depth: int) -> list[FloatArray]:
        return self._levels(self._log_pairs())[0][:depth]

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O(m^2 2^m) an instance for the normaliser."""
        m = self.n_items
        full: IntArray = check_orders(orders, len(self), m)
        out = np.zeros(len(self))
        for rows in chunks(len(self), m << (m - 1)):
            part = self[rows]
            log_p, order = part._log_pairs(), full[rows]
            each = np.arange(len(order))
            for s in range(m):
                for t in range(s + 1, m):
                    out[rows] += log_p[order[:, s], order[:, t], each]
            out[rows] -= self._levels(log_p)[1]
        return out


def _has_cycle(before: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether each relation (n, m, m) "must come before" has a cycle."""
    reach = before.copy()
    for via in range(reach.shape[1]):
        np.logical_or(reach, reach[:, :, via, None] & reach[:, via, None, :], out=reach)
    return np.asarray(np.diagonal(reach, axis1=1, axis2=2).any(axis=1))
