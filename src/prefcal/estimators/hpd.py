"""Coverage of highest-probability regions: are the outcomes where the forecast puts its mass?

For the observed outcome, u = H + V T: H is the forecast's mass of outcomes more probable than it, T that of outcomes
as probable as it, V uniform. If the forecast is calibrated u is uniform (a probability integral transform of the
outcome's own probability; Harrison et al. 2015, Hyndman 1996). Regions of nominal mass c then hold the outcome with
probability c: too few outcomes in them means over-confidence. Where the outcomes cannot be listed, rankings drawn
from the forecast take the place of its mass, and u is uniform still: a randomised rank among exchangeable rankings.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution, check_size, chunks
from prefcal.distributions.samples import Samples
from prefcal.errors import DataError, UsageError, require_whole
from prefcal.estimators.events import classify_ranks
from prefcal.estimators.inputs import aligned_ranks, check_alignment, per_record
from prefcal.estimators.row_order import by_content
from prefcal.estimators.uniformity import anderson_darling, binomial_band, kolmogorov_smirnov, one_per_cluster
from prefcal.result import Estimate
from prefcal.views import View, combination_index, permutation_index

LISTED_OUTCOMES = 5040  # full rankings of seven items
_TIE = 1e-9  # probabilities that differ by less, relatively, are equal up to rounding
_LEVELS = tuple(np.round(np.arange(1, 20) / 20, 2).tolist())


@dataclasses.dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Regions of mass ``nominal`` held the outcome in a share ``observed``; calibrated: within the band, 95 %."""

    nominal: float
    observed: float
    null_band: tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class HPDCoverage:
    """What :func:`hpd_coverage` found.

    Parameters
    ----------
    u
        (records,) numbers that are uniform under calibration; NaN where the outcome is not known well enough.
    curve
        Nominal against observed coverage, with pointwise 95 % bands.
    ks, ks_null_mean, ks_p_value
        Kolmogorov-Smirnov: the largest distance of observed from nominal coverage.
    ad, ad_null_mean, ad_p_value
        Anderson-Darling, which weighs very small and very large regions more.
    n
        Independent records that were tested.
    resolution
        Largest step in which H is known: 0 where outcomes were listed, 1 / (draws + 1) where they were drawn.
    coverage
        How many records entered as what, and why others did not.
    """

    u: FloatArray
    curve: tuple[CoveragePoint, ...]
    ks: float
    ks_null_mean: float
    ks_p_value: float
    ad: float
    ad_null_mean: float
    ad_p_value: float
    n: int
    resolution: float
    coverage: dict[str, int]

    def document(self) -> dict[str, Any]:
        """Plain data for JSON, without the ``u`` of single records."""
        out = dataclasses.asdict(self)
        del out["u"]
        return out

    def estimates(self) -> dict[str, Estimate]:
        """``hpd_ks`` and ``hpd_ad`` as metrics of a result."""
        how = "outcomes listed" if self.resolution == 0 else f"resolution {self.resolution:.2g}"
        note = f"a test statistic of {self.n} records, {how}: its p-value and null mean stand for an interval"
        note += "; it holds a random draw, so another seed gives another one"
        return {
            "hpd_ks": Estimate(self.ks, None, note, null_mean=self.ks_null_mean, p_value=self.ks_p_value),
            "hpd_ad": Estimate(self.ad, None, note, null_mean=self.ad_null_mean, p_value=self.ad_p_value),
        }


