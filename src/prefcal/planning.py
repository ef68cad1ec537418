"""How many instances does it take to see a calibration error? Power of the audit's own test, by simulation."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import prefcal
from prefcal.audited import write_files
from prefcal.auditing import ALPHA, MONTE_CARLO_DRAWS
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import Ragged
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.staged import StagedPlackettLuce
from prefcal.errors import DataError, UsageError, require_number
from prefcal.estimators.events import Items, family_for
from prefcal.estimators.inputs import check_alignment, per_record
from prefcal.estimators.null import MONTE_CARLO_BUDGET
from prefcal.estimators.rejections import Rejections, RepeatedTest, crossing
from prefcal.estimators.tempered import ResidualLaw, TemperedTruth
from prefcal.notions.notion import Notion
from prefcal.result import Estimate, Interval

if TYPE_CHECKING:
    from prefcal.data.source import InputInfo

Observed = Literal["ranks", "best", "pairs"]
OBSERVED: tuple[Observed, ...] = ("ranks", "best", "pairs")
#: Instances that stand for the population in one replicate.
POPULATION = 10_000
#: Pairs of candidates that it may have (about 100 bytes each); long lists make it smaller, down to 30 instances.
POPULATION_PAIRS = 5_000_000
#: Largest number of candidates of a made-up population.
MOST_CANDIDATES = 1_000
REPLICATES = 5
MOST = 1e8  # instances; a plan that needs more is none
_T975 = 2.7764451051977987  # Student's t with REPLICATES - 1 degrees of freedom
_LEAST = 10
_WARPED = (0.02, 50.0)


@dataclasses.dataclass(frozen=True, slots=True)
class PowerPoint:
    """The share of data sets of ``n`` instances in which the audit rejects calibration."""

    n: int
    power: Estimate


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What :func:`power` found.

    Parameters
    ----------
    n
        Instances for the power asked for, with a 95 % interval of the simulation; infinite beyond ``MOST``.
    points
        Power at several numbers of instances, by increasing n.
    ece
        The population's binned error at the temperature: what the audit's ``debiased`` estimates.
    temperature
        What the scores should be divided by.
    settings
        Everything else that the numbers depend on.
    inputs
        The file whose forecasts are the population, if one is.
    """

    n: Estimate
    points: list[PowerPoint]
    ece: Estimate
    temperature: float
    settings: dict[str, Any]
    inputs: list[InputInfo] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "schema": 1,
            "prefcal": prefcal.__version__,
            "inputs": [i.record() for i in self.inputs],
            "settings": self.settings,
            "effect": {"temperature": self.temperature, "ece": _record(self.ece)},
            "n": _record(self.n),
            "power": [{"n": p.n, **_record(p.power)} for p in self.points],
            "warnings": self.warnings,
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The JSON document as text; written to ``path`` if one is given."""
        text = json.dumps(self.document(), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
        if path is not None:
            write_files({os.fspath(path): text})
        return text


def power(
    n: int | Iterable[int] = (),
    *,
    m: int = 4,
    notion: str | Notion = "sub-2",
    temperature: float | None = None,
    ece: float | None = None,
    spread: float = 1.0,
    observed: Observed | None = None,
    forecasts: Distribution | None = None,
    outcomes: Outcomes | None = None,
    items: Items = "exchangeable",
    bins: int = 15,
    alpha: float = ALPHA,
    target: float = 0.8,
    seed: int = 0,
) -> Plan:
    """Plan an audit: the instances it takes to reject calibration when the forecasts' temperature is wrong.

    Parameters
    ----------
    n
        Numbers of instances whose power is wanted; default: some around the answer.
    m, spread
        Items of an instance, and the standard deviation of their normal log-utilities: the population of
        forecasts, unless ``forecasts`` is given.
    notion
        What will be audited: a scalar notion of at most ``CELL_LIMIT`` members x bins.
    temperature
        The error to detect: the truth is ``forecasts.scaled(1 / temperature)``, so scores (or what else ``tempered``
        names) divided by it. Above 1 the model is over-confident. Default 1.25 (or what ``ece`` says).
    ece
        Instead of ``temperature``: the population's binned error to detect, of an over-confident model.
    observed
        What each instance lets one see: ``ranks`` (the whole ranking), ``best`` (the best item), ``pairs`` (the order
        of two items drawn at random). Default ``ranks``, or what ``outcomes`` show.
    forecasts, outcomes
        Forecasts that stand for the population, of any distribution with a temperature, and observations like those
        to come.
    items, bins
        As in :func:`prefcal.audit`.
    alpha, target
        Size of the test and the power wanted.
    seed
        Of everything random.

    Returns
    -------
    Plan

    Raises
    ------
    UsageError, DataError
        For settings outside their range, notions without a law here (see
        :class:`~prefcal.estimators.tempered.TemperedTruth`), or forecasts without a usable event.

    Notes
    -----
    "Detected" means that the audit's p-values reject: the cluster-robust one, and the exact one as long as the audit
    can afford it (``MONTE_CARLO_BUDGET``). Power comes from normal residual sums of the bins, whose mean and
    covariance are made from the forecasts; it was checked against whole audits. Intervals are over ``REPLICATES``
    independent repetitions, each with its own forecasts, outcomes and draws: they tell the error of the simulation.
    About two seconds at the defaults.

    Examples
    --------
    >>> import prefcal as pc
    >>> plan = pc.power(m=2, temperature=2.0)
    >>> plan.n.interval[0] < plan.n.value < plan.n.interval[1]
    True
    """
    name = notion if isinstance(notion, str) else notion.name
    _check(m, spread, temperature, ece, bins, alpha, target, seed, observed)
    asked = sorted({*([n] if isinstance(n, int | np.integer) else n)})
    for size in asked:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 2 <= size <= MOST:
            raise UsageError(f"n must be a whole number of instances from 2 to {MOST:g}, got {size!r}")
    seeds = np.random.SeedSequence([seed, 11]).spawn(REPLICATES)
    population = _Population(m, spread, observed, forecasts, outcomes, Notion.parse(name), items, bins)
    first = population.draw(np.random.default_rng(seeds[0]))
    at = temperature if temperature is not None else 1.25 if ece is None else _temperature_of(first, ece)
    runs = [_Run(population, s, at, alpha) for s in seeds]
    place = [r.instances(target) for r in runs]
    note = f"instances for power {target:g}; the interval is of the simulation ({REPLICATES} repetitions)"
    if any(x is None for x in place):
        needed = Estimate(math.inf, note=f"more than {MOST:g} instances, or out of reach at this error")
    else:
        logs = _mean(np.log([x for x in place if x is not None]))
        assert logs.interval is not None
        needed = Estimate(math.exp(logs.value), (math.exp(logs.interval[0]), math.exp(logs.interval[1])), note)
    if not asked and math.isfinite(needed.value):
        asked = sorted({max(_LEAST, _rounded(needed.value * f)) for f in (0.25, 0.5, 1.0, 2.0)})
    points = []
    for size in asked:
        rates = _mean([r.rejections(size).rate for r in runs])
        assert rates.interval is not None
        low, high = max(rates.interval[0], 0.0), min(rates.interval[1], 1.0)
        points.append(PowerPoint(int(size), Estimate(rates.value, (low, high), "the interval is of the simulation")))
    error = _mean([r.truth.ece for r in runs])
    settings = {
        "notion": name, "items": items, "m": list(population.sizes), "observed": population.observed,
        "population": "the given forecasts" if forecasts is not None else f"normal log-utilities, spread {spread:g}",
        "divided": "the scores" if forecasts is None else forecasts.tempered,
        "bins": bins, "alpha": alpha, "target": target, "seed": seed, "replicates": REPLICATES,
        "events_per_instance": runs[0].events, "test": "binned error; exact and cluster-robust null law must reject",
    }  # fmt: skip
    return Plan(needed, points, error, float(at), settings)


class _Population:
    """Where forecasts and outcomes of a planned data set come from."""

    def __init__(
        self, m: int, spread: float, observed: Observed | None, forecasts: Distribution | None,
        outcomes: Outcomes | None, notion: Notion, items: Items, bins: int,
    ) -> None:  # fmt: skip
        self.m, self.spread, self.notion, self.items, self.bins = m, spread, notion, items, bins
        if forecasts is not None and not isinstance(forecasts, Distribution):
            raise UsageError(
                f"forecasts must be a distribution, PlackettLuce(scores), got {type(forecasts).__name__}"
            )
        if outcomes is not None and (forecasts is None or observed is not None):
            raise UsageError("outcomes go with forecasts, and instead of observed")
        if forecasts is not None and outcomes is not None:
            forecasts, _ = per_record(forecasts, outcomes, None)
            check_alignment(forecasts, outcomes)
        self.h, self.y = forecasts, outcomes
        self.observed: str = "as in the outcomes given" if outcomes is not None else observed or "ranks"
        if not notion.is_scalar(m if forecasts is None else forecasts.n_items):
            raise UsageError(f"{notion.name} is a vector notion: power is known for scalar notions")
        sizes = np.array([m]) if forecasts is None else forecasts.sizes
        self.sizes = (int(sizes.min()), int(sizes.max()))
        pairs = max(self.sizes[1] * (self.sizes[1] - 1) // 2, 1)
        most = min(POPULATION, max(POPULATION_PAIRS // pairs, 30))
        self.drawn = most if forecasts is None else min(len(forecasts), most)

    def draw(self, rng: np.random.Generator) -> TemperedTruth:
        """A sample of the population, looked at by the notion."""
        if self.h is None:
            h: Distribution = PlackettLuce(rng.normal(scale=self.spread, size=(self.drawn, self.m)))
            rows = np.arange(self.drawn)
        else:
            n = len(self.h)
            rows = np.arange(n) if n == self.drawn else np.sort(rng.choice(n, self.drawn, replace=False))
            h = self.h[rows]
        y = self.y[rows] if self.y is not None else _seen(h, self.observed, rng)
        if self.y is not None:
            y = Outcomes(y.ranks, y.ties, np.arange(len(y), dtype=np.intp))
        family = family_for(self.notion, self.items, h, ties_equal=y.ties == "equal")
        model = TemperedTruth(h, y, family, bins=self.bins)
        if model.n == 0:
            raise DataError(f"{self.notion.name}: no instance would have a usable event: {family.unusable}")
        return model


def _seen(h: Distribution, observed: str, rng: np.random.Generator) -> Outcomes:
    """Outcomes of which only the shape counts: what each instance lets one see."""
    sizes = h.sizes
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    ranks = (place + 1).astype(np.float64)
    if observed == "best":
        ranks = np.where(place == 0, 1.0, 2.0)
    elif observed == "pairs":
        key = rng.random(len(place)) + np.repeat(np.arange(len(h)), sizes)
        chosen = np.empty(len(place))
        chosen[np.argsort(key, kind="stable")] = place  # a random order within each instance
        ranks = np.where(chosen < 2, chosen + 1.0, np.nan)
    columns = h.scores.columns if isinstance(h, PlackettLuce | StagedPlackettLuce) else None
    return Outcomes(Ragged(ranks, offsets, columns, h.n_items), "unknown", np.arange(len(h), dtype=np.intp))


class _Run:
    """One replicate: its laws, and the power at any number of instances."""

    truth: ResidualLaw

    def __init__(
        self, population: _Population, seed: np.random.SeedSequence, temperature: float, alpha: float
    ) -> None:
        rng = np.random.default_rng(seed)
        model = population.draw(rng)
        # The share of instances that have an event: n counts all of them.
        self.share = model.n / population.drawn
        self.null, self.truth = model.law(1.0, rng), model.law(temperature, rng)
        self.events = model.n_events / population.drawn
        self.simulable = population.h is None or population.h.has_rankings
        self.alpha, self.seed = alpha, seed.spawn(1)[0]

    def rejections(self, n: float) -> Rejections:
        """How often calibration is rejected with ``n`` instances."""
        test = RepeatedTest(
            self.null, instances=max(n * self.share, 2.0), rng=np.random.default_rng(self.seed), alpha=self.alpha,
            exact=self.simulable and n * self.events * MONTE_CARLO_DRAWS <= MONTE_CARLO_BUDGET,
        )  # fmt: skip
        return test.rejections(self.truth)

    def instances(self, target: float) -> float | None:
        """The number of instances at which power reaches ``target``; None beyond ``MOST``."""
        found = crossing(  # the probit of power is nearly linear in the root of n
            lambda root: (self.rejections(root * root), self.truth.ece), math.sqrt(100.0), math.sqrt(MOST), target
        )
        return None if found is None else found[0] ** 2


def _temperature_of(model: TemperedTruth, ece: float) -> float:
    """The temperature above 1 whose population error is ``ece``. Raises UsageError if none has so large an error."""

    def error(log_t: float) -> float:
        return model.law(math.exp(log_t), np.random.default_rng(0)).ece

    low, high = 0.0, math.log(_WARPED[1])
    most = error(high)
    if most < ece:
        raise UsageError(
            f"no over-confidence of these forecasts has an error of {ece:g}: at most {most:.3f} is possible"
        )
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if error(middle) < ece else (low, middle)
        if high - low < 1e-4:
            break
    return math.exp(0.5 * (low + high))


def _mean(values: Iterable[float]) -> Estimate:
    """Mean of the replicates with its t-interval."""
    array = np.fromiter(values, dtype=np.float64)
    half = _T975 * float(array.std(ddof=1)) / math.sqrt(len(array))
    middle = float(array.mean())
    return Estimate(middle, (middle - half, middle + half))


def _rounded(x: float) -> int:
    """Two significant digits."""
    scale = 10.0 ** max(math.floor(math.log10(x)) - 1, 0)
    return int(round(x / scale) * scale)


def _record(e: Estimate) -> dict[str, Any]:
    def plain(x: float) -> float | None:
        return x if math.isfinite(x) else None

    interval: Interval | None = e.interval
    return {
        "value": plain(e.value),
        "interval": None if interval is None else [plain(x) for x in interval],
        "note": e.note,
    }


def _check(
    m: int, spread: float, temperature: float | None, ece: float | None, bins: int, alpha: float, target: float,
    seed: int, observed: str | None,
) -> None:  # fmt: skip
    for what, number, least in (("m", m, 2), ("bins", bins, 1), ("seed", seed, 0)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise UsageError(f"{what} must be a whole number, at least {least}, got {number!r}")
    if m > MOST_CANDIDATES:
        raise UsageError(f"m must be at most {MOST_CANDIDATES}, got {m}")
    for what, value in (
        ("spread", spread), ("temperature", temperature), ("ece", ece), ("alpha", alpha), ("target", target),
    ):  # fmt: skip
        if value is not None or what in ("spread", "alpha", "target"):
            require_number(what, value)
    if not 0 < spread < 1e6:
        raise UsageError(f"spread must be a positive number below 1e6, got {spread!r}")
    if temperature is not None and ece is not None:
        raise UsageError("give the temperature or the ece to detect, not both")
    if temperature is not None and (not _WARPED[0] <= temperature <= _WARPED[1] or temperature == 1):
        raise UsageError(f"temperature must be from {_WARPED[0]} to {_WARPED[1]:g} and not 1, got {temperature!r}")
    if ece is not None and not 0 < ece < 1:
        raise UsageError(f"ece must be between 0 and 1, got {ece!r}")
    if not 0.001 <= alpha <= 0.5:
        raise UsageError(f"alpha must be from 0.001 to 0.5, got {alpha!r}")
    if not alpha < target <= NormalDist().cdf(3.5):
        raise UsageError(f"target must be above alpha and at most 0.999, got {target!r}")
    if observed is not None and observed not in OBSERVED:
        raise UsageError.unknown("observation", observed, OBSERVED)
