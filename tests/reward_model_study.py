"""A small made-up reward-model study, for its tests."""

from __future__ import annotations

import numpy as np

import prefcal as pc
from prefcal.data.source import InputInfo
from prefcal.studies.reward_models import sources
from prefcal.studies.reward_models.sources import Scored, Table


def utilities(n: int, m: int, seed: int) -> np.ndarray:
    """True log-utilities whose best item, drawn from the Plackett-Luce model, is moved to column 0."""
    rng = np.random.default_rng(seed)
    u = rng.normal(scale=1.5, size=(n, m))
    best = pc.PlackettLuce(u).sample(1, rng)[:, 0, 0]
    rows = np.arange(n)
    first = u[rows, best].copy()
    u[rows, best] = u[:, 0]
    u[:, 0] = first
    return u


def scored(benchmark: str, model: str, scores, category=None, ids=None) -> Scored:
    n, m = scores.shape
    info = InputInfo("made-up", "0" * 64, "wide", n, (m, m), 0, "best", "exchangeable", model)
    y = pc.Outcomes.from_best(np.zeros(n, dtype=int), n_items=m)
    keys = np.arange(n) if ids is None else np.asarray(ids)
    return Scored(benchmark, model, pc.PlackettLuce(scores), y, category, keys, info)


def family(benchmark: str, n: int, m: int, *, category=None, seed: int = 0, bad: str = "c") -> list[Scored]:
    """Three models: calibrated, over-confident, and noise."""
    u = utilities(n, m, seed)
    noise = np.random.default_rng(seed + 1).normal(size=(n, m))
    return [scored(benchmark, k, s, category) for k, s in (("org/a", u), ("org/b", 3 * u), (bad, noise))]


def made_up_table(n: int = 12, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    error = rng.uniform(0.1, 0.6, n)
    scores = {name: 1 - error + rng.normal(scale=0.05, size=n) for name in sources.CATEGORIES.values()}
    published = error + rng.normal(scale=0.1, size=n)
    return Table(tuple(f"m{i}" for i in range(n)), published, error, scores, np.full(n, 100))
