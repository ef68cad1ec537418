"""Mixtures of distributions over the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, as_array
from prefcal.distributions.base import (
    MARGINAL_LIMIT,
    Distribution,
    as_generator,
    check_pairs,
    check_size,
    chunks,
)
from prefcal.errors import DataError, UsageError
from prefcal.views import View


class Mixture(Distribution):
    """A weighted average of distributions: with probability ``weights[c]`` the ranking comes from component c.

    Parameters
    ----------
    components
        At least one distribution over full rankings; all of the same number of instances and items, none lacking.
    weights
        (k,) or (n, k) weights >= 0 that sum to 1 within 1e-6 (rounding of stored weights is divided out).

    Raises
    ------
    UsageError
        For components that do not fit together or have no full rankings.
    DataError
        For weights that are negative, missing or do not sum to 1.

    Examples
    --------
    >>> from prefcal.distributions.mallows import Mallows
    >>> h = Mixture([Mallows([1, 2, 3], 0.0), Mallows([3, 2, 1], 0.0)], [0.75, 0.25])
    >>> h.marginal("position").probs[0].tolist()
    [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.25, 0.0, 0.75]]
    """

    def __init__(self, components: Sequence[Distribution], weights: Any) -> None:
        parts = tuple(components)
        if not parts:
            raise UsageError("a mixture needs at least one component")
        n, m = len(parts[0]), parts[0].n_items
        for c, part in enumerate(parts):
            if not isinstance(part, Distribution):
                raise UsageError(f"component {c} is a {type(part).__name__}, not a distribution")
            if not part.has_rankings:
                raise UsageError(
                    f"component {c}: {type(part).__name__} has no full rankings; average its probabilities instead"
                )
            if (len(part), part.n_items) != (n, m):
                raise UsageError(
                    f"component {c} has {len(part)} instances of {part.n_items} items, component 0 has {n} of {m}"
                )
            if (part.sizes != m).any():
                raise UsageError(f"component {c} has instances that lack items; mix the parts of blocks()")
        flat = np.ndim(weights) == 1
        array = as_array(weights, "weights", 1 if flat else 2)
        if flat:
            array = np.broadcast_to(array, (n, len(array)))
        if array.shape != (n, len(parts)):
            raise DataError(
                f"weights must have shape ({len(parts)},) or ({n}, {len(parts)}), got {np.shape(weights)}"
            )
        total = array.sum(axis=1)
        wrong = ~(array >= 0).all(axis=1) | ~(np.abs(total - 1.0) <= 1e-6)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"weights {array[at].tolist()} must be numbers >= 0 that sum to 1",
                row=f"instance {at}",
                field="weights",
            )
        self.components: tuple[Distribution, ...] = parts
        self.weights: FloatArray = array / total[:, None]

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return self.components[0].n_items

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, index: Any) -> Mixture:
        self_weights = np.atleast_2d(self.weights[index])
        part = object.__new__(Mixture)
        part.components, part.weights = tuple(c[index] for c in self.components), self_weights
        return part

    def _log_mean(self, log_values: Sequence[FloatArray]) -> FloatArray:
        """Log of the weighted mean of exp(values), each (n, ...)."""
        with np.errstate(divide="ignore"):
            log_w = np.log(self.weights)
        total: FloatArray = np.full(log_values[0].shape, -np.inf)
        for c, value in enumerate(log_values):
            total = np.logaddexp(total, value + log_w[:, c].reshape(-1, *[1] * (value.ndim - 1)))
        return total

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; the cost of all components."""
        return self._log_mean([c.log_prob(orders) for c in self.components])

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """The average of the components' marginals; standard errors of sampled ones add in quadrature."""
        generator = as_generator(rng, "marginal") if rng is not None else None
        m = self.n_items
        probs = np.zeros((len(self), view.n_members(m), view.n_outcomes(m)))
        variance: FloatArray | None = None
        for c, component in enumerate(self.components):
            weight = self.weights[:, c, None, None]
            part = component.marginal(view, rng=generator, n_samples=n_samples)
            probs += weight * part.probs
            if part.stderr is not None:
                own = (weight * part.stderr) ** 2
                variance = own if variance is None else variance + own
        return probs, None if variance is None else np.sqrt(variance)

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw a component, then a ranking from it; each component draws ``size`` rankings."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        below = np.cumsum(self.weights, axis=1)
        u = rng.random((len(self), size)) * below[:, -1:]
        chosen = (below[:, None, :] <= u[..., None]).sum(axis=2)
        out = np.empty((len(self), size, self.n_items), dtype=np.intp)
        for c, component in enumerate(self.components):
            mine = chosen == c
            out[mine] = component.sample(size, rng)[mine]
        return out

    def mode(self) -> IntArray:
        """See :func:`mode_by_enumeration`."""
        return mode_by_enumeration(self)

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; averaged in log space."""
        a, b = check_pairs(first, second, self.n_items)
        odds = [c.pair_log_odds(a, b) for c in self.components]
        before = self._log_mean([-np.logaddexp(0.0, -x) for x in odds])
        behind = self._log_mean([-np.logaddexp(0.0, x) for x in odds])
        return before - behind

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`."""
        return self._log_mean([c.top_log_probs() for c in self.components])


def mode_by_enumeration(h: Distribution) -> IntArray:
    """(n, m) a most probable ordering, by comparing all m!; the first in lexicographic order among equals.

    Raises UsageError when m! passes ``MARGINAL_LIMIT``.
    """
    m = h.n_items
    if m > 20 or math.factorial(m) > MARGINAL_LIMIT:
        raise UsageError(f"mode: a mixture over {m} items has no affordable exact mode; take its components' modes")
    if m == 1:
        return np.zeros((len(h), 1), dtype=np.intp)
    out = np.empty((len(h), m), dtype=np.intp)
    orders = View("full").outcomes(m)[0]
    for rows in chunks(len(h), math.factorial(m)):
        probs = h[rows].marginal("full").probs[:, 0]
        close = probs >= probs.max(axis=1, keepdims=True) * (1.0 - 1e-12)
        out[rows] = orders[close.argmax(axis=1)]
    return out
