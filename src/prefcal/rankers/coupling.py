"""From pairwise probabilities to distributions over rankings.

Pairwise probabilities alone (one classifier a pair, a judge) say nothing about longer rankings, and need not belong
to any distribution over rankings. Each way to complete them keeps something else: Plackett-Luce the row sums, maximum
entropy the pairs themselves (where they are realisable), Babington Smith the odds of adjacent swaps.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.babington_smith import BabingtonSmith
from prefcal.distributions.base import chunks
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError, UsageError
from prefcal.rankers.pl_fit import newton_direction

#: Most items for which all m! rankings are listed.
MAX_ENTROPY_ITEMS = 7

_ARMIJO = 1e-4


def pairs_to_plackett_luce(pairs: Pairwise | Any, *, clip: float = 1e-9, tol: float = 1e-10) -> PlackettLuce:
    """Plackett-Luce model whose pairwise probabilities have the given row sums.

    It minimises the cross entropy sum of -P(a before b) log(v_a / (v_a + v_b)): the fixed point of Zermelo's
    iteration v_a <- v_a sum_b P_ab / sum_b mu_ab, mu = v_a / (v_a + v_b) (Hastie & Tibshirani 1998), found here by
    Newton's method. Its ranking is that of the row sums.

    Parameters
    ----------
    pairs
        :class:`Pairwise` or (n, m, m) probabilities; NaN = not stated (the pair is left out of the sums).
    clip
        Probabilities are moved into [clip, 1 - clip]: certain pairs would make utilities infinite.
    tol
        Largest difference of a row sum.

    Raises
    ------
    DataError
        When the stated pairs of an instance do not connect its items.

    Examples
    --------
    >>> h = pairs_to_plackett_luce([[[0.5, 0.8], [0.2, 0.5]]])
    >>> h.marginal("sub-2").probs.round(9).tolist()
    [[[0.8, 0.2]]]
    """
    given = _pairwise(pairs).probs
    n, m = given.shape[:2]
    stated = ~np.isnan(given) & ~np.eye(m, dtype=bool)
    _check_connected(stated)
    wanted = np.where(stated, np.clip(given, clip, 1.0 - clip), 0.0)
    weight = stated.astype(np.float64)
    scores = np.zeros((n, m))

    def loss(s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        lead = s[:, :, None] - s[:, None, :]
        mu = weight * np.exp(-np.logaddexp(0.0, -lead))
        value = (wanted * np.logaddexp(0.0, -lead)).sum(axis=(1, 2))
        return value, (mu - wanted).sum(axis=2), mu

    value, gradient, mu = loss(scores)
    for _ in range(200):
        if np.abs(gradient).max() <= tol:
            break
        curvature = -mu * mu.transpose(0, 2, 1)
        curvature[:, np.arange(m), np.arange(m)] -= curvature.sum(axis=2)
        direction = newton_direction(curvature, gradient)
        slope = (direction * gradient).sum(axis=1)
        step = np.ones(n)
        for _ in range(40):
            trial = loss(scores + step[:, None] * direction)
            good = trial[0] <= value + _ARMIJO * step * slope + 1e-13 * (1.0 + np.abs(value))
            if good.all():
                break
            step = np.where(good, step, 0.5 * step)
        scores = scores + step[:, None] * direction
        value, gradient, mu = loss(scores)
    else:
        worst = int(np.abs(gradient).max(axis=1).argmax())
        raise DataError(
            f"no Plackett-Luce model found (row sums still off by {np.abs(gradient[worst]).max():.1e}); raise clip",
            row=f"instance {worst}",
        )
    return PlackettLuce(scores - scores.mean(axis=1, keepdims=True))


def pairs_to_babington_smith(pairs: Pairwise | Any) -> BabingtonSmith:
    """Babington Smith model, P(order) proportional to the product of its pairs' probabilities (at most 18 items)."""
    return BabingtonSmith(_pairwise(pairs).probs)


