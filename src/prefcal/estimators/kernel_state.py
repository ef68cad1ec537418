"""The mergeable state behind a kernel estimate: sums of random features, and of their random signs.

A unit (an instance, or a cluster of them) contributes a vector u_i of D numbers whose mean is 0 when the notion
holds. With S = sum u_i the unbiased squared error is (|S|^2 - sum |u_i|^2) / pairs of units. Sums of random signs
times u_i give the null law (they need the notion alone, whatever the dependence inside a unit) and the standard
error. Signs come from the number of the unit, and contributions are rounded to multiples of 2^-28, so that sums are
exact: states merge to the same bits in any order and grouping.
"""

from __future__ import annotations

import dataclasses
import math
from functools import reduce

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.null import NullLaw, compare
from prefcal.result import Interval

_QUANTUM = 2.0**-28  # sums stay exact up to 2^25 in size, some ten million instances
_WORD = 64


@dataclasses.dataclass(frozen=True, slots=True)
class KernelPlan:
    """Everything that fixes a kernel estimate before data are seen; states merge when their plans are equal.

    Parameters
    ----------
    notion, items, n_items
        What is tested, on which kind of items, how many of them.
    kernel
        Between outcomes: ``delta`` (equal or not), ``kendall`` (pairs) or ``mallows``.
    decay
        Of the Mallows kernel, see :mod:`~prefcal.estimators.ranking_kernels`.
    frequencies, mixes
        F random frequencies of the forecast kernel (a cosine and a sine each), with ``mixes`` combinations of the
        outcome for each of the 2 F: D = 2 F * mixes features. 0 mixes = the outcome's own coordinates.
    references
        Rankings drawn from each forecast where its outcomes cannot be listed; 0 = exact.
    bandwidth
        Of the Gaussian kernel on forecasts.
    draws, redraws
        Random signs, and outcomes redrawn from the forecasts (0 where signs serve).
    given
        What stands for the forecast that is conditioned on, in words.
    seed
        Of the features, signs and references.
    """

    notion: str
    items: str
    n_items: int
    kernel: str
    decay: float
    frequencies: int
    mixes: int
    references: int
    bandwidth: float
    draws: int
    redraws: int
    given: str
    seed: int


class KernelState:
    """Sums over units; see the module. Build one with :func:`prefcal.estimators.kernel.kernel_state`.

    Parameters
    ----------
    plan
        The configuration.
    size
        D, numbers in a contribution.
    members
        Members whose squared errors are averaged.
    """

    _SUMS = ("total", "own", "mass", "mass2", "n_units", "n_events", "signed", "signed_own", "signed_mass",
             "signed_mass2", "redrawn", "redrawn_own")  # fmt: skip

    def __init__(self, plan: KernelPlan, size: int, members: int) -> None:
        self.plan, self.size, self.members = plan, size, members
        self.total = np.zeros(size)
        self.own = self.mass = self.mass2 = 0.0
        self.n_units = self.n_events = 0
        self.signed = np.zeros((plan.draws, size))
        self.signed_own, self.signed_mass, self.signed_mass2 = np.zeros((3, plan.draws))
        self.redrawn = np.zeros((plan.redraws, size))
        self.redrawn_own = np.zeros(plan.redraws)

    def add(self, units: FloatArray, mass: FloatArray, numbers: IntArray, n_events: int) -> None:
        """Add independent units.

        Parameters
        ----------
        units
            (c, D) contributions, weights included.
        mass
            (c,) weight of each unit; 0 = the unit has no known outcome and does not count.
        numbers
            (c,) number of each unit, unique over everything that is ever merged: it chooses the unit's signs.
        n_events
            Known outcomes among them.
        """
        exact = np.rint(units / _QUANTUM) * _QUANTUM
        own = np.rint((exact**2).sum(axis=1) / _QUANTUM) * _QUANTUM
        signs = unit_signs(numbers, self.plan.draws, self.plan.seed)
        self.total += exact.sum(axis=0)
        self.own += float(own.sum())
        self.mass += float(mass.sum())
        self.mass2 += float((mass**2).sum())
        self.n_units += int((mass > 0).sum())
        self.n_events += n_events
        self.signed += signs.T @ exact
        self.signed_own += own @ signs
        self.signed_mass += mass @ signs
        self.signed_mass2 += mass**2 @ signs

    def merge(self, other: KernelState) -> KernelState:
        """The state of both.

        The parts must number their units apart (``first`` of :func:`prefcal.estimators.kernel.kernel_state`).

        Raises
        ------
        UsageError
            When the plans differ.
        """
        if (self.plan, self.size, self.members) != (other.plan, other.size, other.members):
            mine, theirs = dataclasses.asdict(self.plan), dataclasses.asdict(other.plan)
            differ = [f"{k}: {mine[k]!r} and {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]
            raise UsageError(f"kernel states of different plans do not merge: {'; '.join(differ) or 'other sizes'}")
        out = KernelState(self.plan, self.size, self.members)
        for name in self._SUMS:
            setattr(out, name, getattr(self, name) + getattr(other, name))
        return out

    __add__ = merge

    @property
    def pairs(self) -> float:
        """Weight of all ordered pairs of different units, times the number of members."""
        return self.members * (self.mass**2 - self.mass2)

    @property
    def value(self) -> float:
        """The unbiased squared error. Raises DataError with fewer than two units of known outcome."""
        if self.n_units < 2:
            raise DataError(
                f"{self.plan.notion}: a kernel estimate needs at least two instances with a known outcome, found "
                f"{self.n_units}"
            )
        return (float(self.total @ self.total) - self.own) / self.pairs

    def null(self) -> NullLaw:
        """Null law of :attr:`value`: outcomes redrawn from the forecasts where there are such, else random signs."""
        return compare(self.value, self._simulated())

    def _simulated(self) -> FloatArray:
        if self.plan.redraws:
            squares: FloatArray = (self.redrawn**2).sum(axis=1) - self.redrawn_own
        else:
            squares = (self.signed**2).sum(axis=1) - self.own
        return squares / self.pairs

    def interval(self) -> Interval:
        """95 % interval, clipped at 0.

        The standard error is that of the U-statistic's first-order projection (which rules away from 0), estimated
        from the signed sums, or that of the null law (its degenerate part, which rules near 0), whichever is larger.
        """
        value = self.value
        projection = self.signed @ self.total - self.signed_own
        expected = value * self.members * (self.mass * self.signed_mass - self.signed_mass2)
        se = 2 * math.sqrt(float(((projection - expected) ** 2).mean())) / self.pairs
        se = max(se, float(self._simulated().std(ddof=1)))
        return (max(value - Z95 * se, 0.0), max(value + Z95 * se, 0.0))


def merge_states(states: list[KernelState]) -> KernelState:
    """Merge states of one plan."""
    return reduce(KernelState.merge, states)


def unit_signs(numbers: IntArray, draws: int, seed: int) -> FloatArray:
    """(c, draws) independent random signs +-1 of numbered units: bits of SplitMix64 (Steele, Lea & Flood 2014).

    They depend on the number of the unit and the seed only, not on what else is there.
    """
    words = -(-draws // _WORD)
    start = _mix(np.array([seed], dtype=np.uint64) + _GOLDEN)
    keys = _mix(np.asarray(numbers).astype(np.uint64) * _GOLDEN + start)
    bits = _mix(keys[:, None] + _GOLDEN * np.arange(1, words + 1, dtype=np.uint64))
    chosen = np.unpackbits(bits.view(np.uint8).reshape(len(bits), -1), axis=1, count=draws)
    return chosen.astype(np.float64) * 2.0 - 1.0


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return out
