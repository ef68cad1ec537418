"""What a calibration test of so many instances can see: the temperature errors that it would reject."""

from __future__ import annotations

import math

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.stagewise import StageWise
from prefcal.errors import UsageError
from prefcal.estimators.cells import CellTable
from prefcal.estimators.events import Confidence, Family, Rankwise
from prefcal.estimators.rejections import Rejections, RepeatedTest, crossing
from prefcal.estimators.tempered import TemperedTruth
from prefcal.result import Estimate

#: Instances that a search for a detectable temperature looks at; larger data are represented by so many of them.
SAMPLE = 2_000
#: Temperatures beyond which an error counts as not detectable.
LIMITS = (0.02, 50.0)
#: Numbers of one look at the truth up to which the search takes less than about a fifth of a whole audit.
AFFORDABLE = 1 << 17
_SIDES = ("above", "below")


def detectable(
    h: Distribution,
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
    most: float = math.inf,
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
    most
        Leave it out (NaN, and a note) where one look at the truth computes more numbers; an audit passes
        ``AFFORDABLE``.

    Returns
    -------
    dict
        ``detectable_temperature_above`` and ``detectable_temperature_below``: if the truth is ``h.scaled(1 / t)``
        with t at least (at most) so large, the test rejects calibration in 80 % of such data sets. Infinite (0) where
        no temperature in ``LIMITS`` does; NaN, with a note that says why, where it is not known (see
        :class:`~prefcal.estimators.tempered.TemperedTruth`). ``detectable_ece_above``, ``detectable_ece_below``:
        the population's binned error at that temperature. Intervals are of the simulation. Empty without events.

    Notes
    -----
    Given the forecasts: normal residual sums with the exact mean and a simulated covariance. Within a cluster the
    truth has no model; variances are widened by what the clusters of the data widen them. Whole audits of outcomes
    at the temperature found rejected in 72 to 87 % of 200 or 300 data sets each, in 77 % on average (32 settings:
    Plackett-Luce, Mallows and listed rankings, 40 to 400 instances). A little fewer than promised: the audit's
    cluster-robust law takes its variance from the data that it judges, and where these show a large error by chance
    they also show a large variance; here it is the expected one.
    Cost: about seven passes over ``min(n, SAMPLE)`` instances.
    """
    rng = np.random.default_rng([seed, 7])
    index = np.arange(len(y))
    notes = [f"a temperature divides {h.tempered}"] if h.tempered else []
    if len(index) > SAMPLE:
        index = np.sort(rng.choice(index, SAMPLE, replace=False))
        notes.append(f"on {SAMPLE} instances drawn with seed {seed}")
    try:
        model = TemperedTruth(
            h[index], y[index], family, bins=table.bins, weights=weights[index], per_instance=per_instance
        )
    except UsageError as why:
        return _unknown(str(why))
    if model.n == 0 or not model.weights.any():
        return {}
    if _numbers(model) > most:
        return _unknown("it would take longer than the audit itself; prefcal.power() works it out for a notion")
    widen = np.ones(model.size)
    if clusters is not None:
        widen = _widening(table, model)
        notes.append("variances widened as the clusters of the data widen them")
    test = RepeatedTest(
        model.law(1.0, np.random.default_rng([seed, 8])).widened(widen), instances=model.n * _times(table, model),
        rng=np.random.default_rng([seed, 9]), alpha=alpha, given_forecasts=True, exact=exact and clusters is None,
    )  # fmt: skip

    def reject(log_t: float) -> tuple[Rejections, float]:
        law = model.law(math.exp(log_t), np.random.default_rng([seed, 8])).widened(widen)
        return test.rejections(law), law.ece

    start = 12.0 / math.sqrt(table.n_events)  # about right for scores that spread by 1: only a first guess
    note = "; ".join([f"{power:.0%} of such data sets would be rejected at {alpha:.0%}", *notes])
    out = {}
    for side, sign, limit in zip(_SIDES, (1.0, -1.0), reversed(LIMITS), strict=True):
        found = crossing(lambda s, sign=sign: reject(sign * s), start, abs(math.log(limit)), power)  # type: ignore[misc]
        if found is None:
            none = "this data would not show any temperature error of this sign reliably"
            out[f"detectable_temperature_{side}"] = Estimate(math.inf if sign > 0 else 0.0, note=f"{none}; {note}")
            continue
        s, low, high, error, slope = found
        start = s  # errors of both signs show at about the same distance
        ends = sorted(math.exp(sign * e) for e in (low, high))
        sizes = sorted(max(error + slope * (e - s), 0.0) for e in (low, high))
        out[f"detectable_temperature_{side}"] = Estimate(math.exp(sign * s), (ends[0], ends[1]), note)
        out[f"detectable_ece_{side}"] = Estimate(error, (sizes[0], sizes[1]), note)
    return out


def _unknown(why: str) -> dict[str, Estimate]:
    return {f"detectable_temperature_{side}": Estimate(math.nan, note=f"not known: {why}") for side in _SIDES}


def _numbers(model: TemperedTruth) -> int:
    """How many numbers one look at the truth computes, beyond the odds of pairs and the best item of closed forms."""
    total = model.size**2
    for part in model.parts:
        dist, size = part.block.dist, part.block.dist.n_items
        each = 0
        if isinstance(model.family, Rankwise | Confidence):
            view = model.family.view
            each += view.n_members(size) * view.n_outcomes(size) * max(view.k, 1)
        if isinstance(dist, StageWise) and not isinstance(dist, PlackettLuce):
            each += size << (size - 1)  # a recursion over subsets
        total += len(part.rows) * each
    return total


def _times(table: CellTable, model: TemperedTruth) -> float:
    """How many times the weight of the instances at hand all the data have."""
    return float(table.moment("w").sum()) / (float(model.weights.sum()) / table.bins)


def _widening(table: CellTable, model: TemperedTruth) -> FloatArray:
    """(G * B,) by how much clusters widen the standard deviation of each cell, from the data's own residuals."""
    alone = model.own_squares() * _times(table, model)
    together = table.variances(centred=False)
    ratio: FloatArray = np.divide(together, alone, out=np.ones(model.size), where=alone > 0)
    return np.sqrt(ratio)
