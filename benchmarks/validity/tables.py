"""Sums of batches, what they say, and the page that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from simulation import ALPHA, EXACT_DRAWS, INTERVAL_DRAWS, ITEMS, NORMAL_DRAWS, cells

SUMS = ("value", "value2", "debiased", "debiased2", "null_mean", "below", "above", "width", "reject_normal")
POWER = ("reject_exact", "reject_naive")
Row = dict[str, Any]


def summarise(records: Iterable[Row]) -> list[Row]:
    """One row for each cell and notion of the study: sums over its batches."""
    known = {cell.name: cell for cell in cells()}
    rows: dict[tuple[str, str], Row] = {}
    for record in records:
        cell = known.get(record["cell"])
        if cell is None or record["notion"] not in cell.notions:
            continue
        key = (record["cell"], record["notion"])
        if key not in rows:
            w = cell.world
            rows[key] = {
                "truth": w.truth, "distortion": w.distortion, "calibrated": w.calibrated, "m": w.m,
                "items": cell.items, "n": cell.n, "notion": record["notion"], "error": record["error"], "runs": 0,
            } | dict.fromkeys(SUMS, 0)  # fmt: skip
        row = rows[key]
        row["runs"] += record["runs"]
        for name in SUMS:
            row[name] += record[name]
        for name in POWER:
            if name in record:
                row[name] = row.get(name, 0) + record[name]
    out = [row for _, row in sorted(rows.items())]
    return [{k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in row.items()} for row in out]


def biases(row: Row) -> tuple[float, float, float]:
    """Bias of the plain and of the debiased error, and the standard error of the latter."""
    runs = row["runs"]
    mean = row["debiased"] / runs
    variance = max(row["debiased2"] / runs - mean**2, 0.0)
    return row["value"] / runs - row["error"], mean - row["error"], math.sqrt(variance / max(runs - 1, 1))


def standard_errors(row: Row) -> float:
    """The population's error in standard deviations of the debiased one."""
    spread = biases(row)[2] * math.sqrt(max(row["runs"] - 1, 1))
    return float(row["error"] / spread) if spread > 0 else math.inf


def stated_errors(row: Row) -> float:
    """The population's error in standard errors as intervals state them: their mean width / 3.92."""
    width = row["width"] / row["runs"]
    return float(3.92 * row["error"] / width) if width > 0 else math.inf


def share(count: int, runs: int) -> str:
    """A rate with its binomial standard error, in per cent."""
    rate = count / runs
    return f"{100 * rate:.1f} ± {100 * math.sqrt(rate * (1 - rate) / runs):.1f}"


def pooled(rows: list[Row], name: str) -> str:
    """The mean rate of a count over rows that have it; a dash if none has."""
    having = [r for r in rows if name in r]
    return average([(r[name], r["runs"]) for r in having])


def average(counts: list[tuple[int, int]]) -> str:
    """The mean of rates (count, runs), each cell weighing the same, with its standard error, in per cent."""
    if not counts:
        return "-"
    rates = [count / runs for count, runs in counts]
    variance = sum(rate * (1 - rate) / runs for rate, (_, runs) in zip(rates, counts, strict=True))
    return f"{100 * sum(rates) / len(rates):.1f} ± {100 * math.sqrt(variance) / len(rates):.1f}"


def coverage(rows: list[Row]) -> str:
    """The mean rate at which intervals hold the population's error."""
    return average([(covered(r), r["runs"]) for r in rows])


def covered(row: Row) -> int:
    """Data sets whose interval holds the population's error."""
    return int(row["runs"] - row["below"] - row["above"])


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines]) + "\n"


