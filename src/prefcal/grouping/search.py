"""The search itself: every group by itself, pooled, on held-out halves, and under permutations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.auditing import ALPHA
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.estimators.binned import binned_error, ece, ece_debiased
from prefcal.estimators.cells import contrasts
from prefcal.estimators.families import Adjust, adjusted
from prefcal.estimators.null import compare, normal_null
from prefcal.estimators.shrinkage import pool
from prefcal.estimators.units import UnitSums, debiased_error, sum_rows
from prefcal.grouping.found import GroupError, HeldOut, Pooling
from prefcal.grouping.partitions import Partition, varies

NULL_DRAWS = 4999
#: Normal quantile of a 97.5 % interval: medians over splits of such intervals make a 95 % interval.
_Z_SPLIT = 2.241402727604947


@dataclass(slots=True)
class Search:
    """One search: residual sums of instances, and the partitions that are looked at."""

    sums: UnitSums
    parts: Sequence[Partition]
    seed: int

    def members(self) -> list[tuple[Partition, int, IntArray]]:
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
            gap = float(table.residuals.sum() / table.moment("w").sum())
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
            means, truth = pooled([g.error for g in raw[at]], errors[at], counts[at], rng)
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
            shrunken, _ = pooled(estimates, errors, counts, rng, draws=2)
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
            if any(varies(c, units) for c in codes):
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


def pooled(
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
