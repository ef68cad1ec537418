"""The populations of the validity study: what is true, what the model says, and the population's binned error.

A world draws instances (forecast and truth) independently. Every truth is a distribution over full rankings:

- ``pl``: Plackett-Luce with standard normal scores plus a fixed offset by item (-1/2 to 1/2);
- ``mallows``: random centres, dispersion uniform in [.2, .8];
- ``categorical``: Dirichlet(1, ..., 1) probabilities of all orders (m <= 4) or of 12 fixed random orders (m = 10).

A calibrated model states the truth. A miscalibrated one multiplies the scores (``pl``), shifts the dispersion
(``mallows``) or raises the probabilities to a power (``categorical``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prefcal import Categorical, Mallows, Outcomes, PlackettLuce
from prefcal.data.ragged import FloatArray
from prefcal.distributions.base import Block, Distribution
from prefcal.estimators.binned import ece
from prefcal.estimators.events import Family, Forecast

#: How the models of each truth are distorted; the first is calibrated.
DISTORTIONS = {
    "pl": (1.0, 0.5, 0.8, 1.25, 2.0),
    "mallows": (0.0, -0.1, 0.1),
    "categorical": (1.0, 0.6, 1.6),
}
_SUPPORT = 12


@dataclass(frozen=True, slots=True)
class World:
    """A truth over ``m`` items and how the model distorts it (see ``DISTORTIONS``)."""

    truth: str
    m: int
    distortion: float

    @property
    def calibrated(self) -> bool:
        """Whether the model states the truth."""
        return self.distortion == DISTORTIONS[self.truth][0]

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Distribution, Distribution]:
        """(model, truth) of ``n`` instances."""
        m, by = self.m, self.distortion
        if self.truth == "pl":
            scores = rng.normal(size=(n, m)) + np.linspace(-0.5, 0.5, m)
            return PlackettLuce(by * scores), PlackettLuce(scores)
        if self.truth == "mallows":
            centres = np.argsort(rng.random((n, m)), axis=1) + 1
            dispersion = rng.uniform(0.2, 0.8, n)
            return Mallows(centres, dispersion + by), Mallows(centres, dispersion)
        if m <= 4:
            orders = np.array(list(itertools.permutations(range(m))))
        else:
            orders = np.array([np.random.default_rng([m, i]).permutation(m) for i in range(_SUPPORT)])
        probs = rng.dirichlet(np.ones(len(orders)), n)
        powered = probs**by
        return Categorical(orders, powered / powered.sum(axis=1, keepdims=True)), Categorical(orders, probs)


def observed(truth: Distribution, rng: np.random.Generator) -> Outcomes:
    """One full ranking of each instance, drawn from the truth."""
    return Outcomes.from_orders(truth.sample(1, rng)[:, 0])


def expectations(
    world: World, families: list[Family], size: int, seed: int
) -> Iterator[tuple[int, Forecast, FloatArray]]:
    """Of ``size`` instances, by blocks: (index of the family, its forecasts, the expected outcomes)."""
    rng = np.random.default_rng([seed, world.m, 77])
    step = min(size, 20_000)
    for _ in range(size // step):
        h, truth = world.draw(step, rng)
        for i, family in enumerate(families):
            for start in range(0, step, 2000):
                part = slice(start, start + 2000)
                forecast = family.forecast(Block(slice(None), h[part], None))
                yield i, forecast, family.expected(forecast, Block(slice(None), truth[part], None))[0]


def population_error(world: World, families: list[Family], bins: int, size: int, seed: int = 0) -> list[float]:
    """The binned error that each family's estimate estimates: over ``size`` instances, expectations for outcomes."""
    sums = [np.zeros((2, f.n_members * bins)) for f in families]
    for i, forecast, chance in expectations(world, families, size, seed):
        cell = np.broadcast_to(families[i].residual_cells(forecast, bins), forecast.p.shape).ravel()
        sums[i][0] += np.bincount(cell, (chance - forecast.p).ravel(), minlength=sums[i].shape[1])
        sums[i][1] += np.bincount(cell, minlength=sums[i].shape[1])
    out = []
    for family, (residual, weight) in zip(families, sums, strict=True):
        owned = np.repeat(weight.reshape(family.n_members, bins).sum(axis=1), bins)
        out.append(float(ece(residual, owned, family.n_members)))
    return out


def events(world: World, families: list[Family], size: int, seed: int) -> list[tuple[FloatArray, FloatArray]]:
    """Forecasts and expected outcomes of all events of ``size`` instances, for each family."""
    found: list[list[tuple[FloatArray, FloatArray]]] = [[] for _ in families]
    for i, forecast, chance in expectations(world, families, size, seed):
        found[i].append((forecast.p.ravel(), np.broadcast_to(chance, forecast.p.shape).ravel()))
    return [(np.concatenate([p for p, _ in f]), np.concatenate([q for _, q in f])) for f in found]
