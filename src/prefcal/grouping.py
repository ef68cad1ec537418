"""Where is the model worst? Groups of fields, and conjunctions of two, with the search accounted for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from prefcal.auditing import ALPHA
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import binned_error, ece, ece_debiased
from prefcal.estimators.cells import contrasts
from prefcal.estimators.events import BoolArray, Items, family_for
from prefcal.estimators.families import METHODS, Adjust, adjusted
from prefcal.estimators.inputs import Grouping, check_alignment, groupings, instance_weights, per_record
from prefcal.estimators.null import compare, normal_null
from prefcal.estimators.shrinkage import pool
from prefcal.estimators.units import UnitSums, debiased_error, sum_rows, unit_sums
from prefcal.notions.notion import Notion
from prefcal.result import Interval

MIN_INSTANCES = 30
NULL_DRAWS = 4999
#: Normal quantile of a 97.5 % interval: medians over splits of such intervals make a 95 % interval.
_Z_SPLIT = 2.241402727604947


@dataclass(frozen=True, slots=True)
class GroupError:
    """Calibration error of one group (or conjunction).

    Parameters
    ----------
    group
        Field -> value; empty for all instances.
    gap
        Mean of what happened minus mean forecast: negative = over-confident. None where events of several members
        are averaged (it is 0 by construction).
    error, interval, p_value
        Debiased error with its 95 % interval, and the test of calibration in this group alone (normal law,
        cluster-robust).
    p_adjusted
        Over all groups looked at.
    shrunken, shrunken_interval
        Partial pooling: posterior mean and 95 % posterior interval, see ``prefcal.estimators.shrinkage.pool``.
    probability_worst
        Posterior probability that no other group looked at has a larger error.
    """

    group: dict[str, Any]
    n_instances: int
    n_events: int
    gap: float | None
    error: float
    interval: Interval
    p_value: float
    p_adjusted: float
    shrunken: float
    shrunken_interval: Interval
    probability_worst: float


@dataclass(frozen=True, slots=True)
class Pooling:
    """How much the groups of one field (or of a pair) differ: mean and standard deviation of their true errors.

    Posterior mean of the mean, posterior median and 95 % interval of the standard deviation over these groups.
    """

    fields: tuple[str, ...]
    n_groups: int
    mean: float
    spread: float
    spread_interval: Interval


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The worst group chosen on one half of the data and measured on the other, over many random halves.

    Parameters
    ----------
    error, interval
        Median over the splits of the debiased error in the other half; the interval holds the error of what the
        search finds in half the data with at least 95 % (medians of 97.5 % intervals).
    p_value
        That what is found is calibrated all the same: twice the median over splits, at most 1.
    agreement
        Share of the splits that chose the group named in the result.
    splits
        Number of splits.
    """

    error: float
    interval: Interval
    p_value: float
    agreement: float
    splits: int


@dataclass(frozen=True, slots=True)
class Worst:
    """What :func:`worst_group` or :func:`worst_conjunction` found.

    Parameters
    ----------
    groups
        All groups looked at, the largest shrunken error first; the first is the finding.
    overall
        All instances together (not shrunken: ``shrunken`` repeats ``error``).
    pools
        One for each field, or pair of fields.
    held_out
        The finding without the luck of having been looked for.
    p_larger
        Permutation test over the whole search: could a worst group like this come about if the fields had nothing to
        do with the errors? NaN where a field varies within a cluster: permuting would not be valid;
        ``settings["varies_within_clusters"]`` then names the fields.
    n_small
        Groups left out because they have fewer than ``settings["min_instances"]`` instances.
    n_nested
        Conjunctions left out because one of the two values alone makes the same group.
    """

    model: str
    notion: str
    items: str
    fields: tuple[str, ...]
    conjunctions: bool
    groups: tuple[GroupError, ...]
    overall: GroupError
    pools: tuple[Pooling, ...]
    held_out: HeldOut
    p_larger: float
    n_small: int
    n_nested: int
    settings: dict[str, Any]

    @property
    def worst(self) -> GroupError:
        """The group with the largest shrunken error."""
        return self.groups[0]

    @property
    def may_be_worst(self) -> tuple[GroupError, ...]:
        """The fewest groups that hold the truly worst one with posterior probability 95 %."""
        ordered = sorted(self.groups, key=lambda g: -g.probability_worst)
        out, total = [], 0.0
        for g in ordered:
            out.append(g)
            total += g.probability_worst
            if total >= 1 - ALPHA:
                break
        return tuple(out)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = _plain(dataclasses.asdict(self))
        found["may_be_worst"] = [g.group for g in self.may_be_worst]
        return found


