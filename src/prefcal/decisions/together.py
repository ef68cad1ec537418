"""All decisions at once, for one model and for the same model mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefcal.data.outcomes import Outcomes
from prefcal.decisions.abstention import PROMISES, Abstention
from prefcal.decisions.abstention import measure as measure_abstention
from prefcal.decisions.best_of_n import BestOfN
from prefcal.decisions.best_of_n import measure as measure_best_of_n
from prefcal.decisions.choices import Choice, gather, known_choice
from prefcal.decisions.filtering import FRACTIONS, THRESHOLDS, Filtering
from prefcal.decisions.filtering import measure as measure_filtering
from prefcal.decisions.kl_weight import KLWeight, kl_weight
from prefcal.decisions.routing import COSTS, Routing
from prefcal.decisions.routing import measure as measure_routing
from prefcal.decisions.uncertainty import Statistic
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError, require_whole
from prefcal.result import Estimate, plain


@dataclass(frozen=True, slots=True)
class Costs:
    """What one model's claims are worth in each use; None where the use does not apply."""

    best_of_n: BestOfN | None
    abstention: Abstention | None
    routing: Routing | None
    filtering: Filtering | None
    kl_weight: KLWeight | None


@dataclass(frozen=True, slots=True)
class Change:
    """A number before and after, and after minus before on the same instances with its paired 95 % interval."""

    name: str
    before: float
    after: float
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Decisions:
    """What :func:`decisions` found.

    Parameters
    ----------
    before, after
        The model as it is, and mended (None without ``mended``).
    changes
        Paired differences of every number that both have.
    not_applicable
        Use -> why it was not computed.
    n_instances
        Outcome records.
    """

    before: Costs
    after: Costs | None
    changes: tuple[Change, ...]
    not_applicable: dict[str, str]
    n_instances: int

    def change(self, name: str) -> Change:
        """One paired difference; UsageError, with the names there are, if there is none."""
        for c in self.changes:
            if c.name == name:
                return c
        raise UsageError.unknown("change", name, [c.name for c in self.changes])

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def decisions(
    h: Distribution,
    y: Outcomes,
    *,
    mended: Distribution | None = None,
    choice: Choice | None = None,
    sizes: Sequence[int] | None = None,
    promises: Sequence[float] = PROMISES,
    costs: Sequence[float] = COSTS,
    thresholds: Sequence[float] = THRESHOLDS,
    fractions: Sequence[float] = FRACTIONS,
    beta: float = 1.0,
    weights: Any = None,
    clusters: Any = None,
    draws: int = 400,
    seed: int = 0,
) -> Decisions:
    """What a model's miscalibration costs: best-of-n, abstention, routing, data filtering, KL weight.

    Parameters
    ----------
    h, y
        Forecasts and outcomes.
    mended
        The same model recalibrated, on the same instances; it must not have been fitted on them (hold out or
        cross-fit).
    choice
        What abstention and routing decide: the ``best`` candidate or the order of each ``pair``; default ``best``
        where the best candidate of some instance is known.
    sizes, promises, costs, thresholds, fractions, beta
        See the single functions.
    weights, clusters
        As in :func:`prefcal.audit`.
    draws, seed
        Of the bootstrap of reachable coverages, and of the halves behind the regret of routing.

    Returns
    -------
    Decisions
        Uses that do not apply (pairwise probabilities have no best of n, only Plackett-Luce has rewards, ...) are
        None and named in ``not_applicable``.

    Raises
    ------
    DataError, UsageError
        Forecasts that do not fit the outcomes, options outside their ranges, no known outcome at all.

    Examples
    --------
    >>> import numpy as np
    >>> import prefcal as pc
    >>> rng = np.random.default_rng(0)
    >>> honest = pc.PlackettLuce(rng.normal(size=(1000, 4)))
    >>> y = pc.Outcomes.from_orders(honest.sample(1, rng)[:, 0])
    >>> found = decisions(honest.scaled(3.0), y, mended=honest)
    >>> found.change("best of 4: optimism").difference.interval[1] < 0
    True
    """
    require_whole("seed", seed, 0)
    require_whole("draws", draws, 0)
    models = [h] if mended is None else [h, mended]
    if mended is not None and len(mended) != len(h):
        raise DataError(f"{len(h)} forecasts but {len(mended)} mended ones; they must be of the same instances")
    chosen: Choice = choice or known_choice(y, h)
    skipped: dict[str, str] = {}
    found: list[dict[str, Any]] = [{} for _ in models]
    statistics: list[dict[str, Statistic]] = [{} for _ in models]

    def attempt(use: str, compute: Any) -> None:
        try:
            results = compute()
        except Inapplicable as reason:
            skipped[use] = str(reason)
            return
        for place, numbers, (result, more) in zip(found, statistics, results, strict=True):
            place[use] = result
            numbers.update(more)

    attempt("best_of_n", lambda: _best_of_n(models, y, sizes, weights, clusters))
    options = {"weights": weights, "clusters": clusters}
    gathered = _gathered(models, y, chosen, options)
    attempt(
        "abstention",
        lambda: [measure_abstention(c, chosen, promises=promises, draws=draws, seed=seed) for c in _need(gathered)],
    )
    attempt("routing", lambda: [measure_routing(c, chosen, costs=costs, seed=seed) for c in _need(gathered)])
    pairs = gathered if chosen == "pair" else _gathered(models, y, "pair", options)
    attempt(
        "filtering",
        lambda: [measure_filtering(c, thresholds=thresholds, fractions=fractions) for c in _need(pairs)],
    )
    attempt("kl_weight", lambda: _kl_weights(models, y, beta, weights, clusters, pairs))
    if len(skipped) == 5:
        raise DataError("no decision has a known outcome: " + "; ".join(dict.fromkeys(skipped.values())))
    every = [Costs(**{use: place.get(use) for use in Costs.__slots__}) for place in found]
    changes: list[Change] = []
    if mended is not None:
        first, second = statistics
        for name in first:
            if name in second:
                difference = second[name].minus(first[name])
                changes.append(Change(name, first[name].value, second[name].value, difference.estimate()))
    return Decisions(every[0], every[1] if mended is not None else None, tuple(changes), skipped, len(y))


