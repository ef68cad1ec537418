"""Rankings for tests of the rankers: simulated ones, and brute force over all orders."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
from pathlib import Path

import numpy as np


def plackett_luce_ranks(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One ranking (ranks, 1 = best) a row, by the race of Gumbel variables."""
    keys = scores + rng.gumbel(size=scores.shape)
    return (np.argsort(np.argsort(-keys, axis=1), axis=1) + 1).astype(float)


def bucket_orders(n: int, m: int, rng: np.random.Generator, *, missing: float = 0.2) -> np.ndarray:
    """Dense ranks with ties and NaN; every row ranks something."""
    rows = []
    for _ in range(n):
        r = rng.integers(1, m, m).astype(float)
        r[rng.random(m) < missing] = np.nan
        if np.isnan(r).all():
            r[rng.integers(m)] = 1.0
        known = ~np.isnan(r)
        r[known] = np.unique(r[known], return_inverse=True)[1] + 1
        rows.append(r)
    return np.array(rows)


def agreeing_orders(ranks: np.ndarray, items: list[int] | None = None) -> list[tuple[int, ...]]:
    """All orders of ``items`` (default: the ranked ones) that do not contradict the ranks."""
    if items is None:
        items = [int(a) for a in np.flatnonzero(~np.isnan(ranks))]
    return [
        order
        for order in itertools.permutations(items)
        if not any(ranks[a] > ranks[b] for a, b in itertools.combinations(order, 2))
    ]


def plackett_luce_probability(order: tuple[int, ...], scores: np.ndarray) -> float:
    v = np.exp(scores)
    return math.prod(v[a] / sum(v[b] for b in order[i:]) for i, a in enumerate(order))


def load_kebi(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and ranks of a label-ranking set of the data folder."""
    path = folder / "label_ranking" / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = list(csv.reader(file))
    table = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows[1:]])
    label = np.array([column.startswith("L:") for column in rows[0]])
    return table[:, ~label], table[:, label]