def groups(rows: list[Row], *names: str) -> Iterable[tuple[tuple[Any, ...], list[Row]]]:
    """Rows with equal values of some fields."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return sorted(found.items())


def beyond(row: Row, count: int, bound: float) -> float:
    """By how many binomial standard deviations a rate lies above a bound (negative: below)."""
    return (count - row["runs"] * bound) / math.sqrt(row["runs"] * bound * (1 - bound))


def outside(rows: list[Row], count: Callable[[Row], int], bound: float, sign: int) -> str:
    """How many rows lie beyond a bound, and how many of them by more than three standard deviations."""
    away = [sign * beyond(row, count(row), bound) for row in rows]
    return f"{sum(a > 0 for a in away)} of {len(rows)} ({sum(a > 3 for a in away)})"


def size_table(rows: list[Row]) -> str:
    """Rejection of calibrated models."""
    lines = []
    for (n, items), part in groups([r for r in rows if r["calibrated"]], "n", "items"):
        lines.append(
            [
                str(n), items, str(len(part)), str(sum(r["runs"] for r in part)), pooled(part, "reject_exact"),
                pooled(part, "reject_normal"),
                outside([r for r in part if "reject_exact" in r], lambda r: r["reject_exact"], 0.065, 1),
                outside([r for r in part if "reject_exact" in r], lambda r: r["reject_exact"], 0.035, -1),
                outside(part, lambda r: r["reject_normal"], 0.075, 1),
            ]
        )  # fmt: skip
    head = ["n", "items", "cells", "runs", "exact", "normal", "exact > 6.5", "exact < 3.5", "normal > 7.5"]
    return table(head, lines)


def coverage_table(rows: list[Row]) -> str:
    """Coverage, near zero and away from it."""
    lines = []
    for (n, items), part in groups(rows, "n", "items"):
        near = [r for r in part if not r["calibrated"] and standard_errors(r) <= 3]
        far = [r for r in part if not r["calibrated"] and standard_errors(r) > 3]
        calibrated = [r for r in part if r["calibrated"]]
        rates = [coverage(some) for some in (calibrated, near, far)]
        low = min(part, key=lambda r: covered(r) / r["runs"])
        lines.append(
            [
                str(n), items, *rates, outside(part, covered, 0.92, -1), outside(far, covered, 0.985, 1),
                f"{share(covered(low), low['runs'])} ({name(low)})",
            ]
        )  # fmt: skip
    head = ["n", "items", "calibrated", "error <= 3 se", "error > 3 se", "cells < 92", "far cells > 98.5", "lowest"]
    return table(head, lines)


def name(row: Row) -> str:
    """A cell in words."""
    return f"{row['truth']} {row['distortion']:g}, m = {row['m']}, {row['notion']}"


def bias_table(rows: list[Row], n: int = 200) -> str:
    """Bias of the plain and the debiased error at ``n`` instances, in thousandths."""
    lines = []
    for (items, notion, truth, distortion), part in groups(
        [r for r in rows if r["n"] == n], "items", "notion", "truth", "distortion"
    ):
        shown = []
        for m in ITEMS:
            found = [biases(r) for r in part if r["m"] == m]
            shown += [f"{1e3 * p:+.1f} → {1e3 * d:+.1f} ± {1e3 * se:.1f}" for p, d, se in found] or ["-"]
        mark = " (calibrated)" if part[0]["calibrated"] else ""
        lines.append([items, notion, f"{truth} {distortion:g}{mark}", *shown])
    return table(["items", "notion", "model", *(f"m = {m}" for m in ITEMS)], lines)


def power_table(rows: list[Row]) -> str:
    """Rejection of miscalibrated models."""
    lines = []
    tried = [r for r in rows if not r["calibrated"] and "reject_exact" in r]
    for (n, items, notion), part in groups(tried, "n", "items", "notion"):
        rates = [pooled(part, f"reject_{test}") for test in ("naive", "exact", "normal")]
        lines.append([str(n), items, notion, str(sum(r["runs"] for r in part)), *rates])
    return table(["n", "items", "notion", "runs", "naive", "exact", "normal"], lines)


def render(rows: list[Row]) -> str:
    """The page of the docs."""
    calibrated = [r for r in rows if r["calibrated"]]
    wrong = [r for r in rows if not r["calibrated"]]
    far = [r for r in wrong if standard_errors(r) > 3]
    stated = [r for r in wrong if stated_errors(r) > 3]
    kept = [(abs(biases(r)[1]), biases(r)[2], abs(biases(r)[0])) for r in wrong if r["n"] == 200]
    null = [(abs(biases(r)[1]), biases(r)[2], biases(r)[0]) for r in calibrated if r["n"] == 200]
    tested = [r for r in wrong if "reject_exact" in r]
    return TEXT.format(
        cells=len(rows), runs=sum(r["runs"] for r in rows), fewest=min(r["runs"] for r in rows),
        most=max(r["runs"] for r in rows), normal_draws=NORMAL_DRAWS,
        exact_draws=f"{EXACT_DRAWS[200]} ({EXACT_DRAWS[5000]} at n = 5,000)",
        interval_draws=INTERVAL_DRAWS, level=100 * ALPHA,
        exact=pooled(calibrated, "reject_exact"), normal=pooled(calibrated, "reject_normal"),
        coverage=coverage(rows),
        far_coverage=coverage(far), far=len(far),
        low=sum(beyond(r, covered(r), 0.92) < 0 for r in rows),
        surely_low=sum(beyond(r, covered(r), 0.92) < -3 for r in rows),
        lowest="; ".join(
            f"{r['items']}, n = {r['n']}, {name(r)}: {share(covered(r), r['runs'])} %"
            for r in sorted(rows, key=lambda r: beyond(r, covered(r), 0.92))[:3]
        ),
        high=sum(beyond(r, covered(r), 0.985) > 0 for r in far),
        surely_high=sum(beyond(r, covered(r), 0.985) > 3 for r in far),
        stated_high=outside(stated, covered, 0.985, 1),
        highest=max((100 * covered(r) / r["runs"] for r in stated), default=math.nan),
        null_ratio=sum(d for d, _, _ in null) / sum(p for _, _, p in null),
        null_worst=max(d / p for d, _, p in null), null_cells=len(null),
        null_within=sum(d <= p / 5 for d, _, p in null), null_likely=sum(d - 2 * se <= p / 5 for d, se, p in null),
        ratio=sum(d for d, _, _ in kept) / sum(p for _, _, p in kept), wrong=len(kept),
        all_ratio=sum(d for d, _, _ in kept + null) / sum(p for _, _, p in kept + null),
        large=sum(p >= 0.01 for _, _, p in kept), large_within=sum(d <= p / 5 for d, _, p in kept if p >= 0.01),
        largest=max(d for d, _, _ in kept),
        within=sum(d <= p / 5 for d, _, p in kept), likely=sum(d - 2 * se <= p / 5 for d, se, p in kept),
        naive_power=pooled(tested, "reject_naive"), exact_power=pooled(tested, "reject_exact"),
        normal_power=pooled([r for r in tested if "reject_exact" in r], "reject_normal"),
        size_table=size_table(rows), coverage_table=coverage_table(rows), bias_table=bias_table(rows),
        power_table=power_table(rows),
    )  # fmt: skip


TEXT = """# Do the tests and intervals keep their promises?

