"""All rankwise sub-k and top-k errors, k = 2..7, of 462 Plackett-Luce forecasts of 7 items, against enumeration.

The other side enumerates all 5,040 orders for each tuple (or prefix): it finds those that agree with the tuple, adds
up their probabilities, and bins the sums. The probabilities of the orders were made before and are not timed. The
cost is timed on a seeded random sample of tuples of each view and scaled to their number. Three versions:

- ``dictionary``: the forecast is a mapping from order to probabilities, turned into arrays for each tuple, as in the
  published study's code.
- ``loop``: visits the orders one by one in Python and adds rows of probabilities.
- ``arrays``: places and probabilities are float32 arrays, made once; one comparison and one product for each tuple.
  The best that enumeration can do.

All give the same errors as prefcal, which is checked on every timed tuple. The target is a ratio of 1,000 to the way
of the published study (``dictionary``).

Run: python benchmarks/bench_rankwise.py [--instances 462] [--items 7] [--sample 12] [--runs 5]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np

import prefcal as pc
from prefcal.estimators.rankwise import rankwise_errors

BINS = 10


def binary_ece(p: np.ndarray, y: np.ndarray) -> float:
    cell = np.minimum((p * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(cell, y - p, minlength=BINS)).sum() / len(p))


def by_dictionary(
    forecast: dict[tuple[int, ...], np.ndarray], ranks: np.ndarray, items: list[int], top: bool
) -> float:
    orders = np.array(list(forecast))
    probs = np.stack([forecast[order] for order in forecast])
    return by_arrays(np.argsort(orders, axis=1), probs, ranks, items, top)


def by_loop(forecast: dict[tuple[int, ...], np.ndarray], ranks: np.ndarray, items: list[int], top: bool) -> float:
    k, wanted = len(items), tuple(items)
    p = np.zeros(len(ranks))
    for order, row in forecast.items():
        if top:
            agrees = order[:k] == wanted
        else:
            places = [order.index(item) for item in items]
            agrees = places == sorted(places)
        if agrees:
            p += row
    return binary_ece(p, _happened(ranks, items, top))


def by_arrays(places: np.ndarray, probs: np.ndarray, ranks: np.ndarray, items: list[int], top: bool) -> float:
    own = places[:, items]
    mask = (own == np.arange(len(items))).all(axis=1) if top else (np.diff(own, axis=1) > 0).all(axis=1)
    return binary_ece(mask.astype(probs.dtype) @ probs, _happened(ranks, items, top))


def _happened(ranks: np.ndarray, items: list[int], top: bool) -> np.ndarray:
    own = ranks[:, items]
    if top:
        return (own == np.arange(1, len(items) + 1)).all(axis=1).astype(float)
    return (np.diff(own, axis=1) > 0).all(axis=1).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=462)
    parser.add_argument("--items", type=int, default=7)
    parser.add_argument("--sample", type=int, default=12)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    m = options.items
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(options.instances, m)))
    ranks = np.argsort(h.sample(1, rng)[:, 0], axis=1) + 1
    y = pc.Outcomes.from_ranks(ranks)
    views = [f"{kind}-{k}" for kind in ("sub", "top") for k in range(2, m + 1)]

    times = []
    for _ in range(options.runs):
        start = time.perf_counter()
        found = {view: rankwise_errors(h, y, view, BINS) for view in views}
        times.append(time.perf_counter() - start)
    ours = statistics.median(times)

    orders = list(itertools.permutations(range(m)))
    probs = h.marginal("full").probs[:, 0].T.astype(np.float32)
    forecast = dict(zip(orders, probs.astype(np.float64), strict=True))
    places = np.argsort(np.array(orders), axis=1)
    ways: dict[str, Callable[[list[int], bool], float]] = {
        "dictionary": lambda items, top: by_dictionary(forecast, ranks, items, top),
        "loop": lambda items, top: by_loop(forecast, ranks, items, top),
        "arrays": lambda items, top: by_arrays(places, probs, ranks, items, top),
    }
    tuples = sum(len(result.errors) for result in found.values())
    print(f"{options.instances} instances, {m} items, {tuples} tuples and prefixes in {len(views)} views")
    print(f"prefcal: {ours:.3f} s (median of {options.runs}; {min(times):.3f} to {max(times):.3f})")
    for name, error in ways.items():
        total, timed = 0.0, 0
        for view, result in found.items():
            sample = rng.choice(len(result.errors), size=min(options.sample, len(result.errors)), replace=False)
            start = time.perf_counter()
            values = [error(result.members[at].tolist(), view.startswith("top")) for at in sample]
            total += (time.perf_counter() - start) / len(sample) * len(result.errors)
            timed += len(sample)
            assert np.allclose(values, result.errors[sample], atol=1e-3), (name, view)
        print(f"{name}: {total:.0f} s, extrapolated from {timed} tuples; ratio {total / ours:.0f}")


if __name__ == "__main__":
    main()
