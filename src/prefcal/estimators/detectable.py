"""What a calibration test of so many instances can see: power at the level of bins, without simulating whole audits.

If the truth is the forecast at another temperature, the expected residual of every event is known from the forecasts,
and the covariance of the residual sums follows from a few simulated outcomes. The residual sums of the bins are close
to normal, so the audit's test (its two null laws of the binned error, and a rejection by both) can be repeated
thousands of times on B numbers instead of n instances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Block
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import UsageError
from prefcal.estimators.binned import Z95, ece
from prefcal.estimators.cells import COVARIANCE_LIMIT, CellTable
from prefcal.estimators.events import Family, Forecast, Pairs, Rankwise, TopChoice
from prefcal.estimators.inputs import aligned_ranks
from prefcal.estimators.noise import null_scale
from prefcal.estimators.null import OutcomeSimulator
from prefcal.estimators.scalar import look
from prefcal.result import Estimate

#: Instances that a search for a detectable temperature looks at; larger data are represented by so many of them.
SAMPLE = 2_000
#: Temperatures beyond which an error counts as not detectable.
LIMITS = (0.02, 50.0)
_OUTCOMES = 6_000  # simulated outcomes behind a covariance
_MOVING_DRAWS = 128  # outcomes of each instance where only they tell which events are known ...
_MOVING_BUDGET = 1 << 20  # ... as long as events x draws stay below this
_BLOCK_ELEMENTS = 1 << 13
_BATCHES, _DRAWS = 8, 999
_NORMAL = NormalDist()


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


@dataclass(frozen=True, slots=True)
class _Part:
    """A block, looked at once: what does not depend on the temperature."""

    block: Block
    ranks: FloatArray
    forecast: Forecast
    known: FloatArray
    weight: FloatArray
    cell: IntArray


class TemperedTruth:
    """Forecasts, and outcomes of the same shape as the observed ones drawn from them at other temperatures.

    Parameters
    ----------
    h, y
        Forecasts and outcomes. Of the outcomes only what they let one see is used: which items are ranked, and
        into buckets of which sizes.
    family
        Events of a scalar notion (pairs, top choices, or rankwise ones).
    bins
        Equal-width bins of the error.
    weights, per_instance
        As in :func:`prefcal.estimators.inputs.instance_weights`; default: weight 1 for each event.

    Raises
    ------
    UsageError
        For other families, and more than ``COVARIANCE_LIMIT`` cells.

    Notes
    -----
    A truth at temperature t has the scores divided by t: t > 1 means that the forecast is over-confident.
    """

    def __init__(
        self,
        h: PlackettLuce,
        y: Outcomes,
        family: Family,
        *,
        bins: int,
        weights: FloatArray | None = None,
        per_instance: bool = False,
    ) -> None:
        self.family, self.bins, self.size = family, bins, bins * family.n_members
        if not isinstance(family, Pairs | TopChoice | Rankwise) or self.size > COVARIANCE_LIMIT:
            raise UsageError(
                f"power is known for pairs, top choices and rankwise events in at most {COVARIANCE_LIMIT} cells "
                f"(members x bins), not for {type(family).__name__} with {self.size}"
            )
        weights = np.ones(len(y)) if weights is None else weights
        self.parts: list[_Part] = []
        self.n, self.weights = 0, np.zeros(self.size)
        self.told, self.stated = np.zeros((2, self.size))
        for block in h.blocks(_BLOCK_ELEMENTS):
            if not family.applies(block.dist.n_items):
                continue
            ranks = aligned_ranks(y, block)
            rows = np.arange(len(y))[block.rows]
            forecast, happened, weight, cell = look(family, block, ranks, weights[rows], per_instance, bins)
            known = ~np.isnan(happened)
            self.n += int(known.any(axis=1).sum())
            by_cell = np.bincount(cell[known], weight[known], minlength=self.size)
            stated = weight * forecast.p * (1 - forecast.p)
            self.told += np.bincount(cell[known], stated[known], minlength=self.size)
            # As in the cell table: an event that several candidates share happens by a fraction.
            whole = (happened == 0) | (happened == 1)
            stated = np.where(whole, weight * stated, (weight * (happened - forecast.p)) ** 2)
            self.stated += np.bincount(cell[known], stated[known], minlength=self.size)
            self.weights += np.repeat(by_cell.reshape(-1, bins).sum(axis=1), bins)
            part = _Part(block, ranks, forecast, known.astype(np.float64), weight[:, :1], cell)
            self.parts.append(part)

    def law(self, temperature: float, rng: np.random.Generator) -> ResidualLaw:
        """The law of the residual sums when the scores should have been divided by ``temperature``.

        Which pairs of a best-only record are events depends on the outcome; the expectation is exact there too
        (Luce's choice axiom). For other bucket orders it is the mean of a few outcomes of each instance.
        """
        (mean, noise, single), (second, conditional) = np.zeros((3, self.size)), np.zeros((2, self.size, self.size))
        draws = max(1, math.ceil(_OUTCOMES / max(self.n, 1)))
        moving = min(max(_MOVING_BUDGET // max(sum(part.known.size for part in self.parts), 1), 24), _MOVING_DRAWS)
        for part in self.parts:
            truth = part.block.dist
            assert isinstance(truth, PlackettLuce)
            truth = truth.scaled(1.0 / temperature)
            block = replace(part.block, dist=truth)
            simulator = OutcomeSimulator(block, part.ranks)
            chance = self._chance_known(part, truth, simulator)
            d = draws if chance is not None else max(draws, moving)
            residual = self.family.observe(part.forecast, simulator.draw(d, rng)) - part.forecast.p
            residual = np.nan_to_num(residual) * part.weight
            sums = self._by_instance(residual, part.cell)
            single += self._by_instance(residual**2, part.cell).sum(axis=(0, 1)) / d
            if chance is None:
                expected = sums.mean(axis=0)
                inside = (sums - expected).reshape(-1, self.size)
                spread = inside.T @ inside / (d - 1)
                noise += np.diag(spread) / d
                conditional += spread
                second += sums.reshape(-1, self.size).T @ sums.reshape(-1, self.size) / d
            else:
                q = self.family.forecast(block).p
                gap = np.nan_to_num(q - part.forecast.p) * chance * part.weight
                expected = self._by_instance(gap[None], part.cell)[0]
                inside = (sums - expected).reshape(-1, self.size)
                spread = inside.T @ inside / d
                exact = self._known_variance(part, residual, gap, q, chance)
                spread += np.diag(exact)
                single += exact
                conditional += spread
                second += spread + expected.T @ expected
            mean += expected.sum(axis=0)
        known = (self.weights, self.family.n_members, noise, self.told, self.stated, single)
        return ResidualLaw(self.n, mean, second, conditional, *known)

    def _chance_known(self, part: _Part, truth: PlackettLuce, simulator: OutcomeSimulator) -> FloatArray | None:
        """(b, e) probability that an event is known, where that does not depend on what happens to it."""
        if simulator.strict or isinstance(self.family, TopChoice):
            return part.known
        if simulator.best_only and isinstance(self.family, Pairs) and math.isnan(self.family.tie_value):
            best = np.exp(truth.top_log_probs())
            first, second = np.triu_indices(best.shape[1], 1)
            chance: FloatArray = (best[:, first] + best[:, second]) * (part.weight > 0)
            return chance
        return None

    def _known_variance(
        self, part: _Part, residual: FloatArray, gap: FloatArray, q: FloatArray, chance: FloatArray
    ) -> FloatArray:
        """(G * B,) exact sums of the single events' variances minus the simulated ones: only covariances stay noisy.

        ``residual`` (d, b, e) simulated, ``gap`` (b, e) its expectation, ``q`` the event's probability, ``chance``
        that it is known. Events that several candidates share (y is a fraction) keep their simulated variance.
        """
        p = part.forecast.p
        whole = np.isfinite(p) & (part.weight > 0)
        if isinstance(self.family, Pairs):
            whole &= part.forecast.guess != 0
        elif isinstance(self.family, TopChoice):
            whole &= part.forecast.guess.max(axis=1, keepdims=True) == 1
        exact = part.weight**2 * chance * (q * (1 - p) ** 2 + (1 - q) * p**2) - gap**2
        seen = ((residual - gap) ** 2).mean(axis=0)
        sums: FloatArray = np.bincount(part.cell[whole], (exact - seen)[whole], minlength=self.size).astype(
            np.float64
        )
        return sums

    def _by_instance(self, values: FloatArray, cell: IntArray) -> FloatArray:
        """(d, b, G * B) sums by cell of (d, b, e) values."""
        d, b, _ = values.shape
        place = (np.arange(d * b).reshape(d, b, 1) * self.size + cell).ravel()
        sums: FloatArray = np.bincount(place, values.ravel(), minlength=d * b * self.size).astype(np.float64)
        return sums.reshape(d, b, self.size)


@dataclass(frozen=True, slots=True)
class Rejections:
    """How often a test rejects, and the standard error of that by simulation."""

    rate: float
    se: float

    @property
    def estimate(self) -> Estimate:
        """The rate with its 95 % interval."""
        low, high = max(self.rate - Z95 * self.se, 0.0), min(self.rate + Z95 * self.se, 1.0)
        return Estimate(self.rate, (low, high), "share of simulated data sets; the interval is of the simulation")


def rejections(
    truth: ResidualLaw,
    null: ResidualLaw,
    *,
    instances: float,
    rng: np.random.Generator,
    alpha: float = 0.05,
    given_forecasts: bool = False,
    exact: bool = True,
) -> Rejections:
    """How often the audit rejects calibration on so many instances.

    Parameters
    ----------
    truth, null
        Laws of the residual sums under the truth, and under calibration (temperature 1).
    instances
        Size of the data set; the laws are scaled to it.
    rng
        Of the normal draws.
    alpha
        Size of the test.
    given_forecasts
        The forecasts are those of the laws; otherwise each data set has new ones of the same population.
    exact
        The audit also draws outcomes from the forecasts (as it does below its budget) and rejects only if both
        null laws do.
    """
    place = math.floor(alpha * (_DRAWS + 1))  # p = (1 + #{T_b >= T}) / (B + 1) <= alpha
    if place < 1:
        raise UsageError(f"alpha must be at least {1 / (_DRAWS + 1):g}, got {alpha}")
    factor = instances / truth.n
    weights, shape = truth.weights * factor, (_BATCHES, _DRAWS, len(truth.mean))

    def errors(draws: FloatArray, mean: FloatArray | float, covariance: FloatArray) -> FloatArray:
        return ece(factor * mean + draws @ _root(covariance * factor), weights, truth.members)

    def spread(law: ResidualLaw) -> FloatArray:
        return law.conditional if given_forecasts else law.second - np.outer(law.mean, law.mean) / law.n

    null_draws, draws = rng.standard_normal(shape), rng.standard_normal(shape)
    values = errors(draws, truth.mean, spread(truth))
    # Where the outcome chooses the events, sums need not be 0 on average for a calibrated model: the exact law knows.
    own = np.diag(truth.second) * factor
    sums = (own, truth.single * factor, truth.stated * factor, truth.told * factor)
    stretch = np.divide(
        null_scale(*sums, weights, round(instances)), np.sqrt(own), out=np.ones(len(own)), where=own > 0
    )
    laws = [errors(null_draws, 0.0, truth.second * np.outer(stretch, stretch))]
    if exact:
        laws.append(errors(null_draws, null.mean, spread(null)))
    limits = [np.sort(law, axis=1)[:, -place] for law in laws]
    rates = (values > np.maximum.reduce(limits)[:, None]).mean(axis=1)
    rate = float(rates.mean())
    # Batches that all agree still stand for a binomial proportion.
    se = max(float(rates.std(ddof=1)) / math.sqrt(_BATCHES), 0.5 / (_BATCHES * _DRAWS))
    if truth.noise.any():  # means that are off move the error and its limit, at worst in opposite directions
        moved = sum(math.sqrt(float(law.noise.sum())) for law in ([truth, null] if exact else [truth]))
        moved *= factor / float(weights[weights > 0].mean()) / truth.members
        se = math.hypot(se, moved / float(values.std()) * _NORMAL.pdf(_NORMAL.inv_cdf(min(max(rate, 0.001), 0.999))))
    return Rejections(rate, se)


def _root(matrix: FloatArray) -> FloatArray:
    """The symmetric root: it changes continuously with the matrix, so that equal draws give smooth power curves."""
    values, vectors = np.linalg.eigh(matrix)
    root: FloatArray = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def detectable(
    h: PlackettLuce,
    y: Outcomes,
    family: Family,
    table: CellTable,
    *,
    weights: FloatArray,
    per_instance: bool = False,
    clusters: IntArray | None = None,
    exact: bool = True,
    alpha: float = 0.05,
    power: float = 0.8,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The smallest temperature errors that this data set would show.

    Parameters
    ----------
    h, y, weights, per_instance, clusters
        As the audit has them: one forecast for each outcome record, (n,) weights, codes of dependent instances.
    family, table
        Events of a notion, and their cell table over the same instances.
    exact
        Whether the audit's null law is the exact one.
    alpha, power
        Size of the test, and how often it must reject.
    seed
        Of the simulation, and of the choice of ``SAMPLE`` instances where there are more.

    Returns
    -------
    dict
        ``detectable_temperature_above`` and ``detectable_temperature_below``: if the scores should be divided by a
        number at least (at most) so large, the test rejects calibration in 80 % of such data sets; infinite (0)
        where no temperature in ``LIMITS`` does. ``detectable_ece_above``, ``detectable_ece_below``: the population's
        binned error at that temperature. Intervals are of the simulation. Empty for families without a law here.

    Notes
    -----
    Given the forecasts: normal residual sums with the exact mean and a simulated covariance. Within a cluster the
    truth has no model; variances are widened by what the clusters of the data widen them. Whole audits of outcomes
    at the temperature found rejected in 76 to 87 % of 120 to 300 data sets each (40 to 400 instances). Rougher: 72 to
    92 % for labelled items, 71 to 86 % where the outcome chooses the events and several items are best. Cost: about
    15 passes over ``min(n, SAMPLE)`` instances.
    """
    if not isinstance(family, Pairs | TopChoice | Rankwise) or table.members * table.bins > COVARIANCE_LIMIT:
        return {}
    rng = np.random.default_rng([seed, 7])
    index = np.arange(len(y))
    notes = []
    if len(index) > SAMPLE:
        index = np.sort(rng.choice(index, SAMPLE, replace=False))
        notes.append(f"on {SAMPLE} instances drawn with seed {seed}")
    model = TemperedTruth(
        h[index], y[index], family, bins=table.bins, weights=weights[index], per_instance=per_instance
    )
    if model.n == 0 or not model.weights.any():
        return {}
    widen = np.ones(model.size)
    if clusters is not None:
        widen = _widening(table, model, index, y, weights)
        notes.append("variances widened as the clusters of the data widen them")
    instances = model.n * float(table.moments[1].sum()) / (float(model.weights.sum()) / table.bins)
    null = _widened(model.law(1.0, np.random.default_rng([seed, 8])), widen)

    def reject(log_t: float) -> tuple[Rejections, float]:
        law = _widened(model.law(math.exp(log_t), np.random.default_rng([seed, 8])), widen)
        found = rejections(
            law, null, instances=instances, rng=np.random.default_rng([seed, 9]), alpha=alpha,
            given_forecasts=True, exact=exact and clusters is None,
        )  # fmt: skip
        return found, law.ece

    start = 12.0 / math.sqrt(table.n_events)  # about right for scores that spread by 1: only a first guess
    note = "; ".join([f"{power:.0%} of such data sets would be rejected at {alpha:.0%}", *notes])
    out = {}
    for side, sign, limit in (("above", 1.0, LIMITS[1]), ("below", -1.0, LIMITS[0])):
        found = crossing(lambda s, sign=sign: reject(sign * s), start, abs(math.log(limit)), power)  # type: ignore[misc]
        if found is None:
            none = "this data would not show any temperature error of this sign reliably"
            out[f"detectable_temperature_{side}"] = Estimate(math.inf if sign > 0 else 0.0, note=f"{none}; {note}")
            continue
        s, low, high, error, slope = found
        ends = sorted(math.exp(sign * e) for e in (low, high))
        sizes = sorted(max(error + slope * (e - s), 0.0) for e in (low, high))
        out[f"detectable_temperature_{side}"] = Estimate(math.exp(sign * s), (ends[0], ends[1]), note)
        out[f"detectable_ece_{side}"] = Estimate(error, (sizes[0], sizes[1]), note)
    return out


def crossing(
    reject: Callable[[float], tuple[Rejections, float]], start: float, limit: float, power: float
) -> tuple[float, float, float, float, float] | None:
    """Where the rejection rate crosses ``power``: place, its interval, the error there, and the error's slope.

    The probit of the rate is close to linear in the size of the effect: bracket by doubling, then interpolate.
    """
    target = _NORMAL.inv_cdf(power)

    def probit(found: Rejections) -> float:
        return _NORMAL.inv_cdf(min(max(found.rate, 1e-4), 1 - 1e-4)) - target

    below, low_value, low_error = 0.0, _NORMAL.inv_cdf(0.05) - target, 0.0
    above = min(start, limit)
    found, error = reject(above)
    while probit(found) < 0:
        if above >= limit:
            return None
        below, low_value, low_error = above, probit(found), error
        above = min(2 * above, limit)
        found, error = reject(above)
    high_value, high_error = probit(found), error
    middle = above
    for step in range(12):
        if high_value - low_value < 1e-9:
            break
        share = 0.5 if step % 3 == 2 else -low_value / (high_value - low_value)  # halving keeps both ends moving
        middle = below + (above - below) * min(max(share, 0.05), 0.95)
        found, error = reject(middle)
        value = probit(found)
        if value < 0:
            below, low_value, low_error = middle, value, error
        else:
            above, high_value, high_error = middle, value, error
        if abs(value) < 0.01:
            break
    width = max(above - below, 1e-12)
    slope = max((high_value - low_value) / width, 1e-9)
    half = Z95 * found.se / (_NORMAL.pdf(_NORMAL.inv_cdf(power)) * slope)
    return middle, max(middle - half, 0.0), middle + half, error, (high_error - low_error) / width


def _widening(
    table: CellTable, model: TemperedTruth, index: IntArray, y: Outcomes, weights: FloatArray
) -> FloatArray:
    """(G * B,) by how much clusters widen the standard deviation of each cell, from the data's own residuals."""
    alone = np.zeros(model.size)
    for part in model.parts:
        happened = model.family.observe(part.forecast, part.ranks) - part.forecast.p
        sums = model._by_instance((np.nan_to_num(happened) * part.weight)[None], part.cell)[0]
        alone += (sums**2).sum(axis=0)
    alone *= float(table.moments[1].sum()) / (float(model.weights.sum()) / table.bins)
    together = table.variances(centred=False)
    ratio: FloatArray = np.divide(together, alone, out=np.ones(model.size), where=alone > 0)
    return np.sqrt(ratio)


def _widened(law: ResidualLaw, widen: FloatArray) -> ResidualLaw:
    both = np.outer(widen, widen)
    extra = law.second - law.conditional
    return replace(law, conditional=law.conditional * both, second=law.conditional * both + extra)
