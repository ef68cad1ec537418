"""Instances with fields, for tests of groups."""

from __future__ import annotations

import numpy as np

import prefcal as pc

QUICK = {"splits": 10, "permutations": 99, "items": "exchangeable"}


def sample(seed, n=600, m=4, factor=1.0):
    """Forecasts whose scores are ``factor`` (n values or one) times the true ones."""
    rng = np.random.default_rng(seed)
    truth = pc.PlackettLuce(rng.normal(size=(n, m)))
    y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    return pc.PlackettLuce(truth.scores.dense() * np.broadcast_to(factor, n)[:, None]), y
