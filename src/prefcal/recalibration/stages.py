"""One temperature for each choice stage, by the number of items left, smooth in the stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution, chunks
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.staged import MAX_EXACT_ITEMS, StagedPlackettLuce
from prefcal.distributions.stagewise import after, remaining
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.inputs import aligned_ranks
from prefcal.recalibration.base import Context, Data, Recalibrator, number, numbers, register, texts
from prefcal.recalibration.choices import Choice, Single, choices
from prefcal.recalibration.scales import (
    LOG_SCALE_LIMIT,
    PRIOR_SPREAD,
    best_strength,
    fit_log_scale,
    not_positive,
    slope,
    with_utilities,
)
from prefcal.recalibration.temperature import FLAT, LARGEST, information_warnings
from prefcal.result import Estimate

#: Prior precisions of the change of the log scale over a factor e in the number of items left that are tried.
STRENGTHS = tuple(10.0**k for k in range(6))
#: The precision where the likelihood is a composite one: its log scale changes by about 1 over a factor e.
COMPOSITE_STRENGTH = 1.0
#: Records of best-only data whose pairs enter the composite likelihood, at most.
COMPOSITE_RECORDS = 2000


@register
@dataclass(frozen=True)
class StageTemperature(Recalibrator):
    """Divide the scores by a temperature for each choice stage: one for the best of k, for k = 2, 3, ...

    The result is a :class:`~prefcal.distributions.staged.StagedPlackettLuce`, so the best item and the pairs may each
    be as bold as the outcomes warrant. Which items were placed before does not matter, only how many are left.

    Fitted by maximum likelihood of every observed choice of one item among a complete list (full rankings, top-k
    lists, the best item). The log temperature is a random walk in the log number of items left: its prior variance
    over a factor e is chosen by empirical Bayes, so that stages without data follow their neighbours.

    Where only best items are known, the first stage alone is observed and the later ones, which decide the pairs,
    are not. With ``pairs=True`` (the default) the pairs of the best item with each other item are then fitted too,
    as a composite likelihood that gives all pairs of a record together the weight of its best item. The log
    temperature is then linear in the log number of items left, and at most ``COMPOSITE_RECORDS`` records (evenly
    spaced) of at most 14 items enter that part. It describes such pairs, which were selected by the outcome; for
    Plackett-Luce truth the selection makes no difference (Luce's axiom).

    Options: ``pairs``, and ``strength`` (the inverse of that variance) instead of empirical Bayes.

    Parameters
    ----------
    temperatures
        For 2, 3, ..., items left; longer lists use the last one.
    low, high
        Their 95 % intervals (sandwich by unit, prior included).
    composite
        Whether pairs entered as a composite likelihood.
    notes
        Warnings about the information that the scores carry.
    flat
        Whether the best common scale is not positive: all candidates are then made equally likely.
    """

    method: ClassVar[str] = "stage-wise"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce",)
    complexity: ClassVar[int] = 4

    temperatures: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    strength: float
    composite: bool
    notes: tuple[str, ...] = ()
    flat: bool = False

    @classmethod
    def fit(cls, data: Data, *, pairs: bool = True, strength: float | None = None, **options: Any) -> Self:
        """See :meth:`Recalibrator.fit`."""
        h = data.h
        assert isinstance(h, PlackettLuce)
        if strength is not None and not (isinstance(strength, int | float) and 0 < strength < math.inf):
            raise UsageError(f"strength must be a positive number, got {strength!r}")
        parts = [c for c in choices(h, data.y) if isinstance(c, Single) and c.complete]
        if not parts:
            raise DataError(
                "no record observed a choice among a complete list (full or top-k ranking, best item): stages "
                "cannot be told apart; use method 'temperature'"
            )
        longest = max(c.left for c in parts)
        basis = np.concatenate([np.ones((longest - 1, 1)), _steps(longest)], axis=1)
        p = longest - 1
        later = {c.left for c in parts} - set(h.sizes[h.sizes > 1].tolist())
        best_only = _best_records(h, data.y) if pairs and not later else np.empty(0, dtype=np.intp)

        def design(choice: Choice) -> FloatArray:
            return np.asarray(basis[choice.left - 2])

        steps = np.diag([0.0] + [1.0] * (p - 1))
        if p == 1:
            used, found = 1.0, fit_log_scale(parts, data.weights, data.units, design, steps)
        elif strength is not None:
            used = float(strength)
            found = fit_log_scale(parts, data.weights, data.units, design, used * steps)
        else:
            used, found = best_strength(
                STRENGTHS,
                lambda ridge, start: fit_log_scale(parts, data.weights, data.units, design, ridge, start=start),
                steps,
            )
        beta, covariance = found.beta, found.covariance
        composite = p > 1 and len(best_only) > 0
        if composite:
            used = COMPOSITE_STRENGTH if strength is None else used
            basis = np.column_stack([np.ones(p), np.log(longest / np.arange(2, longest + 1))])
            beta, covariance = _composite(data, parts, best_only, basis, np.diag([0.0, used]), beta[:1])
        log_scale = np.clip(basis @ beta, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
        half = Z95 * np.sqrt(np.maximum(np.einsum("kp,pq,kq->k", basis, covariance, basis), 0.0))
        value, low, high = (np.exp(np.clip(x, -700, 700)) for x in (-log_scale, -log_scale - half, -log_scale + half))
        raw = slope(parts, data.weights, data.units, math.exp(found.beta[0]))
        notes, flat = information_warnings(raw), not_positive(raw)
        return cls(tuple(value.tolist()), tuple(low.tolist()), tuple(high.tolist()), used, composite, notes, flat)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, PlackettLuce)
        longest = int(h.sizes.max())
        scales = 1.0 / np.array(self.temperatures)
        scales = np.concatenate([scales, np.full(max(longest - 1 - len(scales), 0), scales[-1])])
        scores = h.scores.with_values(np.zeros(len(h.scores.values))) if self.flat else h.scores
        with np.errstate(over="ignore"):
            with_utilities(h, scores.values * scales.max())  # refuses what no stage could hold
        return StagedPlackettLuce(scores, scales)

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        if self.flat:
            return FLAT
        told = sorted({2, len(self.temperatures) + 1} | {k for k in (3, 5, 10, 20) if k <= len(self.temperatures)})
        listed = ", ".join(
            f"{self.temperatures[k - 2]:.3g} ({self.low[k - 2]:.3g} to {self.high[k - 2]:.3g}) with {k} left"
            for k in told
        )
        how = (
            " Only best items were observed: the later stages are fitted to the pairs of the best item with others."
            if self.composite
            else ""
        )
        return (
            f"Divides the scores by a temperature for each choice, by the number of items left: {listed} (95 % "
            f"intervals).{how} The better-scored of two items stays the likelier one."
        )

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``temperature with k left`` for each k."""
        return {
            f"temperature with {k + 2} left": Estimate(t, (a, b))
            for k, (t, a, b) in enumerate(zip(self.temperatures, self.low, self.high, strict=True))
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :meth:`Recalibrator.warnings`."""
        return self.notes

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "temperatures": list(self.temperatures), "low": list(self.low), "high": list(self.high),
            "strength": self.strength, "composite": self.composite, "notes": list(self.notes), "flat": self.flat,
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        temperatures = numbers(values, "temperatures", low=1 / LARGEST, high=LARGEST)
        if not temperatures:
            raise DataError("must hold at least one number", field="parameters.temperatures")
        low, high = (numbers(values, k, length=len(temperatures), low=0.0) for k in ("low", "high"))
        for name in ("composite", "flat"):
            if not isinstance(values.get(name), bool):
                raise DataError("must be true or false", field=f"parameters.{name}")
        return cls(
            temperatures, low, high, number(values, "strength", low=0.0), values["composite"],
            texts(values, "notes"), values["flat"],
        )  # fmt: skip


def _steps(longest: int) -> FloatArray:
    """(longest - 1, longest - 2): log scale with k left = that of the longest list + the steps from there down to k.

    A step from j + 1 to j left has prior standard deviation sqrt(log((j + 1) / j)).
    """
    j = np.arange(2, longest)
    return np.asarray((np.arange(2, longest + 1)[:, None] <= j) * np.sqrt(np.log((j + 1) / j)))


def _best_records(h: PlackettLuce, y: Outcomes) -> IntArray:
    """Records of 3 to 14 items in which one is best and all others share one bucket."""
    found = []
    for block in h.blocks():
        if 3 <= block.dist.n_items <= MAX_EXACT_ITEMS:
            ranks = aligned_ranks(y, block)
            first = ranks == 1.0
            only = (first.sum(axis=1) == 1) & ((ranks == 2.0) | first).all(axis=1)
            found.append(np.arange(len(h))[block.rows][only])
    return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.intp)


def _composite(
    data: Data, parts: Sequence[Choice], rows: IntArray, basis: FloatArray, ridge: FloatArray, level: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Coefficients and covariance where pairs with the best item count as much as the best item itself.

    ``level`` (1,) is the log scale of the longest list, where to start.
    """
    from scipy.optimize import minimize

    start = np.append(level, np.zeros(basis.shape[1] - 1))

    step = max(1, -(-len(rows) // COMPOSITE_RECORDS))
    rows = rows[::step]
    blocks = []
    part = data.h[rows]
    for block in part.blocks(1 << 12):
        ranks = aligned_ranks(data.y[rows], block)
        assert isinstance(block.dist, PlackettLuce)
        order = np.argsort(ranks, axis=1, kind="stable")
        scores = np.take_along_axis(block.dist.scores.dense(), order, axis=1)
        blocks.append((rows[block.rows], scores - scores[:, :1]))
    weights = data.weights * step
    p = len(start)

    def by_record(beta: FloatArray) -> FloatArray:
        """(n,) penalty-free log composite likelihood of the pairs."""
        scales = np.exp(np.clip(basis @ beta, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))
        out = np.zeros(len(data))
        for at, scores in blocks:
            out[at] = weights[at] * best_before(scores, scales).mean(axis=1)
        return out

    def choices_part(beta: FloatArray) -> tuple[float, FloatArray]:
        total, scores = 0.0, np.zeros((len(data), p))
        for choice in parts:
            x = basis[choice.left - 2]
            a = float(np.exp(np.clip(x @ beta, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)))
            w = data.weights[choice.rows]
            total += float((w * choice.log_prob(a)).sum())
            scores[choice.rows] += (w * a * choice.slopes(a)[0])[:, None] * x
        return total, scores

    def derivatives(beta: FloatArray) -> tuple[float, FloatArray]:
        total, scores = choices_part(beta)
        base = by_record(beta)
        for k in range(p):
            moved = beta.copy()
            moved[k] += 1e-5
            scores[:, k] += (by_record(moved) - base) / 1e-5
        return total + float(base.sum()), scores

    def loss(beta: FloatArray) -> tuple[float, FloatArray]:
        total, scores = derivatives(beta)
        prior = 0.5 * float(beta @ ridge @ beta) + math.log1p((beta[0] / PRIOR_SPREAD) ** 2)
        pull = ridge @ beta
        pull[0] += 2 * beta[0] / (PRIOR_SPREAD**2 + beta[0] ** 2)
        return prior - total, pull - scores.sum(axis=0)

    result = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-10})
    beta = np.asarray(result.x)
    information = np.empty((p, p))
    for k in range(p):
        ends = []
        for sign in (-1, 1):
            moved = beta.copy()
            moved[k] += sign * 1e-3
            ends.append(loss(moved)[1])
        information[k] = (ends[1] - ends[0]) / 2e-3
    information = 0.5 * (information + information.T)
    scores = derivatives(beta)[1]
    n_units = int(data.units.max()) + 1
    by_unit = np.stack([np.bincount(data.units, c, n_units) for c in scores.T], axis=1)
    prior = ridge.copy()
    prior[0, 0] += 2 / (PRIOR_SPREAD**2 + beta[0] ** 2)
    bread = np.linalg.pinv(information, hermitian=True)
    return beta, bread @ (by_unit.T @ by_unit * (n_units / max(n_units - 1, 1)) + prior) @ bread


def best_before(scores: FloatArray, scales: FloatArray) -> FloatArray:
    """(n, m - 1) log P(item 0 before item j) of staged Plackett-Luce, by a recursion over the sets of placed others.

    Scores (n, m); ``scales[k - 2]`` with k left. Costs (m - 1) 2^(m - 2) numbers an instance.
    """
    n, m = scores.shape
    out = np.empty((n, m - 1))
    for rows in chunks(n, (m - 1) << (m - 2)):
        own, others = scores[rows, 0], np.ascontiguousarray(scores[rows, 1:].T)
        total = np.zeros((m - 1, len(own)))
        reach: FloatArray = np.ones((1, len(own)))
        for t in range(m - 1):
            free = remaining(m - 1, t)
            logits = scales[m - t - 2] * others[free]  # (sets, m - 1 - t, n)
            mine = scales[m - t - 2] * own
            top = np.maximum(logits.max(axis=1), mine)
            w = np.exp(logits - top[:, None])
            chosen = np.exp(mine - top)
            norm = reach / (w.sum(axis=1) + chosen)
            holds = np.zeros((m - 1, len(free)))
            holds[free, np.arange(len(free))[:, None]] = 1.0
            total += holds @ (chosen * norm)
            if t < m - 2:
                flow = (w * norm[:, None]).reshape(-1, len(own))
                children = np.argsort(after(m - 1, t), axis=None, kind="stable").reshape(-1, t + 1)
                reach = flow[children[:, 0]]
                for q in range(1, t + 1):
                    reach = reach + flow[children[:, q]]
        with np.errstate(divide="ignore"):
            out[rows] = np.maximum(np.log(np.minimum(total, 1.0)), -700.0).T
    return out
