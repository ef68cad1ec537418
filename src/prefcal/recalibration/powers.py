"""Choices of models other than Plackett-Luce, as far as one scale changes them: powers of listed probabilities.

``P_a(order)`` proportional to ``P(order)^a``: for a list of rankings an exponential family, with l(a) and its
derivatives as sums over the list; for Babington Smith the same as scaling the log-odds of its comparisons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray
from prefcal.distributions.babington_smith import BabingtonSmith
from prefcal.distributions.base import chunks
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.pairwise import scaled_pair_probs
from prefcal.estimators.inputs import aligned_ranks
from prefcal.recalibration.choices import BoolArray, Choice, Jets
from prefcal.recalibration.likelihood import agreeing, observed_log_prob

# Probabilities of all rankings that may be listed at once (64 MiB), for models that are not lists.
LISTED_NUMBERS = 1 << 23


@dataclass(frozen=True, slots=True)
class Listed(Choice):
    """``log_p`` (c, r) of the listed rankings (-inf: impossible) and which of them agree with the observation."""

    log_p: FloatArray
    agrees: BoolArray

    def __len__(self) -> int:
        return len(self.log_p)

    def jets(self, scale: FloatArray | float) -> Jets:
        """See :meth:`Choice.jets`: E and Var of log p among those that agree, minus among all."""
        a = np.asarray(scale, dtype=np.float64).reshape(-1, 1)
        own, all_ = self._among(a, self.agrees), self._among(a, None)
        return own[0] - all_[0], own[1] - all_[1], own[2] - all_[2]

    def log_prob(self, scale: FloatArray | float) -> FloatArray:
        """See :meth:`Choice.log_prob`."""
        a = np.asarray(scale, dtype=np.float64).reshape(-1, 1)
        return self._among(a, self.agrees, value_only=True)[0] - self._among(a, None, value_only=True)[0]

    def _among(self, a: FloatArray, which: BoolArray | None, *, value_only: bool = False) -> Jets:
        """Log of the sum of p^a over the possible rankings, of ``which`` if given; E and Var of log p under them."""
        if which is not None and (which.sum(axis=1) == 1).all():  # full rankings: one term
            own = self.log_p[which]
            return a[:, 0] * own, own, np.zeros(len(own))
        possible = ~np.isneginf(self.log_p)
        if which is not None:
            possible &= which
        finite = np.where(possible, self.log_p, 0.0)
        w = np.where(possible, a * finite, -np.inf)
        top = w.max(axis=1, keepdims=True)
        w -= top
        np.exp(w, out=w)
        total = w.sum(axis=1)
        value = top[:, 0] + np.log(total)
        if value_only:
            return value, value, value
        mean = np.einsum("cr,cr->c", w, finite) / total
        finite -= mean[:, None]
        return value, mean, np.einsum("cr,cr,cr->c", w, finite, finite) / total

    def slopes(self, scale: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """See :meth:`Choice.slopes`."""
        _, first, second = self.jets(scale)
        return first, np.maximum(-second, 0.0)

    def gap_range(self, which: BoolArray) -> tuple[float, float]:
        """See :meth:`Choice.gap_range`; log p of each other ranking minus that of each that agrees."""
        low = high = 0.0
        for log_p, agrees in zip(self.log_p[which], self.agrees[which], strict=True):
            possible = ~np.isneginf(log_p)
            own, others = log_p[agrees & possible], log_p[~agrees & possible]
            if len(others):
                low = min(low, float(others.min() - own.max()))
                high = max(high, float(others.max() - own.min()))
        return low, high

    def typical_gap(self) -> float:
        """See :meth:`Choice.typical_gap`; of the possible rankings to their mean."""
        possible = ~np.isneginf(self.log_p)
        finite = np.where(possible, self.log_p, 0.0)
        mean = finite.sum(axis=1, keepdims=True) / possible.sum(axis=1, keepdims=True)
        return float(np.abs(np.where(possible, finite - mean, 0.0)).sum() / possible.sum())


@dataclass(frozen=True, slots=True)
class Compared(Choice):
    """Babington Smith forecasts ``h`` and outcomes ``y``; derivatives by differences."""

    h: BabingtonSmith
    y: Outcomes

    def __len__(self) -> int:
        return len(self.h)

    def log_prob(self, scale: FloatArray | float) -> FloatArray:
        """See :meth:`Choice.log_prob`."""
        return observed_log_prob(BabingtonSmith(scaled_pair_probs(self.h.probs, scale)), self.y)

    def jets(self, scale: FloatArray | float) -> Jets:
        """See :meth:`Choice.jets`; central differences, relative error about 1e-8 and 1e-4."""
        a = np.asarray(scale, dtype=np.float64)
        step = 1e-4 * np.maximum(np.abs(a), 1e-2)
        low, middle, high = (self.log_prob(a + k * step) for k in (-1, 0, 1))
        return middle, (high - low) / (2 * step), (high - 2 * middle + low) / step**2

    def slopes(self, scale: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """See :meth:`Choice.slopes`."""
        _, first, second = self.jets(scale)
        return first, np.maximum(-second, 0.0)

    def gap_range(self, which: BoolArray) -> tuple[float, float]:
        """See :meth:`Choice.gap_range`; not enumerated, so as if some were right and some wrong."""
        return -1.0, 1.0

    def typical_gap(self) -> float:
        """See :meth:`Choice.typical_gap`; log-odds of the comparisons, bounded."""
        with np.errstate(divide="ignore"):
            odds = np.log(self.h.probs) - np.log(self.h.probs.transpose(0, 2, 1))
        return float(np.minimum(np.abs(odds), 30.0).mean())


def compared_choices(h: BabingtonSmith, y: Outcomes) -> list[Choice]:
    """Observations of Babington Smith, all possible: as listed rankings where these are few, else by recursion."""
    if len(h) * math.factorial(h.n_items) <= LISTED_NUMBERS:
        full = h.marginal("full")
        probs = full.probs[:, 0] / full.probs[:, 0].sum(axis=1, keepdims=True)
        return listed_choices(Categorical(full.outcomes[0], probs), y)
    return [Compared(np.arange(len(h)), h.n_items, True, h, y)]


def listed_choices(h: Categorical, y: Outcomes) -> list[Choice]:
    """The observations of listed rankings, one choice each; those of probability 0 are left out."""
    out: list[Choice] = []
    m = h.n_items
    for part in chunks(len(h), len(h.orders) * m):
        rows = np.arange(len(h))[part]
        ranks = aligned_ranks(y[rows], next(h[part].blocks(len(rows) * m)))
        agrees = agreeing(h.orders[None], ranks)
        with np.errstate(divide="ignore"):
            log_p = np.log(h.probs[part])
        possible = (agrees & ~np.isneginf(log_p)).any(axis=1)
        if possible.any():
            out.append(Listed(rows[possible], m, True, log_p[possible], agrees[possible]))
    return out
