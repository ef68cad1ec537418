"""The part of the page on the estimators beside the binned error."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from others import BOOTSTRAP_DRAWS, METHODS, SIZES, UNIFORMITY, other_cells
from tables import Row, average, biases, coverage, covered, groups, outside, share, standard_errors, table

_SUMS = ("value", "value2", "debiased", "debiased2", "tested", "rejected", "above", "below", "width")


def summarise_others(records: Iterable[Row]) -> list[Row]:
    """One row for each cell, notion and estimator: sums over its batches."""
    known = {cell.name: cell for cell in other_cells()}
    rows: dict[tuple[str, str, str], Row] = {}
    for record in records:
        cell = known.get(record["cell"])
        if cell is None:
            continue
        w = cell.world
        row = rows.setdefault(
            (cell.name, record["notion"], record["estimator"]),
            {
                "kind": cell.kind, "truth": w.truth, "distortion": w.distortion, "calibrated": w.calibrated, "m": w.m,
                "n": cell.n, "notion": record["notion"], "estimator": record["estimator"], "error": record["error"],
                "runs": 0,
            } | {name: 0 for name in _SUMS if name in record},
        )  # fmt: skip
        row["runs"] += record["runs"]
        for name in _SUMS:
            if name in record:
                row[name] += record[name]
    out = [row for _, row in sorted(rows.items())]
    return [{k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in row.items()} for row in out]


def rejected(rows: list[Row]) -> str:
    """The mean rate of rejection; a dash if nothing was tested."""
    return average([(r["rejected"], r["tested"]) for r in rows if r.get("tested")])


def _judged(rows: list[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows with intervals: of calibrated models, of small errors, and of errors above three standard errors."""
    having = [r for r in rows if "above" in r]
    wrong = [r for r in having if not r["calibrated"]]
    far = [r for r in wrong if _distance(r) > 3]
    return [r for r in having if r["calibrated"]], [r for r in wrong if _distance(r) <= 3], far


def _distance(row: Row) -> float:
    """The population's error in standard deviations of its (debiased) estimate."""
    if "debiased" in row:
        return standard_errors(row)
    runs = row["runs"]
    spread = math.sqrt(max(row["value2"] / runs - (row["value"] / runs) ** 2, 0.0))
    return abs(row["error"]) / spread if spread > 0 else math.inf


def _bias(rows: list[Row]) -> str:
    """Mean absolute bias of the plain and of the debiased error over cells, in thousandths."""
    found = [biases(r) for r in rows if "debiased" in r]
    if not found:
        return "-"
    return " → ".join(f"{1e3 * sum(abs(f[i]) for f in found) / len(found):.1f}" for i in (0, 1))


def scalar_table(rows: list[Row], n: int) -> str:
    """Each scalar estimator at ``n`` instances."""
    lines = []
    for (name,), part in groups([r for r in rows if r["n"] == n and r["kind"] == "scalar"], "estimator"):
        calibrated, near, far = _judged(part)
        low = min(calibrated + near + far, key=lambda r: covered(r) / r["runs"])
        lines.append(
            [
                f"`{name}`", rejected(calibrated), outside(calibrated, lambda r: r["rejected"], 0.075, 1),
                coverage(calibrated), coverage(near), coverage(far),
                outside(calibrated + near + far, covered, 0.92, -1),
                share(covered(low), low["runs"]), outside(far, covered, 0.985, 1), _bias(calibrated),
                _bias(near + far), rejected(near + far),
            ]
        )  # fmt: skip
    head = [
        "estimator", "size", "cells > 7.5", "covers: calibrated", "error <= 3 se", "error > 3 se", "cells < 92",
        "lowest", "far cells > 98.5", "bias: calibrated", "miscalibrated", "power",
    ]  # fmt: skip
    return table(head, lines)


def vector_table(rows: list[Row]) -> str:
    """Tests of whole forecasts."""
    lines = []
    for (notion, name, m, n), part in groups(
        [r for r in rows if r["kind"] == "vector"], "notion", "estimator", "m", "n"
    ):
        calibrated, wrong = [r for r in part if r["calibrated"]], [r for r in part if not r["calibrated"]]
        runs, mean = sum(r["runs"] for r in calibrated), "-"
        if name not in UNIFORMITY and runs:
            value = sum(r["value"] for r in calibrated) / runs
            spread = math.sqrt(max(sum(r["value2"] for r in calibrated) / runs - value**2, 0.0) / runs)
            mean = f"{1e3 * value:+.3f} ± {1e3 * spread:.3f}"
        lines.append([notion, f"`{name}`", str(m), str(n), rejected(calibrated), mean, rejected(wrong)])
    return table(["notion", "test", "m", "n", "size", "mean (thousandths)", "power"], lines)


def render_others(rows: list[Row]) -> str:
    """The section of the page."""
    if not rows:
        return ""
    counts: dict[tuple[Any, ...], int] = {}
    for r in rows:
        key = (r["truth"], r["distortion"], r["m"], r["n"], r["kind"])
        counts[key] = max(counts.get(key, 0), r["runs"])
    scalar = [r for r in rows if r["kind"] == "scalar" and r["estimator"] not in METHODS]
    boots = [r for r in rows if r["estimator"] in METHODS]
    kernels = [r for r in rows if r["kind"] == "vector"]
    calibrated, near, far = _judged(scalar)
    everything = calibrated + near + far
    return TEXT.format(
        cells=len(counts), runs=sum(counts.values()), fewest=min(counts.values()), most=max(counts.values()),
        draws=BOOTSTRAP_DRAWS,
        scalar_size=rejected([r for r in scalar if r["calibrated"]]),
        boot_size=rejected([r for r in boots if r["calibrated"]]),
        vector_size=rejected([r for r in kernels if r["calibrated"]]),
        coverage=coverage(everything), far_coverage=coverage(far), low=outside(everything, covered, 0.92, -1),
        high=outside(far, covered, 0.985, 1),
        scalar_tables="\n".join(f"n = {n}:\n\n{scalar_table(rows, n)}" for n in SIZES),
        vector_table=vector_table(rows),
    )  # fmt: skip


TEXT = """
## The estimators beside the binned error

{cells} further cells (a population, n, and a kind of estimator; exchangeable pairs and top choices over 2, 4 and 10
items, and whole forecasts of labelled items over 4 and 10), {fewest} to {most} data sets each, {runs} in all. `bca`
and `studentised` are cluster bootstraps ({draws} draws) of the mean residual, and reject where the interval leaves 0
out.

- Size: {scalar_size} % of calibrated models are rejected by the scalar estimators' tests, {boot_size} % by the
  bootstraps, {vector_size} % by the tests of whole forecasts.
- The scalar estimators' intervals hold the population's error in {coverage} % of data sets, in {far_coverage} % where
  it exceeds three standard errors; below 92 % in {low} cells (in brackets: by more than three binomial standard
  deviations), above 98.5 % in {high} far cells.

*Bias* is the mean over cells of the absolute bias, plain → debiased, in thousandths. (Smooth and cumulative errors of
miscalibrated models have little bias to begin with; what is taken off small ones is then more than that.) *Power* is
over all miscalibrated models.

{scalar_tables}
Tests of whole forecasts, labelled items. The mean of a kernel estimate of calibrated models should be 0.

{vector_table}"""
