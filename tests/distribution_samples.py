"""One distribution of every kind, for tests."""

from __future__ import annotations

import numpy as np

import prefcal as pc
from prefcal.distributions.base import Distribution
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.stacked import Stacked
from prefcal.views import View

N, M = 5, 4


def some_pair_probs(n: int = N, m: int = M) -> np.ndarray:
    upper = np.triu(np.random.default_rng(8).uniform(0.05, 0.95, size=(n, m, m)), 1)
    return upper + np.tril(1 - upper.transpose(0, 2, 1), -1)


def build(name: str) -> Distribution:
    rng = np.random.default_rng(11)
    match name:
        case "plackett-luce":
            return pc.PlackettLuce(rng.normal(size=(N, M)))
        case "mallows":
            return pc.Mallows(np.argsort(rng.random((N, M)), axis=1) + 1, rng.uniform(0.1, 0.9, size=N))
        case "babington-smith":
            return pc.BabingtonSmith(some_pair_probs())
        case "categorical":
            return pc.Categorical(View("full").outcomes(M)[0][::2], rng.dirichlet(np.ones(12), size=N))
        case "samples":
            return pc.Samples(rng.permuted(np.tile(np.arange(M), (N, 30, 1)), axis=2))
        case "mixture":
            return Mixture([build("plackett-luce"), build("mallows")], [0.3, 0.7])
        case "stacked":
            half = np.arange(N) % 2 == 0
            return Stacked(
                [(np.flatnonzero(half), build("mixture")[half]), (np.flatnonzero(~half), build("mallows")[~half])]
            )
        case _:
            return pc.Pairwise(some_pair_probs())
