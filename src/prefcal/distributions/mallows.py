"""The Mallows model with the Kendall distance, by closed forms."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, as_array
from prefcal.distributions.base import (
    Distribution,
    as_generator,
    check_factor,
    check_orders,
    check_pairs,
    check_size,
    chunks,
)
from prefcal.errors import DataError
from prefcal.views import View, combination_index, permutation_index


class Mallows(Distribution):
    """Mallows: P(order) proportional to phi ** (Kendall distance of the order to the centre).

    Parameters
    ----------
    centers
        (n, m) or (m,) ranks of the items in the central ranking, 1 = best; each row a permutation of 1..m.
    dispersion
        phi in [0, 1], one for all or (n,): 0 puts all mass on the centre, 1 is uniform; phi = exp(-theta) for those
        who use theta.

    Raises
    ------
    DataError
        For rows that are not permutations of 1..m and dispersions outside [0, 1].

    Notes
    -----
    Every formula is a sum of non-negative products of phi ** a and [b] = 1 + phi + .. + phi ** (b - 1), so nothing
    cancels at phi near 0 or 1. In terms of places in the centre a marginal depends on phi alone: it is computed
    once for each distinct phi, then relabelled. Cost of that table: ``full``, ``top-k`` and ``topset-k`` O(k) an
    outcome, ``position`` O(m^3), ``sub-k`` O(k) an ordered k-tuple (see :func:`sub_table`).

    References
    ----------
    C. L. Mallows (1957), Non-null ranking models I. M. A. Fligner, J. S. Verducci (1986), Distance based ranking
    models.

    Examples
    --------
    >>> h = Mallows([2, 1, 3], 0.5)
    >>> h.mode().tolist()
    [[1, 0, 2]]
    >>> h.marginal("sub-2").probs[0, 0].round(3).tolist()  # item 0 before item 1: 1 - 1 / (1 + phi)
    [0.333, 0.667]
    """

    tempered: ClassVar[str] = "theta = -log(dispersion)"

    def __init__(self, centers: Any, dispersion: Any) -> None:
        ranks = _array_1_or_2(centers, "centers")
        m = ranks.shape[1]
        if ranks.size == 0:
            raise DataError(f"centers must hold at least one item and one instance, got shape {ranks.shape}")
        bad = (np.sort(ranks, axis=1) != np.arange(1, m + 1)).any(axis=1)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{ranks[at].tolist()} is not a permutation of the ranks 1..{m} (1 = best, no ties)",
                row=f"instance {at}",
                field="centers",
            )
        phi = as_array(np.atleast_1d(np.asarray(dispersion, dtype=object)), "dispersion", 1)
        wrong = ~((phi >= 0) & (phi <= 1))
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise DataError(f"dispersion {phi[at]} is not in [0, 1]", row=f"instance {at}", field="dispersion")
        n = max(len(ranks), len(phi))
        if len(ranks) not in (1, n) or len(phi) not in (1, n):
            raise DataError(f"{len(ranks)} centers and {len(phi)} dispersions do not fit together")
        #: (n, m) 0-based place of each item in the centre.
        self.places: IntArray = np.broadcast_to(ranks.astype(np.intp) - 1, (n, m))
        #: (n,) phi.
        self.dispersion: FloatArray = np.broadcast_to(phi, (n,))

    @classmethod
    def _wrap(cls, places: IntArray, dispersion: FloatArray) -> Mallows:
        self = object.__new__(cls)
        self.places, self.dispersion = places, dispersion
        return self

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return int(self.places.shape[1])

    def __len__(self) -> int:
        return len(self.dispersion)

    def __getitem__(self, index: Any) -> Mallows:
        return self._wrap(np.atleast_2d(self.places[index]), np.atleast_1d(self.dispersion[index]))

    def scaled(self, factor: float) -> Mallows:
        """See :meth:`Distribution.scaled`: phi ** factor, every probability to that power; phi = 0 stays 0."""
        factor = check_factor(factor)
        return self._wrap(self.places, np.where(self.dispersion > 0, self.dispersion**factor, 0.0))

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O(m^2) an instance."""
        full = check_orders(orders, len(self), self.n_items)
        distance = _inversions(np.take_along_axis(self.places, full, axis=1))
        return _power_log(self.dispersion, distance) - log_normalizer(self.dispersion, self.n_items)

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        m = self.n_items
        members, outcomes = view.n_members(m), view.n_outcomes(m)
        phis, which_phi = np.unique(self.dispersion, return_inverse=True)
        centers, which_center = np.unique(self.places, axis=0, return_inverse=True)
        which_center = which_center.reshape(-1)
        out = np.empty((len(self), members * outcomes))
        for rows in chunks(len(self), members * outcomes * max(view.k, 1)):
            used_phi, phi_row = np.unique(which_phi[rows], return_inverse=True)
            used_center, center_row = np.unique(which_center[rows], return_inverse=True)
            table = _table(view, m, phis[used_phi]).reshape(members * outcomes, -1)
            index = _relabel(view, centers[used_center]).reshape(len(used_center), -1)
            out[rows] = table[index[center_row], phi_row[:, None]]
        return out.reshape(len(self), members, outcomes), None

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw by repeated insertion (Doignon, Pekec & Regenwetter 2004): exact, O(m^2) a draw."""
        size, rng, m, n = check_size(size), as_generator(rng, "sample()"), self.n_items, len(self)
        out = np.empty((n, size, m), dtype=np.intp)
        for rows in chunks(n, 4 * size * m):
            phi = self.dispersion[rows]
            below = np.cumsum(_powers(phi, m), axis=0)  # [1], [2], .., [m]
            position = np.zeros((m, len(phi), size), dtype=np.intp)
            for i in range(m):
                # Item i of the centre goes before `later` of the i items already placed, with odds phi ** later.
                u = rng.random((len(phi), size)) * below[i][:, None]
                later = np.zeros(u.shape, dtype=np.intp)
                for s in range(i):
                    later += u >= below[s][:, None]
                position[i] = i - later
                position[:i] += position[:i] >= position[i]
            central = np.argsort(self.places[rows], axis=1)
            by_place = np.argsort(np.moveaxis(position, 0, -1), axis=-1)
            out[rows] = np.take_along_axis(central[:, None, :], by_place, axis=2)
        return out

    def mode(self) -> IntArray:
        """(n, m) the centre; for phi = 1, where all rankings are equally probable, items by their index."""
        central = np.argsort(self.places, axis=1)
        mode: IntArray = np.where(self.dispersion[:, None] == 1.0, np.arange(self.n_items), central)
        return mode

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; O(m) for each distinct phi, exact where probabilities underflow."""
        a, b = check_pairs(first, second, self.n_items)
        phis, which = np.unique(self.dispersion, return_inverse=True)
        by_gap = _gap_log_odds(phis, self.n_items)  # (gaps, phis)
        gap = self.places[:, b] - self.places[:, a]
        odds: FloatArray = np.sign(gap) * by_gap[np.abs(gap), which[:, None]]
        return odds

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; phi ** place / [m]."""
        with np.errstate(divide="ignore"):
            norm = np.log(_powers(self.dispersion, self.n_items).sum(axis=0))
        log_p: FloatArray = _power_log(self.dispersion[:, None], self.places) - norm[:, None]
        return log_p


def log_normalizer(dispersion: npt.ArrayLike, n_items: int) -> FloatArray:
    """Log of the sum of phi ** distance over all rankings, log([1] [2] .. [m]).

    Parameters
    ----------
    dispersion
        phi in [0, 1], any shape.
    n_items
        m >= 1.

    Examples
    --------
    >>> float(np.exp(log_normalizer(1.0, 4)).round(12))
    24.0
    """
    phi = np.asarray(dispersion, dtype=np.float64)
    total: FloatArray = np.log(np.cumsum(_powers(phi, n_items), axis=0)).sum(axis=0)
    return total


def expected_distance(dispersion: npt.ArrayLike, n_items: int) -> FloatArray:
    """Mean Kendall distance to the centre: 0 at phi = 0, increasing to m (m - 1) / 4 at phi = 1.

    Parameters
    ----------
    dispersion
        phi in [0, 1], any shape.
    n_items
        m >= 1.

    Examples
    --------
    >>> float(expected_distance(1.0, 4))
    3.0
    """
    phi = np.asarray(dispersion, dtype=np.float64)
    powers = _powers(phi, n_items)
    steps = np.arange(n_items).reshape(-1, *[1] * phi.ndim)
    mean: FloatArray = (np.cumsum(steps * powers, axis=0) / np.cumsum(powers, axis=0)).sum(axis=0)
    return mean


def sub_table(phi: FloatArray, m: int, k: int) -> FloatArray:
    """``sub-k`` marginal for the centre 0, 1, .., m-1: (C(m, k), k!, len(phi)), in the order of ``View.outcomes``.

    The marginal on places p_1 < .. < p_j depends on their gaps only, since a contiguous block of the centre is
    Mallows itself. Let P(pi; gaps) be the probability of the pattern pi inside the block p_1 .. p_j of L items and
    condition on which item of the block comes first: one of the items between two of the p's, after which a gap
    is one shorter, or p_q = pi_1, after which j is one smaller. Each such item at place r of the block has
    probability phi ** r / [L]. O(j) for each pattern and gap vector.
    """
    power = _powers(phi, m)  # (m, u)
    bracket = np.concatenate([np.zeros((1, len(phi))), np.cumsum(power, axis=0)])  # [0] .. [m]
    shorter: FloatArray = np.ones((1, 1, len(phi)))
    table = shorter
    for j in range(2, k + 1):
        block = math.factorial(j - 1)
        table = np.zeros((math.comb(m - 1, j - 1), math.factorial(j), len(phi)))
        for last in range(j - 1, m):
            inner = np.array(list(itertools.combinations(range(1, last), j - 2)), dtype=np.intp)
            inner = inner.reshape(math.comb(last - 1, j - 2), j - 2)
            ends = np.ones((len(inner), 1), dtype=np.intp)
            places = np.concatenate([0 * ends, inner, last * ends], axis=1)
            own = _gap_index(places)
            result = np.zeros((len(places), math.factorial(j), len(phi)))
            for s in range(j - 1):
                gap = places[:, s + 1] - places[:, s]
                some = np.flatnonzero(gap > 1)
                nearer = places[some]
                weight = power[nearer[:, s] + 1] * bracket[gap[some] - 1]
                nearer[:, s + 1 :] -= 1
                result[some] += weight[:, None] * table[_gap_index(nearer)]
            for q in range(j):
                rest = np.delete(places, q, axis=1)
                rest[:, q:] -= 1
                weight = power[places[:, q]][:, None]
                result[:, q * block : (q + 1) * block] += weight * shorter[_gap_index(rest - rest[:, :1])]
            table[own] = result / bracket[last + 1]
        shorter = table
    members = View("sub", k).members(m)
    return table[_gap_index(members - members[:, :1])]


def _gap_index(places: IntArray) -> IntArray:
    """Index of 0 = p_1 < p_2 < .. among all such tuples of this length, ordered by the last place first."""
    index = np.zeros(len(places), dtype=np.intp)
    span = int(places.max(initial=0))
    for t in range(1, places.shape[1]):
        binomials = np.array([math.comb(p - 1, t) for p in range(1, span + 1)], dtype=np.intp)
        index += binomials[places[:, t] - 1]
    return index


def _table(view: View, m: int, phi: FloatArray) -> FloatArray:
    """Marginal of a view for the centre 0, 1, .., m-1, (members, outcomes, len(phi)); position: [place, rank]."""
    power = _powers(phi, m)
    bracket = np.cumsum(power, axis=0)  # bracket[b - 1] = [b]
    log_bracket = np.log(bracket)
    match view.kind:
        case "full" | "top":
            k = m if view.kind == "full" else view.k
            orders = view.outcomes(m)[0]
            # Place of each chosen item among those not yet placed, summed over the stages.
            exponent = orders.sum(axis=1) - _concordant(orders)
            return _power(phi, exponent, -log_bracket[m - k :].sum(axis=0))[None]
        case "topset":
            k = view.k
            exponent = view.outcomes(m)[0].sum(axis=1) - k * (k - 1) // 2
            norm = log_bracket[:k].sum(axis=0) - log_bracket[m - k :].sum(axis=0)
            return _power(phi, exponent, norm)[None]
        case "position":
            return _position_table(power, bracket, m)
        case _:
            return sub_table(phi, m, view.k)


def _position_table(power: FloatArray, bracket: FloatArray, m: int) -> FloatArray:
    """P(rank of the item at a central place), by repeated insertion: (places, ranks, u)."""
    table = np.zeros((m, m, power.shape[1]))
    for t in range(m):  # insert the item at place t; p = 0-based position among the t + 1 items
        p = np.arange(t)
        moved = power[t - p] * bracket[p] / bracket[t]  # the new item goes before the one at p
        kept = bracket[t - p - 1] / bracket[t]
        before = table[:t, :t].copy()
        table[:t, :t] = before * kept
        table[:t, 1 : t + 1] += before * moved
        table[t, : t + 1] = power[t - np.arange(t + 1)] / bracket[t]
    return table


def _relabel(view: View, places: IntArray) -> IntArray:
    """For each centre and each (member, outcome): the cell of the table for the centre 0, 1, .., m-1."""
    m = places.shape[1]
    members, outcomes = view.n_members(m), view.n_outcomes(m)
    match view.kind:
        case "full" | "top":
            return permutation_index(places[:, view.outcomes(m)[0]], m)
        case "topset":
            return combination_index(np.sort(places[:, view.outcomes(m)[0]], axis=-1), m)
        case "position":
            cells: IntArray = places[:, :, None] * m + np.arange(m)
            return cells
        case _:
            here = places[:, view.members(m)]  # (centres, members, k)
            order = np.argsort(here, axis=-1)
            member = combination_index(np.take_along_axis(here, order, axis=-1), m)
            patterns = View("full").outcomes(view.k)[0]
            local = np.argsort(order, axis=-1)[..., patterns]  # (centres, members, outcomes, k)
            index = member[..., None] * outcomes + permutation_index(local, view.k)
            return index.reshape(len(places), members, outcomes)


def _gap_log_odds(phi: FloatArray, m: int) -> FloatArray:
    """Log odds that the item d places above another in the centre comes before it, (d = 0..m-1, len(phi))."""
    with np.errstate(divide="ignore"):
        log_phi = np.log(phi)
        bracket = np.concatenate([np.zeros((1, len(phi))), np.cumsum(_powers(phi, m), axis=0)])
        log_bracket = np.log(bracket)
    out = np.zeros((m, len(phi)))
    before = after = np.zeros(len(phi))
    for d in range(1, m):
        # Which of the d + 1 items of the block comes first: an inner one, or one of the two.
        inner = log_phi + log_bracket[d - 1]
        before = np.logaddexp(0.0, inner + before) - log_bracket[d + 1]
        after = np.logaddexp(_power_log(phi, np.asarray(d)), inner + after) - log_bracket[d + 1]
        out[d] = before - after
    return out


def _powers(phi: FloatArray, m: int) -> FloatArray:
    """Powers phi ** 0 .. phi ** (m - 1), on a new first axis; 0 ** 0 = 1."""
    powers: FloatArray = phi ** np.arange(m).reshape(-1, *[1] * np.ndim(phi))
    return powers


def _power_log(phi: FloatArray, exponent: IntArray) -> FloatArray:
    """Log of phi ** exponent, with 0 ** 0 = 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: FloatArray = np.where(exponent == 0, 0.0, exponent * np.log(phi))
        return logs


