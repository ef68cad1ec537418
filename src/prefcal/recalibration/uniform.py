"""A mixture with the uniform distribution: what a saturated forecast needs, and no temperature can give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import BLOCK_ELEMENTS, IntArray
from prefcal.distributions.base import Block, Distribution
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.base import Context, Data, Recalibrator, covariance_matrix, number, register
from prefcal.recalibration.conditional_logit import shown
from prefcal.recalibration.mixing import (
    fit_mixture,
    saved_mixture_line,
    saved_weight,
    temperature_estimate,
    weight_estimate,
)
from prefcal.recalibration.temperature import WORDS, Temperature, information_warnings
from prefcal.result import Estimate


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
    """h' = (1 - epsilon) h + epsilon uniform, h at a temperature that is fitted jointly where it has one.

    A model that is certain, and sometimes wrong, has infinite log loss at every temperature; a small epsilon mends it
    and leaves the rest as it is. Every pair keeps its order: odds move towards 1. Pairwise forecasts become
    (1 - epsilon) p + epsilon / 2.

    Plackett-Luce, Categorical and Pairwise forecasts are first brought to a temperature, as by
    :class:`~prefcal.recalibration.temperature.Temperature` (with Categorical, pairs may then change sides: it is the
    order of the listed rankings that is kept). The uniform part is over all m! rankings, listed or not: how many
    rankings a forecast lists at probability 0 makes no difference. Records of probability 0 at every temperature
    are left to the uniform part; where there are no others, the temperature stays 1.

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
        Log of 1 / temperature; 0 where there is none.
    covariance
        (4,) of (log_scale, logit epsilon), row by row; zeros for a fixed scale.
    line
        The temperature map of the same data, whose slope says whether the forecasts carry information; None where
        no temperature is fitted.
    """

    method: ClassVar[str] = "uniform"
    keeps_order: ClassVar[bool] = True  # of the class: Categorical keeps the order of rankings, not of candidates
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_order", self.kind != "Categorical")

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit epsilon and the temperature; no options.

        Raises
        ------
        DataError
            Where no outcome tells an order, the scores are equal within every instance, or what was observed has no
            exact likelihood (see :func:`prefcal.recalibration.likelihood.observed_log_prob`).
        """
        cls.refuse_options(options)
        found = fit_mixture(data)
        return cls(type(data.h).__name__, found.epsilon, found.log_scale, found.covariance, found.line)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        if type(h).__name__ != self.kind:
            raise UsageError(f"this uniform map was fitted on {self.kind} forecasts, got {type(h).__name__}")
        if self.line is not None:
            h = h.scaled(math.exp(self.log_scale))
        if isinstance(h, Pairwise):
            return Pairwise((1 - self.epsilon) * h.probs + 0.5 * self.epsilon)
        return WithUniform(h, self.epsilon)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``epsilon``, and ``temperature`` where one is fitted."""
        out = {"epsilon": weight_estimate(self.epsilon, math.sqrt(self.covariance[3]))}
        if self.line is not None:
            out["temperature"] = temperature_estimate(self.log_scale, math.sqrt(self.covariance[0]))
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        found = () if self.line is None else information_warnings(self.line.estimates["slope"])
        if self.epsilon > 0.5:
            found += (f"more than half of every forecast becomes uniform (epsilon = {self.epsilon:.2g})",)
        return found

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        words = {name: shown(found) for name, found in self.estimates.items()}
        first = f"{WORDS[self.kind][0]} {words['temperature']}. Then " if "temperature" in words else ""
        what = f"{'e' if first else 'E'}ach {'pair' if self.kind == 'Pairwise' else 'forecast'}"
        what += "'s probability" if self.kind == "Pairwise" else ""
        part = "1/2" if self.kind == "Pairwise" else "the uniform distribution over all rankings"
        kept = WORDS[self.kind][1] if self.kind == "Categorical" else "The order of the candidates is kept."
        return (
            f"{first}{what} is mixed with {part}, at a weight of {words['epsilon']}: no probability is below that "
            f"weight times its uniform value. {kept}"
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
        epsilon = saved_weight(values)
        line = saved_mixture_line(values, str(kind))
        cov = covariance_matrix(values, 2)
        return cls(
            str(kind), epsilon, number(values, "log_scale", low=-700.0, high=700.0), cov,
            line,
        )  # fmt: skip