def pairs_to_maximum_entropy(
    pairs: Pairwise | Any,
    *,
    unrealisable: Literal["error", "project"] = "error",
    tol: float = 1e-9,
    slack: float = 1e-3,
) -> Categorical:
    """The distribution of largest entropy that has the given pairwise probabilities.

    P(order) is proportional to exp(sum over pairs of +-lambda_ab), lambda by Newton's method on the convex dual. It
    exists iff the probabilities lie inside the linear ordering polytope. Up to 5 items they are realisable iff
    P_ab + P_bc + P_ca <= 2 for every triple; in general this is necessary, and prefcal settles the rest by a
    certificate: multipliers whose sum over the given probabilities exceeds that of every ranking.

    Parameters
    ----------
    pairs
        :class:`Pairwise` or (n, m, m) probabilities of every pair, at most 7 items.
    unrealisable
        ``error``; or ``project``: such instances get the distribution that maximises
        entropy - |difference of the pairs|^2 / (2 slack), whose pairs are about the nearest realisable ones.
    tol
        Largest error of a pairwise probability.
    slack
        See ``unrealisable``.

    Returns
    -------
    :class:`Categorical` over all m! rankings, in lexicographic order. Cost O(m! m^4) an instance and Newton step.

    Raises
    ------
    UsageError
        For more than 7 items.
    DataError
        For probabilities that no distribution over rankings has, unless projected. At the very edge of the possible
        (a probability of 0 or 1, P_ab + P_bc + P_ca = 2) the multipliers tend to infinity: they stop where the pairs
        are within ``tol``, and where that is not reached it is an error too.

    Examples
    --------
    >>> h = pairs_to_maximum_entropy([[[0.5, 0.75, 0.5], [0.25, 0.5, 0.5], [0.5, 0.5, 0.5]]])
    >>> h.marginal("sub-2").probs[0, :, 0].round(9).tolist()
    [0.75, 0.5, 0.5]
    """
    if unrealisable not in ("error", "project"):
        raise UsageError.unknown("treatment of unrealisable pairs", str(unrealisable), ("error", "project"))
    given = _pairwise(pairs).probs
    n, m = given.shape[:2]
    if m > MAX_ENTROPY_ITEMS:
        raise UsageError(
            f"maximum entropy lists all m! rankings and takes at most {MAX_ENTROPY_ITEMS} items, got {m}; "
            "use pairs_to_plackett_luce or (up to 18 items) pairs_to_babington_smith"
        )
    first, second = np.triu_indices(m, 1)
    wanted = 2.0 * given[:, first, second] - 1.0
    if np.isnan(wanted).any():
        row, e = (int(x) for x in np.argwhere(np.isnan(wanted))[0])
        raise DataError(f"P({first[e]} before {second[e]}) is not stated", row=f"instance {row}", field="probs")
    orders = np.array(list(itertools.permutations(range(m))), dtype=np.intp)
    place = np.argsort(orders, axis=1)
    signs = np.sign(place[:, second] - place[:, first]).astype(np.float64)  # +1: first before second
    probs = np.empty((n, len(orders)))
    for rows in chunks(n, len(orders) * len(first), budget=1 << 22):
        part, failed = _fit_entropy(wanted[rows], signs, tol, 0.0)
        if failed.any() and unrealisable == "error":
            at = int(np.flatnonzero(failed)[0])
            raise DataError(
                _why_not(given[rows][at]) + "; project them (unrealisable='project'), or use pairs_to_plackett_luce",
                row=f"instance {at + rows.start}",
                field="probs",
            )
        if failed.any():
            part[failed], left = _fit_entropy(wanted[rows][failed], signs, tol, slack)
            if left.any():
                at = int(np.flatnonzero(failed)[left][0]) + rows.start
                raise DataError(f"the projection did not converge; raise slack (now {slack:g})", row=f"instance {at}")
        probs[rows] = part
    return Categorical(orders, probs)


