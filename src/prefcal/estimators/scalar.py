"""One pass over forecasts and outcomes fills the cell tables of all scalar notions; a second draws null outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import BLOCK_ELEMENTS, FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import UsageError
from prefcal.estimators.binned import ece
from prefcal.estimators.cells import CellTable, merge_all
from prefcal.estimators.events import BoolArray, Family, Forecast, Rankwise, classify_ranks
from prefcal.estimators.inputs import Grouping, aligned_ranks, event_weights
from prefcal.estimators.null import OutcomeSimulator, at_least, sums_by_cell

# Elements of a block: all pairs of ten candidates then stay within the second-level cache.
_PASS_ELEMENTS = 1 << 13
_DRAW_ELEMENTS = 1 << 20
_PARTS = 2
_PARALLEL_ELEMENTS = 1 << 17
#: Null draws made at a time under a stopping rule.
SEQUENTIAL_CHUNK = 100


@dataclass(slots=True)
class Tables:
    """Tables of one family: all instances, and one for each level of each grouping; why instances dropped out."""

    family: Family
    overall: CellTable
    groups: dict[str, list[CellTable]]
    used: IntArray


def fill_tables(
    h: Distribution,
    y: Outcomes,
    families: Sequence[Family],
    *,
    bins: int,
    groupings: Sequence[Grouping],
    weights: FloatArray,
    per_instance: bool,
    clusters: IntArray | None,
    seed: int,
) -> list[Tables]:
    """Fill the tables of all families in one pass over blocks.

    ``clusters`` (n,) codes from 0 make instances of one code one unit; None: each instance is one, and memory then
    does not grow with n.
    """
    used = [np.zeros(len(y), dtype=np.intp) for _ in families]
    # The parts are fixed by the data, not by the number of cores: the same input gives the same bytes. Clusters
    # are open until the end, so they stay in one part.
    parts = 1 if clusters is not None or len(y) * h.n_items < _PARALLEL_ELEMENTS else _PARTS

    def fill(part: int) -> list[tuple[CellTable, dict[str, list[CellTable]]]]:
        tables = [
            (
                CellTable(bins, family.n_members, seed),
                {g.field: [CellTable(bins, family.n_members, seed) for _ in g.levels] for g in groupings},
            )
            for family in families
        ]
        for block in islice(h.blocks(_PASS_ELEMENTS), part, None, parts):
            ranks = aligned_ranks(y, block)
            rows = np.arange(len(y))[block.rows]
            unit = None if clusters is None else clusters[rows]
            for family, (overall, groups), seen in zip(families, tables, used, strict=True):
                if not family.applies(block.dist.n_items):
                    continue
                forecast, happened, weight, cell = look(family, block, ranks, weights[rows], per_instance, bins)
                seen[rows] = (~np.isnan(happened)).any(axis=1)
                overall.add(forecast, happened, weight, cell, unit)
                for g in groupings:
                    level = g.codes[rows]
                    for value in np.unique(level):
                        at = np.flatnonzero(level == value)
                        groups[g.field][value].add(
                            forecast.take(at), happened[at], weight[at], cell[at], None if unit is None else unit[at]
                        )
        for overall, groups in tables:
            for table in (overall, *(t for levels in groups.values() for t in levels)):
                table.close_clusters()
        return tables

    with ThreadPoolExecutor(parts) as pool:
        filled = list(pool.map(fill, range(parts)))
    result = []
    for i, family in enumerate(families):
        overall = merge_all([tables[i][0] for tables in filled])
        groups = {
            g.field: [merge_all([tables[i][1][g.field][j] for tables in filled]) for j in range(len(g.levels))]
            for g in groupings
        }
        result.append(Tables(family, overall, groups, used[i]))
    return result


def look(
    family: Family, block: Block, ranks: FloatArray, weights: FloatArray, per_instance: bool, bins: int
) -> tuple[Forecast, FloatArray, FloatArray, IntArray]:
    """A family's forecasts for a block, and (b, e) what happened (NaN = no event), weights, and residual cells.

    Instances of weight 0 have no events.
    """
    forecast = family.forecast(block)
    happened = family.observe(forecast, ranks)
    happened[weights == 0] = np.nan
    cell = np.broadcast_to(family.residual_cells(forecast, bins), forecast.p.shape)
    return forecast, happened, event_weights(weights, happened, per_instance), cell


@dataclass(frozen=True, slots=True)
class BlockEvents:
    """A block as one family looks at it: b records with e potential events each.

    ``rows`` (b,) are the numbers of the records and ``ranks`` (b, m) what was observed of them; ``known`` (b, e) says
    which events there are; the rest is what :func:`look` returns.
    """

    block: Block
    rows: IntArray
    ranks: FloatArray
    forecast: Forecast
    happened: FloatArray
    weight: FloatArray
    cell: IntArray
    known: BoolArray

    def of(self, by_record: IntArray) -> IntArray:
        """The (n,) values of each record's own, for each known event."""
        found: IntArray = np.broadcast_to(by_record[self.rows][:, None], self.known.shape)[self.known]
        return found


