"""Every scalar estimator of calibration error for one notion, each with its null level, bias, interval and test.

All of them are functions of the residual process, w (y - p) / W in the order of p. Its noise is drawn once, by
independent unit (normal multipliers), and every estimator T is evaluated on the same draws:

- *Null*: T of outcomes drawn from the forecasts, seen through the same observation, where that is affordable (exact
  under full calibration; where units have one event each, it is drawn by itself, which needs the notion only); else T
  of the noise alone (large samples, needs the notion only). ``p_value`` is the share
  of draws that are as large.
- *Bias*: T behaves like a norm: T^2 exceeds the squared error by about the null's mean square where the error is
  small; where it is large, the bias is what noise adds to the observed process. ``debiased`` goes from the signed
  root of T^2 - E[T^2 | calibrated] to 2 T - E[T of noise around the observed] with weight exp(-z^2 / 2), z the null
  standard deviations of T above the null mean. (T - null_mean would take off the whole null level everywhere.) MCB
  is of the squared kind: its null_mean is taken off.
- *Interval*: basic bootstrap of that root. It starts at 0 where calibration is not rejected at 5 %, not above the
  error whose square is that of T less the 97.5 % quantile of the null squares, and reaches at least to the error
  whose T would be expected 1.96 standard deviations above the one seen. That of MCB, whose variance grows with it,
  holds the errors within 1.96 of their own standard deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.estimators.binned import Z95
from prefcal.estimators.binnings import bin_errors, equal_mass_bins, l1, l2, largest
from prefcal.estimators.cells import CellTable
from prefcal.estimators.cumulative import cumulative_error, path_errors
from prefcal.estimators.discretisation import cell_bounds
from prefcal.estimators.events import Family, log_loss
from prefcal.estimators.isotonic import Score, decomposition, log_score, miscalibrations, recalibrated
from prefcal.estimators.null import compare
from prefcal.estimators.points import Points, sums_by
from prefcal.estimators.residuals import (
    Events,
    Layout,
    gather,
    independent_noise,
    multiplier_noise,
    simulated_noise,
)
from prefcal.estimators.smooth import cosines, fixed_point, smooth_ece
from prefcal.result import Estimate

#: Above this many events values come from the cell table, and noise from a sample of instances.
EVENT_LIMIT = 50_000
#: Units that noise is drawn from, where there are more than twice as many (standard errors to 2 %).
SAMPLE = 1_500
#: Members whose errors are averaged, and their events; above it the profile is left out (a table of several members
#: keeps no fine cells).
MEMBER_LIMIT = 32
MEMBER_EVENTS = 200_000
#: Exact null while draws x (events, or items to rank) stay under this.
EXACT_BUDGET = 1_500_000
#: Places of equal mass that noise is drawn on, and that isotonic fits of it are made on.
_PLACES = 2048
_FIT_PLACES = 512
_ALPHA = 0.05

#: Name -> whether it is already of the squared kind.
ERRORS = {
    "smece": False, "ecce": False, "ecce_mad": False, "ece_mass": False, "ece_l2": False, "mce": False,
    "mcb_brier": True, "mcb_log": True,
}  # fmt: skip
SCORES: tuple[Score, Score] = ("brier", "log")
_PARTS = ("dsc_brier", "unc_brier", "dsc_log", "unc_log")


def profile(
    h: Distribution,
    y: Outcomes,
    family: Family,
    table: CellTable,
    *,
    weights: FloatArray,
    per_instance: bool,
    clusters: IntArray | None,
    rows: Any = slice(None),
    seed: int = 0,
    draws: int = 199,
) -> dict[str, Estimate]:
    """Scalar estimates of one notion beside the binned error.

    Parameters
    ----------
    h, y, weights, per_instance, clusters
        What :func:`prefcal.estimators.scalar.fill_tables` was given: one forecast, weight and cluster code for each
        record.
    family, table
        The notion's events, and the table of those events in ``rows`` (all instances, or one group).
    rows
        Which records: a slice, mask or indices.
    seed, draws
        Of the noise.

    Returns
    -------
    dict
        ``smece`` (smooth ECE), ``ecce`` (ECCE-R), ``ecce_mad``, ``ece_mass``, ``ece_l2``, ``mce`` (L1, L2 and largest
        gap over ``table.bins`` equal-mass bins), ``mcb_brier``, ``mcb_log``: errors with null mean, debiased value,
        interval and p-value. ``dsc_brier``, ``unc_brier``, ``dsc_log``, ``unc_log``: the other parts of the scores,
        with intervals; that of DSC is about its ``debiased`` value, since an isotonic fit finds some by chance.
        Several members are averaged with equal weights, above ``MEMBER_LIMIT`` of them (or ``MEMBER_EVENTS`` of their
        events) each value is NaN and its note says why. Notes name the null.

    Notes
    -----
    Exact in memory up to ``EVENT_LIMIT`` events. Above, values are those of the cell table (all events; notes state
    the bounds of :func:`~prefcal.estimators.discretisation.cell_bounds`), and noise comes from ``SAMPLE`` instances
    drawn with ``seed``, scaled to the number of units.
    """
    if table.members > MEMBER_LIMIT or (table.members > 1 and table.n_events > MEMBER_EVENTS):
        why = f"left out: {table.members} members, {table.n_events} events; at most {MEMBER_LIMIT}, {MEMBER_EVENTS}"
        return {name: Estimate(math.nan, note=why) for name in (*ERRORS, *_PARTS)}
    index = np.arange(len(y))[rows]
    rng = np.random.default_rng([seed, 21])
    sampled = table.members == 1 and table.n_events > EVENT_LIMIT
    if sampled:
        index = _sample(index, clusters, rng)
    if len(index) < len(y):
        h, y, weights = h[index], y[index], weights[index]
        clusters = None if clusters is None else clusters[index]
    events = gather(h, y, family, weights, per_instance, clusters)
    run = _Run(events, table, sampled, len(np.unique(events.member)) if table.members > 1 else 1)
    exact = None
    if not sampled and len(events.p) * draws <= EXACT_BUDGET:
        if h.has_rankings and clusters is None and events.full and int(h.sizes.sum()) * draws <= EXACT_BUDGET:
            exact = simulated_noise(h, y, family, events, weights, per_instance, draws, rng)
        else:
            exact = independent_noise(events, draws, rng)
    chosen = np.arange(events.n_units)
    if events.n_units > 2 * SAMPLE:
        chosen = np.sort(rng.choice(events.n_units, SAMPLE, replace=False))
    run.multipliers, run.chosen = rng.standard_normal((draws, len(chosen))), chosen
    for member in np.unique(events.member):
        run.add(events.member == member if table.members > 1 else slice(None), exact)
    return run.estimates(exact is not None)


def _sample(index: IntArray, clusters: IntArray | None, rng: np.random.Generator) -> IntArray:
    """About ``SAMPLE`` of the records, whole clusters at a time, in their order."""
    if clusters is None:
        return np.sort(rng.choice(index, min(SAMPLE, len(index)), replace=False))
    codes, size = np.unique(clusters[index], return_counts=True)
    order = rng.permutation(len(codes))
    last = int(np.searchsorted(np.cumsum(size[order]), SAMPLE)) + 1
    return index[np.isin(clusters[index], codes[order[:last]])]


@dataclass(slots=True)
class _Run:
    """Values and draws of each estimator, averaged over members.

    ``multipliers`` (d, u) belong to the units ``chosen`` (u,), all of them or a sample.
    """

    events: Events
    table: CellTable
    sampled: bool
    members: int
    multipliers: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    chosen: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    values: dict[str, float] = field(default_factory=dict)
    observed: dict[str, float] = field(default_factory=dict)
    null: dict[str, FloatArray] = field(default_factory=dict)
    around: dict[str, FloatArray] = field(default_factory=dict)
    influence: dict[str, FloatArray] = field(default_factory=dict)
    bend: dict[str, float] = field(default_factory=dict)
    asymptotic: tuple[float, float] | None = None

    def add(self, at: Any, exact: FloatArray | None) -> None:
        """One member: its events are those at ``at``."""
        e, table = self.events, self.table
        p, y, w, unit = e.p[at], e.y[at], e.w[at], e.unit[at]
        if self.sampled:
            points = Points.of_table(table)
            layout = Layout.of(e, at, np.flatnonzero(table.cells[1] > 0))
            layout = layout.observed(points.residuals, points.p, points.w)
            log_total = math.inf if table.impossible else table.sums[4] / table.sums[0]
            totals = (float(table.sums[3] / table.sums[0]), float(log_total))
        else:
            points, layout = Points.of(p, y, w), Layout.of(e, at)
            loss = log_loss(y, e.log_p[at], e.log_q[at])
            totals = (float((w * (y - p) ** 2).sum() / w.sum()), float((w * loss).sum() / w.sum()))
        fitted = recalibrated(points)
        fits = fitted[layout.place] if self.sampled else np.interp(p, points.p, fitted)
        whole = layout = layout.merged(_PLACES)
        mean = float((points.w * points.y).sum() / points.weight)
        parts = _part_influence(mean, fits, y, w, unit, e.n_units)
        if exact is not None:
            by_place = np.argsort(layout.place, kind="stable")
            starts = np.searchsorted(layout.place[by_place], np.arange(len(layout.p)))
            exact = np.add.reduceat(exact[:, at][:, by_place] / w.sum(), starts, axis=1)
        which: Any = slice(None)
        if len(self.chosen) < e.n_units:
            code = np.full(e.n_units, -1)
            code[self.chosen] = np.arange(len(self.chosen))
            which = code[unit] >= 0
            p, y, w, unit = p[which], y[which], w[which], code[unit[which]]
        if self.sampled or len(self.chosen) < e.n_units:
            layout = layout.part(which, p, w, y)
        null, around = multiplier_noise(layout, y - p, w, unit, self.multipliers)
        scale = math.sqrt(len(self.chosen) / self.units)
        null = scale * null if exact is None else exact
        stacked = np.concatenate([whole.residuals[None], null, whole.residuals + scale * around])
        drawn = _errors(stacked, whole.p, whole.w, table.bins)
        d, n = len(null), self.members
        self._sum(self.values, {k: v / n for k, v in self._values(points, totals, fitted).items()})
        self._sum(self.observed, {k: float(v[0]) / n for k, v in drawn.items()})
        self._sum(self.null, {k: v[1 : d + 1] / n for k, v in drawn.items()})
        self._sum(self.around, {k: v[d + 1 :] / n for k, v in drawn.items()})
        variance = self._variance(parts.pop("mean"))
        self._sum(self.influence, {k: v / n for k, v in parts.items()})
        # Half the curvature of each uncertainty in the mean outcome, times the mean's variance: where the mean is
        # near 1/2 the slope is 0 and this is all there is.
        bends = (variance, 0.5 * variance / (mean * (1.0 - mean)) if 0 < mean < 1 else 0.0)
        self._sum(self.bend, {f"unc_{name}": bend / n for name, bend in zip(SCORES, bends, strict=True)})

    def _variance(self, influence: FloatArray) -> float:
        """Of an estimate from all the data, from the influences of the units at hand."""
        n = len(influence)
        return float((influence**2).sum()) * n / max(n - 1, 1) * n / self.units

    @property
    def units(self) -> int:
        """Independent units of all the data."""
        return self.table.n_instances

    @staticmethod
    def _sum(total: dict[str, Any], more: dict[str, Any]) -> None:
        for name, value in more.items():
            total[name] = total[name] + value if name in total else value

    def _values(self, points: Points, totals: tuple[float, float], fitted: FloatArray) -> dict[str, float]:
        path = cumulative_error(points)
        binned = bin_errors(points, self.table.bins)
        if self.table.members == 1:
            self.asymptotic = (path.p_range, path.p_mad)
        out = {
            "smece": smooth_ece(points).value, "ecce": path.range, "ecce_mad": path.mad, "ece_mass": binned.l1,
            "ece_l2": binned.l2, "mce": binned.largest,
        }  # fmt: skip
        for name, total in zip(SCORES, totals, strict=True):
            part = decomposition(points, name, total=total, fitted=fitted)
            out |= {f"mcb_{name}": part.mcb, f"dsc_{name}": part.dsc, f"unc_{name}": part.unc}
        return out

    def estimates(self, exact: bool) -> dict[str, Estimate]:
        """Averages over members, judged."""
        how = "null: outcomes drawn from the forecasts" if exact else "null: normal multipliers by unit"
        within = cell_bounds(self.table) if self.sampled else {}

        def from_cells(name: str) -> str:
            if name not in within:  # UNC is exact
                return ""
            return f"value from cells of width 1/5040, within {within[name]:.1g} of the exact one; "

        drawn_from = min(len(self.chosen), self.events.n_units)
        if drawn_from < self.units:
            how += f", noise of {drawn_from} sampled units"
        if self.members > 1:
            how += f"; mean over {self.members} members"
        spread = float(self.around["mean"].std(ddof=1))
        out = {}
        for name, squared in ERRORS.items():
            value, note = self.values[name], from_cells(name) + how
            if self.units < 2:
                out[name] = Estimate(value, note="one independent unit: no interval, no test")
                continue
            if not math.isfinite(value):
                out[name] = Estimate(value, note="infinite: what the model gave probability 0 happened")
                continue
            if name in ("ecce", "ecce_mad") and self.asymptotic and self.units == self.table.n_events:
                asymptotic = self.asymptotic[name == "ecce_mad"]
                note += f"; asymptotic p-value {asymptotic:.3g} for independent events"
            judged = judge(
                value, self.observed[name], self.null[name], self.around[name], squared=squared, spread=spread
            )
            low, high = judged.interval or (0.0, 1.0)
            high = high if name == "mcb_log" else min(high, 1.0)
            out[name] = replace(judged, interval=(min(low, high), high), note=note)
        for name in _PARTS:
            value, note = self.values[name], from_cells(name) + "interval: delta method, by unit"
            if self.units < 2:
                out[name] = Estimate(value, note="one independent unit: no interval")
                continue
            variance = self._variance(self.influence[name])
            half, centre, debiased = Z95 * math.sqrt(variance), value, None
            if name.startswith("dsc"):
                gain = self.null["mcb" + name[3:]]
                centre -= float(gain.mean())
                half = Z95 * math.sqrt(variance + float(gain.var(ddof=1)))
                note += (
                    "; centred at the debiased value: the plain one holds what an isotonic fit gains by chance "
                    f"({float(gain.mean()):.2g} under calibration), so it may lie above the interval"
                )
            low = centre - half - Z95**2 * self.bend.get(name, 0.0)
            most = 0.25 if name.endswith("brier") else math.log(2.0)  # UNC of a mean of 1/2; DSC is at most UNC
            if name.startswith("dsc"):
                debiased = min(
                    max(centre, 0.0), most
                )  # no discrimination is below 0 or above the largest uncertainty
            interval = (max(low, 0.0), min(max(centre + half, 0.0), most))
            out[name] = Estimate(value, interval, note, debiased=debiased)
        return out


def judge(
    value: float, observed: float, null: FloatArray, around: FloatArray, *, squared: bool, spread: float = 0.0
) -> Estimate:
    """Null mean, debiased value, 95 % interval and p-value of a calibration error from draws.

    Parameters
    ----------
    value, observed
        The error, and the error as the draws' coarser grid sees it (compared with the draws).
    null, around
        (d,) the error of calibrated data, and of noise added to what was observed.
    squared
        Whether the error is of the squared kind (unbiased after its null mean is taken off).
    spread
        Standard deviation of the mean residual: what an error far from 0 has at least.
    """
    law = compare(observed, null)
    if squared:
        # The variance grows in proportion to the error: the ends are the errors u with (u - debiased)^2 at most
        # Z95^2 (variance + growth (u - debiased)).
        debiased, variance = value - law.mean, float(around.var(ddof=1))
        growth = max(variance - float(null.var(ddof=1)), 0.0) / max(observed, 1e-300)
        middle = debiased + 0.5 * Z95**2 * growth
        half = Z95 * math.sqrt(variance + (0.5 * Z95 * growth) ** 2)
        low, high = middle - half, middle + half
    else:
        square = float((null**2).mean())
        near = float(_root(np.array(value**2 - square)))
        far = value - (float(around.mean()) - observed)
        excess = max(observed - law.mean, 0.0) / max(float(null.std(ddof=1)), 1e-300)
        share = math.exp(-0.5 * min(excess, 1e3) ** 2)
        debiased = share * near + (1.0 - share) * far
        shifted = _root(around**2 - square)
        low, high = (near + observed - float(q) for q in np.quantile(shifted, [0.975, 0.025]))
        # Noise alone adds so much to the square of any error: what is left is not excluded from below.
        low = min(low, math.sqrt(max(value**2 - float(np.quantile(null, 1 - _ALPHA / 2)) ** 2, 0.0)))
        reach = value + Z95 * max(float(around.std(ddof=1)), spread)
        high = max(high, math.sqrt(max(reach**2 - square, 0.0)))
    low = max(low, 0.0) if law.p_value <= _ALPHA else 0.0
    return Estimate(value, (float(low), float(max(high, low))), "", law.mean, debiased, law.p_value)


def _root(x: FloatArray) -> FloatArray:
    result: FloatArray = np.sign(x) * np.sqrt(np.abs(x))
    return result


def _errors(residuals: FloatArray, p: FloatArray, w: FloatArray, bins: int) -> dict[str, FloatArray]:
    """(d,) each error of (d, k) residual processes at sorted forecasts, and their sum; fast rather than fine.

    The smooth error's grid has about one interval for the standard deviation of the mean residual, a third of what a
    calibrated model's error is; isotonic fits see at most ``_FIT_PLACES`` places of equal mass.
    """
    share = w / w.sum()
    noise = float(np.std(residuals[1:].sum(axis=1))) if len(residuals) > 2 else 0.0
    grid = int(2 ** np.clip(np.round(np.log2(1.0 / max(noise, 1e-6))), 8, 12))
    cosine = cosines(p, residuals, grid).astype(np.float32)
    out = {"mean": residuals.sum(axis=1), "smece": fixed_point(cosine, 4, start=3.0 * noise)[0]}
    out["ecce"], out["ecce_mad"] = path_errors(residuals)
    _, starts = np.unique(equal_mass_bins(w, bins), return_index=True)
    sums, weight = np.add.reduceat(residuals, starts, axis=1), np.add.reduceat(share, starts)
    out |= {"ece_mass": l1(sums), "ece_l2": l2(sums, weight), "mce": largest(sums, weight)}
    if len(p) > _FIT_PLACES:
        _, starts = np.unique(equal_mass_bins(w, _FIT_PLACES), return_index=True)
        p = np.add.reduceat(share * p, starts) / np.add.reduceat(share, starts)
        residuals, share = np.add.reduceat(residuals, starts, axis=1), np.add.reduceat(share, starts)
    out["mcb_brier"], out["mcb_log"] = miscalibrations(p + residuals / share, p, share)
    return out


def _part_influence(
    mean: float, fits: FloatArray, y: FloatArray, w: FloatArray, unit: IntArray, n_units: int
) -> dict[str, FloatArray]:
    """(units,) influence of each unit on DSC, UNC and the mean outcome; fits and the mean are optima, so fixed."""
    constant = np.full(len(y), mean)
    out = {}
    for name in SCORES:
        if name == "brier":
            uncertain, best = (y - constant) ** 2, (y - fits) ** 2
        else:
            inside = np.clip(fits, 1e-12, 1.0 - 1e-12)  # fits of cells are not quite those of their events
            uncertain, best = log_score(y, constant), log_score(y, inside)
        for part, values in (("unc", uncertain), ("dsc", uncertain - best)):
            centred = values - float((w * values).sum() / w.sum())
            out[f"{part}_{name}"] = sums_by(unit, w * centred, n_units) / w.sum()
    out["mean"] = sums_by(unit, w * (y - mean), n_units) / w.sum()
    return out
