"""Ranking sets: sets of outcomes that hold the true one with a probability that no model assumption enters.

Split conformal prediction (Vovk, Gammerman & Shafer 2005) over rankings: each calibration instance gets a score that
says how little the forecast expected what happened; outcomes of a new instance that score worse than all but the
share ``1 - level`` of those are left out. With exchangeable instances the set holds the truth with probability at
least ``level``, whatever the forecast. A calibrated forecast makes the sets small, not valid: they are valid anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from prefcal.conformal.events import PARTIAL_ORDER, Event, Score, directions
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import DataError, UsageError, require_number, require_whole
from prefcal.estimators.events import BoolArray
from prefcal.estimators.inputs import aligned_ranks, check_alignment, groupings, per_record
from prefcal.views import View


def conformal_sets(
    h: Distribution,
    y: Outcomes,
    *,
    event: str | View = "top-1",
    level: float = 0.9,
    score: Score = "adaptive",
    groups: Any = None,
    clusters: Any = None,
    method: Literal["split", "cross"] = "split",
    recalibration: str = "temperature",
    folds: int = 10,
    seed: int = 0,
) -> ConformalSets:
    """Calibrate sets of outcomes that hold the true one in at least ``level`` of new instances.

    Parameters
    ----------
    h, y
        Forecasts and outcomes of calibration instances that the model (and any recalibration) was not fitted on.
    event
        ``top-1``: sets of candidates that hold the best one. ``top-k``, ``topset-k``, ``full``: sets of prefixes, of
        item sets, of orderings. ``partial-order``: pairs that all are in the true order, at once; the set is every
        ordering that agrees with them. It needs no enumeration and uses whatever pairs are known.
    level
        Wanted probability, in (0, 1).
    score
        ``adaptive`` (Romano, Sesia & Candes 2020): the mass of the outcomes at least as probable as the one; sets
        grow where the forecast is unsure. ``probability`` (Sadinle, Lei & Wasserman 2019): minus the log probability;
        smaller sets on average, less even over easy and hard instances. Ignored for ``partial-order``, whose score is
        the largest log odds of a pair that turned out the other way round.
    groups
        n values: the promise then holds within each group (Mondrian). A group with fewer than ``1 / (1 - level) - 1``
        instances, or never seen, gets the set of everything.
    clusters
        n values; of instances with equal values (and of several records of one instance) one is drawn with ``seed``,
        since exchangeability holds between units only.
    method
        ``split``: as above. ``cross``: the data also fit a recalibration map, each fold's scores by the map of the
        other folds (CV+, Barber et al. 2021); guaranteed is then 1 - 2 (1 - level) - sqrt(2 / n), close to ``level``
        in practice.
    recalibration, folds
        Map (:func:`prefcal.recalibrate`) and number of folds of ``cross``.
    seed
        Of folds and of the draws from clusters.

    Raises
    ------
    UsageError, DataError
        Events without meaning for the forecasts; no usable instance.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> h = pc.PlackettLuce(rng.normal(size=(500, 4)))
    >>> y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    >>> sets = pc.conformal_sets(h[:250], y[:250], level=0.8)(h[250:])
    >>> bool(sets.contains(y[250:]).mean() > 0.75)
    True
    """
    if not isinstance(h, Distribution) or not isinstance(y, Outcomes):
        raise UsageError(
            f"conformal_sets takes a prefcal distribution and Outcomes, got {type(h).__name__} and {type(y).__name__}"
        )
    require_number("level", level)
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    if method not in ("split", "cross"):
        raise UsageError.unknown("method", str(method), ("split", "cross"))
    require_whole("seed", seed, 0)
    require_whole("folds", folds, 2)
    what = Event.parse(event, score)
    by = groupings(groups, y)
    if len(by) > 1:
        raise UsageError(f"groups must be one field, got {', '.join(g.field for g in by)}")
    h, units = per_record(h, y, clusters)
    check_alignment(h, y)
    what.check(h)
    rows = np.arange(len(y))
    if units is not None:  # one record of each unit
        mixed = np.random.default_rng([seed, 0]).permutation(len(y))
        rows = np.sort(mixed[np.unique(units[mixed], return_index=True)[1]])
    parts: list[tuple[Any, IntArray]] = [(None, rows)]
    if method == "cross":
        parts = list(_folds(h, y, units, rows, what, recalibration, folds, seed))
    calibration = []
    used = np.zeros(len(y), dtype=bool)
    level_of = np.zeros(len(y), dtype=np.intp) if not by else by[0].codes
    names: tuple[Any, ...] = by[0].levels if by else (None,)
    for mend, at in parts:
        part = h[at] if mend is None else mend(h[at])
        scores = _observed(what, part, y[at])
        used[at] = ~np.isnan(scores)
        kept = [np.sort(scores[(level_of[at] == g) & used[at]]) for g in range(len(names))]
        calibration.append((mend, tuple(kept)))
    if not used.any():
        raise DataError(f"no instance has a known outcome of {what.name}")
    return ConformalSets(
        what.name, level, score, method,
        by[0].field if by else None, names, tuple(calibration), int((~used[rows]).sum()), what,
    )  # fmt: skip


def _folds(
    h: Distribution,
    y: Outcomes,
    units: IntArray | None,
    rows: IntArray,
    what: Event,
    name: str,
    folds: int,
    seed: int,
) -> Iterator[tuple[Any, IntArray]]:
    from prefcal.recalibration import METHODS, recalibrate

    if not isinstance(name, str) or name not in METHODS:
        raise UsageError.unknown("recalibration", str(name), METHODS)

    unit = np.arange(len(y)) if units is None else units
    n = int(unit.max()) + 1
    if not 2 <= folds <= n:
        raise UsageError(f"folds must be between 2 and the number of independent units, {n}, got {folds}")
    fold = (np.random.default_rng([seed, 1]).permutation(n) % folds)[unit]
    for k in range(folds):
        train = np.flatnonzero(fold != k)
        inside = rows[fold[rows] == k]
        mend = recalibrate(h[train], _records(y, train), method=name, clusters=unit[train], seed=seed)
        if what.view is None and not mend.keeps_order:  # pairs would turn round from fold to fold
            raise UsageError(
                f"cross needs a recalibration that keeps the order of candidates for {PARTIAL_ORDER}; {name} does "
                f"not for {type(h).__name__} forecasts"
            )
        yield mend, inside


def _records(y: Outcomes, rows: IntArray) -> Outcomes:
    return Outcomes(y.ranks.take(rows), y.ties, np.arange(len(rows), dtype=np.intp))


def _observed(what: Event, h: Distribution, y: Outcomes) -> FloatArray:
    out = np.full(len(h), np.nan)
    y = Outcomes(y.ranks, y.ties, np.arange(len(h), dtype=np.intp))
    for block in h.blocks():
        out[block.rows] = what.observed(block.dist, aligned_ranks(y, block))
    return out


@dataclass(frozen=True, slots=True)
class ConformalSets:
    """A calibrated rule; call it on new forecasts to get their sets.

    Attributes
    ----------
    event, level, score, method
        As asked for.
    field, groups
        The grouping field and its values; (None,) without groups.
    n_unusable
        Calibration instances whose outcome was not known, or which have a single candidate.
    """

    event: str
    level: float
    score: str
    method: str
    field: str | None
    groups: tuple[Any, ...]
    _calibration: tuple[tuple[Any, tuple[FloatArray, ...]], ...]
    n_unusable: int
    _what: Event

    @property
    def n(self) -> dict[Any, int]:
        """Number of calibration instances of each group."""
        return {g: sum(len(kept[i]) for _, kept in self._calibration) for i, g in enumerate(self.groups)}

    def coverage_range(self) -> dict[Any, tuple[float, float]]:
        """95 % range, by group, of the coverage that one calibration set of this size gives in the long run.

        Over calibration sets the mean is at least ``level``; a particular one's coverage follows Beta(k, n + 1 - k)
        with k = ceil(level (n + 1)) (Vovk 2012), where scores have no ties. Not known for ``cross``: UsageError.
        """
        if self.method == "cross":
            raise UsageError("the law of the coverage given the calibration set is known for method='split' only")
        from scipy.special import betaincinv

        out = {}
        for g, n in self.n.items():
            k = math.ceil(self.level * (n + 1) - 1e-9)
            out[g] = (
                (1.0, 1.0)
                if k > n
                else (float(betaincinv(k, n + 1 - k, 0.025)), float(betaincinv(k, n + 1 - k, 0.975)))
            )
        return out

    def __call__(self, h: Distribution, *, groups: Any = None) -> RankingSets:
        """The sets of new forecasts; ``groups`` (n,) where the rule was calibrated with groups."""
        if not isinstance(h, Distribution):
            raise UsageError(f"sets are made for a prefcal distribution, got {type(h).__name__}")
        self._what.check(h)
        if (groups is None) != (self.field is None):
            raise UsageError(
                "these sets were calibrated "
                + ("without groups" if self.field is None else f"by {self.field}: pass groups, one value an instance")
            )
        codes = np.zeros(len(h), dtype=np.intp)
        if groups is not None:
            values = np.asarray(groups, dtype=object)
            if values.shape != (len(h),):
                raise DataError(f"groups must be one value for each of {len(h)} instances, got shape {values.shape}")
            place = {g: i for i, g in enumerate(self.groups)}
            codes = np.array([place.get("(missing)" if v is None or v != v else v, -1) for v in values.tolist()])
        needed = np.array([self.level * (n + 1) for n in self.n.values()] + [math.inf])[codes]
        below: list[FloatArray] = []
        for mend, kept in self._calibration:
            here = h if mend is None else mend(h)
            counts = [self._below(block, kept, codes[block.rows]) for block in here.blocks()]
            below = counts if not below else [a + b for a, b in zip(below, counts, strict=True)]
        left_out = [c >= needed[b.rows][:, None] - 1e-9 for b, c in zip(h.blocks(), below, strict=True)]
        return RankingSets(self.event, h, tuple(left_out), self._what)

    def _below(self, block: Block, kept: tuple[FloatArray, ...], codes: IntArray) -> FloatArray:
        """(b, W) number of calibration scores below that of each outcome."""
        scores = self._what.potential(block.dist)
        out = np.zeros(scores.shape)
        if block.dist.n_items < 2:  # a single candidate is never left out
            return out
        for g in np.unique(codes[codes >= 0]):
            at = codes == g
            out[at] = np.searchsorted(kept[g], scores[at], side="left")
        out[np.isnan(scores)] = 0.0
        return out


@dataclass(frozen=True, slots=True)
class RankingSets:
    """One set an instance: what is left out, or, for a partial order, which pairs are settled."""

    event: str
    _h: Distribution
    _out: tuple[BoolArray, ...]
    _what: Event

    def __len__(self) -> int:
        return len(self._h)

    @property
    def sizes(self) -> IntArray:
        """(n,) number of outcomes in each set; of a partial order, the number of settled pairs."""
        out = np.zeros(len(self), dtype=np.intp)
        for block, left_out in zip(self._h.blocks(), self._out, strict=True):
            settled = left_out & self._some_odds(block) if self._what.view is None else ~left_out
            out[block.rows] = settled.sum(axis=1)
        return out

    def _some_odds(self, block: Block) -> BoolArray:
        return self._what.potential(block.dist) > 0

    def contains(self, y: Outcomes) -> FloatArray:
        """(n,) 1 where the set holds what happened, 0 where not, NaN where that is not known."""
        check_alignment(self._h, y)
        out = np.full(len(self), np.nan)
        for block, left_out in zip(self._h.blocks(), self._out, strict=True):
            ranks = aligned_ranks(y, block)
            if self._what.view is None:
                odds = block.dist.pair_log_odds(*np.triu_indices(ranks.shape[1], 1))
                known = directions(ranks)
                broken = (left_out & (known * np.sign(odds) < 0)).any(axis=1)
                out[block.rows] = np.where((known != 0).any(axis=1), ~broken, np.nan)
            else:
                index = self._what.index(ranks)
                hit = ~np.take_along_axis(left_out, np.maximum(index, 0)[:, None], axis=1)[:, 0]
                out[block.rows] = np.where(index < 0, np.nan, hit)
        return out

    def __getitem__(self, i: int) -> IntArray:
        """The set of instance ``i``: (s, length) outcomes as in :meth:`View.outcomes`; (s,) items for top-1.

        Of a partial order: (s, 2) pairs (better, worse), all of them settled.
        """
        if not -len(self) <= i < len(self):
            raise UsageError(f"there is no instance {i} among {len(self)}")
        i %= len(self)
        for block, left_out in zip(self._h.blocks(), self._out, strict=True):
            rows = np.arange(len(self))[block.rows]
            at = np.flatnonzero(rows == i)
            if not len(at):
                continue
            m, row = block.dist.n_items, int(at[0])
            names = np.arange(m) if block.columns is None else block.columns[row]
            if self._what.view is None:
                first, second = np.triu_indices(m, 1)
                odds = block.dist[row : row + 1].pair_log_odds(first, second)[0]
                settled = left_out[row] & (np.abs(odds) > 0)
                pairs = np.where((odds > 0)[:, None], np.stack([first, second], 1), np.stack([second, first], 1))
                chosen: IntArray = names[pairs[settled]]
                return chosen
            inside = ~left_out[row]
            if self._what.view == View("top", 1):
                return np.asarray(names[inside], dtype=np.intp)
            return np.asarray(names[self._what.view.outcomes(m)[0][inside]], dtype=np.intp)
        raise AssertionError("blocks cover every instance")