def _power(phi: FloatArray, exponent: IntArray, log_factor: FloatArray) -> FloatArray:
    """Table of phi ** exponent * exp(log_factor), (len(exponent), len(phi)); O(largest exponent) powers."""
    distinct: FloatArray = phi ** np.arange(int(exponent.max()) + 1)[:, None] * np.exp(log_factor)
    table: FloatArray = distinct[exponent]
    return table


def _inversions(places: IntArray) -> IntArray:
    """Number of discordant pairs of each row."""
    count = np.zeros(len(places), dtype=np.intp)
    for t in range(places.shape[1] - 1):
        count += (places[:, t + 1 :] < places[:, t : t + 1]).sum(axis=1)
    return count


def _concordant(orders: IntArray) -> IntArray:
    """Number of pairs of each row that are in ascending order."""
    k = orders.shape[1]
    count: IntArray = k * (k - 1) // 2 - _inversions(orders)
    return count


def _array_1_or_2(data: Any, name: str) -> FloatArray:
    """(n, m) floats from (n, m) or (m,) numbers."""
    try:
        ndim = np.ndim(data)
    except ValueError:
        raise DataError(f"{name} must be rows of equal length") from None
    array = as_array(data, name, 1 if ndim == 1 else 2)
    return array[None] if ndim == 1 else array