def worst_group(
    h: Distribution,
    y: Outcomes,
    fields: Any,
    *,
    notion: str | Notion = "sub-2",
    items: Items | None = None,
    weights: Any = None,
    clusters: Any = None,
    bins: int = 15,
    min_instances: int = MIN_INSTANCES,
    adjust: Adjust = "holm",
    splits: int = 50,
    permutations: int = 499,
    seed: int = 0,
    model: str = "model",
) -> Worst:
    """Find the group of instances in which the model is worst calibrated.

    The largest of many noisy errors is large by luck. So errors are drawn towards their mean as far as their noise
    warrants (partial pooling, one pool a field), the group with the largest *shrunken* error is named, with the
    probability that it is the worst and the other groups that may be; its error is measured on data that did not
    choose it; and a permutation test says whether the fields matter at all.

    Parameters
    ----------
    h, y, items, weights, clusters, bins
        As in :func:`prefcal.audit`; instances of one cluster stay together in splits and permutations.
    fields
        As ``groups`` in :func:`prefcal.audit`: mapping or frame of field -> values, names of derived groups
        (``["@spread", "@candidates"]``), callables.
    notion
        One scalar notion.
    min_instances
        Smaller groups are left out (and counted); at least 10.
    adjust
        How ``p_adjusted`` accounts for the number of groups.
    splits
        Random halves for :class:`HeldOut`, at least 10.
    permutations
        For ``p_larger``, at least 99.
    seed
        Of everything random.
    model
        Name shown in results.

    Returns
    -------
    Worst

    Raises
    ------
    DataError
        Inputs that do not fit together; fewer than two groups that are large enough.
    UsageError
        Vector notions, unknown names, settings out of range.

    Notes
    -----
    Pooling is done in units of an instance's standard deviation (a group's standard error times the root of its
    number of instances), since groups of sure forecasts have small errors and small noise at once. It treats groups
    as independent (within a field they are, unless a cluster spans several) and their debiased errors as normal.
    Median aggregation of split intervals and p-values: Meinshausen, Meier & Buehlmann 2009; Chernozhukov, Demirer,
    Duflo & Fernandez-Val 2018. The p-values of groups need only the notion; the permutation test is exact where
    forecasts and outcomes do not depend on the fields. Cost: O(n * B * permutations * fields), about 15 seconds for
    50,000 instances and two fields.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> subset = rng.choice(["chat", "code", "math"], 1500)
    >>> truth = pc.PlackettLuce(rng.normal(size=(1500, 4)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    >>> said = truth.scores.dense() * np.where(subset == "math", 3.0, 1.0)[:, None]  # over-confident there
    >>> found = pc.worst_group(pc.PlackettLuce(said), y, {"subset": subset}, items="exchangeable")
    >>> found.worst.group, found.worst.probability_worst > 0.99, found.p_larger
    ({'subset': 'math'}, True, 0.002)
    """
    return _worst(
        h, y, fields, False, notion, items, weights, clusters, bins, min_instances, adjust, splits, permutations,
        seed, model,
    )  # fmt: skip