def _fit_entropy(
    wanted: FloatArray, signs: FloatArray, tol: float, slack: float
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Probabilities (n, m!) with expected signs ``wanted``, and which instances have none."""
    n, pairs = wanted.shape
    multipliers = np.zeros((n, pairs))
    failed = np.zeros(n, dtype=bool)

    def loss(at: FloatArray) -> tuple[FloatArray, FloatArray]:
        energy = at @ signs.T
        top = energy.max(axis=1, keepdims=True)
        mass = np.exp(energy - top)
        total = mass.sum(axis=1, keepdims=True)
        value = (top + np.log(total))[:, 0] - (at * wanted).sum(axis=1) + 0.5 * slack * (at**2).sum(axis=1)
        return value, mass / total

    value, probs = loss(multipliers)
    for _ in range(200):
        mean = probs @ signs
        gradient = mean - wanted + slack * multipliers
        # sum of lambda . wanted above its value at every ranking: no mixture of rankings has these pairs.
        if slack == 0.0:
            size = np.abs(multipliers).sum(axis=1) + 1e-300
            beyond = (multipliers * wanted).sum(axis=1) - (multipliers @ signs.T).max(axis=1)
            failed |= beyond > 1e-9 * size
        go = (np.abs(gradient).max(axis=1) > 2.0 * tol) & ~failed
        if not go.any():
            return probs, failed
        centred = probs[:, :, None] * signs[None]
        curvature = np.einsum("nre,rf->nef", centred, signs, optimize=True) - mean[:, :, None] * mean[:, None, :]
        ridge = slack + 1e-12 * (1.0 + np.trace(curvature, axis1=1, axis2=2) / pairs)
        curvature += ridge[:, None, None] * np.eye(pairs)
        direction = -np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        direction *= np.minimum(1.0, 5.0 / np.maximum(np.abs(direction).max(axis=1, keepdims=True), 1e-300))
        slope = (direction * gradient).sum(axis=1)
        step = np.where(go, 1.0, 0.0)
        for _ in range(40):
            new_value, new_probs = loss(multipliers + step[:, None] * direction)
            good = new_value <= value + _ARMIJO * step * slope + 1e-13 * (1.0 + np.abs(value))
            if good.all():
                break
            step = np.where(good, step, 0.5 * step)
        multipliers = multipliers + step[:, None] * direction
        value, probs = new_value, new_probs
    return probs, failed | go


def triangle_excess(pairs: Pairwise | Any) -> FloatArray:
    """Largest P_ab + P_bc + P_ca - 2 over triples of items, (n,); above 0 no distribution over rankings has them.

    At most 0 is sufficient too for up to 5 items. 0 or less by definition for two items (-inf).
    """
    probs = _pairwise(pairs).probs
    n, m = probs.shape[:2]
    worst = np.full(n, -np.inf)
    for a, b, c in itertools.permutations(range(m), 3):
        if a < b and a < c:
            worst = np.fmax(worst, probs[:, a, b] + probs[:, b, c] + probs[:, c, a] - 2.0)
    return worst


def _why_not(probs: FloatArray) -> str:
    m = len(probs)
    excess = float(triangle_excess(probs[None])[0])
    if excess > 1e-12:
        for a, b, c in itertools.permutations(range(m), 3):
            total = probs[a, b] + probs[b, c] + probs[c, a]
            if a < b and a < c and total - 2.0 >= excess - 1e-15:
                return (
                    "no distribution over rankings has these pairwise probabilities: "
                    f"P({a}<{b}) + P({b}<{c}) + P({c}<{a}) = {total:.6g} > 2"
                )
    return (
        "no distribution that gives every ranking a positive probability has these pairwise probabilities (they lie "
        "outside, or at the very edge, of the linear ordering polytope)"
    )


def _pairwise(pairs: Pairwise | Any) -> Pairwise:
    return pairs if isinstance(pairs, Pairwise) else Pairwise(pairs)


def _check_connected(stated: npt.NDArray[np.bool_]) -> None:
    """Raise DataError where the stated pairs do not connect all items."""
    m = stated.shape[1]
    reach: IntArray = (stated | np.eye(m, dtype=bool)).astype(np.intp)
    for _ in range(max(1, (m - 1).bit_length())):
        reach = ((reach @ reach) > 0).astype(np.intp)
    apart = (reach == 0).any(axis=(1, 2))
    if apart.any():
        raise DataError(
            "the stated pairs do not connect all items, so their utilities cannot be compared",
            row=f"instance {int(np.flatnonzero(apart)[0])}",
            field="probs",
        )
