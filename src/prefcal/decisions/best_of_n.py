"""Best-of-n optimism: how often the pick of n candidates is the best, against how often the model says so.

The n candidates are a random subset of those that were scored. The mean over subsets is exact, never sampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.decisions.subsets import expected_claims, expected_hits
from prefcal.decisions.uncertainty import Statistic, mean_of, optimism, proportion
from prefcal.distributions.base import Block, Distribution, chunks
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.stagewise import StageWise, first_probs
from prefcal.errors import DataError, UsageError, require_numbers
from prefcal.estimators.inputs import aligned, aligned_ranks
from prefcal.result import Estimate, plain
from prefcal.views import View

_SETS_ITEMS = 16  # items up to which a stage-wise model's best of every subset is summed over all of them
_TIE = 1e-12  # probabilities this close, relatively, are equal: their sums run in different orders
_MARGINAL_LIMIT = 100_800  # probabilities an instance that a sub-n marginal may take
_SUBSETS_ITEMS, _FEW = 900, 16  # with more candidates only subsets of few are counted


@dataclass(frozen=True, slots=True)
class BestOfSize:
    """Best of ``n`` candidates.

    ``claimed`` and ``realised`` are mean probabilities that the pick is the best of its subset; ``optimism`` is
    claimed minus realised, its interval for these instances' forecasts. ``chance`` = 1/n.
    """

    n: int
    claimed: Estimate
    realised: Estimate
    optimism: Estimate
    chance: float
    n_instances: int


@dataclass(frozen=True, slots=True)
class BestOfN:
    """What :func:`best_of_n` found.

    Parameters
    ----------
    subsets
        ``all``: complete rankings, every subset counts. ``with the best``: only the best item is known, so only the
        subsets that hold it count; claims are conditional on that.
    sizes
        One entry for each n.
    left_out
        n -> why it could not be computed.
    coverage
        Why instances do not enter.
    """

    subsets: str
    sizes: tuple[BestOfSize, ...]
    left_out: dict[int, str]
    coverage: dict[str, int]

    def at(self, n: int) -> BestOfSize:
        """The entry of one size; UsageError if there is none."""
        for s in self.sizes:
            if s.n == n:
                return s
        raise UsageError(f"best of {n} was not computed; sizes are {[s.n for s in self.sizes]}")

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = plain(self)
        return found


def best_of_n(
    h: Distribution, y: Outcomes, *, sizes: Sequence[int] | None = None, weights: Any = None, clusters: Any = None
) -> BestOfN:
    """Claimed against realised probability that the pick of n random candidates is the best of them.

    Parameters
    ----------
    h, y
        Forecasts and outcomes.
    sizes
        The n, each at least 2. Default: up to the number of candidates that half of the instances have at least
        (all up to 16, then powers of two, and that number).
    weights, clusters
        As in :func:`prefcal.audit`.

    Notes
    -----
    Where the full ranking is known, all C(m, n) subsets count. Where only the best item b is known, the best of a
    subset S is known if b is in S; given that, the claim for a in S is P(a best of all) / sum over S of the same,
    which for Plackett-Luce is the claim about S itself (Luce's choice axiom). The mean over subsets is exact
    (:mod:`prefcal.decisions.subsets`). With complete rankings, stage-wise models of up to 16 items are summed over
    all subsets at once, O(m^2 2^m) an instance; other distributions take their ``sub-n`` marginals, and sizes where
    these are too large are left out and named. Instances count for n if they have
    at least n candidates.

    Raises
    ------
    UsageError
        For sizes below 2, and pairwise probabilities.
    DataError
        Where the best item is not known in any instance.

    Examples
    --------
    >>> import prefcal as pc
    >>> h = pc.PlackettLuce([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> found = best_of_n(h, pc.Outcomes.from_best([0, 2], n_items=3))
    >>> [(s.n, round(s.claimed.value, 3), s.realised.value) for s in found.sizes]
    [(2, 0.748, 0.625), (3, 0.682, 0.5)]
    """
    return measure(h, y, sizes=sizes, weights=weights, clusters=clusters)[0]


def measure(
    h: Distribution, y: Outcomes, *, sizes: Sequence[int] | None, weights: Any, clusters: Any
) -> tuple[BestOfN, dict[str, Statistic]]:
    """:func:`best_of_n`, and its numbers as statistics by name."""
    if not h.has_rankings:
        raise UsageError("pairwise probabilities do not say which of several candidates is best")
    h, weight, _, codes = aligned(h, y, weights, clusters)
    known, complete = _usable(h, y)
    known &= (weight > 0) & (h.sizes >= 2)
    if not known.any():
        raise DataError("the best item is not known in any instance of two or more candidates")
    wanted = _sizes(sizes, int(np.median(h.sizes[known])))
    every = bool(complete[known].all())
    claimed, realised = np.full((2, len(y), len(wanted)), np.nan)
    left_out: dict[int, str] = {}
    for block in h.blocks():
        rows = np.arange(len(y))[block.rows]
        usable = np.flatnonzero(known[rows])
        if len(usable) == 0:
            continue
        part = Block(rows[usable], block.dist[usable], None)
        ranks = aligned_ranks(y, block)[usable]
        for k, (claim, hit) in _subsets(part.dist, ranks, wanted, every, left_out).items():
            claimed[rows[usable], k], realised[rows[usable], k] = claim, hit
    unit = np.arange(len(y), dtype=np.intp) if codes is None else codes
    n_units = int(unit.max()) + 1
    found, statistics = [], {}
    for k, n in enumerate(wanted):
        of = ~np.isnan(claimed[:, k])
        if n in left_out or not of.any():
            continue
        w, u = weight[of], unit[of]
        says, does, gap = (mean_of(v[of, k], w, u, n_units) for v in (claimed, realised, realised - claimed))
        found.append(
            BestOfSize(
                n, says.estimate(0.0, 1.0), proportion(does, w, u), optimism(says.value, does, gap, w, u), 1 / n,
                int(of.sum()),
            )
        )  # fmt: skip
        statistics[f"best of {n}: realised"] = does
        statistics[f"best of {n}: optimism"] = Statistic(-gap.value, -gap.influence)
    coverage = {"used": int(known.sum())}
    if not known.all():
        coverage["the best item is not known, or there is one candidate"] = int((~known).sum())
    return BestOfN("all" if every else "with the best", tuple(found), left_out, coverage), statistics


def _sizes(sizes: Sequence[int] | None, most: int) -> list[int]:
    if sizes is None:
        wanted = set(range(2, min(most, 16) + 1)) | {most}
        return sorted(wanted | {2**k for k in range(5, 40) if 2**k < most})
    require_numbers("sizes", sizes)
    wrong = [n for n in sizes if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2]
    if wrong or not len(sizes):
        raise UsageError(f"sizes must be whole numbers of at least 2, got {list(sizes)!r}")
    return sorted({int(n) for n in sizes})


def _usable(h: Distribution, y: Outcomes) -> tuple[Any, Any]:
    """(n,) whether the best item is known, and whether the whole ranking is."""
    known, complete = np.zeros((2, len(y)), dtype=bool)
    for block in h.blocks():
        ranks = np.sort(aligned_ranks(y, block), axis=1)
        rows = np.arange(len(y))[block.rows]
        if ranks.shape[1] < 2:
            continue
        full = ~np.isnan(ranks).any(axis=1)
        known[rows] = full & (ranks[:, 1] > ranks[:, 0])
        complete[rows] = full & (ranks[:, 1:] > ranks[:, :-1]).all(axis=1)
    return known, complete


def _subsets(
    dist: Distribution, ranks: FloatArray, wanted: list[int], every: bool, left_out: dict[int, str]
) -> dict[int, tuple[FloatArray, FloatArray]]:
    """Place in ``wanted`` -> (b,) mean claim and mean hit over the subsets of that size that count."""
    m = dist.n_items
    possible = [n for n in wanted if n <= m]
    if not possible:
        return {}
    best = ranks.argmin(axis=1)
    if every and isinstance(dist, StageWise) and m <= _SETS_ITEMS:
        claim, hit = _by_sets(dist, ranks)
        return {wanted.index(n): (claim[:, n], hit[:, n]) for n in possible}
    if every and not isinstance(dist, PlackettLuce):
        out = {}
        for n in possible:
            needed = math.perm(m, n) if n < m else m
            if needed > _MARGINAL_LIMIT:
                left_out[n] = f"{needed} probabilities for each of the instances with {m} candidates"
            else:
                out[wanted.index(n)] = _by_marginals(dist, ranks, n)
        return out
    weights = dist.scores.dense() if isinstance(dist, PlackettLuce) else dist.top_log_probs()
    out = {}
    if m > _SUBSETS_ITEMS:  # the numbers of subsets leave the range of a double: only all candidates, or few of them
        out = {wanted.index(m): _of_all(weights, best)} if m in possible else {}
        for n in [n for n in possible if _FEW < n < m]:
            left_out[n] = f"too many subsets of the instances with {m} candidates"
        possible = [n for n in possible if n <= _FEW]
        if not possible:
            return out
    top = max(possible)
    claim = expected_claims(weights, None if every else best, top)
    hit = expected_hits(weights, ranks, None if every else best, top)
    return out | {wanted.index(n): (claim[:, n], hit[:, n]) for n in possible}


def _of_all(weights: FloatArray, best: IntArray) -> tuple[FloatArray, FloatArray]:
    """(b,) claim and hit of the choice among all candidates; candidates of equal weight share it."""
    largest = weights.max(axis=1, keepdims=True)
    share = weights == largest
    hit = share[np.arange(len(weights)), best] / share.sum(axis=1)
    return 1.0 / np.exp(weights - largest).sum(axis=1), hit


def _by_sets(dist: StageWise, ranks: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(b, m + 1) mean claim and mean hit over the sets of each size, of complete rankings; column 1 is 1."""
    m = dist.n_items
    size = np.array([k.bit_count() for k in range(1 << m)])
    by_size, starts = np.argsort(size, kind="stable"), np.searchsorted(np.sort(size), np.arange(m + 1))
    claim, hit = np.zeros((2, len(dist), m + 1))
    for rows in chunks(len(dist), m << m):
        part = dist[rows]
        first = first_probs(part._log_stages(m), m)  # (sets, m, b)
        largest = first.max(axis=1, keepdims=True)
        share = first >= largest * (1.0 - _TIE)
        place = ranks[rows].T
        best = np.zeros((1, len(part)), dtype=np.intp)  # of each set, bit by bit; of the empty set it does not matter
        for j in range(m):
            with_j = np.where(place[j] < np.take_along_axis(place, best, axis=0), j, best)
            with_j[0] = j
            best = np.concatenate([best, with_j])
        right = np.take_along_axis(share, best[:, None], axis=1)[:, 0] / share.sum(axis=1)
        claim[rows] = np.add.reduceat(np.minimum(largest[:, 0], 1.0)[by_size], starts).T
        hit[rows] = np.add.reduceat(right[by_size], starts).T
    count = np.array([math.comb(m, n) for n in range(m + 1)])
    return claim / count, hit / count


def _by_marginals(dist: Distribution, ranks: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    m = dist.n_items
    view = View("sub", n)
    members = view.members(m)
    claim, hit = np.empty((2, len(dist)))
    for rows in chunks(len(dist), math.perm(m, n)):
        part = dist[rows]
        if n == m:
            first = np.exp(part.top_log_probs())[:, None, :]
        else:
            probs = part.marginal(view).probs
            first = probs.reshape(*probs.shape[:2], n, math.factorial(n - 1)).sum(axis=3)
        largest = first.max(axis=2, keepdims=True)
        share = first == largest
        is_best = ranks[rows][:, members] == ranks[rows][:, members].min(axis=2, keepdims=True)
        claim[rows] = np.minimum(largest[..., 0], 1.0).mean(axis=1)
        hit[rows] = ((share & is_best).sum(axis=2) / share.sum(axis=2)).mean(axis=1)
    return claim, hit