def worst_conjunction(
    h: Distribution,
    y: Outcomes,
    fields: Any,
    *,
    notion: str | Notion = "sub-2",
    items: Items | None = None,
    weights: Any = None,
    clusters: Any = None,
    bins: int = 15,
    min_instances: int = MIN_INSTANCES,
    adjust: Adjust = "holm",
    splits: int = 50,
    permutations: int = 499,
    seed: int = 0,
    model: str = "model",
) -> Worst:
    """Find the conjunction of two fields' values in which the model is worst calibrated.

    All combinations of values of all pairs of ``fields`` (two at least) that have ``min_instances`` instances are
    looked at, except those that are a whole group of one field; parameters, result and method are those of
    :func:`worst_group`, with one pool a pair of fields.

    Examples
    --------
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.choice(["x", "y", "z"], (2, 3000))
    >>> truth = pc.PlackettLuce(rng.normal(size=(3000, 4)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    >>> said = truth.scores.dense() * np.where((a == "x") & (b == "z"), 3.0, 1.0)[:, None]
    >>> found = pc.worst_conjunction(pc.PlackettLuce(said), y, {"a": a, "b": b}, items="exchangeable")
    >>> found.worst.group, found.held_out.p_value < 0.01
    ({'a': 'x', 'b': 'z'}, True)
    """
    return _worst(
        h, y, fields, True, notion, items, weights, clusters, bins, min_instances, adjust, splits, permutations,
        seed, model,
    )  # fmt: skip