def hpd_coverage(
    h: Distribution, y: Outcomes, *, clusters: Any = None, seed: int = 0, draws: int = 199
) -> HPDCoverage:
    """Whether outcomes fall where the forecasts put their mass, with tests of uniformity and a coverage curve.

    A record enters as what was observed of it: a full ranking; its first k items in order; the set of the first k;
    the order of the items that were ranked (others unknown). Each is uniform under full calibration.

    Parameters
    ----------
    h, y
        Forecasts and outcomes, as for :func:`prefcal.audit`; lists may have unequal lengths.
    clusters
        Values; records of equal value are dependent: one of each, at random, is tested and counted in the curve.
    seed
        Of V, of drawn rankings and of the choice in clusters. The order of the rows plays no part: random numbers
        go to records by their content (:func:`~prefcal.estimators.row_order.by_content`).
    draws
        Rankings drawn from each forecast whose m! rankings cannot be listed (more than seven items).

    Returns
    -------
    HPDCoverage

    Raises
    ------
    UsageError
        For ``Samples``, which state no probability of a ranking that was not drawn.
    DataError
        When fewer than two records can be judged.

    Notes
    -----
    Cost: all outcomes' probabilities up to ``LISTED_OUTCOMES`` of them, else ``draws`` log probabilities a record.

    Examples
    --------
    >>> import prefcal as pc
    >>> truth = pc.PlackettLuce(np.random.default_rng(0).normal(size=(2000, 5)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, 1)[:, 0])
    >>> bool(hpd_coverage(truth, y).ad_p_value > 0.05), hpd_coverage(truth.scaled(2.0), y).ad_p_value < 1e-4
    (True, True)
    """
    check_size(draws)
    require_whole("seed", seed, 0)
    if isinstance(h, Samples):
        raise UsageError(
            "hpd_coverage needs probabilities of rankings; samples have none for what was not drawn: "
            "use rank_histogram"
        )
    h, codes = per_record(h, y, clusters)
    check_alignment(h, y)
    order = by_content(h, y, codes)  # what is drawn must not depend on where the rows stand
    h, y, codes = h[order], y[order], None if codes is None else codes[order]
    n = len(y)
    u = np.full(n, np.nan)
    v = np.random.default_rng([seed, 0]).random(n)
    rng = np.random.default_rng([seed, 1])
    coverage: dict[str, int] = {}
    drawn = 0
    for block in h.blocks(1 << 18):
        index = np.arange(n)[block.rows]
        ranks = aligned_ranks(y, block)
        kinds, sizes = _patterns(ranks)
        for kind, k in sorted(set(zip(kinds.tolist(), sizes.tolist(), strict=True))):
            at = np.flatnonzero((kinds == kind) & (sizes == k))
            name, why = _name(kind, k), _refusal(kind, k, block.dist)
            coverage[why or name] = coverage.get(why or name, 0) + len(at)
            if why:
                continue
            m = block.dist.n_items
            by_draws = kind == "full" and View("full").n_outcomes(m) > LISTED_OUTCOMES
            drawn += len(at) * by_draws
            cost = draws * m if by_draws else _cost(kind, k, m)
            for part in chunks(len(at), cost, 1 << 22):
                rows = at[part]
                if by_draws:
                    found = _by_draws(block.dist[rows], ranks[rows], v[index[rows]], draws, rng)
                else:
                    found = _by_list(block.dist[rows], ranks[rows], v[index[rows]], kind, k)
                u[index[rows]] = found
    tested = u[one_per_cluster(np.flatnonzero(~np.isnan(u)), codes, seed)]
    if len(tested) < 2:
        raise DataError(
            f"hpd_coverage needs at least two records that can be judged, found {len(tested)}: {coverage}"
        )
    ks, ks_mean, ks_p = kolmogorov_smirnov(tested)
    ad, ad_mean, ad_p = anderson_darling(tested)
    levels = np.array(_LEVELS)
    low, high = binomial_band(len(tested), levels)
    observed = (tested[:, None] <= levels).mean(axis=0)
    curve = tuple(
        CoveragePoint(float(c), float(o), (float(a), float(b)))
        for c, o, a, b in zip(levels, observed, low, high, strict=True)
    )
    own_place = np.empty(n)
    own_place[order] = u
    return HPDCoverage(
        own_place,
        curve,
        ks,
        ks_mean,
        ks_p,
        ad,
        ad_mean,
        ad_p,
        len(tested),
        1 / (draws + 1) if drawn else 0.0,
        coverage,
    )


def _patterns(ranks: FloatArray) -> tuple[Any, IntArray]:
    """(b,) what is known of each ranking (full, top, topset, sub or nothing) and its k."""
    m = ranks.shape[1]
    ordered = np.sort(ranks, axis=1)
    ranked = (~np.isnan(ranks)).sum(axis=1)
    step = ordered[:, 1:] > ordered[:, :-1]  # False beside NaN
    strict = np.where(step.all(axis=1), m - 1, step.argmin(axis=1)) if m > 1 else np.zeros(len(ranks), dtype=np.intp)
    rest = ~(step & (np.arange(m - 1) > strict[:, None])).any(axis=1)  # nothing is known below the strict prefix
    first = (ordered == ordered[:, :1]).sum(axis=1)
    kind = np.full(len(ranks), "", dtype=object)
    k = np.zeros(len(ranks), dtype=np.intp)
    whole = ranked == m
    kind[whole & (strict == m - 1) & (m > 1)] = "full"
    prefix = whole & (strict < m - 1) & (strict > 0) & rest
    kind[prefix], k[prefix] = "top", strict[prefix]
    sets = whole & (strict == 0) & (first < m) & (step.sum(axis=1) == 1)
    kind[sets], k[sets] = "topset", first[sets]
    subset = (ranked < m) & (ranked > 1) & (strict == ranked - 1)
    kind[subset], k[subset] = "sub", ranked[subset]
    return kind, k


