"""A mixture with the uniform distribution: what a saturated forecast needs, and no temperature can give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import BLOCK_ELEMENTS, FloatArray, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import Context, Data, Recalibrator, number, numbers, register
from prefcal.recalibration.choices import choices, pair_choices
from prefcal.recalibration.conditional_logit import (
    LOG_LIMIT,
    LOG_SD,
    Maximum,
    best_line,
    covariance,
    maximise,
    saved_line,
    shown,
)
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.recalibration.temperature import Temperature
from prefcal.result import Estimate

#: Pseudo-observations: this many that only the uniform part could have made, this many that only the model could.
_UNIFORM_COUNT, _MODEL_COUNT = 0.25, 4.75
_STARTS = (0.02, 0.2)


class WithUniform(Mixture):
    """(1 - epsilon) times a distribution plus epsilon times the uniform one, for lists of any length.

    A :class:`Mixture` of ``base`` and Plackett-Luce with equal scores. Since the uniform part adds the same to every
    ranking, the most probable ranking is that of ``base``, exactly and at its cost.

    Examples
    --------
    >>> h = WithUniform(PlackettLuce([[50.0, 0.0]]), 0.1)
    >>> h.marginal("top-1").probs.round(6).tolist()
    [[[0.95, 0.05]]]
    """

    def __init__(self, base: Distribution, epsilon: float) -> None:
        flat: Distribution
        if isinstance(base, PlackettLuce):
            flat = PlackettLuce(base.scores.with_values(np.zeros(len(base.scores.values))))
        else:
            flat = PlackettLuce(np.zeros((len(base), base.n_items)))
        self.components = (base, flat)
        self.weights = np.broadcast_to(np.array([1.0 - epsilon, epsilon]), (len(base), 2))

    @property
    def sizes(self) -> IntArray:
        """(n,) number of items of each instance."""
        return self.components[0].sizes

    @property
    def has_labels(self) -> bool:
        """Whether item j is the same item in every instance; False for lists of unequal length."""
        return self.components[0].has_labels

    def __getitem__(self, index: Any) -> WithUniform:
        part = object.__new__(WithUniform)
        part.components = tuple(c[index] for c in self.components)
        part.weights = self.weights[: len(part.components[0])]  # the same for all
        return part

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
        """See :meth:`Distribution.blocks`; as ``base`` is split."""
        for block in self.components[0].blocks(elements):
            yield Block(block.rows, WithUniform(block.dist, float(self.weights[0, 1])), block.columns)

    def mode(self) -> IntArray:
        """(n, m) a most probable ordering: that of ``base``."""
        return self.components[0].mode()


@register
@dataclass(frozen=True)
class Uniform(Recalibrator):
    """h' = (1 - epsilon) h + epsilon uniform; for Plackett-Luce, h with its scores times a scale fitted jointly.

    A model that is certain, and sometimes wrong, has infinite log loss at every temperature; a small epsilon mends it
    and leaves the rest as it is. Every pair keeps its order: odds move towards 1. Pairwise forecasts become
    (1 - epsilon) p + epsilon / 2.

    Fitted by maximum likelihood of what was observed, with pseudo-observations: a quarter of a record that only
    the uniform part could have made and 4.75 that only the model could. So epsilon is never 0: n certain forecasts
    that came true do not show that the next one will.

    Parameters
    ----------
    kind
        Class of the forecasts.
    epsilon
        In (0, 1).
    log_scale
        Log of the factor of the scores; 0 unless Plackett-Luce.
    covariance
        (4,) of (log_scale, logit epsilon), row by row; zeros for a fixed scale.
    line
        The temperature map of the same data, whose warnings say whether the scores carry information; None unless
        Plackett-Luce.
    """

    method: ClassVar[str] = "uniform"
    keeps_order: ClassVar[bool] = True
    accepts: ClassVar[tuple[str, ...]] = (
        "PlackettLuce", "StagedPlackettLuce", "Mallows", "BabingtonSmith", "Categorical", "Samples", "Mixture",
        "Pairwise",
    )  # fmt: skip
    complexity: ClassVar[int] = 2

    kind: str
    epsilon: float
    log_scale: float
    covariance: tuple[float, ...]
    line: Temperature | None

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit epsilon, and the scale of Plackett-Luce scores; no options.

        Raises
        ------
        DataError
            Where no outcome tells an order, the scores are equal within every instance, or what was observed has no
            exact likelihood (see :func:`prefcal.recalibration.likelihood.observed_log_prob`).
        """
        if options:
            raise UsageError(f"the uniform map has no option {next(iter(options))!r}; it has none")
        h = data.h
        line, center, log_spread = None, 0.0, 0.0
        if isinstance(h, PlackettLuce):
            line, spread, center = best_line(data)
            log_spread = math.log(spread)
        terms = _Terms(data, log_spread)
        if not terms.told:
            raise DataError("no outcome says which of two items is better: there is nothing to fit on")
        free = terms.scaled
        prior = np.diag([LOG_SD**-2 if free else 1e30, 0.0])
        mean = np.array([center, 0.0])
        best: tuple[float, Maximum] | None = None
        for start in _STARTS:
            x0 = np.array([center + (1.0 if free and start > 0.1 else 0.0), math.log(start / (1 - start))])
            found = maximise(terms.derivatives, terms.value, x0, mean, prior)
            away = found.parameters - mean
            score = found.value - 0.5 * float(away @ prior @ away)
            if best is None or score > best[0]:
                best = score, found
        assert best is not None
        found = best[1]
        x, z = found.parameters.tolist()
        epsilon = _logistic(z)
        pull = prior + np.diag([0.0, (_UNIFORM_COUNT + _MODEL_COUNT) * epsilon * (1 - epsilon)])
        plain = Maximum(found.parameters, found.value, found.by_record[:-1], found.information - pull + prior)
        cov = covariance(plain, pull, data.units)
        if not free:
            cov[0], cov[:, 0] = 0.0, 0.0
        return cls(type(h).__name__, epsilon, x - log_spread if free else 0.0, tuple(cov.ravel().tolist()), line)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        if type(h).__name__ != self.kind:
            raise UsageError(f"this uniform map was fitted on {self.kind} forecasts, got {type(h).__name__}")
        if isinstance(h, Pairwise):
            return Pairwise((1 - self.epsilon) * h.probs + 0.5 * self.epsilon)
        if isinstance(h, PlackettLuce):
            h = h.scaled(math.exp(self.log_scale))
        return WithUniform(h, self.epsilon)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``epsilon``, and ``temperature`` for Plackett-Luce."""
        z, se = math.log(self.epsilon) - math.log1p(-self.epsilon), math.sqrt(self.covariance[3])
        out = {"epsilon": Estimate(self.epsilon, (_logistic(z - Z95 * se), _logistic(z + Z95 * se)))}
        if self.kind == "PlackettLuce":
            se = math.sqrt(self.covariance[0])
            low, value, high = (math.exp(min(c * Z95 * se - self.log_scale, 700.0)) for c in (-1, 0, 1))
            out["temperature"] = Estimate(value, (low, high))
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        found = () if self.line is None else self.line.warnings
        if self.epsilon > 0.5:
            found += (f"more than half of every forecast becomes uniform (epsilon = {self.epsilon:.2g})",)
        return found

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        words = {name: shown(found) for name, found in self.estimates.items()}
        first = f"scores are divided by {words['temperature']}, and then " if "temperature" in words else ""
        what = "each pair's probability" if self.kind == "Pairwise" else "each forecast"
        part = "1/2" if self.kind == "Pairwise" else "the uniform distribution over all rankings"
        return (
            f"{first}{what} is mixed with {part}, at a weight of {words['epsilon']}: no probability is below that "
            "weight times its uniform value. The order of the candidates is kept."
        )

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "kind": self.kind, "epsilon": self.epsilon, "log_scale": self.log_scale,
            "covariance": list(self.covariance),
            "line": None if self.line is None else self.line.parameters(),
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        kind = values.get("kind")
        if kind not in cls.accepts:
            raise DataError(
                f"must be one of {', '.join(cls.accepts)}, got {str(kind)[:40]!r}", field="parameters.kind"
            )
        epsilon = number(values, "epsilon", low=0.0, high=1.0)
        if epsilon in (0.0, 1.0):
            raise DataError(f"must lie strictly between 0 and 1, got {epsilon:g}", field="parameters.epsilon")
        line = saved_line(values) if kind == "PlackettLuce" else None
        if line is None and values.get("line") is not None:
            raise DataError("belongs to PlackettLuce forecasts only", field="parameters.line")
        cov = numbers(values, "covariance", length=4)
        if cov[0] < 0 or cov[3] < 0:
            raise DataError("must have no negative variance on its diagonal", field="parameters.covariance")
        return cls(
            str(kind), epsilon, number(values, "log_scale", low=-700.0, high=700.0), cov,
            line,
        )  # fmt: skip


class _Terms:
    """Log-likelihood of (log scale in units of 1 / spread, logit epsilon), each term a mixture of two probabilities.

    A term is a record, or a pair of a record for pairwise forecasts. The last row of the gradients is the
    pseudo-observations.
    """

    def __init__(self, data: Data, log_spread: float) -> None:
        h, y = data.h, data.y
        self.n = len(data)
        self.scaled = isinstance(h, PlackettLuce)
        if isinstance(h, Pairwise):
            pairs = [(np.arange(self.n)[c.rows], c.log_prob(1.0)) for c in pair_choices(h, y)]
            self.rows = np.concatenate([r for r, _ in pairs]) if pairs else np.zeros(0, dtype=np.intp)
            self.log_p = np.concatenate([p for _, p in pairs]) if pairs else np.zeros(0)
            self.log_q = np.full(len(self.rows), -math.log(2.0))
        else:
            shape = h.scores.with_values(np.zeros(len(h.scores.values))) if isinstance(h, PlackettLuce) else None
            flat = PlackettLuce(np.zeros((self.n, h.n_items)) if shape is None else shape)
            log_q = observed_log_prob(flat, y)
            self.rows = np.flatnonzero(~np.isnan(log_q))
            self.log_q = log_q[self.rows]
            self.log_p = np.zeros(0)
            if isinstance(h, PlackettLuce):
                spread = math.exp(log_spread)
                self.choices = choices(PlackettLuce(h.scores.with_values(h.scores.values / spread)), y)
            else:
                self.log_p = observed_log_prob(h, y)[self.rows]
        self.weights = data.weights[self.rows]

    @property
    def told(self) -> bool:
        """Whether some record says anything about an order."""
        return bool((self.weights > 0).any())

    def _model(self, log_scale: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log probability of each term under the scaled model, and its derivatives by the log scale."""
        if not self.scaled:
            zero = np.zeros(len(self.rows))
            return self.log_p, zero, zero
        scale = math.exp(log_scale)
        total = np.zeros((3, self.n))
        for choice in self.choices:
            for k, part in enumerate(choice.jets(scale)):
                total[k][choice.rows] += part
        log_p, first, second = total[:, self.rows]
        return log_p, scale * first, scale * scale * second + scale * first

    def _shares(self, x: FloatArray) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray, FloatArray]]:
        """Log of each term's mixture, and the uniform part's share in it."""
        jets = self._model(float(x[0]))
        uniform = self.log_q - np.logaddexp(0.0, -x[1])
        log_f = np.logaddexp(uniform, jets[0] - np.logaddexp(0.0, x[1]))
        return log_f, np.exp(uniform - log_f), jets

    def value(self, x: FloatArray) -> float:
        """Log-likelihood with the pseudo-observations; -inf outside the bounds."""
        if self.scaled and abs(x[0]) > LOG_LIMIT:
            return -math.inf
        return float(self.weights @ self._shares(x)[0]) + _pseudo(float(x[1]))

    def derivatives(self, x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """See :data:`prefcal.recalibration.conditional_logit.Derivatives`."""
        log_f, share, (_, first, second) = self._shares(x)
        epsilon, w, other = _logistic(float(x[1])), self.weights, 1.0 - share
        by_record = np.zeros((self.n + 1, 2))
        np.add.at(by_record, self.rows, w[:, None] * np.stack([other * first, share - epsilon], axis=1))
        counts = _UNIFORM_COUNT + _MODEL_COUNT
        by_record[-1, 1] = _UNIFORM_COUNT - counts * epsilon
        xx = float(w @ (other * second + share * other * first**2))
        xz = float(w @ (-share * other * first))
        zz = float(w @ (share * other)) - (float(w.sum()) + counts) * epsilon * (1 - epsilon)
        values, vectors = np.linalg.eigh(-np.array([[xx, xz], [xz, zz]]))
        # Not concave everywhere: where it bends upwards, step by the size of the bend.
        information = (vectors * np.maximum(np.abs(values), 1e-12)) @ vectors.T
        return float(w @ log_f) + _pseudo(float(x[1])), by_record, information


def _pseudo(z: float) -> float:
    return -_UNIFORM_COUNT * float(np.logaddexp(0.0, -z)) - _MODEL_COUNT * float(np.logaddexp(0.0, z))


def _logistic(z: float) -> float:
    return 0.5 + 0.5 * math.tanh(0.5 * z) if z > -20 else math.exp(z)
