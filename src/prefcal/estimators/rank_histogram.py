"""Rank histograms of positions: where items end up, against where the forecast had them.

For each item the randomised probability integral transform of its observed rank, F(rank - 1) + V P(rank), is uniform
when the forecast of its position is calibrated (Smith 1985; Czado, Gneiting & Held 2009). A U shape means that
forecasts are too sure, a hump that they are too vague, a slope that the item is placed too high or too low. Where
positions are not listed, the rank of the observed among drawn positions, ties broken at random, takes its place
(Talagrand diagram).
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
from prefcal.estimators.events import Items, classify_ranks, kind_of_items
from prefcal.estimators.inputs import aligned_ranks, check_alignment, per_record
from prefcal.estimators.row_order import by_content
from prefcal.estimators.uniformity import anderson_darling, binomial_band, holm, one_per_cluster
from prefcal.result import Estimate
from prefcal.views import View

LISTED_ITEMS = 8  # up to here position probabilities are exact, m 2^(m-1) numbers an instance


@dataclasses.dataclass(frozen=True, slots=True)
class RankHistogram:
    """What :func:`rank_histogram` found, for G members: items, or the model's own first, second, ...

    Parameters
    ----------
    items
        ``labelled``: member g is item g; ``exchangeable``: it is the item that the model ranks in place g.
    u
        (records, G) numbers that are uniform under calibration; NaN where the item's rank is not known.
    counts
        (G, bins) of the tested records in equal bins of [0, 1].
    null_band
        (G, 2) counts of one bin in 95 % of repetitions under calibration.
    n
        (G,) independent records that were tested.
    ad, p_value, p_adjusted
        (G,) Anderson-Darling statistic against uniform, its p-value, and Holm's over members; NaN under two records.
    chi2_p_value
        (G,) of the counts against equal counts (chi-square with bins - 1 degrees of freedom; rough under five a bin).
    resolution
        0 where positions were listed, 1 / (draws + 1) where they were drawn.
    """

    items: Items
    u: FloatArray
    counts: IntArray
    null_band: FloatArray
    n: IntArray
    ad: FloatArray
    p_value: FloatArray
    p_adjusted: FloatArray
    chi2_p_value: FloatArray
    resolution: float

    def document(self) -> dict[str, Any]:
        """Plain data for JSON, without the ``u`` of single records; NaN becomes None."""
        out: dict[str, Any] = {"items": self.items, "resolution": self.resolution, "members": []}
        for g in range(len(self.n)):
            numbers = {
                name: float(getattr(self, name)[g]) for name in ("ad", "p_value", "p_adjusted", "chi2_p_value")
            }
            out["members"].append(
                {
                    "member": g,
                    "n": int(self.n[g]),
                    "counts": self.counts[g].tolist(),
                    "null_band": self.null_band[g].tolist(),
                    **{name: None if np.isnan(x) else x for name, x in numbers.items()},
                }
            )
        return out

    def estimates(self) -> dict[str, Estimate]:
        """``position_ad``: the largest Anderson-Darling statistic, with Holm's p-value over members."""
        worst = int(np.nanargmax(self.ad))
        what = f"item {worst}" if self.items == "labelled" else f"the model's choice number {worst + 1}"
        note = (
            f"a test statistic, largest of {int((self.n > 1).sum())} members ({what}); p-value by Holm over members; "
            "no interval, no null mean of a largest one"
        )
        return {"position_ad": Estimate(float(self.ad[worst]), None, note, p_value=float(np.nanmin(self.p_adjusted)))}


