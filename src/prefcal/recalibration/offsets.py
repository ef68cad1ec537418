"""Offsets: what the order shown, the length and other traits of an answer are worth to a judge, taken off again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from prefcal.data.ragged import FloatArray, Ragged
from prefcal.distributions.base import Distribution
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import (
    Context,
    Data,
    Recalibrator,
    covariance_matrix,
    number,
    numbers,
    register,
    texts,
)
from prefcal.recalibration.conditional_logit import (
    SCALE_SD,
    ConditionalLogit,
    Maximum,
    covariance,
    maximise,
    require_information,
    shown,
    within_spread,
)
from prefcal.recalibration.scales import with_utilities
from prefcal.result import Estimate, Interval

#: Candidates for the prior standard deviation of the effects: log-odds for a typical difference within an instance.
EFFECT_SDS = (0.1, 0.2, 0.4, 0.8, 1.6)
#: The deviation at which effects are measured: so wide that it pulls them by little.
MEASURED_SD = 1.0
#: A certain pair forecast counts as the largest stated log-odds plus one of these, whichever fits best.
_BEYOND = (0.5, 1.0, 2.0, 4.0, 8.0)


@register
@dataclass(frozen=True)
class Offset(Recalibrator):
    """Scores times a scale, plus what each feature of a candidate is worth: s'_j = a s_j + sum over k of b_k f_jk.

    For judges and reward models that favour the answer shown first, the longer answer, ...: with the feature
    recorded, its effect is an intercept in the margin of a pair. For pairwise forecasts the same holds for the
    log-odds: logit p'(a before b) = scale logit p(a before b) + sum of b_k (f_ak - f_bk). Where a judge overrates
    the answer shown first, b is negative: at equal scores that answer is less likely to be the better one. In units
    of the original scores the overrating is -b_k / a, with Fieller's interval.

    Fitted by maximum likelihood with a ridge on the effects; its strength is chosen by the marginal likelihood
    (Laplace) among the prior deviations :data:`EFFECT_SDS`, so that few data, or idle features, leave the
    temperature alone. What is applied is therefore smaller than what was measured; ``estimates`` and ``describe()``
    report the measured numbers (ridge :data:`MEASURED_SD`), whose intervals cover. The order of the candidates may
    change; that is the purpose.

    Parameters
    ----------
    kind
        ``PlackettLuce`` or ``Pairwise``.
    features
        Names of the candidate features.
    scale
        a >= 0 as applied; 1 / a is the temperature.
    effects
        b as applied, log-odds for one unit more of each feature.
    measured
        a and b as measured.
    cap
        Log-odds that certain pair forecasts count as; 0 where none was.
    covariance
        Of ``measured``, row by row.
    spreads
        Typical difference (root mean square deviation within an instance) of each feature in the fitted data.
    binary
        Whether a feature was only ever 0 or 1.
    effect_sd
        The chosen prior deviation, log-odds for a typical difference within an instance.
    """

    method: ClassVar[str] = "offset"
    keeps_order: ClassVar[bool] = False
    accepts: ClassVar[tuple[str, ...]] = ("PlackettLuce", "Pairwise")
    complexity: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("item_features",)

    kind: str
    features: tuple[str, ...]
    scale: float
    effects: tuple[float, ...]
    measured: tuple[float, ...]
    cap: float
    covariance: tuple[float, ...]
    spreads: tuple[float, ...]
    binary: tuple[bool, ...]
    effect_sd: float

    @classmethod
    def fit(cls, data: Data, *, item_features: Sequence[str] | None = None, **options: Any) -> Self:
        """Fit scale and effects.

        Parameters
        ----------
        data
            With ``item_features``, finite numbers of each candidate.
        item_features
            Names of those to use; default: all.

        Raises
        ------
        UsageError
            For unknown options or features, and without any feature.
        DataError
            For a feature that never differs within an instance, and where no outcome tells an order.
        """
        cls.refuse_options(options, "item_features")
        names = tuple(data.item_features) if item_features is None else tuple(item_features)
        if not names:
            raise UsageError(
                "the offset map needs item features, e.g. item_features={'shown_first': ..., 'length': ...}: one "
                "number for each candidate"
            )
        columns = _covariates(data.h, names, data.item_features)
        spreads = np.array([within_spread(column, data.h.sizes, data.weights) for column in columns.T])
        for name, spread in zip(names, spreads, strict=True):
            if spread == 0.0:
                raise DataError(
                    "never differs between the candidates of an instance: its effect cannot be known; leave it out",
                    field=name,
                )
        if isinstance(data.h, PlackettLuce):
            cap, unit, likelihood = 0.0, *_scores_likelihood(data, columns / spreads)
        else:
            cap, unit, likelihood = _best_cap(data, columns / spreads)
        found, prior, _ = _best(likelihood, (MEASURED_SD,))
        applied, _, effect_sd = _best(likelihood, EFFECT_SDS)
        units = np.concatenate([[unit], spreads])
        cov = covariance(found, prior, data.units) / np.outer(units, units)
        if found.parameters[0] == 0.0:  # held there
            cov[0], cov[:, 0] = 0.0, 0.0
        scale, *effects = (applied.parameters / units).tolist()
        measured = tuple((found.parameters / units).tolist())
        binary = tuple(bool(np.isin(column, (0.0, 1.0)).all()) for column in columns.T)
        return cls(
            type(data.h).__name__, names, scale, tuple(effects), measured, cap, tuple(cov.ravel().tolist()),
            tuple(spreads.tolist()), binary, effect_sd,
        )  # fmt: skip

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`; needs the item features of the fit."""
        if type(h).__name__ != self.kind:
            raise UsageError(f"this offset map was fitted on {self.kind} forecasts, got {type(h).__name__}")
        columns = _covariates(h, self.features, context.item_features)
        with np.errstate(over="ignore", invalid="ignore"):
            shift = columns @ np.array(self.effects)
        if isinstance(h, PlackettLuce):
            with np.errstate(over="ignore", invalid="ignore"):
                return with_utilities(h, self.scale * h.scores.values + shift)
        assert isinstance(h, Pairwise)
        by_item = shift.reshape(len(h), h.n_items)
        with np.errstate(over="ignore", invalid="ignore"):
            log_odds = self.scale * _capped(h, self.cap) + (by_item[:, :, None] - by_item[:, None, :])
        # Both directions from one exponential, so that they sum to 1.
        return Pairwise(0.5 + 0.5 * np.tanh(0.5 * log_odds))

    def _covariance(self) -> FloatArray:
        p = 1 + len(self.features)
        return np.array(self.covariance).reshape(p, p)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``scale``, each feature's correction in log-odds, and by how many score units it was overrated.

        The latter, ``NAME (score units)``, only where the scale is distinguishable from 0.
        """
        cov, beta = self._covariance(), self.measured
        se = np.sqrt(np.maximum(np.diag(cov), 0.0)).tolist()
        out = {"scale": Estimate(beta[0], _interval(beta[0], se[0]))}
        for k, name in enumerate(self.features, start=1):
            out[name] = Estimate(beta[k], _interval(beta[k], se[k]), "log-odds for one unit more")
        for k, name in enumerate(self.features, start=1):
            found = _ratio(beta[k], beta[0], float(cov[k, k]), float(cov[0, k]), float(cov[0, 0]))
            if found is not None:
                out[f"{name} (score units)"] = Estimate(
                    -beta[k] / beta[0], (-found[1], -found[0]), "by how much the scores overrate one unit more"
                )
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        found = self.estimates["scale"]
        if self.scale == 0.0:
            return (
                "the scores carry negative or no information about these outcomes once the features are known: they "
                "are ignored (scale 0), not flipped",
            )
        if found.interval is not None and found.interval[0] <= 0:
            return ("the scores carry no detectable information about these outcomes: the scale's interval holds 0",)
        return ()

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        estimates = self.estimates
        what = "Scores" if self.kind == "PlackettLuce" else "Log-odds"
        text = [f"{what} are multiplied by {shown(estimates['scale'])} and corrected for candidate features"]
        for k, name in enumerate(self.features):
            change = f"being {name}" if self.binary[k] else f"one unit more of {name}"
            in_units = estimates.get(f"{name} (score units)")
            in_log_odds = f"{shown(estimates[name], '+')} in log-odds"
            if in_units is None:
                effect = f"{change} is corrected by {in_log_odds}"
            else:
                word, turned = ("over", in_units) if in_units.value >= 0 else ("under", _negative(in_units))
                unit = "score units" if self.kind == "PlackettLuce" else "of the model's log-odds"
                effect = f"{change} is {word}rated by {shown(turned)} {unit} (corrected by {in_log_odds})"
            typical = "" if self.binary[k] else f"; a typical difference within an instance is {self.spreads[k]:.3g}"
            text.append(f"{effect}{typical}")
        applied = ", ".join(f"{b:+.3g}" for b in self.effects)
        text.append(f"applied, after shrinkage towards 0: {self.scale:.3g} and {applied}")
        if self.cap:
            text.append(f"certain forecasts count as log-odds of {self.cap:.3g}")
        return "; ".join(text) + "."

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "kind": self.kind, "features": list(self.features), "scale": self.scale, "effects": list(self.effects),
            "measured": list(self.measured),
            "cap": self.cap, "covariance": list(self.covariance), "spreads": list(self.spreads),
            "binary": list(self.binary), "effect_sd": self.effect_sd,
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        kind, names, binary = values.get("kind"), texts(values, "features"), values.get("binary")
        if kind not in cls.accepts:
            raise DataError(
                f"must be one of {', '.join(cls.accepts)}, got {str(kind)[:40]!r}", field="parameters.kind"
            )
        if not names:
            raise DataError("must name at least one feature", field="parameters.features")
        k = len(names)
        if not isinstance(binary, list) or len(binary) != k or not all(isinstance(x, bool) for x in binary):
            raise DataError(
                f"must be a list of {k} of true, false, got {str(binary)[:40]!r}", field="parameters.binary"
            )
        cov = covariance_matrix(values, k + 1)
        return cls(
            str(kind), names, number(values, "scale", low=0.0), numbers(values, "effects", length=k),
            numbers(values, "measured", length=k + 1),
            number(values, "cap", low=0.0), cov, numbers(values, "spreads", length=k, low=0.0), tuple(binary),
            number(values, "effect_sd", low=0.0),
        )  # fmt: skip


def _covariates(h: Distribution, names: tuple[str, ...], given: Mapping[str, Ragged]) -> FloatArray:
    """(nnz, k) features of the candidates, flat; UsageError or DataError where they do not fit the forecasts."""
    columns = []
    for name in names:
        if name not in given:
            raise UsageError(
                f"the offset map needs the item feature {name!r}; given: {', '.join(map(repr, given)) or 'none'}"
            )
        column = given[name]
        if len(column) != len(h) or (column.sizes != h.sizes).any():
            raise DataError("must hold one number for each candidate of each instance", field=name)
        if not np.isfinite(column.values).all():
            raise DataError("must hold finite numbers", field=name)
        columns.append(column.values)
    return np.stack(columns, axis=1)


def _scores_likelihood(data: Data, columns: FloatArray) -> tuple[float, ConditionalLogit]:
    assert isinstance(data.h, PlackettLuce)
    scores = data.h.scores
    unit = within_spread(scores.values, scores.sizes, data.weights) or 1.0
    likelihood = ConditionalLogit(data, np.column_stack([scores.values / unit, columns]))
    require_information(likelihood)
    return unit, likelihood


def _best_cap(data: Data, columns: FloatArray) -> tuple[float, float, ConditionalLogit]:
    """What certain forecasts count as, by likelihood; the unit of the log-odds; the likelihood with that."""
    h = data.h
    assert isinstance(h, Pairwise)
    n, m = len(h), h.n_items
    first, second = np.triu_indices(m, 1)
    raw = h.pair_log_odds(first, second)
    ranks = data.y.dense()
    y = np.where(ranks[:, first] < ranks[:, second], 1.0, 0.0)
    known = ((y == 1.0) | (ranks[:, first] > ranks[:, second])) & ~np.isnan(raw)
    rows, pair = np.nonzero(known)
    by_item = columns.reshape(n, m, -1)
    features = by_item[rows, first[pair]] - by_item[rows, second[pair]]
    certain = np.isinf(raw[known])
    largest = float(np.abs(raw[known][~certain]).max(initial=0.0))
    caps = [0.0] if not certain.any() else ([1.0] if largest == 0.0 else [largest + step for step in _BEYOND])
    best: tuple[float, float, ConditionalLogit] | None = None
    highest = -math.inf
    for cap in caps:
        margin = np.where(certain, np.sign(raw[known]) * cap, raw[known])
        unit = math.sqrt(float(np.average(margin**2, weights=data.weights[rows]))) if margin.any() else 1.0
        x = np.column_stack([margin / unit, features])
        likelihood = ConditionalLogit.of_pairs(n, x, y[known], data.weights[rows], rows)
        require_information(likelihood)
        found, _, _ = _best(likelihood, (MEASURED_SD,))
        if best is None or found.value > highest:
            best, highest = (cap, unit, likelihood), found.value
    assert best is not None
    return best


def _best(likelihood: ConditionalLogit, deviations: tuple[float, ...]) -> tuple[Maximum, FloatArray, float]:
    """The penalised maximum with scale >= 0, its prior precision, and the effects' prior deviation by evidence."""
    p, start = likelihood.p, np.zeros(likelihood.p)
    best: tuple[float, Maximum, FloatArray, float] | None = None
    for sd in deviations:
        prior = np.diag([SCALE_SD**-2] + [sd**-2] * (p - 1))
        found = maximise(likelihood.derivatives, likelihood.value, start, np.zeros(p), prior)
        start = found.parameters
        if start[0] <= 0:  # never flip the scores
            prior[0, 0] = 1e30
            found = maximise(likelihood.derivatives, likelihood.value, np.zeros(p), np.zeros(p), prior)
            found.parameters[0] = 0.0
        x, free = found.parameters, np.diag(prior) < 1e20
        _, logdet = np.linalg.slogdet((found.information + prior)[np.ix_(free, free)])
        evidence = found.value - 0.5 * float(x @ prior @ x) - 0.5 * float(logdet) - (p - 1) * math.log(sd)
        if best is None or evidence > best[0]:
            best = evidence, found, prior, sd
    assert best is not None
    return best[1], best[2], best[3]


def _capped(h: Pairwise, cap: float) -> FloatArray:
    """(n, m, m) log-odds, certain forecasts counted as +-cap (as +-36, the largest a double can say, if cap is 0)."""
    p = h.probs
    with np.errstate(divide="ignore"):
        log_odds = np.log(p) - np.log1p(-p)
    limit = cap or 36.0
    out: FloatArray = np.where(np.isinf(log_odds), np.sign(log_odds) * limit, log_odds)
    return out


def _interval(value: float, se: float) -> Interval:
    return (value - Z95 * se, value + Z95 * se)


def _ratio(b: float, a: float, var_b: float, cov: float, var_a: float) -> Interval | None:
    """Fieller's 95 % interval of b / a; None where a may be 0, since the ratio may be anything then."""
    square = Z95**2
    lead = a * a - square * var_a
    if a <= 0 or lead <= 0:
        return None
    middle = (a * b - square * cov) / lead
    half = math.sqrt(max(middle * middle - (b * b - square * var_b) / lead, 0.0))
    return (middle - half, middle + half)


def _negative(found: Estimate) -> Estimate:
    assert found.interval is not None
    return Estimate(-found.value, (-found.interval[1], -found.interval[0]))
