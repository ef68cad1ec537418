"""Fitting a temperature on a million pairs against bare numpy passes over the same pairs.

A bare pass is one evaluation of the log likelihood by plain numpy, scores and ranks already in memory: the margin of
each pair, signed by which item is better, and the mean of log(1 + exp(-margin)). Prints the ratio of the whole
``prefcal.recalibrate(h, y, "temperature")`` to it (checks, fit, interval, unpenalised slope, log loss before and
after), medians of several runs that alternate. The target is a ratio of at most 30. The same for other
maps and for complete rankings of ten items, for information.

Run: python benchmarks/bench_recalibration.py [--pairs 1000000] [--runs 7]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import prefcal as pc


def drawn(n: int, m: int, seed: int = 0) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """Forecasts twice as bold as the truth, and full rankings."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m)) * 1.5
    order = np.argsort(-(scores + rng.gumbel(size=scores.shape)), axis=1)
    return pc.PlackettLuce(2.0 * scores), pc.Outcomes.from_ranks(np.argsort(order, axis=1) + 1.0)


def bare_pass(scores: np.ndarray, ranks: np.ndarray) -> float:
    """Mean log likelihood by plain numpy: what anyone would write first (stage by stage for longer lists)."""
    if scores.shape[1] == 2:
        margin = np.where(ranks[:, 0] < ranks[:, 1], 1.0, -1.0) * (scores[:, 0] - scores[:, 1])
        return float(-np.logaddexp(0.0, -margin).mean())
    ordered = np.take_along_axis(scores, np.argsort(ranks, axis=1), axis=1)
    total = 0.0
    for t in range(scores.shape[1] - 1):
        rest = ordered[:, t:]
        top = rest.max(axis=1)
        total += float((rest[:, 0] - top - np.log(np.exp(rest - top[:, None]).sum(axis=1))).mean())
    return total


def compare(work: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each, alternating."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(runs):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    for n, m, methods in (
        (options.pairs, 2, ("temperature", "context")),
        (options.pairs // 20, 10, ("temperature", "context", "stage-wise")),
    ):
        h, y = drawn(n, m)
        scores, ranks = h.scores.dense(), y.dense()
        fit = pc.recalibrate(h, y, "temperature")
        assert abs(fit.record.before + bare_pass(scores, ranks)) < 1e-9
        work: dict[str, Callable[[], object]] = {"bare pass": lambda s=scores, r=ranks: bare_pass(s, r)}
        for method in methods:
            work[method] = lambda method=method, h=h, y=y: pc.recalibrate(h, y, method)
        seconds = compare(work, options.runs)
        bare = seconds.pop("bare pass")
        told = ", ".join(f"{name} {s:.3f} s (ratio {s / bare:.1f})" for name, s in seconds.items())
        print(f"{n} rankings of {m}: bare pass {bare:.4f} s, {told}; medians of {options.runs}")


if __name__ == "__main__":
    main()
