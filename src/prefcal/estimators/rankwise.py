"""Rankwise errors of labelled items: one binary calibration error for each outcome, and four ways to average them.

The mean over outcomes is what ``audit(h, y, ["sub-2:rankwise"])`` reports with its null law and interval. Here the
errors themselves are kept, for views with many more outcomes than an audit takes, and by a faster way: nearly all
probabilities of a view with many outcomes lie in the first bin, so its sums are totals minus what the others hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution
from prefcal.errors import UsageError
from prefcal.estimators.cells import FINE
from prefcal.estimators.labelled import LabelledBlock, LabelledView
from prefcal.estimators.null import NullLaw, compare
from prefcal.views import View

# Sums that may be kept (outcomes x bins, times draws), float64: 1 GiB.
SUMS_LIMIT = 1 << 27

AGGREGATES = ("mean", "max", "prevalence_weighted", "mass_weighted")


@dataclass(frozen=True, slots=True)
class RankwiseErrors:
    """The binary calibration error of each outcome of a view.

    Parameters
    ----------
    view
        The view's name.
    bins
        Number of equal-width bins.
    members
        (e, length) the outcomes: ordered tuples (``sub-k``), prefixes (``top-k``), sets, or (item, rank); 0-based.
    errors
        (e,) expected calibration error of "this outcome happens", in [0, 1]; NaN where no instance tells.
    prevalence, mass
        (e,) how often the outcome happened, and its mean forecast.
    n_instances
        (e,) instances whose outcome is known.
    null
        With ``draws``: for each aggregate its null law under full calibration. For pairwise probabilities, which
        state no dependence between pairs, only the mean of ``mean`` is meaningful; p-values are NaN.
    """

    view: str
    bins: int
    members: IntArray
    errors: FloatArray
    prevalence: FloatArray
    mass: FloatArray
    n_instances: IntArray
    null: dict[str, NullLaw] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Unweighted mean over outcomes: the paper's rankwise error."""
        return float(_aggregates(self.errors, self.prevalence, self.mass)["mean"])

    @property
    def max(self) -> float:
        """The largest error of any outcome."""
        return float(_aggregates(self.errors, self.prevalence, self.mass)["max"])

    @property
    def prevalence_weighted(self) -> float:
        """Mean weighted by how often each outcome happened."""
        return float(_aggregates(self.errors, self.prevalence, self.mass)["prevalence_weighted"])

    @property
    def mass_weighted(self) -> float:
        """Mean weighted by the mean forecast of each outcome."""
        return float(_aggregates(self.errors, self.prevalence, self.mass)["mass_weighted"])


