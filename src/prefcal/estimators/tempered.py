"""Outcomes at another temperature than the forecasts': what residual sums they leave in the bins of a notion.

If the truth is the forecast at another temperature, the expected residual of every event is known from the forecasts,
and the covariance of the residual sums follows from a few simulated outcomes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.errors import UsageError
from prefcal.estimators.binned import ece
from prefcal.estimators.cells import Columns
from prefcal.estimators.events import Family, Pairs, TopChoice
from prefcal.estimators.null import OutcomeSimulator
from prefcal.estimators.scalar import BlockEvents, events_by_block

#: Residual cells (members x bins) of a law: their covariance is a matrix.
CELL_LIMIT = 1_000
#: Residual cells above which covariances are made from fewer outcomes: each entry counts for less there.
MANY_CELLS = 30
_OUTCOMES, _FEWER_OUTCOMES = 6_000, 1_000  # simulated outcomes behind a covariance
_MOVING_DRAWS = 128  # outcomes of each instance where only they tell which events are known ...
_MOVING_BUDGET = 1 << 20  # ... as long as events x draws stay below this
_BLOCK_ELEMENTS = 1 << 13


@dataclass(frozen=True, slots=True)
class ResidualLaw:
    """The residual sums of G members x B bins when the truth is the forecast at some temperature.

    Parameters
    ----------
    n
        Instances that the sums run over.
    mean
        (G * B,) expected sum of w (y - p) in each cell.
    second
        (G * B, G * B) sum over instances of E[r r'], r = the instance's residuals by cell.
    conditional
        (G * B, G * B) the same of the covariance given the forecasts.
    weights
        (G * B,) weight of the member that each cell belongs to.
    members
        Number of members G.
    noise
        (G * B,) variance of ``mean`` as an estimate; 0 where it is exact.
    told, stated
        (G * B,) sums of w p (1 - p) and w^2 p (1 - p) of each cell: what the audit's null law takes.
    single
        (G * B,) expected sums of w^2 (y - p)^2 over events.
    """

    n: int
    mean: FloatArray
    second: FloatArray
    conditional: FloatArray
    weights: FloatArray
    members: int
    noise: FloatArray
    told: FloatArray
    stated: FloatArray
    single: FloatArray

    @property
    def ece(self) -> float:
        """The binned error that an unlimited number of such instances would show."""
        return float(ece(self.mean, self.weights, self.members))

    def widened(self, factor: FloatArray) -> ResidualLaw:
        """The law with (G * B,) ``factor`` times the standard deviations given the forecasts."""
        conditional = self.conditional * np.outer(factor, factor)
        return replace(self, conditional=conditional, second=self.second - self.conditional + conditional)


class TemperedTruth:
    """Forecasts, and outcomes of the same shape as the observed ones drawn from them at other temperatures.

    Parameters
    ----------
    h, y
        Forecasts that have a temperature, and outcomes. Of the outcomes only what they let one see is used: which
        items are ranked, and into buckets of which sizes.
    family
        Events of a scalar notion.
    bins
        Equal-width bins of the error.
    weights, per_instance
        As in :func:`prefcal.estimators.inputs.instance_weights`; default: weight 1 for each event.

    Raises
    ------
    UsageError
        For forecasts without a temperature, more than ``CELL_LIMIT`` cells, and forecasts that state no
        rankings where an instance has several events (how they depend on each other is not known).

    Notes
    -----
    A truth at temperature t is ``h.scaled(1 / t)``: t > 1 means that the forecast is over-confident.
    """

    def __init__(
        self,
        h: Distribution,
        y: Outcomes,
        family: Family,
        *,
        bins: int,
        weights: FloatArray | None = None,
        per_instance: bool = False,
    ) -> None:
        self.family, self.bins, self.size = family, bins, bins * family.n_members
        if not h.tempered:
            raise UsageError(f"{type(h).__name__} forecasts have no temperature that could be wrong")
        if self.size > CELL_LIMIT:
            raise UsageError(f"{self.size} residual cells (members x bins) are more than {CELL_LIMIT}")
        weights = np.ones(len(y)) if weights is None else weights
        self.parts: list[BlockEvents] = []
        self.n, self.n_events, self.weights = 0, 0, np.zeros(self.size)
        self.told, self.stated = np.zeros((2, self.size))
        for part in events_by_block(
            h, y, family, weights=weights, per_instance=per_instance, bins=bins, elements=_BLOCK_ELEMENTS
        ):
            known = part.known.sum(axis=1)
            if not h.has_rankings and (known > 1).any():
                raise UsageError(
                    f"{type(h).__name__} forecasts do not say how the events of an instance depend on each other"
                )
            self.n, self.n_events = self.n + int((known > 0).sum()), self.n_events + int(known.sum())
            w = np.broadcast_to(part.weight, part.known.shape)[part.known]
            columns = Columns.of(part.forecast.p[part.known], part.happened[part.known], w)
            cell = part.cell[part.known]
            self.told += np.bincount(cell, columns.wp - columns.wpp, minlength=self.size)
            self.stated += np.bincount(cell, columns.wwv, minlength=self.size)
            by_cell = np.bincount(cell, w, minlength=self.size)
            self.weights += np.repeat(by_cell.reshape(-1, bins).sum(axis=1), bins)
            self.parts.append(part)

    def law(self, temperature: float, rng: np.random.Generator) -> ResidualLaw:
        """The law of the residual sums when the forecasts should have had ``temperature``.

        Expectations and the variances of single events are exact; so they are where only the best item is known, and
        the outcome chooses which pairs are events. For other bucket orders they are the mean of a few outcomes of
        each instance. Covariances are always simulated.
        """
        (mean, noise, single), (second, conditional) = np.zeros((3, self.size)), np.zeros((2, self.size, self.size))
        outcomes = _OUTCOMES if self.size <= MANY_CELLS else _FEWER_OUTCOMES
        draws = max(1, math.ceil(outcomes / max(self.n, 1)))
        potential = sum(part.known.size for part in self.parts)
        moving = min(max(_MOVING_BUDGET // max(potential, 1), 24), _MOVING_DRAWS)
        for part in self.parts:
            truth = replace(part.block, dist=part.block.dist.scaled(1.0 / temperature))
            weight = part.weight[:, :1]
            simulator = OutcomeSimulator(truth, part.ranks)
            told = self._expected(part, truth, simulator)
            if told is None:
                d = max(draws, moving)
                residual = np.nan_to_num(self.family.observe(part.forecast, simulator.draw(d, rng)) - part.forecast.p)
                residual *= weight
                sums = self._by_instance(residual, part.cell)
                expected = sums.mean(axis=0)
                inside = (sums - expected).reshape(-1, self.size)
                spread = inside.T @ inside / (d - 1)
                noise += np.diag(spread) / d
                single += self._sums(part.cell, (residual**2).mean(axis=0))
                second += sums.reshape(-1, self.size).T @ sums.reshape(-1, self.size) / d
            else:
                chance, y, square = told
                p = part.forecast.p
                gap = np.nan_to_num(y - p) * chance * weight
                squared = np.nan_to_num(square - 2.0 * p * y + p * p) * chance * weight**2
                expected = self._by_instance(gap[None], part.cell)[0]
                spread = np.diag(self._sums(part.cell, squared - gap**2))
                if part.known.shape[1] > 1 and truth.dist.has_rankings:
                    seen = self.family.observe(part.forecast, simulator.draw(draws, rng)) - p
                    residual = np.nan_to_num(seen) * weight - gap
                    inside = self._by_instance(residual, part.cell).reshape(-1, self.size)
                    spread += inside.T @ inside / draws  # of which the exact variances replace the events' own
                    spread -= np.diag(self._sums(part.cell, (residual**2).mean(axis=0)))
                single += self._sums(part.cell, squared)
                second += spread + expected.T @ expected
            conditional += spread
            mean += expected.sum(axis=0)
        known = (self.weights, self.family.n_members, noise, self.told, self.stated, single)
        return ResidualLaw(self.n, mean, second, conditional, *known)

    def _expected(
        self, part: BlockEvents, truth: Block, simulator: OutcomeSimulator
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """(b, e) chance that an event is known, and its expected y and y^2 if it is; None: no closed form."""
        family, guess = self.family, part.forecast.guess
        if simulator.strict or isinstance(family, TopChoice):  # what is known does not depend on what happens
            return (part.known.astype(np.float64), *family.expected(part.forecast, truth))
        if simulator.best_only and isinstance(family, Pairs) and math.isnan(family.tie_value):
            first, second = np.triu_indices(truth.dist.n_items, 1)
            best = np.exp(truth.dist.top_log_probs())
            either = best[:, first] + best[:, second]
            share = np.divide(best[:, first], either, out=np.full(either.shape, 0.5), where=either > 0)
            y = np.where(guess > 0, share, 1.0 - share)
            return either * (part.weight[:, :1] > 0), np.where(guess == 0, 0.5, y), np.where(guess == 0, 0.25, y)
        return None

    def own_squares(self) -> FloatArray:
        """(G * B,) sums over instances of the squares of their observed residual sums."""
        out = np.zeros(self.size)
        for part in self.parts:
            residual = np.nan_to_num(part.happened - part.forecast.p) * part.weight[:, :1]
            out += (self._by_instance(residual[None], part.cell)[0] ** 2).sum(axis=0)
        return out

    def _sums(self, cell: IntArray, values: FloatArray) -> FloatArray:
        """(G * B,) sums by cell of (b, e) values."""
        sums: FloatArray = np.bincount(cell.ravel(), values.ravel(), minlength=self.size).astype(np.float64)
        return sums

    def _by_instance(self, values: FloatArray, cell: IntArray) -> FloatArray:
        """(d, b, G * B) sums by cell of (d, b, e) values."""
        d, b, _ = values.shape
        place = (np.arange(d * b).reshape(d, b, 1) * self.size + cell).ravel()
        sums: FloatArray = np.bincount(place, values.ravel(), minlength=d * b * self.size).astype(np.float64)
        return sums.reshape(d, b, self.size)