def _worst(
    h: Distribution, y: Outcomes, fields: Any, conjunctions: bool, notion: str | Notion, items: Items | None,
    weights: Any, clusters: Any, bins: int, min_instances: int, adjust: Adjust, splits: int, permutations: int,
    seed: int, model: str,
) -> Worst:  # fmt: skip
    name, notion = notion if isinstance(notion, str) else notion.name, Notion.parse(notion)
    least = {"bins": 1, "min_instances": 10, "splits": 10, "permutations": 99, "seed": 0}
    given = {
        "bins": bins, "min_instances": min_instances, "splits": splits, "permutations": permutations, "seed": seed,
    }  # fmt: skip
    for what, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least[what]:
            raise UsageError(f"{what} must be a whole number, at least {least[what]}, got {number!r}")
    if adjust not in METHODS:
        raise UsageError.unknown("adjustment", str(adjust), METHODS)
    if not notion.is_scalar(h.n_items):
        raise UsageError(f"{notion.name} is a vector notion: groups are searched in scalar notions")
    n_forecasts = len(h)
    h, units = per_record(h, y, clusters)
    check_alignment(h, y)
    weight, per_instance = instance_weights(weights, y, n_forecasts)
    kind: Items = items or ("labelled" if h.has_labels else "exchangeable")
    family = family_for(notion, kind, h, ties_equal=y.ties == "equal")
    singles = groupings(fields, y, h)
    if len(singles) < 1 + conjunctions:
        raise UsageError(
            f"a search needs at least {'two fields' if conjunctions else 'one field'}, got {len(singles)}"
        )
    sums = unit_sums(h, y, family, weights=weight, per_instance=per_instance, units=units, bins=bins)
    used = sums.n_events > 0
    if not used.any():
        raise DataError(f"{name}: no instance has a usable event: {family.unusable}")
    parts = [_Part.single(g) for g in singles]
    if conjunctions:
        parts = [_Part.crossed(a, b) for a, b in combinations(singles, 2)]
    candidates, n_small, n_nested = [], 0, 0
    for part in parts:
        kept, small, nested = part.eligible(used, min_instances)
        n_small, n_nested = n_small + small, n_nested + nested
        candidates += [kept] if kept.levels else []
    n_groups = sum(len(c.levels) for c in candidates)
    if n_groups < 2:
        what = "conjunctions" if conjunctions else "groups"
        raise DataError(f"{name}: {n_groups} {what} with {min_instances} usable instances; a search needs two")
    search = _Search(sums, candidates, seed)
    groups, pools = search.groups(adjust)
    worst = max(range(n_groups), key=lambda i: groups[i].shrunken)
    held_out = search.held_out(worst, splits)
    p_larger = search.p_larger(worst, permutations)
    varying = []
    if math.isnan(p_larger):
        varying = [g.field for g in singles if sums.units is not None and _varies(g.codes[used], sums.units[used])]
    everything, _ = search.judge(np.arange(len(y)), {}, np.random.default_rng([seed, 8, 0]))
    settings = {
        "bins": bins, "min_instances": min_instances, "seed": seed, "adjust": adjust, "splits": splits,
        "permutations": permutations, "weights": "instance" if per_instance else "event",
        "interval": "of the binned error, by instance", "pooling": "normal, in units of an instance's deviation",
        "null": "normal, cluster-robust covariance of residual sums", "varies_within_clusters": varying,
    }  # fmt: skip
    return Worst(
        model=model, notion=name, items=kind, fields=tuple(g.field for g in singles), conjunctions=conjunctions,
        groups=tuple(sorted(groups, key=lambda g: -g.shrunken)), overall=everything, pools=tuple(pools),
        held_out=held_out, p_larger=p_larger, n_small=n_small, n_nested=n_nested, settings=settings,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Part:
    """A partition to search: ``codes`` (n,) index into ``levels``; -1 = in no group that is looked at.

    ``coarser`` are the codes of the fields that a conjunction is made of.
    """

    fields: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    codes: IntArray
    coarser: tuple[IntArray, ...] = ()

    @classmethod
    def single(cls, g: Grouping) -> _Part:
        return cls((g.field,), tuple((level,) for level in g.levels), g.codes)

    @classmethod
    def crossed(cls, a: Grouping, b: Grouping) -> _Part:
        levels = tuple((x, z) for x in a.levels for z in b.levels)
        return cls((a.field, b.field), levels, a.codes * len(b.levels) + b.codes, (a.codes, b.codes))

    def eligible(self, used: BoolArray, least: int) -> tuple[_Part, int, int]:
        """Only the levels worth a look; how many (not empty) are too small, and how many are a coarser group."""
        counts = np.bincount(self.codes[used], minlength=len(self.levels))
        large = counts >= least
        nested = np.zeros(len(large), dtype=bool)
        for codes in self.coarser:
            whole = np.zeros(len(large), dtype=np.intp)  # size of the coarser group of each level
            whole[self.codes[used]] = np.bincount(codes[used])[codes[used]]
            nested |= large & (whole == counts)
        kept = large & ~nested
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        levels = tuple(level for level, chosen in zip(self.levels, kept, strict=True) if chosen)
        part = _Part(self.fields, levels, np.where(used, place[self.codes], -1))
        return part, int(((counts > 0) & ~large).sum()), int(nested.sum())

    def label(self, level: int) -> dict[str, Any]:
        return dict(zip(self.fields, self.levels[level], strict=True))


@dataclass(slots=True)
class _Search:
    """One search: residual sums of instances, and the partitions that are looked at."""

    sums: UnitSums
    parts: Sequence[_Part]
    seed: int

    def members(self) -> list[tuple[_Part, int, IntArray]]:
        """(partition, level, rows) of every group, in a fixed order."""
        return [
            (part, level, np.flatnonzero(part.codes == level))
            for part in self.parts
            for level in range(len(part.levels))
        ]

    def judge(self, rows: IntArray, label: dict[str, Any], rng: np.random.Generator) -> tuple[GroupError, float]:
        """One group by itself, and the standard error of its debiased error."""
        table = self.sums.table(rows, rng)
        found = binned_error(table, rng)
        _, se = debiased_error(table, rng, draws=1000)
        law = compare(found.value, normal_null(table, rng, NULL_DRAWS))
        # As in an audit: the interval holds 0 exactly where calibration is not rejected.
        interval = (found.interval[0] if law.p_value <= ALPHA else 0.0, found.interval[1])
        gap = None
        if self.sums.members == 1:
            gap = float(table.residuals.sum() / table.moments[1].sum())
        n_instances = int((self.sums.n_events[rows] > 0).sum())
        return GroupError(
            label, n_instances, table.n_events, gap, found.debiased, interval, law.p_value, law.p_value,
            found.debiased, interval, math.nan,
        ), se  # fmt: skip

    def groups(self, adjust: Adjust) -> tuple[list[GroupError], list[Pooling]]:
        """Every group with its shrunken error, and the pools."""
        raw, errors, counts = [], [], []
        for i, (part, level, rows) in enumerate(self.members()):
            found, se = self.judge(rows, part.label(level), np.random.default_rng([self.seed, 8, 1 + i]))
            raw.append(found)
            errors.append(se)
            counts.append(found.n_instances)
        p_adjusted = adjusted([g.p_value for g in raw], adjust)
        shrunken, intervals, draws, pools, start = [], [], [], [], 0
        for k, part in enumerate(self.parts):
            at = slice(start, start + len(part.levels))
            start = at.stop
            rng = np.random.default_rng([self.seed, 10, k])
            means, truth = _pooled([g.error for g in raw[at]], errors[at], counts[at], rng)
            shrunken += means.tolist()
            intervals += np.quantile(truth, [0.025, 0.975], axis=0).T.tolist()
            draws.append(truth)
            low, spread, high = np.quantile(truth.std(axis=1), [0.025, 0.5, 0.975]).tolist()
            pools.append(Pooling(part.fields, len(part.levels), float(means.mean()), spread, (low, high)))
        joint = np.concatenate(draws, axis=1)
        largest = np.bincount(joint.argmax(axis=1), minlength=len(raw)) / len(joint)
        return [
            dataclasses.replace(
                g,
                p_adjusted=float(p),
                shrunken=s,
                shrunken_interval=(min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)),
                probability_worst=float(share),
            )
            for g, p, s, (low, high), share in zip(raw, p_adjusted, shrunken, intervals, largest, strict=True)
        ], pools

    def held_out(self, worst: int, splits: int) -> HeldOut:
        """Choose on one half of the units, measure on the other, ``splits`` times."""
        members = self.members()
        units = np.arange(len(self.sums)) if self.sums.units is None else self.sums.units
        rng = np.random.default_rng([self.seed, 11])
        found, p_values, agreed = [], [], 0
        for _ in range(splits):
            first = (rng.permutation(int(units.max()) + 1) % 2 == 0)[units]
            best = self._choose([rows[first[rows]] for _, _, rows in members], rng)
            table = self.sums.table(members[best][2][~first[members[best][2]]], rng)
            found.append(debiased_error(table, rng))
            value = float(ece(table.residuals, table.member_weights, table.members))
            enough = table.n_instances > 1  # else this half has shown nothing
            p_values.append(compare(value, normal_null(table, rng, NULL_DRAWS)).p_value if enough else 1.0)
            agreed += best == worst
        error, se = np.array(found).T
        p_value = min(2 * float(np.median(p_values)), 1.0)
        low = float(np.median(np.where(np.isfinite(se), error - _Z_SPLIT * se, 0.0)))
        high = float(np.median(np.where(np.isfinite(se), error + _Z_SPLIT * se, 1.0)))
        interval = (min(max(low, 0.0), 1.0) if p_value <= ALPHA else 0.0, min(max(high, 0.0), 1.0))
        return HeldOut(float(np.median(error)), interval, p_value, agreed / splits, splits)

    def _choose(self, rows: list[IntArray], rng: np.random.Generator) -> int:
        """Index of the group with the largest shrunken error among some instances."""
        best, most, start = 0, -math.inf, 0
        for part in self.parts:
            at = range(start, start + len(part.levels))
            start = at.stop
            found = [debiased_error(self.sums.table(rows[i], rng), rng, draws=200) for i in at]
            known = [(i, *pair, len(rows[i])) for i, pair in zip(at, found, strict=True) if math.isfinite(pair[1])]
            if not known:
                continue
            _, estimates, errors, counts = zip(*known, strict=True)
            shrunken, _ = _pooled(estimates, errors, counts, rng, draws=2)
            place = int(shrunken.argmax())
            if shrunken[place] > most:
                best, most = known[place][0], float(shrunken[place])
        return best

    def p_larger(self, worst: int, permutations: int) -> float:
        """Share of relabellings in which some group stands out as far as the named one does (single-step max)."""
        rows = np.flatnonzero(self.sums.n_events > 0)
        residuals, owned = self.sums.residuals[rows], self.sums.weights[rows]
        codes = [part.codes[rows] for part in self.parts]
        if self.sums.units is not None:
            units = self.sums.units[rows]
            if any(_varies(c, units) for c in codes):
                return math.nan
            first = np.unique(units, return_index=True)[1]
            residuals, owned = sum_rows(residuals, units), sum_rows(owned, units)
            codes = [c[first] for c in codes]
        observed = self._standing_out(residuals, owned, codes)
        limit = observed[worst] - 1e-12 * max(abs(observed[worst]), 1.0)
        rng = np.random.default_rng([self.seed, 12])
        at_least = 0
        for _ in range(permutations):
            order = rng.permutation(len(residuals))
            at_least += bool(self._standing_out(residuals[order], owned[order], codes).max() >= limit)
        return (1 + at_least) / (permutations + 1)

    def _standing_out(self, residuals: FloatArray, owned: FloatArray, codes: list[IntArray]) -> FloatArray:
        """(groups,) debiased error above that of all instances, in (rough) standard errors."""
        members, bins = self.sums.members, self.sums.bins
        tilt = contrasts(residuals, members)
        kept = (residuals, residuals**2, owned, tilt[:, :, None] * tilt[:, None, :])

        def error(
            total: FloatArray, square: FloatArray, weight: FloatArray, tilts: FloatArray
        ) -> tuple[FloatArray, FloatArray]:
            scale, weights = np.sqrt(square), np.repeat(weight, bins, axis=-1)
            share = np.divide(scale, weights, out=np.zeros_like(scale), where=weights > 0)
            rough = np.sqrt((share**2).sum(axis=-1)) / members
            return ece_debiased(total, scale, weights, members, tilts), rough

        everything, _ = error(*(a.sum(axis=0) for a in kept))
        out = []
        for code, part in zip(codes, self.parts, strict=True):
            order = np.argsort(code, kind="stable")
            starts = np.searchsorted(code[order], np.arange(len(part.levels)))
            found, rough = error(*(np.add.reduceat(a[order], starts) for a in kept))
            with np.errstate(divide="ignore", invalid="ignore"):
                out.append(np.where(rough > 0, (found - everything) / rough, 0.0))
        return np.concatenate(out)


def _varies(codes: IntArray, units: IntArray) -> bool:
    """Whether instances of one unit have different codes."""
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    return bool((codes != codes[first][unit]).any())


def _pooled(
    estimates: Sequence[float], errors: Sequence[float], counts: Sequence[int], rng: np.random.Generator,
    draws: int = 4000,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """(k,) shrunken errors and (draws, k) posterior draws, pooled in units of an instance's standard deviation.

    A group of sure forecasts has small errors and a small standard error at once. Pooled as they are, such groups
    would say that all groups have small errors, and an uncertain group far from 0 would be drawn to them.
    """
    unit = np.maximum(np.asarray(errors) * np.sqrt(counts), 1e-6)
    largest = 0.5 / float(np.median(unit))
    found = pool(
        np.asarray(estimates) / unit, np.asarray(errors) / unit, rng=rng, draws=draws, largest_spread=largest
    )
    return found.shrunken * unit, found.draws * unit


def _plain(value: Any) -> Any:
    """Non-finite numbers become null: JSON has none."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