def compare_decisions(h_raw: Distribution, h_new: Distribution, y: Outcomes, **options: Any) -> Decisions:
    """:func:`decisions` of two models on the same instances; ``changes`` are ``h_new`` minus ``h_raw``."""
    return decisions(h_raw, y, mended=h_new, **options)


class Inapplicable(Exception):
    """A use has no meaning for these forecasts or outcomes; never leaves this module."""


def _gathered(models: list[Distribution], y: Outcomes, choice: Choice, options: dict[str, Any]) -> Any:
    """Decisions of all models, or the reason why there are none."""
    if choice == "best" and not all(h.has_best for h in models):
        return Inapplicable("pairwise probabilities do not say which of several candidates is best")
    try:
        return gather(models, y, choice=choice, **options)
    except DataError as error:
        if "no decision has a known outcome" in str(error) or "nothing to decide" in str(error):
            return Inapplicable(str(error))
        raise


def _need(gathered: Any) -> Any:
    if isinstance(gathered, Inapplicable):
        raise gathered
    return gathered


def _best_of_n(models: list[Distribution], y: Outcomes, sizes: Any, weights: Any, clusters: Any) -> list[Any]:
    if not all(h.has_rankings for h in models):
        raise Inapplicable("pairwise probabilities do not say who is best of some of the candidates")
    if known_choice(y, models[0]) == "pair":
        raise Inapplicable("the best item is not known in any instance of two or more candidates")
    return [measure_best_of_n(h, y, sizes=sizes, weights=weights, clusters=clusters) for h in models]


def _kl_weights(
    models: list[Distribution], y: Outcomes, beta: float, weights: Any, clusters: Any, pairs: Any
) -> list[Any]:
    _need(pairs)
    other = [type(h).__name__ for h in models if not isinstance(h, PlackettLuce)]
    if other:
        raise Inapplicable(f"rewards are scores of a Plackett-Luce model; {other[0]} has none")
    return [(kl_weight(h, y, beta=beta, weights=weights, clusters=clusters), {}) for h in models]
