"""The estimators beside the binned error: their tests, intervals and bias correction in simulation.

Scalar estimators (smooth ECE, cumulative, isotonic, ...) of pairs and top choices, cluster bootstraps of the mean
residual, and the tests of whole forecasts (kernels, HPD coverage, ranks of items).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from worlds import DISTORTIONS, World, events, observed

import prefcal as pc
from prefcal.distributions.base import Distribution
from prefcal.estimators.binnings import bin_errors
from prefcal.estimators.bootstrap import bootstrap
from prefcal.estimators.cumulative import cumulative_error
from prefcal.estimators.events import family_for
from prefcal.estimators.isotonic import decomposition
from prefcal.estimators.points import Points
from prefcal.estimators.profile import ERRORS, profile
from prefcal.estimators.residuals import gather
from prefcal.estimators.scalar import fill_tables
from prefcal.estimators.smooth import smooth_ece
from prefcal.notions.notion import Notion
from prefcal.result import Estimate

BINS = 15
ALPHA = 0.05
SIZES = (50, 200, 1000)
ITEMS = (2, 4, 10)
#: Data sets of a batch, and the share of the wanted runs where the model is miscalibrated.
BATCH = 25
SHARE = 0.5
BOOTSTRAP_DRAWS = 499
#: Kernel notions, and the uniformity tests that an audit reports beside the first.
VECTOR = ("full:canonical", "top-1:canonical", "sub-2:full")
UNIFORMITY = ("hpd_ks", "hpd_ad", "position_ad")
METHODS: tuple[Literal["bca", "studentised"], ...] = ("bca", "studentised")
Kind = Literal["scalar", "vector"]


@dataclass(frozen=True, slots=True)
class OtherCell:
    """One world, a number of instances, and the estimators of one kind."""

    world: World
    kind: Kind
    n: int

    @property
    def name(self) -> str:
        """Unique; ``--cells`` matches parts of it."""
        w = self.world
        return f"others-{self.kind}-{w.truth}-{w.distortion:g}-m{w.m}-n{self.n}"

    @property
    def notions(self) -> list[str]:
        """The notions that are measured."""
        if self.kind == "vector":
            return list(VECTOR)
        return ["sub-2"] if self.world.m == 2 else ["sub-2", "top-1:confidence"]

    def batches(self, runs: int) -> int:
        """How many batches make up the wanted runs of this cell."""
        return math.ceil(runs * (1.0 if self.world.calibrated else SHARE) / BATCH)

    def batch(self, index: int, runs: int | None = None) -> list[dict[str, Any]]:
        """Simulate data sets; one record of sums for each notion and estimator."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), index])
        rows: dict[tuple[str, str], list[Estimate]] = {}
        for run in range(runs or BATCH):
            h, truth = self.world.draw(self.n, rng)
            y = observed(truth, rng)
            seed = index * 1000 + run
            found = scalar(h, y, self.notions, seed) if self.kind == "scalar" else vector(h, y, self.notions, seed)
            for key, estimate in found.items():
                rows.setdefault(key, []).append(estimate)
        errors = population(self.world, tuple(self.notions)) if self.kind == "scalar" else {}
        return [
            {"cell": self.name, "notion": notion, "estimator": name, "batch": index}
            | record(found, 0.0 if self.world.calibrated else errors.get((notion, name)))
            for (notion, name), found in rows.items()
        ]


def other_cells() -> Iterator[OtherCell]:
    """All cells of these estimators; whole forecasts over four and ten items only."""
    for n in SIZES:
        for m in ITEMS:
            for truth, distortions in DISTORTIONS.items():
                for distortion in distortions:
                    world = World(truth, m, distortion)
                    yield OtherCell(world, "scalar", n)
                    if m > 2:
                        yield OtherCell(world, "vector", n)


