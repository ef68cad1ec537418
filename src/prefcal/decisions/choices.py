"""What a model would decide in each instance, the error that it claims, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.decisions.uncertainty import Statistic, mean_of
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError
from prefcal.estimators.events import Family, Pairs, TopChoice
from prefcal.estimators.inputs import aligned, rounded
from prefcal.estimators.scalar import events_by_block

Choice = Literal["best", "pair"]
CHOICES: tuple[Choice, ...] = ("best", "pair")


@dataclass(frozen=True, slots=True)
class Choices:
    """Decisions of one model whose outcome is known, most confident first.

    Parameters
    ----------
    log_risk
        (e,) logarithm of the claimed probability that the decision is wrong, ascending.
    hit
        (e,) 1 if it was right, 0 if not, a fraction where candidates of equal probability share it.
    weight, unit
        (e,) weight, and code of the independent unit (instance or cluster).
    n_units
        Number of units.
    coverage
        Why instances have no decision: ``{"used": 400, "the best item is not known ...": 83}``.
    """

    log_risk: FloatArray
    hit: FloatArray
    weight: FloatArray
    unit: IntArray
    n_units: int
    coverage: dict[str, int]

    @property
    def risk(self) -> FloatArray:
        """(e,) claimed probability that the decision is wrong."""
        return np.exp(self.log_risk)

    def __len__(self) -> int:
        return len(self.hit)

    def mean(self, values: FloatArray, of: Any = slice(None)) -> Statistic:
        """The weighted mean of (e,) values over some decisions."""
        return mean_of(values[of], self.weight[of], self.unit[of], self.n_units)

    @property
    def places(self) -> IntArray:
        """(n_units,) place of each unit in an order that follows from its decisions, not from where it is stored.

        Random numbers are dealt out in this order; units with the same decisions may change places.
        """
        log_risk = np.maximum(self.log_risk, -750.0)
        mixed = (self.weight * np.sin(1.3 + 1.7 * log_risk), self.weight * self.hit * np.cos(0.7 + log_risk))
        keys = [np.bincount(self.unit, m, minlength=self.n_units).astype(np.float64).round(9) for m in mixed]
        places = np.empty(self.n_units, dtype=np.intp)
        places[np.lexsort(keys)] = np.arange(self.n_units)
        return places

    @property
    def ends(self) -> IntArray:
        """Places just behind the last of decisions of equal claimed risk: where a threshold can cut."""
        return np.flatnonzero(np.append(self.log_risk[1:] != self.log_risk[:-1], True)) + 1


def gather(
    models: Sequence[Distribution], y: Outcomes, *, choice: Choice, weights: Any, clusters: Any
) -> list[Choices]:
    """The decisions of one or several models on the same events.

    Parameters
    ----------
    models
        Forecasts, each for the instances of ``y`` in the same order.
    y
        Outcomes.
    choice
        ``best``: one decision an instance, the candidate that the model holds most probable to be the best.
        ``pair``: one for each pair of candidates whose order is known, the likelier order.
    weights, clusters
        As in :func:`prefcal.audit`.

    Raises
    ------
    DataError
        Where no decision has a known outcome, or forecasts and outcomes do not fit.
    UsageError
        For pairwise probabilities and ``best``.
    """
    if choice not in CHOICES:
        raise UsageError.unknown("choice", str(choice), CHOICES)
    family: Family = TopChoice() if choice == "best" else Pairs(y.ties == "equal")
    found = [_collect(h, y, family, weights, clusters) for h in models]
    common = found[0].key
    for events in found[1:]:
        common = np.intersect1d(common, events.key, assume_unique=True)
    if len(common) == 0:
        raise DataError(f"no decision has a known outcome: {family.unusable}")
    out = []
    for events in found:
        if len(events.key) > len(common):
            events = events.take(np.flatnonzero(np.isin(events.key, common, assume_unique=True)))
        used = len(np.unique(events.row))
        coverage = {"used": used} | ({family.unusable: len(y) - used} if used < len(y) else {})
        names, codes = np.unique(events.unit, return_inverse=True)
        order = np.argsort(events.log_risk, kind="stable")
        units = codes[order].astype(np.intp)
        out.append(
            Choices(events.log_risk[order], events.hit[order], events.weight[order], units, len(names), coverage)
        )
    return out


class _Events(NamedTuple):
    """Events by ascending ``key`` (record and place in it), with the ``row`` = record of each."""

    key: IntArray
    log_risk: FloatArray
    hit: FloatArray
    weight: FloatArray
    unit: IntArray
    row: IntArray

    def take(self, at: IntArray) -> _Events:
        return _Events(self.key[at], self.log_risk[at], self.hit[at], self.weight[at], self.unit[at], self.row[at])


def _collect(h: Distribution, y: Outcomes, family: Family, weights: Any, clusters: Any) -> _Events:
    if isinstance(family, TopChoice) and not h.has_best:
        raise UsageError(
            "pairwise probabilities do not say which of several candidates is best; ask for choice='pair'"
        )
    h, weight, per_instance, codes = aligned(h, y, weights, clusters)
    unit = np.arange(len(y)) if codes is None else codes
    slots = max(1, h.n_items * (h.n_items - 1) // 2)
    parts: list[_Events] = []
    for seen in events_by_block(h, y, family, weights=weight, per_instance=per_instance):
        known = seen.known
        at, slot = np.nonzero(known)
        row = seen.rows[at]
        # Rounded: claims that are equal but for the order of summation must be equal.
        log_risk = rounded(seen.forecast.log_q[known])
        parts.append(_Events(row * slots + slot, log_risk, seen.happened[known], seen.weight[known], unit[row], row))
    if not parts:
        raise DataError("no instance has two or more candidates: there is nothing to decide")
    joined = _Events(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return joined.take(np.argsort(joined.key, kind="stable"))


def known_choice(y: Outcomes, h: Distribution) -> Choice:
    """``best`` where the best item of some instance with two or more candidates is known, else ``pair``."""
    if not h.has_best:
        return "pair"
    for rows, size in y.ranks.blocks():
        ranks = y.ranks.block(rows, size)
        if size >= 2 and ((ranks == ranks.min(axis=1, keepdims=True)).sum(axis=1) == 1).any():
            return "best"
    return "pair"
