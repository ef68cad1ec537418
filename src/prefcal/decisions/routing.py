"""Routing: deciding oneself or asking a human or a bigger judge at a price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.decisions.choices import Choice, Choices, gather
from prefcal.decisions.uncertainty import Statistic, optimism, proportion
from prefcal.distributions.base import Distribution
from prefcal.errors import UsageError, require_numbers, require_whole
from prefcal.estimators.binned import Z95
from prefcal.result import Estimate, plain

COSTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
#: Random halvings behind the regret.
SPLITS = 20


@dataclass(frozen=True, slots=True)
class Routed:
    """Asking costs ``cost`` (a wrong decision costs 1): ask where the claimed risk exceeds it.

    Parameters
    ----------
    cost
        Price of asking.
    asked
        Share of decisions handed on (weighted); its interval holds the rule fixed.
    claimed
        Expected total cost a decision, by the model's own claims: the mean of min(risk, cost).
    realised
        What it really costs: 1 for each wrong decision kept, ``cost`` for each one handed on.
    optimism
        Realised minus claimed; its interval is for these instances' forecasts.
    regret
        Realised cost of asking above ``cost`` minus that of asking above the threshold that is best on the other
        half of the units, on average over ``SPLITS`` random halvings. Below 0 where learning a threshold from half of
        the data does worse. The interval counts what other instances, and what other halvings, would have given.
    hindsight
        Cost of the threshold that is best on these very data: a lower bound for any threshold, too low by its search.
    never, always
        Cost of never and of always asking.
    """

    cost: float
    asked: Estimate
    claimed: float
    realised: Estimate
    optimism: Estimate
    regret: Estimate
    hindsight: Estimate
    never: Estimate
    always: float


@dataclass(frozen=True, slots=True)
class Routing:
    """What :func:`routing` found: one entry for each price."""

    choice: Choice
    costs: tuple[Routed, ...]
    n_decisions: int
    coverage: dict[str, int]

    def at(self, cost: float) -> Routed:
        """The entry of one price; UsageError if it was not asked for."""
        for r in self.costs:
            if math.isclose(r.cost, cost):
                return r
        raise UsageError(f"cost {cost} was not asked for; there are {[r.cost for r in self.costs]}")

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def routing(
    h: Distribution,
    y: Outcomes,
    *,
    choice: Choice = "best",
    costs: Sequence[float] = COSTS,
    weights: Any = None,
    clusters: Any = None,
    seed: int = 0,
) -> Routing:
    """Claimed and realised cost of the rule "ask where the claimed risk exceeds the price of asking".

    The rule is the best one there is for a calibrated model that knows no more than its claim.

    Parameters
    ----------
    h, y, choice, weights, clusters
        As in :func:`abstention`.
    costs
        Prices of asking in (0, 1), in units of one wrong decision; a helper who errs in a share e of the cases
        costs its price plus e.
    seed
        Of the random halvings behind ``regret``; the order of the instances plays no part.

    Raises
    ------
    DataError, UsageError
        No known outcome; prices outside (0, 1).

    Examples
    --------
    >>> import prefcal as pc
    >>> h = pc.PlackettLuce([[3.0, 0.0], [0.1, 0.0], [0.0, 2.0], [1.0, 0.0]])
    >>> r = routing(h, pc.Outcomes.from_best([0, 1, 1, 0], n_items=2), costs=[0.3]).at(0.3)
    >>> r.asked.value, round(r.claimed, 4), r.realised.value
    (0.25, 0.1839, 0.075)
    """
    (found,) = gather([h], y, choice=choice, weights=weights, clusters=clusters)
    return measure(found, choice, costs=costs, seed=seed)[0]


def measure(c: Choices, choice: Choice, *, costs: Sequence[float], seed: int) -> tuple[Routing, dict[str, Statistic]]:
    """:func:`routing` of gathered decisions, and its numbers as statistics by name."""
    require_numbers("costs", costs)
    require_whole("seed", seed, 0)
    wrong = [p for p in costs if not 0 < p < 1]
    if wrong:
        raise UsageError(f"the price of asking must lie between 0 and 1 (the cost of an error), got {wrong[0]!r}")
    rng, place = np.random.default_rng([seed, 19]), c.places[c.unit]
    halves = [(rng.permutation(c.n_units) % 2)[place] for _ in range(SPLITS)]
    miss, risk = 1.0 - c.hit, c.risk
    never = c.mean(miss)
    out, statistics = [], {}
    for cost in costs:
        keep = risk <= cost
        real = c.mean(np.where(keep, miss, cost))
        kept_share = float(c.weight[keep].sum() / c.weight.sum())
        asked = proportion(c.mean((~keep).astype(float)), c.weight, c.unit)
        if kept_share > 0:
            hit, gap = c.mean(c.hit, keep), c.mean(c.hit - (1.0 - risk), keep)
            w, unit = c.weight[keep], c.unit[keep]
            low, high = proportion(hit, w, unit).interval or (0.0, 1.0)
            fixed = (1 - kept_share) * cost
            interval = (kept_share * (1 - high) + fixed, kept_share * (1 - low) + fixed)
            over = optimism(c.mean(1.0 - risk, keep).value, hit, gap, w, unit)
            low, high = over.interval or (-1.0, 1.0)
            shortfall = Estimate(kept_share * over.value, (kept_share * low, kept_share * high))
        else:
            interval, shortfall = (cost, cost), Estimate(0.0, (0.0, 0.0), "everything is handed on")
        regret = _regret(c, miss, cost, keep, halves)
        best = _best_cost(c, miss, cost)
        out.append(
            Routed(
                cost, asked, c.mean(np.minimum(risk, cost)).value, Estimate(real.value, interval), shortfall,
                regret, Estimate(best, None, "searched on the same data: a lower bound, not an estimate"),
                never.estimate(0.0, 1.0), cost,
            )
        )  # fmt: skip
        statistics[f"asking costs {cost:g}: realised cost"] = real
        statistics[f"asking costs {cost:g}: optimism"] = c.mean(np.where(keep, miss - risk, 0.0))
    return Routing(choice, tuple(out), len(c), c.coverage), statistics


def _regret(c: Choices, miss: Any, cost: float, keep: Any, halves: list[Any]) -> Estimate:
    """Cost of the rule minus that of thresholds learnt on the other half, averaged over halvings."""
    own = np.where(keep, miss, cost)
    total, by_split = np.zeros(len(c)), []
    for half in halves:
        gain = own - _other_half(c, miss, cost, half)
        total += gain
        by_split.append(float(c.weight @ gain / c.weight.sum()))
    found = c.mean(total / len(halves))
    if c.n_units < 2:
        return found.estimate()
    spread = Z95 * math.hypot(found.standard_error, float(np.std(by_split, ddof=1)) / math.sqrt(len(halves)))
    note = f"mean over {len(halves)} random halvings of the instances; the interval includes their luck"
    return Estimate(found.value, (found.value - spread, found.value + spread), note)


def _thresholds(c: Choices, miss: Any, cost: float, of: Any) -> tuple[Any, Any]:
    """Total cost of keeping the first e decisions, for e = 0 and each end of tied claims among decisions ``of``."""
    w = np.where(of, c.weight, 0.0)
    saved = np.concatenate([[0.0], np.cumsum(w * (miss - cost))])
    cuts = np.concatenate([[0], c.ends])
    return cuts, saved[cuts] + cost * w.sum()


def _best_cost(c: Choices, miss: Any, cost: float) -> float:
    _, totals = _thresholds(c, miss, cost, np.ones(len(c), dtype=bool))
    return float(totals.min() / c.weight.sum())


def _other_half(c: Choices, miss: Any, cost: float, half: Any) -> Any:
    """(e,) cost of each decision by the threshold that is best on the half it does not belong to."""
    out = np.empty(len(c))
    for side in (0, 1):
        cuts, totals = _thresholds(c, miss, cost, half != side)
        kept = np.arange(len(c)) < cuts[int(totals.argmin())]
        out = np.where(half == side, np.where(kept, miss, cost), out)
    return out