def rankwise_errors(
    h: Distribution,
    y: Outcomes,
    view: str | View,
    bins: int = 10,
    *,
    observed_only: bool = False,
    subsets: Sequence[int] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> RankwiseErrors:
    """Binary calibration error of every outcome of a view of labelled items.

    Parameters
    ----------
    h, y
        Forecasts and outcomes of n instances.
    view
        E.g. ``sub-3`` (every ordered triple) or ``top-2`` (every ordered prefix).
    bins
        Equal-width bins B; p falls in bin floor(p B), p = 1 in the last.
    observed_only
        Keep only outcomes that happened at least once: the published study's rule for 8 items and more. It favours
        outcomes that the data happen to hold, so it is biased; for comparison with published numbers.
    subsets
        Indices into ``View.members``: only these members, e.g. a sample of the subsets of ``sub-4``.
    draws
        Outcomes redrawn from h for the null law of each aggregate (0: none). Needs outcomes without ties.
    seed
        Of the draws (and of marginals that can only be sampled).

    Returns
    -------
    RankwiseErrors

    Raises
    ------
    DataError
        When forecasts and outcomes do not belong together.
    UsageError
        When the view has no meaning here, or more than 2^27 sums would have to be kept.

    Notes
    -----
    Thies et al., arXiv 2605.30447: rankwise sub-k and top-k calibration errors. Cost: the marginals, and two passes
    over them; memory for outcomes x bins x (1 + draws) numbers.

    Examples
    --------
    >>> from prefcal import Outcomes, PlackettLuce
    >>> y = Outcomes.from_orders([[0, 1, 2], [0, 2, 1], [1, 0, 2]])
    >>> found = rankwise_errors(PlackettLuce([[0.0, 0.0, 0.0]] * 3), y, "top-1")
    >>> found.members.tolist(), [round(float(e), 3) for e in found.errors]
    ([[0], [1], [2]], [0.333, 0.0, 0.333])
    """
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or not 1 <= bins <= FINE:
        raise UsageError(f"bins must be a whole number from 1 to {FINE}, got {bins!r}")
    labelled = LabelledView(h, y, view, subsets)
    labelled.check_redraw(draws)
    events = labelled.n_members * labelled.n_outcomes
    if events * bins * (1 + draws) > SUMS_LIMIT:
        raise UsageError(
            f"{labelled.view.name}: {events} outcomes x {bins} bins x {1 + draws} data sets are more than "
            f"{SUMS_LIMIT} sums; use a smaller k, fewer draws, or a sample of subsets"
        )
    half_ties = y.ties == "equal" and labelled.view == View("sub", 2)
    rng = np.random.default_rng(seed)
    sums = _Sums(labelled.n_members, labelled.n_outcomes, int(bins), 1 + int(draws))
    for block in labelled.blocks(rng, draws):
        tied = _tied(labelled, block) if half_ties else None
        sums.forecast(block.p, block.outcome >= 0 if tied is None else (block.outcome >= 0) | tied)
        sums.happened(block.p, block.outcome[None], slice(0, 1))
        if tied is not None:
            sums.tie(block.p, tied)
        if draws:
            drawn = labelled.redraw(block, draws, rng)
            steady = np.array_equal(drawn >= 0, np.broadcast_to(block.outcome >= 0, drawn.shape))
            if not steady or (tied is not None and tied.any()):
                raise UsageError(
                    "null draws need outcomes without ties: which events are known would differ from draw to draw; "
                    "pass draws=0, or use audit()"
                )
            sums.happened(block.p, drawn, slice(1, None))
    errors, prevalence = sums.errors(), sums.prevalence()
    mass, counts = sums.mean_forecast(), np.repeat(sums.known, labelled.n_outcomes)
    members = labelled.outcomes().reshape(events, -1)
    null: dict[str, NullLaw] = {}
    if draws:
        null = _null_laws(errors, prevalence, mass, observed_only, has_rankings=h.has_rankings)
    keep = prevalence[0] > 0 if observed_only else np.ones(events, dtype=bool)
    return RankwiseErrors(
        labelled.view.name, int(bins), members[keep], errors[0, keep], prevalence[0, keep], mass[keep],
        counts[keep].astype(np.intp), null,
    )  # fmt: skip


class _Sums:
    """Sums of y - p by outcome and bin, for the observed outcomes and for redrawn ones."""

    def __init__(self, members: int, outcomes: int, bins: int, sets: int) -> None:
        self.members, self.outcomes, self.bins = members, outcomes, bins
        events = members * outcomes
        self.minus_p = np.zeros(events * bins)
        self.y = np.zeros((sets, events * bins))
        self.mass = np.zeros(events)
        self.known = np.zeros(members)

    def forecast(self, p: FloatArray, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
        """Subtract the forecasts (b, G, W) of instances whose outcome is known (b, G)."""
        if not known.all():
            p = np.where(known[..., None], p, 0.0)
        self.known += known.sum(axis=0)
        events = self.members * self.outcomes
        flat = np.ascontiguousarray(p).reshape(-1)
        total = flat.reshape(-1, events).sum(axis=0)
        self.mass += total
        # Beyond the first bin; a probability one ulp below its end is sorted out by floor(p B) itself.
        index = np.flatnonzero(flat >= (1.0 - 1e-15) / self.bins)
        above, event = flat[index], index % events
        first = event * self.bins
        self.minus_p[:: self.bins] -= total
        np.add.at(self.minus_p, first, above)
        np.subtract.at(self.minus_p, first + self._bin(above), above)

    def happened(self, p: FloatArray, outcome: IntArray, sets: slice) -> None:
        """Add what happened, (sets, b, G) outcomes, -1 = not known."""
        at, row, member = np.nonzero(outcome >= 0)
        self._add(p, sets.start + at, row, member, outcome[at, row, member], 1.0)

    def tie(self, p: FloatArray, tied: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
        """Add pairs (b, G) judged equal: both orders happened by half."""
        row, member = np.nonzero(tied)
        for outcome in (0, 1):
            zeros = np.zeros_like(row)
            self._add(p, zeros, row, member, zeros + outcome, 0.5)

    def _add(
        self, p: FloatArray, at: IntArray, row: IntArray, member: IntArray, outcome: IntArray, amount: float
    ) -> None:
        cell = (member * self.outcomes + outcome) * self.bins + self._bin(p[row, member, outcome])
        np.add.at(self.y.reshape(-1), at * self.y.shape[1] + cell, amount)

    def _bin(self, p: FloatArray) -> IntArray:
        return np.minimum((p * self.bins).astype(np.intp), self.bins - 1)

    def _per_event(self, values: FloatArray) -> FloatArray:
        known = np.repeat(self.known, self.outcomes)
        means: FloatArray = np.divide(values, known, out=np.full(values.shape, np.nan), where=known > 0)
        return means

    def errors(self) -> FloatArray:
        """(sets, e) calibration errors."""
        events = self.members * self.outcomes
        residual = np.abs(self.y + self.minus_p).reshape(len(self.y), events, self.bins)
        sums: FloatArray = residual.sum(axis=2)
        return self._per_event(sums)

    def prevalence(self) -> FloatArray:
        """(sets, e) how often each outcome happened."""
        return self._per_event(self.y.reshape(len(self.y), -1, self.bins).sum(axis=2))

    def mean_forecast(self) -> FloatArray:
        """(e,) mean forecast."""
        return self._per_event(self.mass)


def _tied(labelled: LabelledView, block: LabelledBlock) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    pairs = labelled.outcomes()[:, 0]
    equal = block.ranks[:, pairs[:, 0]] == block.ranks[:, pairs[:, 1]]
    return np.asarray(equal & ~np.isnan(block.p[..., 0]))


def _aggregates(errors: FloatArray, prevalence: FloatArray, mass: FloatArray) -> dict[str, FloatArray]:
    """The four aggregates over the last axis, NaN errors left out."""
    there = ~np.isnan(errors)
    values = np.where(there, errors, 0.0)

    def weighted(weights: FloatArray) -> FloatArray:
        weights = np.where(there, weights, 0.0)
        total = weights.sum(axis=-1)
        mean = (values * weights).sum(axis=-1) / np.where(total > 0, total, 1.0)
        return np.asarray(np.where(total > 0, mean, np.nan))

    largest = np.where(there, errors, -np.inf).max(axis=-1, initial=-np.inf)
    return {
        "mean": weighted(np.ones(errors.shape)),
        "max": np.where(np.isneginf(largest), np.nan, largest),
        "prevalence_weighted": weighted(prevalence),
        "mass_weighted": weighted(np.broadcast_to(mass, errors.shape)),
    }


def _null_laws(
    errors: FloatArray, prevalence: FloatArray, mass: FloatArray, observed_only: bool, *, has_rankings: bool
) -> dict[str, NullLaw]:
    if observed_only:
        errors = np.where(prevalence > 0, errors, np.nan)
    values = _aggregates(errors, prevalence, mass)
    laws = {name: compare(float(values[name][0]), values[name][1:]) for name in AGGREGATES}
    if has_rankings:
        return laws
    return {name: NullLaw(law.mean, np.nan, law.draws) for name, law in laws.items()}
