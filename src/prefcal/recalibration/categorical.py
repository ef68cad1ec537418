"""Vector scaling of listed rankings: the part of Dirichlet calibration that few data bear, a power and offsets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution, chunks
from prefcal.distributions.categorical import Categorical
from prefcal.errors import DataError, UsageError
from prefcal.estimators.binned import Z95
from prefcal.recalibration.base import Context, Data, Recalibrator, covariance_matrix, number, numbers, register
from prefcal.recalibration.conditional_logit import Maximum, covariance, maximise, shown
from prefcal.recalibration.likelihood import agreeing
from prefcal.result import Estimate
from prefcal.views import View

#: Prior standard deviation of the power around 1.
_POWER_SD = 1.0
#: Candidates for the prior standard deviation of the offsets; the marginal likelihood chooses.
_OFFSET_SD = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
#: Offsets stay 0 unless they gain this much log marginal likelihood (a Bayes factor of 20).
_MARGIN = 3.0
#: Items up to which a list is extended to all rankings where something of probability 0 happened.
_EXTENDED_ITEMS = 6
#: Largest number of offsets for single rankings.
_MOST_RANKINGS = 720

# Bounds of saved parameters: products with logs of probabilities stay finite.
_LARGEST = 1e100
_STRUCTURES = ("items", "rankings", "none")


@register
@dataclass(frozen=True)
class VectorScaling(Recalibrator):
    """log p'(ranking) = power log p(ranking) + offset(ranking) + constant.

    The Dirichlet calibration of Kull et al. (2019) is log p' = W log p + b; for r rankings W has r^2 entries, far
    more than data bear. Here W is power times the identity (temperature) and b is structured by items: offset = sum
    over items a of u_a (mean rank - rank of a), m - 1 free numbers, u_a > 0 moves item a up everywhere; or one
    number for each ranking. The power has a Gaussian prior 1 +- 1, the offsets 0 +- tau, tau chosen by the marginal
    likelihood (Laplace; 0 if offsets do not gain a Bayes factor of 20).

    A power makes nothing of a probability of 0. If a ranking of probability 0 happened in the data of the fit, every
    forecast is first mixed with the uniform distribution over all m! rankings (up to 6 items), with a weight that is
    fitted; ``warnings`` says so. Otherwise zeros stay. Either way it makes no difference which rankings are listed at
    probability 0.

    Parameters
    ----------
    structure
        ``items``, ``rankings`` or ``none``.
    n_items
        m.
    power
        >= 0.
    offsets
        (m,) u, sums to 0, for ``items``; one number for each of ``orders`` for ``rankings``; empty for ``none``.
    orders
        The rankings that have an offset, best..worst (``rankings`` only); others have 0.
    floor
        Weight of the uniform mixture over all m! rankings; 0 where none was needed.
    impossible
        Number of records of the fit that had probability 0.
    covariance
        Of (power, offsets), row by row.
    """

    method: ClassVar[str] = "vector-scaling"
    keeps_order: ClassVar[bool] = False
    accepts: ClassVar[tuple[str, ...]] = ("Categorical",)
    complexity: ClassVar[int] = 4

    structure: str
    n_items: int
    power: float
    offsets: tuple[float, ...]
    orders: tuple[tuple[int, ...], ...]
    floor: float
    impossible: int
    covariance: tuple[float, ...]

    @classmethod
    def fit(cls, data: Data, *, structure: str = "items", **options: Any) -> Self:
        """Fit power and offsets.

        Parameters
        ----------
        data
            Categorical forecasts and outcomes.
        structure
            ``items``: one offset an item; ``rankings``: one for each listed ranking; ``none``: the power alone.

        Raises
        ------
        DataError
            Where no outcome tells an order, or something of probability 0 happened and there are more than 6 items.
        """
        cls.refuse_options(options, "structure")
        if structure not in _STRUCTURES:
            raise UsageError.unknown("structure", str(structure), _STRUCTURES)
        h = data.h
        assert isinstance(h, Categorical)
        m = h.n_items
        ranks = data.y.dense()
        with np.errstate(invalid="ignore"):
            told = np.flatnonzero((ranks > 1).any(axis=1) & (data.weights > 0))
        if len(told) == 0:
            raise DataError("no outcome says which of two items is better: there is nothing to fit on")
        orders, probs = h.orders, h.probs[told]
        agree = agreeing(orders[None], ranks[told])
        zero = (probs * agree).sum(axis=1) == 0
        impossible = int(zero.sum())
        floor = 0.0
        if impossible:
            if m > _EXTENDED_ITEMS:
                raise DataError(
                    f"something happened that had probability 0 ({impossible} such records of {len(told)}), so no "
                    f"power or offset helps, and all {m}! rankings are too many to list; method='back-off' "
                    "and method='uniform' give every ranking a probability",
                    row=f"instance {int(told[zero][0])}",
                )
            orders, probs = _extended(orders, probs)
            agree = agreeing(orders[None], ranks[told])
            floor = _floor(probs, agree, data.weights[told])
        if structure == "rankings" and len(orders) > _MOST_RANKINGS:
            raise UsageError(
                f"one offset for each of {len(orders)} rankings is too many (at most {_MOST_RANKINGS}); use "
                "structure='items'"
            )
        covariates = _covariates(structure, orders, m)
        likelihood = _Likelihood(_mixed(probs, floor), agree, covariates, data.weights[told], told, len(data))
        k = covariates.shape[1]
        best: tuple[float, Maximum, FloatArray, float] | None = None
        for tau in _OFFSET_SD if k else (0.0,):
            found, prior = likelihood.fit(tau)
            away = found.parameters - np.eye(1, k + 1)[0]
            score = found.value - 0.5 * float(away @ prior @ away)
            free = np.diag(prior) < 1e20
            _, logdet = np.linalg.slogdet((found.information + prior)[np.ix_(free, free)])
            score += -0.5 * float(logdet) - (k * math.log(tau) if tau else 0.0)
            if best is None or score > best[0] + (_MARGIN if best[3] == 0.0 else 0.0):
                best = score, found, prior, tau
        assert best is not None
        _, found, prior, tau = best
        cov = covariance(found, prior, data.units)
        held = np.diag(prior) > 1e20
        found.parameters[1:][held[1:]] = 0.0
        cov[held], cov[:, held] = 0.0, 0.0
        power, *free_offsets = found.parameters.tolist()
        offsets = free_offsets
        if structure == "items":  # to m offsets that sum to 0
            turn = np.zeros((m + 1, m))
            turn[0, 0] = 1.0
            turn[1:, 1:] = _contrasts(m)
            cov = turn @ cov @ turn.T
            offsets = (_contrasts(m) @ np.array(free_offsets)).tolist()
        listed = tuple(tuple(o) for o in orders.tolist()) if structure == "rankings" else ()
        return cls(structure, m, power, tuple(offsets), listed, floor, impossible, tuple(cov.ravel().tolist()))

    def apply(self, h: Distribution, context: Context) -> Distribution:
        """See :meth:`Recalibrator.apply`."""
        assert isinstance(h, Categorical)
        m = self.n_items
        if h.n_items != m:
            raise DataError(f"this map was fitted on forecasts about {m} items, these are about {h.n_items}")
        orders, probs = _extended(h.orders, h.probs) if self.floor else (h.orders, h.probs)
        shift = np.zeros(len(orders))
        if self.structure == "items":
            shift = _rank_leads(orders) @ np.array(self.offsets)
        elif self.structure == "rankings":
            known = dict(zip(self.orders, self.offsets, strict=True))
            shift = np.array([known.get(tuple(o), 0.0) for o in orders.tolist()])
        probs = _mixed(probs, self.floor)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(probs > 0, self.power * np.log(probs) + shift, -np.inf)
        logs -= logs.max(axis=1, keepdims=True)
        out = np.exp(logs)
        out /= out.sum(axis=1, keepdims=True)
        return Categorical(orders, out)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """``power``, and ``item_0`` .. or ``ranking_0`` .. offsets; the note says where offsets were not needed."""
        size = 1 + len(self.offsets)
        se = np.sqrt(np.maximum(np.diag(np.array(self.covariance).reshape(size, size)), 0.0)).tolist()
        out = {"power": Estimate(self.power, _interval(self.power, se[0]))}
        word = "item" if self.structure == "items" else "ranking"
        for k, value in enumerate(self.offsets):
            interval = _interval(value, se[k + 1])
            note = "" if interval else "held at 0: offsets do not gain enough"
            out[f"{word}_{k}"] = Estimate(value, interval, note)
        return out

    @property
    def warnings(self) -> tuple[str, ...]:
        """See :attr:`Recalibrator.warnings`."""
        found: tuple[str, ...] = ()
        if self.impossible:
            found += (
                f"{self.impossible} records of the fit had probability 0: forecasts are first mixed with the uniform "
                f"distribution over all rankings (weight {self.floor:.3g})",
            )
        interval = self.estimates["power"].interval
        if self.power == 0.0:
            found += ("the forecasts carry negative or no information: their power is 0, they are not flipped",)
        elif interval is not None and interval[0] <= 0:
            found += ("the forecasts carry no detectable information: the power's interval holds 0",)
        return found

    def describe(self) -> str:
        """See :meth:`Recalibrator.describe`."""
        estimates = self.estimates
        text = f"probabilities are raised to the power {shown(estimates['power'])}"
        if self.floor:
            text = f"forecasts are mixed with a uniform part of weight {self.floor:.3g}, then {text}"
        free = [(name, e) for name, e in estimates.items() if name != "power" and e.interval is not None]
        if free:
            free.sort(key=lambda pair: -abs(pair[1].value))
            most = ", ".join(f"{name.replace('_', ' ')} {shown(e, '+')}" for name, e in free[:4])
            unit = "log-odds for each place up" if self.structure == "items" else "log-odds"
            text += f", and offsets are added ({unit}; the largest: {most})"
        elif self.structure != "none":
            text += "; the data do not show that offsets are needed"
        return f"{text}. Probabilities are then normalised."

    def parameters(self) -> dict[str, Any]:
        """See :meth:`Recalibrator.parameters`."""
        return {
            "structure": self.structure, "n_items": self.n_items, "power": self.power, "offsets": list(self.offsets),
            "orders": [list(o) for o in self.orders], "floor": self.floor, "impossible": self.impossible,
            "covariance": list(self.covariance),
        }  # fmt: skip

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """See :meth:`Recalibrator.from_parameters`."""
        structure, orders = values.get("structure"), values.get("orders")
        if structure not in _STRUCTURES:
            raise DataError(
                f"must be one of {', '.join(_STRUCTURES)}, got {str(structure)[:40]!r}", field="parameters.structure"
            )
        m, impossible = (_whole(values, name, low) for name, low in (("n_items", 1), ("impossible", 0)))
        if not isinstance(orders, list):
            raise DataError(f"must be a list, got {str(orders)[:40]!r}", field="parameters.orders")
        for i, order in enumerate(orders):
            whole = isinstance(order, list) and all(type(x) is int for x in order)
            if not whole or sorted(order) != list(range(m)):
                raise DataError(
                    f"must be a permutation of 0..{m - 1}, got {str(order)[:40]!r}", field=f"parameters.orders[{i}]"
                )
        listed = tuple(tuple(o) for o in orders)
        if len(set(listed)) != len(listed):
            raise DataError("names a ranking twice", field="parameters.orders")
        size = {"items": m, "rankings": len(listed), "none": 0}[str(structure)]
        if listed and structure != "rankings":
            raise DataError("belongs to structure 'rankings' only", field="parameters.orders")
        cov = covariance_matrix(values, size + 1)
        floor = number(values, "floor", low=0.0, high=1.0)
        if floor and m > _EXTENDED_ITEMS:
            raise DataError(f"must be 0 beyond {_EXTENDED_ITEMS} items, not with {m}", field="parameters.floor")
        return cls(
            str(structure), m, number(values, "power", low=0.0, high=_LARGEST),
            numbers(values, "offsets", length=size, low=-_LARGEST, high=_LARGEST), listed, floor, impossible, cov,
        )  # fmt: skip


class _Likelihood:
    """Log-likelihood of (power, offsets' coordinates): log of the sum over what agrees, minus that over all."""

    def __init__(
        self, probs: FloatArray, agree: npt.NDArray[np.bool_], covariates: FloatArray, weights: FloatArray,
        rows: IntArray, n: int,
    ) -> None:  # fmt: skip
        with np.errstate(divide="ignore"):
            self.logs = np.log(probs)
        self.possible = probs > 0
        self.logs[~self.possible] = 0.0
        self.agree, self.covariates, self.weights, self.rows, self.n = agree, covariates, weights, rows, n

    def fit(self, tau: float) -> tuple[Maximum, FloatArray]:
        """Penalised maximum with power >= 0 and the prior precision (1e30 for what is held)."""
        k = self.covariates.shape[1]
        mean = np.eye(1, k + 1)[0]
        prior = np.diag([_POWER_SD**-2] + [1e30 if tau == 0.0 else tau**-2] * k)
        found = maximise(self.derivatives, self.value, mean, mean, prior)
        if found.parameters[0] <= 0:  # never flip
            prior[0, 0], mean = 1e30, np.zeros(k + 1)
            found = maximise(self.derivatives, self.value, mean, mean, prior)
            found.parameters[0] = 0.0
        return found, prior

    def _weights(self, x: FloatArray, rows: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Log-likelihoods (b,), and the rankings' shares (b, r) given what happened and before."""
        logs = np.where(self.possible[rows], x[0] * self.logs[rows] + self.covariates @ x[1:], -np.inf)
        logs -= logs.max(axis=1, keepdims=True)
        before = np.exp(logs)
        after = before * self.agree[rows]
        total, part = before.sum(axis=1), after.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(part) - np.log(total), after / part[:, None], before / total[:, None]

    def value(self, x: FloatArray) -> float:
        parts = (float(self.weights[rows] @ self._weights(x, rows)[0]) for rows in self._chunks())
        return sum(parts)

    def _chunks(self) -> list[slice]:
        return list(chunks(len(self.rows), self.agree.shape[1]))

    def derivatives(self, x: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        k = len(x)
        value, by_record, information = 0.0, np.zeros((self.n, k)), np.zeros((k, k))
        for rows in self._chunks():
            log_p, after, before = self._weights(x, rows)
            w = self.weights[rows]
            value += float(w @ log_p)
            mean_after, mean_before = self._means(after, rows), self._means(before, rows)
            by_record[self.rows[rows]] = w[:, None] * (mean_after - mean_before)
            information += self._spread(before, mean_before, w, rows) - self._spread(after, mean_after, w, rows)
        values, vectors = np.linalg.eigh(information)
        # With partial outcomes the likelihood is not concave everywhere: step by the size of the bend there.
        return value, by_record, (vectors * np.maximum(np.abs(values), 1e-12)) @ vectors.T

    def _means(self, shares: FloatArray, rows: slice) -> FloatArray:
        return np.column_stack([(shares * self.logs[rows]).sum(axis=1), shares @ self.covariates])

    def _spread(self, shares: FloatArray, mean: FloatArray, w: FloatArray, rows: slice) -> FloatArray:
        """Weighted sum over records of the covariance of the covariates under the shares."""
        k = mean.shape[1]
        out = np.empty((k, k))
        logs = self.logs[rows]
        pooled = w @ shares
        out[0, 0] = float(w @ (shares * logs**2).sum(axis=1))
        out[0, 1:] = out[1:, 0] = (w @ (shares * logs)) @ self.covariates
        out[1:, 1:] = (self.covariates * pooled[:, None]).T @ self.covariates
        centred: FloatArray = out - (mean * w[:, None]).T @ mean
        return centred


def _covariates(structure: str, orders: IntArray, m: int) -> FloatArray:
    """(r, k) covariates of the free offset coordinates."""
    match structure:
        case "items":
            return _rank_leads(orders) @ _contrasts(m)
        case "rankings":
            return np.eye(len(orders))
        case _:
            return np.zeros((len(orders), 0))


def _rank_leads(orders: IntArray) -> FloatArray:
    """(r, m) mean rank minus the rank of each item."""
    m = orders.shape[1]
    leads: FloatArray = (m - 1) / 2 - np.argsort(orders, axis=1)
    return leads


def _contrasts(m: int) -> FloatArray:
    """(m, m - 1) orthonormal columns that sum to 0: offsets of all items by the same amount change nothing."""
    basis = np.zeros((m, m - 1))
    for j in range(1, m):  # Helmert
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -j
        basis[:, j - 1] /= math.sqrt(j * (j + 1))
    return basis


def _extended(orders: IntArray, probs: FloatArray) -> tuple[IntArray, FloatArray]:
    """All m! rankings in lexicographic order, those that were not listed with probability 0."""
    m = orders.shape[1]
    every = View("full").outcomes(m)[0] if m > 1 else orders
    place = {tuple(o): i for i, o in enumerate(every.tolist())}
    out = np.zeros((len(probs), len(every)))
    out[:, [place[tuple(o)] for o in orders.tolist()]] = probs
    return every, out


def _mixed(probs: FloatArray, floor: float) -> FloatArray:
    if floor == 0.0:
        return probs
    mixed: FloatArray = (1.0 - floor) * probs + floor / probs.shape[1]
    return mixed


def _floor(probs: FloatArray, agree: npt.NDArray[np.bool_], weights: FloatArray) -> float:
    """Weight of a uniform mixture by maximum likelihood, by expectation-maximisation of a concave problem.

    Pseudo-observations: half a record that only the uniform part could have made, half that only the model could.
    """
    p, q = (probs * agree).sum(axis=1), agree.mean(axis=1)
    floor, total = 0.1, float(weights.sum()) + 1.0
    for _ in range(10_000):
        share = floor * q / (floor * q + (1.0 - floor) * p)
        new = (float(weights @ share) + 0.5) / total
        if abs(new - floor) < 1e-12:
            break
        floor = new
    return floor


def _whole(values: Mapping[str, Any], name: str, low: int) -> int:
    value = values.get(name)
    if type(value) is not int or not low <= value <= 1 << 31:
        raise DataError(f"must be a whole number >= {low}, got {str(value)[:40]!r}", field=f"parameters.{name}")
    return value


def _interval(value: float, se: float) -> tuple[float, float] | None:
    return (value - Z95 * se, value + Z95 * se) if se else None
