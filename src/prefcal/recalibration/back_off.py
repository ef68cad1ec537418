"""Room for rankings that a list calls impossible, near those that it lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.distributions.base import Distribution
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.mixture import Mixture
from prefcal.distributions.smoothed import Smoothed
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import Context, Data, Recalibrator, covariance_matrix, number, register
from prefcal.recalibration.conditional_logit import shown
from prefcal.recalibration.mixing import (
    LOG_THETA_LIMIT,
    fit_mixture,
    saved_mixture_line,
    saved_weight,
    temperature_estimate,
    weight_estimate,
)
from prefcal.recalibration.temperature import WORDS, Temperature, information_warnings
from prefcal.result import Estimate


@register
@dataclass(frozen=True)
class BackOff(Recalibrator):
    """h' = (1 - epsilon) h + epsilon (h smoothed by the Mallows kernel), h at a temperature that is fitted jointly.

    A list of rankings (a classifier that was shown some of the m!) gives probability 0 to all others, and one of them
    happens. The uniform mixture of :class:`~prefcal.recalibration.uniform.Uniform` makes that possible, but says of
    such a ranking that any is as likely as any other: where much weight is needed, all pairs drift towards 1/2. Here
    the second part is the forecast itself, each listed ranking replaced by a Mallows distribution around it
    (:class:`~prefcal.distributions.smoothed.Smoothed`), with one dispersion phi for all: a ranking is the likelier,
    the fewer pairs it orders otherwise than the listed ones. phi = 1 is the uniform mixture.

    Fitted by maximum likelihood of what was observed, with the pseudo-observations of the uniform map and a Gaussian
    prior 0 +- 1 on log theta, theta = -log phi. The temperature is that of the first part; the second is smoothed
    from the probabilities as they came. It makes no difference which rankings are listed at probability 0. Partial
    rankings (other than pairs and best items) are enumerated once, up to 7 items.

    The result is a :class:`~prefcal.distributions.mixture.Mixture`: all its marginals are exact. Its most probable
    ranking is found by comparing all m!, so only for few items.

    Parameters
    ----------
    epsilon
        In (0, 1).
    theta
        Positive; phi = exp(-theta).
    log_scale
        Log of 1 / temperature; 0 where there is none.
    covariance
        (9,) of (log_scale, logit epsilon, log theta), row by row; zeros for a fixed scale.
    line
        The temperature map of the same data, whose slope says whether the forecasts carry information; None where
        no temperature is fitted.

    References
    ----------
    G. Lebanon, Y. Mao (2008), Non-parametric modeling of partially ranked data, JMLR 9.
    """

    method: ClassVar[str] = "back-off"
    keeps_order: ClassVar[bool] = False
    accepts: ClassVar[tuple[str, ...]] = ("Categorical",)
    complexity: ClassVar[int] = 3

    epsilon: float
    theta: float
    log_scale: float
    covariance: tuple[float, ...]
    line: Temperature | None

    @classmethod
    def fit(cls, data: Data, **options: Any) -> Self:
        """Fit epsilon, theta and the temperature; no options.

        Raises
        ------
        DataError
            Where no outcome tells an order, or a partial ranking of more than 7 items was observed.
        """
        cls.refuse_options(options)
        found = fit_mixture(data, smoothed=True)
        return cls(found.epsilon, math.exp(found.log_theta), found.log_scale, found.covariance, found.line)

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, Categorical)
        base = h if self.line is None else h.scaled(math.exp(self.log_scale))
        smoothed = Smoothed(h, math.exp(-self.theta))
        return Mixture([base, smoothed], [1.0 - self.epsilon, self.epsilon])

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``epsilon``, ``dispersion`` (phi), and ``temperature`` where one is fitted."""
        se = np.sqrt(np.array(self.covariance)[::4]).tolist()
        low, high = (math.exp(-math.exp(min(math.log(self.theta) + c * Z95 * se[2], 700.0))) for c in (1, -1))
        out = {
            "epsilon": weight_estimate(self.epsilon, se[1]),
            "dispersion": Estimate(math.exp(-self.theta), (low, high)),
        }
        if self.line is not None:
            out["temperature"] = temperature_estimate(self.log_scale, se[0])
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        if self.epsilon > 0.5:  # few records are left to tell what the listed probabilities are worth
            return (
                f"more than half of every forecast (epsilon = {self.epsilon:.2g}) is smoothed over rankings near the "
                "listed ones: the list itself misses much of what happens",
            )
        return () if self.line is None else information_warnings(self.line.estimates["slope"])

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        words = {name: shown(found) for name, found in self.estimates.items()}
        first = f"{WORDS['Categorical'][0]} {words['temperature']}. Then " if "temperature" in words else ""
        return (
            f"{first}each forecast is mixed, at a weight of {words['epsilon']}, with itself smoothed over near "
            f"rankings (Mallows dispersion {words['dispersion']}): what it called impossible becomes the likelier, "
            "the nearer it is to what it lists. The most probable best candidate may change."
        )

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "epsilon": self.epsilon, "theta": self.theta, "log_scale": self.log_scale,
            "covariance": list(self.covariance), "line": None if self.line is None else self.line.parameters(),
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        epsilon = saved_weight(values)
        largest = math.exp(LOG_THETA_LIMIT)
        theta = number(values, "theta", low=1.0 / largest, high=largest)
        cov = covariance_matrix(values, 3)
        return cls(
            epsilon, theta, number(values, "log_scale", low=-700.0, high=700.0), cov,
            saved_mixture_line(values, "Categorical"),
        )  # fmt: skip