`benchmarks/validity/run.py --table` makes this page from `benchmarks/validity/results.json`. Rates are in per
cent, each with its binomial standard error; where several cells are summed up, each weighs the same.

## What was simulated

Plackett-Luce, Mallows and categorical truths over 2, 3, 4 and 10 items; 50 to 5,000 instances with one full
ranking each. The model states the truth (calibrated) or distorts it: Plackett-Luce scores times 0.5, 0.8, 1.25
or 2; Mallows dispersions shifted by -0.1 or 0.1; categorical probabilities to the power 0.6 or 1.6. Items are
exchangeable, or labelled (m = 3 and 10). {cells} cells (a population, n, and a notion) with
{fewest} to {most} data sets each, {runs} in all: 1,000, and 500 for miscalibrated models at n = 5,000; cells that
then came out beyond a bound below were given more, all of which count. The population's error has expectations in
place of drawn outcomes, over 60,000 (m = 10) or 200,000 instances; a calibrated model's is 0.
Since the debiased error was last changed, its sums were computed again on the same data sets, but for n = 5,000:
there its spread, which only says which cells are far from zero (all of them), is that of the former one.

Tests are at {level:g} %. *exact*: outcomes redrawn from the forecasts, {exact_draws} draws. *normal*: the
normal law of residual sums, {normal_draws} draws. *naive*: the plain error against its 95 % quantile over all
data sets redrawn from the model, which a user does not know. Intervals had {interval_draws} draws (an audit has
1,000).

## What came out

- **Size.** Calibrated models are rejected in {exact} % of data sets by the exact test, in {normal} % by the
  normal one.
- **Coverage.** The intervals hold the population's error in {coverage} % of all data sets, and in
  {far_coverage} % where it exceeds three standard errors. {low} of {cells} cells came out below 92 %,
  {surely_low} of them by more than three binomial standard deviations; {high} of {far} far cells above 98.5 %,
  {surely_high} of them by more than three (labelled items, about as many bins as instances: the debiased error varies
  less there than the interval can use). Counted in standard errors as the intervals state them (width / 3.92),
  {stated_high} far cells lie above 98.5 %, the highest at {highest:.1f} %. The lowest, by binomial deviations from
  92 %: {lowest}.
- **Bias of calibrated models, n = 200.** The debiased error keeps {null_ratio:.2f} of the plain error's bias
  ({null_worst:.2f} in the worst of {null_cells} cells). It is at most a fifth in {null_within} cells, in
  {null_likely} if two standard errors are granted.
- **Bias of miscalibrated models, n = 200.** Over all cells the debiased error has {ratio:.2f} of the plain error's
  absolute bias; it is at most a fifth in {within} of {wrong} cells, in {likely} if two standard errors are
  granted, and in {large_within} of the {large} cells where the plain error is biased by a hundredth or more
  (elsewhere the ratio says little). The largest bias left is {largest:.3f}. These models are off by a scale, so
  their gaps are smooth. Gaps of about one standard error without any pattern come out up to a third of a standard
  error too low (tests/test_binned.py).
- **Bias of all models, n = 200.** {all_ratio:.2f} of the plain error's bias, calibrated and miscalibrated cells
  together.
- **Power.** Miscalibrated models (n = 200) are rejected in {naive_power} % of data sets by the naive test,
  in {exact_power} % by the exact one and in {normal_power} % by the normal one.

## Size: rejection of calibrated models

Last three columns: cells beyond the bound; in brackets, by more than three binomial standard deviations.

{size_table}
## Coverage of the 95 % interval

*se* is the standard deviation of the debiased error. Near zero every honest interval reaches zero, and covers
more.

{coverage_table}
## Bias at n = 200, in thousandths

Plain error → debiased error ± standard error.

{bias_table}
## Power: rejection of miscalibrated models

All models of a notion together.

{power_table}"""