def record(found: list[Estimate], error: float | None) -> dict[str, Any]:
    """Sums over data sets; ``error`` is the population's, where it is known."""
    value = np.array([e.value for e in found])
    out: dict[str, Any] = {"runs": len(found), "value": value.sum(), "value2": (value**2).sum(), "error": error}
    tested = [e.p_value for e in found if e.p_value is not None]
    if tested:
        out |= {"tested": len(tested), "rejected": sum(p <= ALPHA for p in tested)}
    debiased = np.array([e.debiased for e in found if e.debiased is not None])
    if len(debiased) == len(found):
        out |= {"debiased": debiased.sum(), "debiased2": (debiased**2).sum()}
    intervals = [e.interval for e in found if e.interval is not None]
    if error is not None and len(intervals) == len(found):
        low, high = np.array(intervals).T
        out |= {
            "above": int((low > error + 1e-12).sum()), "below": int((high < error - 1e-12).sum()),
            "width": (high - low).sum(),
        }  # fmt: skip
    return {k: float(v) if isinstance(v, np.floating) else v for k, v in out.items()}


def scalar(h: Distribution, y: pc.Outcomes, notions: list[str], seed: int) -> dict[tuple[str, str], Estimate]:
    """What an audit prints beside the binned error, and bootstraps of the mean residual."""
    out = {}
    shared: dict[str, Any] = {"weights": np.ones(len(y)), "per_instance": False, "clusters": None}
    for notion in notions:
        family = family_for(Notion.parse(notion), "exchangeable", h, ties_equal=False)
        (filled,) = fill_tables(h, y, [family], bins=BINS, groupings=(), seed=seed, **shared)
        estimates = profile(h, y, family, filled.overall, seed=seed, **shared)
        out |= {(notion, name): estimates[name] for name in ERRORS}
        drawn = gather(h, y, family, np.ones(len(y)), False, None)
        residual = np.bincount(drawn.unit, drawn.y - drawn.p, minlength=drawn.n_units)
        weight = np.bincount(drawn.unit, minlength=drawn.n_units)
        for method in METHODS:
            found = bootstrap(
                np.column_stack([residual, weight]), lambda s: s[..., 0] / s[..., 1], method=method,
                draws=BOOTSTRAP_DRAWS, seed=seed,
            )  # fmt: skip
            assert found.interval is not None
            inside = found.interval[0] <= 0.0 <= found.interval[1]
            out[notion, method] = Estimate(found.value, found.interval, p_value=1.0 if inside else 0.0)
    return out


def vector(h: Distribution, y: pc.Outcomes, notions: list[str], seed: int) -> dict[tuple[str, str], Estimate]:
    """Kernel estimates of an audit with labelled items, and its tests of uniformity."""
    audit = pc.audit(h, y, items="labelled", notions=notions, draws=199, seed=seed)
    out = {}
    for notion in notions:
        r = audit[notion]
        out[notion, "kernel"] = Estimate(r.value, r.interval, debiased=r.debiased, p_value=r.p_value)
    for name in UNIFORMITY:
        out[notions[0], name] = audit[notions[0]].metrics[name]
    return out


@cache
def population(world: World, notions: tuple[str, ...], size: int = 0) -> dict[tuple[str, str], float]:
    """Each scalar error of the population: of many instances, with expectations in place of drawn outcomes."""
    out: dict[tuple[str, str], float] = {}
    h, _ = world.draw(2, np.random.default_rng(0))
    families = [family_for(Notion.parse(k), "exchangeable", h, ties_equal=False) for k in notions]
    size = size or (40_000 if world.m == 10 else 200_000)
    for notion, (p, q) in zip(notions, events(world, families, size, seed=1), strict=True):
        points = Points.of(p, q)
        path, binned = cumulative_error(points), bin_errors(points, BINS)
        found = {
            "smece": smooth_ece(points).value, "ecce": path.range, "ecce_mad": path.mad, "ece_mass": binned.l1,
            "ece_l2": binned.l2, "mce": binned.largest, "mcb_brier": decomposition(points, "brier").mcb,
            "mcb_log": decomposition(points, "log").mcb, **dict.fromkeys(METHODS, float(np.mean(q - p))),
        }  # fmt: skip
        out |= {(notion, name): value for name, value in found.items()}
    return out