def rank_histogram(
    h: Distribution,
    y: Outcomes,
    *,
    items: Items | None = None,
    clusters: Any = None,
    bins: int = 10,
    seed: int = 0,
    draws: int = 199,
) -> RankHistogram:
    """Histogram of each item's observed rank on the scale of its forecast, with a test of uniformity.

    A record enters where the ranks of all items are known: ranked, tied with none. (Where only some are known, such
    as the best one, which they are depends on the outcome, and nothing would be uniform.)

    Parameters
    ----------
    h, y
        Forecasts and outcomes, as for :func:`prefcal.audit`; lists may have unequal lengths.
    items
        ``labelled`` (one histogram an item) or ``exchangeable`` (one for each place in the model's own order);
        default as in :func:`prefcal.audit`.
    clusters
        Values; of records of equal value one at random is tested.
    bins
        Of the histogram.
    seed
        Of V, of draws and of the choice in clusters. The order of the rows plays no part, as in
        :func:`prefcal.hpd_coverage`.
    draws
        Rankings drawn from each forecast of more than ``LISTED_ITEMS`` items. ``Samples`` use their own.

    Raises
    ------
    UsageError
        For pairwise probabilities.
    DataError
        When no member has two records of known rank.

    Examples
    --------
    >>> import prefcal as pc
    >>> truth = pc.PlackettLuce(np.random.default_rng(0).normal(size=(2000, 4)))
    >>> y = pc.Outcomes.from_orders(truth.sample(1, 1)[:, 0])
    >>> bool((rank_histogram(truth, y).p_adjusted > 0.05).all())
    True
    >>> bool((rank_histogram(truth.scaled(3.0), y).p_adjusted < 1e-4).all())
    True
    """
    check_size(draws)
    require_whole("bins", bins, 2)
    require_whole("seed", seed, 0)
    if not h.has_rankings:
        raise UsageError("rank_histogram: pairwise probabilities state nothing about positions")
    h, codes = per_record(h, y, clusters)
    check_alignment(h, y)
    items = kind_of_items(items, h)
    order = by_content(h, y, codes, places=True)  # what is drawn must not depend on where the rows stand
    h, y, codes = h[order], y[order], None if codes is None else codes[order]
    n = len(y)
    u = np.full((n, h.n_items), np.nan)
    rng = np.random.default_rng([seed, 1])
    resolution = 0.0
    for block in h.blocks(1 << 16):
        m = block.dist.n_items
        if m < 2:
            continue
        index, ranks = np.arange(n)[block.rows], aligned_ranks(y, block)
        v = rng.random(ranks.shape)
        if m <= LISTED_ITEMS and not isinstance(h, Samples):
            found = _by_list(block.dist, ranks, v)
        else:
            found, step = _by_draws(block.dist, ranks, v, draws, rng)
            resolution = max(resolution, step)
        found = np.where(_usable(ranks), found, np.nan)
        if items == "exchangeable":
            u[index, :m] = np.take_along_axis(found, block.dist.mode(), axis=1)
        else:
            columns = np.arange(m)[None] if block.columns is None else block.columns
            u[index[:, None], columns] = found
    summary = _summary(u, items, codes, bins, seed, resolution)
    return dataclasses.replace(summary, u=u[np.argsort(order)])


def _usable(ranks: FloatArray) -> Any:
    """(b, 1) whether every item's rank is known."""
    return (classify_ranks(View("position"), ranks) >= 0).all(axis=1, keepdims=True)


def _by_list(h: Distribution, ranks: FloatArray, v: FloatArray) -> FloatArray:
    """(b, m) randomised PIT of each item's rank."""
    probs = h.marginal("position").probs
    below = np.cumsum(probs, axis=2)
    place = np.maximum(classify_ranks(View("position"), ranks), 0)[..., None]
    own = np.take_along_axis(probs, place, axis=2)[..., 0]
    u: FloatArray = (np.take_along_axis(below, place, axis=2)[..., 0] - own + v * own) / below[..., -1]
    return np.clip(u, 0.0, 1.0)


def _by_draws(
    h: Distribution, ranks: FloatArray, v: FloatArray, draws: int, rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """(b, m) randomised rank of each item's observed position among drawn ones, and its step."""
    place = np.maximum(classify_ranks(View("position"), ranks), 0)
    count = h.n_draws if isinstance(h, Samples) else draws
    out = np.empty(place.shape)
    for rows in chunks(len(h), count * place.shape[1], 1 << 22):
        part = h[rows]
        orders = part.orders if isinstance(part, Samples) else part.sample(count, rng)
        drawn = np.argsort(orders, axis=2)
        own = place[rows, None, :]
        out[rows] = ((drawn < own).sum(axis=1) + v[rows] * (1 + (drawn == own).sum(axis=1))) / (count + 1)
    return out, 1 / (count + 1)


def _summary(
    u: FloatArray, items: Items, codes: IntArray | None, bins: int, seed: int, resolution: float
) -> RankHistogram:
    from scipy.special import gammaincc

    members = u.shape[1]
    counts = np.zeros((members, bins), dtype=np.intp)
    n = np.zeros(members, dtype=np.intp)
    ad, p_value, chi2 = np.full((3, members), np.nan)
    band = np.zeros((members, 2))
    for g in range(members):
        tested = u[one_per_cluster(np.flatnonzero(~np.isnan(u[:, g])), codes, seed), g]
        n[g] = len(tested)
        if len(tested) < 2:
            continue
        counts[g] = np.bincount(np.minimum((tested * bins).astype(np.intp), bins - 1), minlength=bins)
        ad[g], _, p_value[g] = anderson_darling(tested)
        expected = len(tested) / bins
        chi2[g] = gammaincc((bins - 1) / 2, ((counts[g] - expected) ** 2).sum() / expected / 2)
        low, high = binomial_band(len(tested), np.array(1 / bins))
        band[g] = float(low) * len(tested), float(high) * len(tested)
    if (n < 2).all():
        raise DataError("rank_histogram: no item's rank is known in two records (all items must be ranked, untied)")
    return RankHistogram(items, u, counts, band, n, ad, p_value, holm(p_value), chi2, resolution)
