"""Forecasts of every kind and what the maps need beside them, made up for tests."""

from __future__ import annotations

import itertools

import numpy as np

import prefcal as pc
from prefcal.recalibration import METHODS

N = 60
#: Maps of Plackett-Luce scores.
OF_SCORES = [
    m for m, cls in METHODS.items() if "PlackettLuce" in cls.accepts and m not in ("none", "ties") and cls.in_auto
] + ["auto"]


def forecasts(kind: str, m: int = 3, seed: int = 0) -> pc.Distribution:
    """Random forecasts of a kind, far from Plackett-Luce where it is not that."""
    rng = np.random.default_rng(seed)
    scores = 2 * rng.normal(size=(N, m))
    odds = 3 * rng.normal(size=(N, m, m))
    probs = 1 / (1 + np.exp(odds.transpose(0, 2, 1) - odds))
    if kind == "Categorical":
        orders = np.array(list(itertools.permutations(range(m))))
        return pc.Categorical(orders, rng.dirichlet(np.full(len(orders), 0.5), size=N))
    if kind in ("Pairwise", "BabingtonSmith"):
        return getattr(pc, kind)(probs)
    if kind == "Mallows":
        return pc.Mallows(np.argsort(scores, axis=1).argsort(axis=1) + 1, rng.uniform(0.1, 0.9, N))
    if kind == "Samples":
        return pc.Samples(pc.PlackettLuce(scores).sample(12, rng))
    return pc.PlackettLuce(scores)


def noise(m: int = 3, seed: int = 1) -> pc.Outcomes:
    """Outcomes that have nothing to do with :func:`forecasts`."""
    return pc.Outcomes.from_ratings(np.random.default_rng(seed).normal(size=(N, m)))


def some_pairs(m: int, seed: int = 0, n: int = 120) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    """Scores of m candidates, and one comparison of two of them an instance."""
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(rng.normal(size=(n, m)))
    order = h.sample(1, rng)[:, 0]
    first, second = np.sort(np.argsort(rng.random((n, m)), axis=1)[:, :2], axis=1).T
    rows = np.arange(n)
    return h, pc.Outcomes.from_pairs(np.column_stack([rows, order[rows, first], order[rows, second]]), n_items=m)


def stated_pairs(h: pc.Distribution) -> pc.Pairwise:
    """The probabilities that forecasts give to pairs, and nothing else of them."""
    first, second = np.triu_indices(h.n_items, 1)
    p = np.full((len(h), h.n_items, h.n_items), np.nan)
    p[:, first, second] = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))
    return pc.Pairwise(p)


def map_inputs(method: str, n: int, m: int) -> dict:
    """What a map needs beside n forecasts of m items and their outcomes."""
    rng = np.random.default_rng(5)
    return {
        "group-wise": {"groups": [f"g{i % 3}" for i in range(n)]},
        "context": {"features": {"length": rng.normal(size=n)}},
        "offset": {"item_features": {"length": rng.normal(size=(n, m))}},
    }.get(method, {})
