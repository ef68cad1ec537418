"""Ties between pairs, as Davidson (1970) models them: how often two candidates are judged equally good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.estimators.inputs import aligned_ranks
from prefcal.recalibration.base import Context, Data, Recalibrator, covariance_matrix, number, register
from prefcal.recalibration.conditional_logit import (
    EQUAL_SCORES,
    LOG_LIMIT,
    SCALE_SD,
    Maximum,
    covariance,
    maximise,
    shown,
    within_spread,
)
from prefcal.recalibration.temperature import information_warnings
from prefcal.result import Estimate

#: Pseudo-observations of two equally scored candidates: half a tie and half a decision.
_PSEUDO = 0.5
_LOG_NU_LIMIT = 30.0


@register
@dataclass(frozen=True)
class Ties(Recalibrator):
    """Davidson's model of ties, with the scale of the scores: for utilities pi_a = exp(scale s_a),

        P(a better) : P(b better) : P(equal) = pi_a : pi_b : nu sqrt(pi_a pi_b).

    Scale and nu are fitted by maximum likelihood to the observed pairs (wins, losses and ties of outcomes with
    ``ties="equal"``); where a record ranks more than two items its pairs are taken one by one (a composite
    likelihood; intervals are by unit).

    **What the result means.** A distribution over rankings has no ties: calling the map returns Plackett-Luce with
    the scaled scores, which is the model of pairs *given that they are not tied*: P(a better | not equal) =
    1 / (1 + exp(-scale (s_a - s_b))). Its sub-2 calibration is therefore about strict pairs. An audit that counts a
    tie as y = 1/2 asks something else, that P(a before b) equal P(a better) + P(equal) / 2: that number
    (:meth:`expected_credit`) lies nearer to 1/2 than the strict probability, so a model that is calibrated for strict
    pairs looks over-confident there. Use ``temperature`` to mend that question, this map for strict pairs and for how
    often ties occur.

    Parameters
    ----------
    scale
        > 0, factor of the scores.
    log_nu
        Log of nu.
    covariance
        (4,) of (scale, log_nu), row by row.
    line, line_se
        The unconstrained scale and its standard error.
    tied
        Share of the observed pairs that were tied (weighted).

    References
    ----------
    R. R. Davidson (1970), On extending the Bradley-Terry model to accommodate ties in paired comparison experiments,
    JASA 65.
    """

    method: ClassVar[str] = "ties"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce",)
    complexity: ClassVar[int] = 2
    in_auto: ClassVar[bool] = False
    uses_ties: ClassVar[bool] = True

    scale: float
    log_nu: float
    covariance: tuple[float, ...]
    line: float
    line_se: float
    tied: float

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit scale and nu; no options.

        Raises
        ------
        DataError
            Where ties are of unknown meaning, no pair of items was ranked, or scores are equal within every instance.
        """
        cls.refuse_options(options)
        if data.y.ties != "equal":
            raise DataError(
                "the ties map needs outcomes whose equal ranks mean equally good; these mean an unknown order. Build "
                'them with ties="equal" if they were judged equal'
            )
        h = data.h
        assert isinstance(h, PlackettLuce)
        spread = within_spread(h.scores.values, h.scores.sizes, data.weights)
        if spread == 0.0:
            raise DataError(EQUAL_SCORES)
        pairs = _Pairs(data, spread)
        if pairs.weights.sum() == 0:
            raise DataError("no two items of an instance were ranked: there is nothing to fit on")
        prior, zero = np.diag([SCALE_SD**-2, 0.0]), np.zeros(2)
        found = maximise(pairs.derivatives, pairs.value, zero, zero, prior)
        cov = pairs.covariance(found, prior, data.units)
        line, line_se = float(found.parameters[0]), math.sqrt(float(cov[0, 0]))
        lowest = math.exp(-LOG_LIMIT + 1)
        if line < lowest:  # never flip the scores
            held, prior = np.array([lowest, 0.0]), np.diag([1e30, 0.0])
            found = maximise(pairs.derivatives, pairs.value, held, held, prior)
            cov = pairs.covariance(found, prior, data.units)
        cov /= np.outer([spread, 1.0], [spread, 1.0])
        return cls(
            float(found.parameters[0]) / spread, float(found.parameters[1]), tuple(cov.ravel().tolist()),
            line / spread, line_se / spread, float(pairs.weights @ pairs.tied / pairs.weights.sum()),
        )  # fmt: skip

    @property
    def nu(self) -> float:
        """Davidson's nu: odds of a tie against either win, at equal scores."""
        return math.exp(self.log_nu)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """The model of the strict part, see :class:`Ties`."""
        assert isinstance(h, PlackettLuce)
        return h.scaled(self.scale)

    def pair_probabilities(self, h: PlackettLuce, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """P(first better), P(equal), P(second better).

        Parameters
        ----------
        h
            Forecasts as they came, not yet recalibrated.
        first, second
            (e,) items.

        Returns
        -------
        (n, e, 3) probabilities that sum to 1; NaN where the instance lacks an item.

        Examples
        --------
        >>> fit = Ties(1.0, 0.0, (0.0,) * 4, 1.0, 0.1, 0.3)
        >>> fit.pair_probabilities(PlackettLuce([[1.0, 1.0]]), [0], [1]).round(3).tolist()
        [[[0.333, 0.333, 0.333]]]
        """
        if not isinstance(h, PlackettLuce):
            raise UsageError(f"ties are modelled for PlackettLuce forecasts, got {type(h).__name__}")
        with np.errstate(over="ignore"):
            half = 0.5 * self.scale * h.pair_log_odds(np.asarray(first), np.asarray(second))
        return _probabilities(half, self.log_nu)

    def tie_probability(self, h: PlackettLuce, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """P(equal) of the pairs of :meth:`pair_probabilities`, (n, e)."""
        probability: FloatArray = self.pair_probabilities(h, first, second)[..., 1]
        return probability

    def expected_credit(self, h: PlackettLuce, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """P(first better) + P(equal) / 2, (n, e): the mean of y where a tie counts 1/2."""
        p = self.pair_probabilities(h, first, second)
        credit: FloatArray = p[..., 0] + 0.5 * p[..., 1]
        return credit

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``scale``, ``nu`` and ``tie_at_equal_scores`` = nu / (2 + nu)."""
        se_scale, se_nu = math.sqrt(self.covariance[0]), math.sqrt(self.covariance[3])
        low, high = self.log_nu - Z95 * se_nu, self.log_nu + Z95 * se_nu
        return {
            "scale": Estimate(self.scale, (self.scale - Z95 * se_scale, self.scale + Z95 * se_scale)),
            "nu": Estimate(self.nu, (math.exp(low), math.exp(min(high, 700.0)))),
            "tie_at_equal_scores": Estimate(_at_equal(self.log_nu), (_at_equal(low), _at_equal(high))),
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        interval = (self.line - Z95 * self.line_se, self.line + Z95 * self.line_se)
        found = information_warnings(Estimate(self.line, interval))
        if self.tied in (0.0, 1.0):
            found += (f"{'no' if self.tied == 0 else 'every'} observed pair was tied: nu is only bounded",)
        return found

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        words = {name: shown(found) for name, found in self.estimates.items()}
        return (
            f"Scores are multiplied by {words['scale']} for pairs that are not tied; two candidates of equal score "
            f"are judged equally good with probability {words['tie_at_equal_scores']} (nu = {words['nu']}), others "
            f"less often; {self.tied:.1%} of the fitted pairs were ties. The forecasts returned are for strict pairs."
        )

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "scale": self.scale, "log_nu": self.log_nu, "covariance": list(self.covariance), "line": self.line,
            "line_se": self.line_se, "tied": self.tied,
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        cov = covariance_matrix(values, 2)
        scale = number(values, "scale", low=0.0)
        if scale == 0.0:
            raise DataError("must be above 0", field="parameters.scale")
        return cls(
            scale, number(values, "log_nu", low=-_LOG_NU_LIMIT, high=_LOG_NU_LIMIT), cov, number(values, "line"),
            number(values, "line_se", low=0.0), number(values, "tied", low=0.0, high=1.0),
        )  # fmt: skip


class _Pairs:
    """Log-likelihood of (scale in units of 1 / spread, log nu); the gradients' last row is the pseudo-observation."""

    def __init__(self, data: Data, spread: float) -> None:
        self.n = len(data)
        half, result, rows = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, dtype=np.intp)]
        for block in data.h.blocks():
            ranks = aligned_ranks(data.y, block)
            first, second = np.triu_indices(ranks.shape[1], 1)
            side = np.sign(ranks[:, second] - ranks[:, first])  # 1: first is better, 0: equal, NaN: unknown
            at, pair = np.nonzero(~np.isnan(side))
            gap = block.dist.pair_log_odds(first, second)[at, pair]
            half.append(0.5 * gap / spread)
            result.append(side[at, pair])
            rows.append(np.arange(self.n)[block.rows][at])
        self.half, self.result, self.rows = np.concatenate(half), np.concatenate(result), np.concatenate(rows)
        self.tied: FloatArray = (self.result == 0).astype(np.float64)
        self.weights = data.weights[self.rows]

    def value(self, x: FloatArray) -> float:
        if abs(x[1]) > _LOG_NU_LIMIT:
            return -math.inf
        u = x[0] * self.half
        log_total = np.logaddexp(np.logaddexp(u, -u), x[1])
        return float(self.weights @ (self.result * u + self.tied * x[1] - log_total)) + _pseudo(float(x[1]))

    def derivatives(self, x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        p = _probabilities(x[0] * self.half, float(x[1]))
        lead = p[:, 0] - p[:, 2]
        by_record = np.zeros((self.n + 1, 2))
        slopes = np.stack([self.half * (self.result - lead), self.tied - p[:, 1]], axis=1)
        np.add.at(by_record, self.rows, self.weights[:, None] * slopes)
        even = _at_equal(float(x[1]))
        by_record[-1, 1] = _PSEUDO * (1 - 2 * even)
        w, tie = self.weights, p[:, 1]
        ss = float(w @ (self.half**2 * (1 - tie - lead**2)))
        sn = float(w @ (-self.half * lead * tie))
        nn = float(w @ (tie * (1 - tie))) + 2 * _PSEUDO * even * (1 - even)
        return self.value(x), by_record, np.array([[ss, sn], [sn, nn]])

    def covariance(self, found: Maximum, prior: FloatArray, units: IntArray) -> FloatArray:
        """Sandwich covariance; the pseudo-observation counts as part of the prior."""
        even = _at_equal(float(found.parameters[1]))
        pseudo = np.diag([0.0, 2 * _PSEUDO * even * (1 - even)])
        plain = Maximum(found.parameters, found.value, found.by_record[:-1], found.information - pseudo)
        return covariance(plain, prior + pseudo, units)


def _probabilities(half: FloatArray, log_nu: float) -> FloatArray:
    """(..., 3) win, tie, loss from half the scaled margin."""
    logs = np.stack([half, np.where(np.isnan(half), np.nan, log_nu), -half], axis=-1)
    logs -= logs.max(axis=-1, keepdims=True)
    p: FloatArray = np.exp(logs)
    p /= p.sum(axis=-1, keepdims=True)
    return p


def _at_equal(log_nu: float) -> float:
    """Probability nu / (2 + nu) of a tie at equal scores."""
    return 1.0 / (1.0 + 2.0 * math.exp(min(-log_nu, 700.0)))


def _pseudo(log_nu: float) -> float:
    even = _at_equal(log_nu)
    return _PSEUDO * (math.log(even) + math.log1p(-even)) if 0 < even < 1 else -math.inf
