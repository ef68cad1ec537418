"""One pass over forecasts and outcomes fills the cell tables of all scalar notions; a second draws null outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError
from prefcal.estimators.binned import ece
from prefcal.estimators.cells import CellTable, merge_all
from prefcal.estimators.events import Family
from prefcal.estimators.null import OutcomeSimulator, residual_draws

# Elements of a block: all pairs of ten candidates then stay within the second-level cache.
_PASS_ELEMENTS = 1 << 13
_DRAW_ELEMENTS = 1 << 20
_PARTS = 2
_PARALLEL_ELEMENTS = 1 << 17


@dataclass(frozen=True, slots=True)
class Grouping:
    """A partition of the instances by a field; ``codes`` (n,) index into ``levels``."""

    field: str
    levels: tuple[Any, ...]
    codes: IntArray

    @classmethod
    def build(cls, name: str, values: npt.ArrayLike) -> Grouping:
        """Group by equal values, levels sorted (numbers first); None and NaN are one level, ``(missing)``."""
        array = np.asarray(values, dtype=object)
        missing = np.array([v is None or v != v for v in array.tolist()], dtype=bool)
        array[missing] = "(missing)"
        distinct = {v.item() if isinstance(v, np.generic) else v for v in array.tolist()}
        levels = sorted(
            distinct, key=lambda v: (isinstance(v, str), v is None, v if isinstance(v, int | float) else str(v))
        )
        place = {v: i for i, v in enumerate(levels)}
        return cls(name, tuple(levels), np.array([place[v] for v in array.tolist()], dtype=np.intp))


@dataclass(slots=True)
class Tables:
    """Tables of one family: all instances, and one for each level of each grouping; why instances dropped out."""

    family: Family
    overall: CellTable
    groups: dict[str, list[CellTable]]
    used: IntArray


def aligned_ranks(y: Outcomes, block: Block) -> FloatArray:
    """(b, m) ranks of a block's items.

    Raises DataError when outcome and forecast are about different items.
    """
    rows, size = block.rows, block.dist.n_items
    if y.ranks.is_dense and (block.columns is not None or y.ranks.n_columns != size):
        whole = y.ranks.block(rows, y.ranks.n_columns)
        columns = np.arange(size)[None] if block.columns is None else block.columns
        return np.take_along_axis(whole, np.broadcast_to(columns, (len(whole), size)), axis=1)
    return y.ranks.block(rows, size)


def check_alignment(h: Distribution, y: Outcomes) -> None:
    """Raise DataError unless forecasts and outcomes have the same instances and items."""
    if len(h) != len(y):
        raise DataError(
            f"{len(h)} forecasts but {len(y)} outcomes; there must be one outcome record for each forecast"
        )
    sizes = h.sizes
    if h.has_labels and (y.ranks.is_dense or not (sizes == h.n_items).all()):
        if h.n_items != y.n_items:
            raise DataError(f"forecasts are about {h.n_items} items, outcomes about {y.n_items}")
        if (sizes == h.n_items).all():
            return
        absent = np.isnan(h.scores.dense()) if isinstance(h, PlackettLuce) else np.zeros((len(h), h.n_items), bool)
        extra = ((~np.isnan(y.dense())) & absent).any(axis=1)
        if extra.any():
            at = int(np.flatnonzero(extra)[0])
            raise DataError("the outcome ranks an item that the forecast does not have", row=f"instance {at}")
        return
    if y.ranks.is_dense and (sizes <= y.n_items).all():  # short lists against an array padded with NaN
        extra = ((~np.isnan(y.dense())) & (np.arange(y.n_items) >= sizes[:, None])).any(axis=1)
        if not extra.any():
            return
        at = int(np.flatnonzero(extra)[0])
        raise DataError(f"the outcome ranks more than the {sizes[at]} items that are forecast", row=f"instance {at}")
    wrong = np.flatnonzero(sizes != y.sizes)
    if len(wrong):
        at = int(wrong[0])
        raise DataError(f"{sizes[at]} items are forecast but the outcome has {y.sizes[at]}", row=f"instance {at}")


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
                forecast = family.forecast(block)
                happened = family.observe(forecast, ranks)
                happened[weights[rows] == 0] = np.nan
                weight = event_weights(weights[rows], happened, per_instance)
                seen[rows] = (~np.isnan(happened)).any(axis=1)
                cell = np.broadcast_to(family.residual_cells(forecast, bins), forecast.p.shape)
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
) -> list[tuple[FloatArray, dict[str, list[FloatArray]]]]:
    """ECE of outcomes drawn from h: for each family (draws,) overall and for each level of each grouping."""
    sums: list[dict[str | None, FloatArray]] = []
    for t in tables:
        size = bins * t.family.n_members
        sums.append(
            {None: np.zeros((draws, size))} | {g.field: np.zeros((draws, size * len(g.levels))) for g in groupings}
        )
    for block in h.blocks(_PASS_ELEMENTS):
        if block.dist.n_items < 2:
            continue
        ranks = aligned_ranks(y, block)
        rows = np.arange(len(y))[block.rows]
        simulator = OutcomeSimulator(block, ranks)
        prepared = []
        widest = block.dist.n_items
        for t, target in zip(tables, sums, strict=True):
            if not t.family.applies(block.dist.n_items):
                continue
            forecast = t.family.forecast(block)
            happened = t.family.observe(forecast, ranks)
            happened[weights[rows] == 0] = np.nan
            cell = np.broadcast_to(t.family.residual_cells(forecast, bins), forecast.p.shape)
            size = bins * t.family.n_members
            cells = [(cell, size)]
            cells += [(cell + g.codes[rows][:, None] * size, size * len(g.levels)) for g in groupings]
            # How many events an instance has follows from the sizes of its buckets: it is the same in each draw.
            weight = event_weights(weights[rows], happened, per_instance)[:, :1]
            prepared.append((t.family, forecast, weight, cells, target))
            widest = max(widest, forecast.p.shape[1])
        step = max(1, _DRAW_ELEMENTS // (len(rows) * widest))
        for start in range(0, draws, step):
            stop = min(start + step, draws)
            simulated = simulator.draw(stop - start, rng)
            for family, forecast, weight, cells, target in prepared:
                parts = residual_draws(forecast, family.observe(forecast, simulated), weight, cells)
                for key, part in zip(target, parts, strict=True):
                    target[key][start:stop] += part
    out = []
    for t, target in zip(tables, sums, strict=True):
        members = t.family.n_members
        overall = ece(target[None], t.overall.member_weights, members)
        by_group = {}
        for g in groupings:
            split = target[g.field].reshape(draws, len(g.levels), -1)
            by_group[g.field] = [
                ece(split[:, i], t.groups[g.field][i].member_weights, members) for i in range(len(g.levels))
            ]
        out.append((overall, by_group))
    return out


def event_weights(weights: FloatArray, happened: FloatArray, per_instance: bool) -> FloatArray:
    """(b, e) weight of each event: the instance's, shared among its known events with ``per_instance``."""
    shared = weights[:, None]
    if per_instance:
        shared = shared / np.maximum((~np.isnan(happened)).sum(axis=1, keepdims=True), 1)
    return np.broadcast_to(shared, happened.shape)
