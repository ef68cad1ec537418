"""One batch of simulated data sets: every number that an audit would print, against what is true."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from worlds import DISTORTIONS, World, observed, population_error

from prefcal.estimators.binned import binned_error
from prefcal.estimators.events import Family, Items, family_for
from prefcal.estimators.inputs import Grouping
from prefcal.estimators.null import compare, normal_null
from prefcal.estimators.scalar import fill_tables, monte_carlo
from prefcal.notions.notion import Notion

BINS = 15
ALPHA = 0.05
#: Null draws: p <= .05 has the size .05 for 199 (at most nine draws above) and for 39 (at most one). Interval draws:
#: the audit takes 1000.
EXACT_DRAWS = {50: 199, 200: 199, 1000: 199, 5000: 39}
NORMAL_DRAWS, INTERVAL_DRAWS = 199, 200
SIZES = (50, 200, 1000, 5000)
ITEMS = (2, 3, 4, 10)
#: Data sets of a batch, and the share of the wanted runs for miscalibrated models, by number of instances.
BATCH = {50: 50, 200: 50, 1000: 25, 5000: 10}
SHARE = {50: 1.0, 200: 1.0, 1000: 1.0, 5000: 0.5}


@dataclass(frozen=True, slots=True)
class Cell:
    """What is simulated together: one world, one way to treat items, one number of instances."""

    world: World
    items: Items
    n: int

    @property
    def name(self) -> str:
        """Unique; ``--cells`` matches parts of it."""
        w = self.world
        return f"{w.truth}-{w.distortion:g}-m{w.m}-{self.items}-n{self.n}"

    @property
    def notions(self) -> list[str]:
        """The notions measured: of two items all are pairs; many labelled members only where affordable."""
        m = self.world.m
        if m == 2:
            return ["sub-2"]
        if self.items == "exchangeable":
            return ["sub-2", "top-1:confidence", "top-1:rankwise"]
        if m == 3:
            return ["sub-2", "top-1:rankwise", "sub-3:rankwise"]
        return ["top-1:rankwise"]

    @property
    def exact(self) -> bool:
        """Whether outcomes are redrawn: for the size of the test, and for power at n = 200."""
        return self.world.calibrated or self.n == 200

    def batches(self, runs: int) -> int:
        """How many batches make up the wanted runs of this cell."""
        share = 1.0 if self.world.calibrated else SHARE[self.n]
        return math.ceil(runs * share / BATCH[self.n])

    def batch(self, index: int) -> list[dict[str, Any]]:
        """One record of sums for each notion."""
        return batch(self, index)


def cells() -> Iterator[Cell]:
    """All cells, those of n = 200 first (most of what is asked is asked there)."""
    for n in sorted(SIZES, key=lambda n: (n != 200, n)):
        for m in ITEMS:
            for items in ("exchangeable", "labelled"):
                if items == "labelled" and m in (2, 4):
                    continue  # nothing new
                for truth, distortions in DISTORTIONS.items():
                    for distortion in distortions:
                        yield Cell(World(truth, m, distortion), items, n)


def families(cell: Cell) -> list[Family]:
    h, _ = cell.world.draw(2, np.random.default_rng(0))
    return [family_for(Notion.parse(k), cell.items, h, ties_equal=False) for k in cell.notions]


@cache
def population(world: World, items: Items, notions: tuple[str, ...]) -> tuple[float, ...]:
    """The population's binned error of each notion: 0 for a calibrated model, else from many instances."""
    if world.calibrated:
        return (0.0,) * len(notions)
    h, _ = world.draw(2, np.random.default_rng(0))
    found = [family_for(Notion.parse(k), items, h, ties_equal=False) for k in notions]
    return tuple(population_error(world, found, BINS, 60_000 if world.m == 10 else 200_000))


def batch(cell: Cell, index: int, runs: int | None = None) -> list[dict[str, Any]]:
    """Simulate data sets; one record of sums for each notion.

    The data sets are the groups of one large one, so the tables, null laws and intervals come from the code that
    audits groups (a test compares them with :func:`prefcal.audit`).
    """
    runs, n = runs or BATCH[cell.n], cell.n
    rng = np.random.default_rng([zlib.crc32(cell.name.encode()), index])
    h, truth = cell.world.draw(n * runs, rng)
    y = observed(truth, rng)
    by = Grouping("run", tuple(range(runs)), np.repeat(np.arange(runs), n))
    shared: dict[str, Any] = {"bins": BINS, "groupings": [by], "weights": np.ones(n * runs), "per_instance": False}
    tables = fill_tables(h, y, families(cell), clusters=None, seed=index, **shared)
    laws: list[Any] = [None] * len(tables)
    if cell.exact:
        laws = [found[1]["run"] for found in monte_carlo(h, y, tables, draws=EXACT_DRAWS[n], rng=rng, **shared)]
    errors = population(cell.world, cell.items, tuple(cell.notions))
    out = []
    for notion, t, law, error in zip(cell.notions, tables, laws, errors, strict=True):
        rows = []
        for i, table in enumerate(t.groups["run"]):
            found = binned_error(table, rng, draws=INTERVAL_DRAWS)
            normal = compare(found.value, normal_null(table, rng, NORMAL_DRAWS))
            exact = normal if law is None else compare(found.value, law[i])
            low, high = found.interval
            if max(normal.p_value, exact.p_value) > ALPHA:  # as the audit reports it
                low = 0.0
            rows.append((found.value, found.debiased, low, high, normal.p_value, exact.p_value, exact.mean))
        value, debiased, low, high, p_normal, p_exact, null_mean = np.array(rows).T
        record = {
            "cell": cell.name, "notion": notion, "batch": index, "runs": runs, "error": error,
            "value": value.sum(), "value2": (value**2).sum(), "debiased": debiased.sum(),
            "debiased2": (debiased**2).sum(), "null_mean": null_mean.sum(),
            "below": int((high < error).sum()), "above": int((low > error).sum()), "width": (high - low).sum(),
            "reject_normal": int((p_normal <= ALPHA).sum()),
        }  # fmt: skip
        if law is not None:
            # The naive test with the right size: beyond the 95 % quantile of the error of all redrawn data sets.
            record["reject_exact"] = int((p_exact <= ALPHA).sum())
            record["reject_naive"] = int((value > np.quantile(np.concatenate(law), 1 - ALPHA)).sum())
        out.append({k: float(v) if isinstance(v, np.floating) else v for k, v in record.items()})
    return out