def _name(kind: str, k: int) -> str:
    return {"full": "full ranking", "sub": f"order of {k} items"}.get(kind, f"{kind}-{k}")


def _refusal(kind: str, k: int, h: Distribution) -> str:
    """Why such outcomes of such forecasts cannot be judged; empty if they can."""
    if not kind:
        return "left out: what was observed is no full ranking, prefix, best set or order of a subset"
    pair = kind == "sub" and k == 2
    if not h.has_rankings and not pair and not (kind == "full" and h.n_items == 2):
        return "left out: pairwise probabilities state nothing beyond pairs"
    if kind != "full" and not pair and (kind, k) != ("top", 1):
        if _cost(kind, k, h.n_items) > LISTED_OUTCOMES:
            return f"left out: {_name(kind, k)} has more than {LISTED_OUTCOMES} outcomes"
        if h[:1].marginal(View(kind, k), rng=0, n_samples=1).stderr is not None:  # type: ignore[arg-type]
            return f"left out: the probability of {_name(kind, k)} can only be sampled"
    return ""


def _cost(kind: str, k: int, m: int) -> int:
    if (kind, k) == ("top", 1):
        return m
    view = View("full") if kind == "full" else View(kind, k)  # type: ignore[arg-type]
    return view.n_members(m) * view.n_outcomes(m)


def _by_list(h: Distribution, ranks: FloatArray, v: FloatArray, kind: str, k: int) -> FloatArray:
    """(b,) u from the probabilities of all outcomes."""
    b, m = ranks.shape
    if (kind, k) == ("top", 1):
        probs, seen = np.exp(h.top_log_probs()), ranks.argmin(axis=1)
    elif kind == "sub":
        items = np.sort(np.argsort(ranks, axis=1)[:, :k], axis=1)  # NaN last
        seen = permutation_index(np.argsort(np.take_along_axis(ranks, items, axis=1), axis=1), k)
        member = combination_index(items, m)
        if k == 2:
            first, second = np.triu_indices(m, 1)
            with np.errstate(over="ignore"):
                p = 1 / (1 + np.exp(-h.pair_log_odds(first, second)))[np.arange(b), member]
            probs = np.stack([p, 1 - p], axis=1)
        else:
            probs = h.marginal(View("sub", k)).probs[np.arange(b), member]
    else:
        view = (View("full") if kind == "full" else View(kind, k)).resolve(m)  # type: ignore[arg-type]
        probs, seen = h.marginal(view).probs[:, 0], classify_ranks(view, ranks)[:, 0]
    own = probs[np.arange(b), seen][:, None]
    likelier = probs > own * (1 + _TIE)
    equal = ~likelier & (probs >= own * (1 - _TIE))
    total = probs.sum(axis=1)
    u: FloatArray = ((probs * likelier).sum(axis=1) + v * (probs * equal).sum(axis=1)) / total
    return np.where(np.isnan(own[:, 0]), np.nan, np.minimum(u, 1.0))


def _by_draws(h: Distribution, ranks: FloatArray, v: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """(b,) randomised rank of the observed ranking's probability among those of drawn rankings."""
    own = h.log_prob(np.argsort(ranks, axis=1))
    others = h.sample(draws, rng)
    likelier, equal = np.zeros(len(own)), np.ones(len(own))
    slack = _TIE * np.maximum(np.abs(own), 1.0)
    for d in range(draws):
        log_p = h.log_prob(others[:, d])
        with np.errstate(invalid="ignore"):  # an impossible outcome: everything drawn is likelier
            difference = log_p - own
        likelier += difference > slack
        equal += np.abs(difference) <= slack
    u: FloatArray = (likelier + v * equal) / (draws + 1)
    return u
