"""The one pipeline: forecasts and outcomes in, Results out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from prefcal.audited import Audit
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError, require_number, require_whole
from prefcal.estimators.binned import binned_error, metrics, reliability_curve
from prefcal.estimators.cells import CellTable
from prefcal.estimators.detectable import AFFORDABLE, detectable
from prefcal.estimators.events import Family, Items, Pairs, TopChoice, family_for, kind_of_items
from prefcal.estimators.families import METHODS, Adjust, adjusted
from prefcal.estimators.hpd import hpd_coverage
from prefcal.estimators.inputs import Grouping, aligned, groupings
from prefcal.estimators.kernel import kernel_error
from prefcal.estimators.null import MONTE_CARLO_BUDGET, NORMAL_NULL, compare, normal_null
from prefcal.estimators.profile import profile
from prefcal.estimators.rank_histogram import rank_histogram
from prefcal.estimators.scalar import Tables, fill_tables, monte_carlo
from prefcal.estimators.temperature import cross_fitted, temperature
from prefcal.notions.asked import Asked
from prefcal.notions.notion import Notion
from prefcal.result import Estimate, Result, Verdict
from prefcal.views import View

#: Error that is small enough to call a model calibrated: five points of probability, the usual gate for an ECE.
TOLERANCE = 0.05
ALPHA = 0.05
MONTE_CARLO_DRAWS = 999
#: One number needs no more instances than this to be fitted well.
TEMPERATURE_SAMPLE = 5_000
_EXACT = "exact Monte Carlo, outcomes drawn from the forecasts"


def audit(
    h: Distribution,
    y: Outcomes,
    *,
    notions: Iterable[str | Notion] | None = None,
    items: Items | None = None,
    groups: Any = None,
    adjust: Adjust = "holm",
    weights: Any = None,
    clusters: Any = None,
    bins: int = 15,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    draws: int = MONTE_CARLO_DRAWS,
    estimators: Literal["all", "ece"] = "all",
    model: str = "model",
) -> Audit:
    """Measure the calibration of forecasts against what was observed.

    Parameters
    ----------
    h
        Forecasts for n instances.
    y
        Outcomes; one record for each instance, or records that name their instance (``Outcomes.from_pairs``).
    notions
        Names such as ``sub-2``, ``top-1:confidence``, ``full:canonical``; one that cannot be judged is an error.
        Default: ``sub-2`` and ``top-1:confidence``, without one that the forecasts do not state or about which the
        outcomes say nothing; a warning names it.
    items
        ``labelled``: item j means the same in every instance, and members (subsets, outcomes) are judged apart and
        averaged. ``exchangeable``: items have no identity and events are pooled. Default: ``exchangeable`` for
        ragged lists, else ``labelled``.
    groups
        Mapping (or frame) of field -> n values, or n values: everything is repeated within each value. Values may
        also be the name of a derived group (``"@spread"``, ``"@margin"``, ``"@candidates"``) or a callable
        ``f(h, y)`` that returns one value for each record; their numbers are cut at quartiles where they are many.
    adjust
        How the p-values of a field's groups are adjusted: ``holm``, ``bh`` or ``by``.
    weights
        None (weight 1 for each event), ``"instance"`` (weight 1 for each instance, shared by its events), or n
        non-negative numbers.
    clusters
        n values; instances with equal values are one independent unit. Default: each instance (or what
        ``y.instance`` names) is its own.
    bins
        Equal-width bins of the ECE; a forecast p falls in bin floor(p * bins), p = 1 in the last.
    seed
        Of everything random.
    tolerance
        Verdict ``calibrated`` needs the 95 % interval of the debiased error below it. A rankwise error is a mean
        over W outcomes that share one unit of probability, so it is compared with ``tolerance * 2 / W``: half the
        sum over outcomes is a total variation distance. Kernel estimates are squared errors: see below.
    draws
        Null draws; exact Monte Carlo while events x draws stay under ``MONTE_CARLO_BUDGET``.
    estimators
        ``ece``: leave out the estimators beside the binned error and what the data could have detected; for loops
        over thousands of audits.
    model
        Name shown in results.

    Returns
    -------
    Audit

    Raises
    ------
    DataError, UsageError
        For inputs that do not fit together, or notions that have no meaning for them.

    Examples
    --------
    >>> import numpy as np, prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> truth = pc.PlackettLuce(rng.normal(size=(2000, 4)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    >>> pc.audit(truth, y, items="exchangeable")["sub-2"].verdict
    'calibrated'
    """
    if not isinstance(h, Distribution):
        raise UsageError(
            f"forecasts must be a prefcal distribution (PlackettLuce(scores), ...), got {type(h).__name__}"
        )
    if not isinstance(y, Outcomes):
        raise UsageError(
            f"outcomes must be prefcal.Outcomes (Outcomes.from_ranks(ranks), ...), got {type(y).__name__}"
        )
    asked = Asked.of(notions)
    if not asked.names:
        raise UsageError("no notion to audit")
    if len(h) == 0 or len(y) == 0:
        raise DataError("no instances to audit")
    require_number("tolerance", tolerance)
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance must be between 0 and 1, got {tolerance}")
    for what, number, least in (("draws", draws, 99), ("bins", bins, 1), ("seed", seed, 0)):
        require_whole(what, number, least)
    if estimators not in ("all", "ece"):
        raise UsageError.unknown("choice of estimators", str(estimators), ("all", "ece"))
    if adjust not in METHODS:
        raise UsageError.unknown("adjustment", str(adjust), METHODS)
    h, weight, per_instance, unit = aligned(h, y, weights, clusters)
    items = kind_of_items(items, h)
    by = groupings(groups, y, h)
    run = _Run(
        h, y, asked, items, by, weight, per_instance, unit, bins, seed, tolerance, draws, model, adjust,
        everything=estimators == "all",
    )  # fmt: skip
    scalar = [notion for notion in asked.names if notion.is_scalar(h.n_items) or h.n_items < 2]
    found = dict(run.scalar(scalar))
    for notion in asked.names:
        if notion not in scalar:
            found[notion] = run.vector(notion)
    return Audit([r for notion in asked.names for r in found.get(notion, [])], warnings=run.warnings())


@dataclasses.dataclass(slots=True)
class _Run:
    """One audit's settled inputs."""

    h: Distribution
    y: Outcomes
    asked: Asked
    items: Items
    groupings: list[Grouping]
    weights: FloatArray
    per_instance: bool
    clusters: IntArray | None
    bins: int
    seed: int
    tolerance: float
    draws: int
    model: str
    adjust: Adjust
    everything: bool
    notes: list[str] = dataclasses.field(default_factory=list)

    def scalar(self, notions: Iterable[Notion]) -> Iterable[tuple[Notion, list[Result]]]:
        """Results of scalar notions, from cell tables."""
        families = self._families(notions)
        if not families:
            return
        shared: dict[str, Any] = {
            "bins": self.bins,
            "groupings": self.groupings,
            "weights": self.weights,
            "per_instance": self.per_instance,
        }
        filled = fill_tables(
            self.h, self.y, list(families.values()), clusters=self.clusters, seed=self.seed, **shared
        )
        judged = self._with_events(dict(zip(families, filled, strict=True)))
        tables = list(judged.values())
        exact = [i for i, t in enumerate(tables) if self._affordable(t)]
        rng = np.random.default_rng([self.seed, 0])
        chosen = [tables[i] for i in exact]
        simulated = monte_carlo(self.h, self.y, chosen, draws=self.draws, rng=rng, **shared) if exact else []
        laws = dict(zip(exact, simulated, strict=True))
        for i, (notion, t) in enumerate(judged.items()):
            overall, by_group = laws.get(i, (None, {}))
            results = [self._result(notion, t, t.overall, overall, None)]
            for g in self.groupings:
                part = []
                for j, table in enumerate(t.groups[g.field]):
                    if table.n_events:
                        simulated_here = by_group[g.field][j] if by_group else None
                        part.append(self._result(notion, t, table, simulated_here, (g, j)))
                    else:
                        where = f"{self.model}: group {g.field}={g.levels[j]!s}"
                        self.notes.append(f"{where} is left out of {self.asked.names[notion]}: {t.family.unusable}")
                results += _adjusted(part, self.adjust)
            yield notion, results

    def _families(self, notions: Iterable[Notion]) -> dict[Notion, Family]:
        """The families of events, less those of default notions that the forecasts do not state."""
        families = {}
        for notion in notions:
            try:
                families[notion] = family_for(notion, self.items, self.h, ties_equal=self.y.ties == "equal")
            except UsageError as error:
                self.asked.leave_out(error)
        return families

    def _with_events(self, tables: dict[Notion, Tables]) -> dict[Notion, Tables]:
        """The tables that hold events, less those of default notions about which the outcomes say nothing."""
        idle = {notion: t for notion, t in tables.items() if t.overall.n_events == 0}
        for notion, t in idle.items():
            error = DataError(f"{self.asked.names[notion]}: no instance has a usable event: {t.family.unusable}")
            if len(idle) == len(tables):
                raise error
            self.asked.leave_out(error)
        return {notion: t for notion, t in tables.items() if notion not in idle}

    def _affordable(self, t: Tables) -> bool:
        """Exact Monte Carlo needs rankings to draw, independent instances, and a bounded amount of work."""
        events = t.overall.n_events * (1 + len(self.groupings))
        return self.h.has_rankings and self.clusters is None and events * self.draws <= MONTE_CARLO_BUDGET

    def _result(
        self, notion: Notion, t: Tables, table: CellTable, simulated: FloatArray | None,
        group: tuple[Grouping, int] | None,
    ) -> Result:  # fmt: skip
        rng = np.random.default_rng([self.seed, 2])
        error = binned_error(table, rng)
        robust = compare(error.value, normal_null(table, rng, self.draws))
        law = robust if simulated is None else compare(error.value, simulated)
        tolerance = self.tolerance * 2 / t.family.n_shared
        # An interval holds 0 exactly when calibration is not rejected: the test is the sharper of the two there.
        low, high = error.interval
        interval = (low if max(law.p_value, robust.p_value) <= ALPHA else 0.0, high)
        settings: dict[str, Any] = {
            "bins": self.bins,
            "tolerance": tolerance,
            "seed": self.seed,
            "weights": "instance" if self.per_instance else "event",
            "null": NORMAL_NULL if simulated is None else _EXACT,
            "draws": law.draws,
            "interval": f"inverted parametric bootstrap, cluster-robust normal noise ({error.draws} draws)",
            "members": table.members,
        }
        label, rows = None, slice(None)
        if group is not None:
            g, level = group
            label, rows = {g.field: g.levels[level]}, g.codes == level
        used = int(t.used[rows].sum())
        coverage = {"used": used}
        weightless = int((self.weights[rows] == 0).sum())
        if weightless:
            coverage["weight 0"] = weightless
        if len(t.used[rows]) > used + weightless:
            coverage[t.family.unusable] = len(t.used[rows]) - used - weightless
        numbers = metrics(table)
        numbers["p_value_cluster_robust"] = Estimate(
            robust.p_value, note=f"the same test by the normal law of residual sums ({robust.draws} draws)"
        )
        if self.everything:
            numbers |= profile(
                self.h, self.y, t.family, table, weights=self.weights, per_instance=self.per_instance,
                clusters=self.clusters, rows=rows, seed=self.seed,
            )  # fmt: skip
        if isinstance(self.h, PlackettLuce) and isinstance(t.family, Pairs | TopChoice) and table.n_instances > 1:
            numbers |= self._temperature(t.family, rows, table.bins)
        if self.everything and group is None and table.n_instances > 1:
            numbers |= detectable(
                self.h, self.y, t.family, table, weights=self.weights, per_instance=self.per_instance,
                clusters=self.clusters, exact=simulated is not None, seed=self.seed, most=AFFORDABLE,
            )  # fmt: skip
        verdict = _verdict(interval, max(law.p_value, robust.p_value), tolerance)
        return Result(
            model=self.model, notion=self.asked.names[notion], items=self.items, group=label, estimator="ece",
            value=error.value, null_mean=law.mean, debiased=error.debiased, interval=interval, p_value=law.p_value,
            p_adjusted=law.p_value, verdict=verdict, n_events=table.n_events, n_instances=table.n_instances,
            coverage=coverage, metrics=numbers, settings=settings, curve=reliability_curve(table),
        )  # fmt: skip

    def _temperature(self, family: Pairs | TopChoice, rows: Any, bins: int) -> dict[str, Estimate]:
        """The temperature that fits a notion's events, and the error that is left when it is applied.

        What is left is cross-fitted: each random half is divided by the temperature of the other.
        """
        index = np.arange(len(self.y))[rows]
        note = ""
        if len(index) > TEMPERATURE_SAMPLE:
            index = np.sort(np.random.default_rng([self.seed, 5]).choice(index, TEMPERATURE_SAMPLE, replace=False))
            note = f"on {TEMPERATURE_SAMPLE} instances drawn with seed {self.seed}"
        h, y, weights = self.h[index], self.y[index], self.weights[index]
        assert isinstance(h, PlackettLuce)
        best = isinstance(family, TopChoice)
        clusters = None if self.clusters is None else np.unique(self.clusters[index], return_inverse=True)[1]
        found = temperature(h, y, weights, best=best, per_instance=self.per_instance, clusters=clusters)
        out = {"temperature": dataclasses.replace(found, note="; ".join(filter(None, (found.note, note))))}
        units = np.arange(len(index)) if clusters is None else clusters
        mended = cross_fitted(h, y, weights, best=best, per_instance=self.per_instance, units=units, seed=self.seed)
        if mended is not None:
            (left,) = fill_tables(
                mended, y, [family], bins=bins, groupings=(), weights=weights, per_instance=self.per_instance,
                clusters=clusters, seed=self.seed,
            )  # fmt: skip
            error = binned_error(left.overall, np.random.default_rng([self.seed, 3]))
            left_note = "debiased ECE with the scores divided by a temperature fitted on the other half"
            out["ece_at_temperature"] = Estimate(
                error.debiased, error.interval, "; ".join(filter(None, (left_note, note)))
            )
        return out

    def vector(self, notion: Notion) -> list[Result]:
        """Results of a vector notion, from the kernel estimate."""
        results = [self._kernel(notion, None)]
        for g in self.groupings:
            part = []
            for level in range(len(g.levels)):
                try:
                    part.append(self._kernel(notion, (g, level)))
                except DataError as error:
                    self.notes.append(f"{self.model}: group {g.field}={g.levels[level]!s} is left out: {error}")
            results += _adjusted(part, self.adjust)
        return results

    def _kernel(self, notion: Notion, group: tuple[Grouping, int] | None) -> Result:
        rows = slice(None) if group is None else group[0].codes == group[1]
        clusters = None if self.clusters is None else self.clusters[rows]
        error = kernel_error(
            self.h[rows],
            self.y[rows],
            notion,
            self.items,
            weights=self.weights[rows],
            clusters=clusters,
            seed=self.seed,
        )
        used, total = int(error.used.sum()), len(error.used)
        coverage = {"used": used}
        if total > used:
            coverage[f"the outcome of {notion.view.name} is not known from what was observed"] = total - used
        settings = {"tolerance": self.tolerance**2, "seed": self.seed, **error.settings()}
        return Result(
            model=self.model, notion=self.asked.names[notion], items=self.items,
            group=None if group is None else {group[0].field: group[0].levels[group[1]]},
            estimator="skce", value=error.value, null_mean=error.null.mean, debiased=error.value,
            interval=error.interval, p_value=error.null.p_value, p_adjusted=error.null.p_value,
            verdict=_kernel_verdict(error.interval, error.null.p_value, self.tolerance**2), n_events=error.n_events,
            n_instances=error.n_instances, coverage=coverage, settings=settings,
            metrics=self._uniformity(notion, rows),
        )  # fmt: skip

    def _uniformity(self, notion: Notion, rows: Any) -> dict[str, Estimate]:
        """Where whole rankings, and the ranks of single items, fall in what was forecast of them."""
        h, y = self.h[rows], self.y[rows]
        clusters = None if self.clusters is None else self.clusters[rows]
        out: dict[str, Estimate] = {}
        view = notion.view.resolve(h.n_items)
        try:
            if view == View("full"):
                out |= hpd_coverage(h, y, clusters=clusters, seed=self.seed).estimates()
            if view in (View("full"), View("position")):
                out |= rank_histogram(h, y, items=self.items, clusters=clusters, seed=self.seed).estimates()
        except (DataError, UsageError) as error:
            self.notes.append(f"{self.model}, {notion.name}: no test of uniformity: {error}")
        return out

    def warnings(self) -> list[str]:
        """What a reader should know before the numbers."""
        out = [*(f"{self.model}: {why}" for why in self.asked.left_out), *self.notes]
        if isinstance(self.h, PlackettLuce):
            scores = self.h.scores
            blocks = (scores.block(rows, size) for rows, size in scores.blocks())
            if all(bool((block == block[:, :1]).all()) for block in blocks):  # most stop at the first
                out.append(
                    f"{self.model}: all candidates of every instance have equal scores; the model orders nothing"
                )
        return out


def _verdict(interval: tuple[float, float], p_value: float, tolerance: float) -> Verdict:
    if interval[1] < tolerance:
        return "calibrated"
    return "miscalibrated" if p_value <= ALPHA else "undetermined"


def _kernel_verdict(interval: tuple[float, float], p_value: float, tolerance: float) -> Verdict:
    """As :func:`_verdict`, but a small kernel estimate alone shows nothing: gaps may differ from place to place."""
    return "miscalibrated" if p_value <= ALPHA else _verdict(interval, p_value, tolerance)


def _adjusted(results: list[Result], method: Adjust) -> list[Result]:
    """Adjust the p-values of a field's groups and judge by the adjusted ones."""
    p_values = adjusted([r.p_value for r in results], method).tolist()
    out = []
    for r, p in zip(results, p_values, strict=True):
        verdict = r.verdict if r.verdict != "miscalibrated" or p <= ALPHA else "undetermined"
        settings = r.settings | {"adjust": method}
        out.append(dataclasses.replace(r, p_adjusted=p, verdict=verdict, settings=settings))
    return out