def events_by_block(
    h: Distribution,
    y: Outcomes,
    family: Family,
    *,
    weights: FloatArray,
    per_instance: bool,
    bins: int = 1,
    elements: int = BLOCK_ELEMENTS,
) -> Iterator[BlockEvents]:
    """Look at all blocks to which a family applies; arguments as for :func:`fill_tables`."""
    for block in h.blocks(elements):
        if not family.applies(block.dist.n_items):
            continue
        rows, ranks = np.arange(len(y))[block.rows], aligned_ranks(y, block)
        forecast, happened, weight, cell = look(family, block, ranks, weights[rows], per_instance, bins)
        yield BlockEvents(block, rows, ranks, forecast, happened, weight, cell, ~np.isnan(happened))


def monte_carlo(
    h: Distribution,
    y: Outcomes,
    tables: Sequence[Tables],
    *,
    bins: int,
    groupings: Sequence[Grouping],
    weights: FloatArray,
    per_instance: bool,
    draws: int,
    rng: np.random.Generator,
    stop_after: int | None = None,
) -> list[tuple[FloatArray, dict[str, list[FloatArray]]]]:
    """ECE of outcomes drawn from h: for each family (draws,) overall and for each level of each grouping.

    With ``stop_after`` draws are made ``SEQUENTIAL_CHUNK`` at a time, and end, before ``draws``, when that many are
    at least as large as what was observed, in every table that has events; hand the same number to
    :func:`prefcal.estimators.null.compare`. Large p-values then cost few draws (and the null mean is as precise as
    those few make it), small ones as many as without.
    """

    def simulate(number: int) -> list[tuple[FloatArray, dict[str, list[FloatArray]]]]:
        return _simulate(
            h, y, tables, bins=bins, groupings=groupings, weights=weights, per_instance=per_instance, draws=number,
            rng=rng,
        )  # fmt: skip

    if stop_after is None:
        return simulate(draws)
    if stop_after < 1:
        raise UsageError(f"stop_after must be at least 1, got {stop_after}")
    parts: list[list[tuple[FloatArray, dict[str, list[FloatArray]]]]] = []
    watched = [(i, None, 0, t.overall) for i, t in enumerate(tables)] + [
        (i, field, j, table) for i, t in enumerate(tables) for field, levels in t.groups.items()
        for j, table in enumerate(levels) if table.n_events
    ]  # fmt: skip
    values = [float(ece(table.residuals, table.member_weights, table.members)) for *_, table in watched]
    reached = np.zeros(len(watched), dtype=np.intp)
    left = draws
    while left > 0 and (reached < stop_after).any():
        part = simulate(min(SEQUENTIAL_CHUNK, left))
        parts.append(part)
        left -= len(part[0][0])
        for place, ((i, field, j, _), value) in enumerate(zip(watched, values, strict=True)):
            found = part[i][0] if field is None else part[i][1][field][j]
            reached[place] += int(at_least(value, found).sum())
    return [
        (
            np.concatenate([part[i][0] for part in parts]),
            {
                field: [np.concatenate([part[i][1][field][j] for part in parts]) for j in range(len(levels))]
                for field, levels in t.groups.items()
            },
        )
        for i, t in enumerate(tables)
    ]


