"""The residual process of gathered events: where it lies, and draws of its noise by independent unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.estimators.binnings import equal_mass_bins
from prefcal.estimators.cells import N_CELLS, cell_index
from prefcal.estimators.events import Family
from prefcal.estimators.null import OutcomeSimulator
from prefcal.estimators.points import sums_by
from prefcal.estimators.scalar import events_by_block

_BLOCK = 1 << 16
_DRAWN = 1 << 21


@dataclass(frozen=True, slots=True)
class Events:
    """Events in memory: (e,) forecast, its logs, outcome, weight, unit (codes from 0) and member.

    ``full`` says that every potential event is known, so that simulated outcomes have the same events.
    """

    p: FloatArray
    log_p: FloatArray
    log_q: FloatArray
    y: FloatArray
    w: FloatArray
    unit: IntArray
    member: IntArray
    n_units: int
    full: bool


def gather(
    h: Distribution, y: Outcomes, family: Family, weights: FloatArray, per_instance: bool, clusters: IntArray | None
) -> Events:
    """All events of a family; units are the clusters, else the instances, that have events."""
    units = np.arange(len(y)) if clusters is None else clusters
    parts: list[list[Any]] = []
    full = True
    for seen in events_by_block(h, y, family, weights=weights, per_instance=per_instance, elements=_BLOCK):
        full &= bool(seen.known.all())
        columns = (seen.forecast.p, seen.forecast.log_p, seen.forecast.log_q, seen.happened, seen.weight, seen.cell)
        p, log_p, log_q, outcome, w, member = (c[seen.known] for c in columns)
        parts.append([p, log_p, log_q, outcome, w, seen.of(units), member])
    columns_of: list[Any] = [np.concatenate(c) for c in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 7
    p, log_p, log_q, outcome, w, at, member = columns_of
    distinct, code = np.unique(at, return_inverse=True)
    return Events(
        p, log_p, log_q, outcome, w, code.astype(np.intp), member.astype(np.intp), len(distinct), full
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """Places that gathered events are added up in: distinct forecasts if few, else fine cells, increasing in p.

    (e,) ``place`` of each event; (k,) mean forecast ``p`` and weight ``w`` of each place, and its ``residuals``,
    the sum of w (y - p) over the total weight.
    """

    place: IntArray
    p: FloatArray
    w: FloatArray
    residuals: FloatArray

    @classmethod
    def of(cls, events: Events, at: Any, cells: IntArray | None = None) -> Layout:
        """Places of the events ``at`` (an index); ``cells``: the fine cells to use, whatever the events."""
        p, w, y = events.p[at], events.w[at], events.y[at]
        if cells is None and len(p) <= N_CELLS:
            place = np.unique(p, return_inverse=True)[1].astype(np.intp)
            size = int(place.max()) + 1
        else:
            cell = cell_index(p, events.log_p[at], events.log_q[at])
            if cells is None:
                cells = np.flatnonzero(np.bincount(cell, minlength=N_CELLS))
            # (a forecast within one rounding of a bin's edge may sit in the neighbour of the table's cell)
            size = len(cells)
            used = np.zeros(N_CELLS, dtype=np.intp)
            used[cells] = 1
            place = np.maximum(np.cumsum(used) - 1, 0)[cell]
        total = sums_by(place, w, size)
        with np.errstate(invalid="ignore"):
            mean = sums_by(place, w * p, size) / total
        return cls(place, mean, total, sums_by(place, w * (y - p), size) / w.sum())

    def observed(self, residuals: FloatArray, p: FloatArray, w: FloatArray) -> Layout:
        """The same places of the same events with the (k,) residuals, mean forecasts and weights of more of them."""
        return Layout(self.place, p, w, residuals)

    def merged(self, limit: int) -> Layout:
        """Neighbouring places put together to at most ``limit`` of about equal weight."""
        if len(self.p) <= limit:
            return self
        group = np.unique(equal_mass_bins(self.w, limit), return_inverse=True)[1].astype(np.intp)
        total = sums_by(group, self.w)
        return Layout(
            group[self.place], sums_by(group, self.w * self.p) / total, total, sums_by(group, self.residuals)
        )

    def part(self, which: Any, p: FloatArray, w: FloatArray, y: FloatArray) -> Layout:
        """The same places with some of the events (``which`` of them, whose p, w, y are given)."""
        place, k = self.place[which], len(self.p)
        total = sums_by(place, w, k)
        return Layout(place, self.p, total, sums_by(place, w * (y - p), k) / w.sum())


def multiplier_noise(
    layout: Layout, residual: FloatArray, w: FloatArray, unit: IntArray, multipliers: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Noise of the residual process: (d, k) under calibration, and (d, k) around what was observed.

    Each unit's events are multiplied by one standard normal number, (d, units): a normal vector with the
    cluster-robust covariance. Around the observed process the unit's share of it is taken off first, and the
    result is that of a ratio: the total weight varies, too.
    """
    from scipy.sparse import coo_array

    n, k, total = multipliers.shape[1], len(layout.p), w.sum()
    scale = np.sqrt(n / (n - 1)) if n > 1 else 0.0
    sums = coo_array((scale * residual * w / total, (layout.place, unit)), shape=(k, n)).tocsr()
    null = np.ascontiguousarray((sums @ multipliers.T).T)
    weight = multipliers @ (sums_by(unit, w, n) * scale / total)
    return null, null - weight[:, None] * layout.residuals


def independent_noise(events: Events, draws: int, rng: np.random.Generator) -> FloatArray | None:
    """(d, e) residuals w (y - p) of events that happen with their forecast probability, each independently.

    The law under the notion itself where every unit has one event. None where one has more, where another set of
    events would be known in another draw, or where candidates share an event (y is a fraction).
    """
    if events.n_units < len(events.p) or not events.full or not np.isin(events.y, (0.0, 1.0)).all():
        return None
    noise = (rng.random((draws, len(events.p))) < events.p) - events.p
    noise *= events.w
    return noise


def simulated_noise(
    h: Distribution,
    y: Outcomes,
    family: Family,
    events: Events,
    weights: FloatArray,
    per_instance: bool,
    draws: int,
    rng: np.random.Generator,
) -> FloatArray | None:
    """(d, e) residuals w (y - p) of outcomes drawn from h, for the events in the order of :func:`gather`.

    None where another set of events would be known in another draw.
    """
    out = np.empty((draws, len(events.p)))
    start = 0
    for seen in events_by_block(h, y, family, weights=weights, per_instance=per_instance, elements=_BLOCK):
        simulator = OutcomeSimulator(seen.block, seen.ranks)
        stop = start + seen.happened.size
        step = max(1, _DRAWN // max(seen.happened.size, 1))
        for first in range(0, draws, step):
            last = min(first + step, draws)
            residual = family.observe(seen.forecast, simulator.draw(last - first, rng))
            residual -= seen.forecast.p
            residual *= seen.weight
            out[first:last, start:stop] = residual.reshape(last - first, -1)
        start = stop
    return None if start != len(events.p) or np.isnan(out).any() else out