def _simulate(
    h: Distribution,
    y: Outcomes,
    tables: Sequence[Tables],
    *,
    bins: int,
    groupings: Sequence[Grouping],
    weights: FloatArray,
    per_instance: bool,
    draws: int,
    rng: np.random.Generator,
) -> list[tuple[FloatArray, dict[str, list[FloatArray]]]]:
    # For each family and grouping: residual sums (draws, levels * cells), and weights (draws, levels * members).
    keys = [None, *groupings]
    levels = [1, *(len(g.levels) for g in groupings)]
    sums = [[np.zeros((draws, n * bins * t.family.n_members)) for n in levels] for t in tables]
    totals = [[np.zeros((draws, n * t.family.n_members)) for n in levels] for t in tables]
    for block in h.blocks(_PASS_ELEMENTS):
        if block.dist.n_items < 2:
            continue
        ranks = aligned_ranks(y, block)
        rows = np.arange(len(y))[block.rows]
        simulator = OutcomeSimulator(block, ranks)
        codes = [np.zeros(len(rows), dtype=np.intp), *(g.codes[rows] for g in groupings)]
        prepared = []
        widest = block.dist.n_items
        for t, target, total in zip(tables, sums, totals, strict=True):
            if not t.family.applies(block.dist.n_items):
                continue
            forecast, happened, weight, cell = look(t.family, block, ranks, weights[rows], per_instance, bins)
            size, members = bins * t.family.n_members, t.family.n_members
            cells = [(cell + c[:, None] * size, n * size) for c, n in zip(codes, levels, strict=True)]
            owners = [(cell // bins + c[:, None] * members, n * members) for c, n in zip(codes, levels, strict=True)]
            # How many events an instance has follows from the sizes of its buckets: it is the same in each draw.
            weight = weight[:, :1]
            # Which events are known depends on the draw where buckets or gaps are seen by members.
            moving = members > 1 and not simulator.strict
            if not moving:
                once = sums_by_cell((~np.isnan(happened) * weight)[None], owners)
                for part, add in zip(total, once, strict=True):
                    part += add
            job = _Job(t.family, forecast, weight, cells, owners if moving else [], target, total)
            if isinstance(t.family, Rankwise) and simulator.strict and not np.isnan(forecast.p).any():
                job.expect(~np.isnan(happened))
            prepared.append(job)
            widest = max(widest, forecast.p.shape[1])
        step = max(1, _DRAW_ELEMENTS // (len(rows) * widest))
        for start in range(0, draws, step):
            stop = min(start + step, draws)
            simulated = simulator.draw(stop - start, rng)
            for job in prepared:
                job.add(simulated, slice(start, stop))
    out = []
    for t, target, total in zip(tables, sums, totals, strict=True):
        members = t.family.n_members
        errors = []
        for residual, weight, n in zip(target, total, levels, strict=True):
            by_level = residual.reshape(draws, n, -1), np.repeat(weight, bins, axis=1).reshape(draws, n, -1)
            errors.append([ece(by_level[0][:, i], by_level[1][:, i], members) for i in range(n)])
        by_group = {g.field: e for g, e in zip(keys[1:], errors[1:], strict=True) if g is not None}
        out.append((errors[0][0], by_group))
    return out


@dataclass(slots=True)
class _Job:
    """One family's share of a block of simulated outcomes.

    ``target`` and ``total`` receive residual sums and weights for each grouping; ``expected`` holds, where an
    outcome is always known, the sums of the forecasts, so that only the outcomes that happened need counting.
    """

    family: Family
    forecast: Forecast
    weight: FloatArray
    cells: list[tuple[IntArray, int]]
    owners: list[tuple[IntArray, int]]
    target: list[FloatArray]
    total: list[FloatArray]
    expected: list[FloatArray] | None = None

    def expect(self, known: npt.NDArray[np.bool_]) -> None:
        self.expected = sums_by_cell((known * self.forecast.p * self.weight)[None], self.cells)

    def add(self, ranks: FloatArray, draws: slice) -> None:
        if self.expected is not None:
            return self._count(ranks, draws, self.expected)
        residual = self.family.observe(self.forecast, ranks) - np.nan_to_num(self.forecast.p)
        unknown = np.isnan(residual)
        if unknown.any():
            residual[unknown] = 0.0
        if not (self.weight == 1.0).all():
            residual *= self.weight
        for array, add in zip(self.target, sums_by_cell(residual, self.cells), strict=True):
            array[draws] += add
        if self.owners:
            for array, add in zip(self.total, sums_by_cell(~unknown * self.weight, self.owners), strict=True):
                array[draws] += add
        return None

    def _count(self, ranks: FloatArray, draws: slice, expected: list[FloatArray]) -> None:
        assert isinstance(self.family, Rankwise)
        index = classify_ranks(self.family.view, ranks)  # (d, b, members)
        d, b, members = index.shape
        known = index >= 0
        weight = np.broadcast_to(self.weight, (b, members))
        for array, constant, (cell, size) in zip(self.target, expected, self.cells, strict=True):
            by_outcome = cell.reshape(b, members, -1)
            hit = np.take_along_axis(
                np.broadcast_to(by_outcome, (d, *by_outcome.shape)), index[..., None] * known[..., None], axis=3
            )
            place = (hit[..., 0] + np.arange(d)[:, None, None] * size)[known]
            counted = np.bincount(place, np.broadcast_to(weight, index.shape)[known], minlength=d * size)
            array[draws] += counted.reshape(d, size) - constant
