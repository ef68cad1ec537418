"""Listed rankings smoothed by the Mallows kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.distributions.base import Distribution, as_generator, check_orders, check_pairs, check_size, chunks
from prefcal.distributions.categorical import Categorical
from prefcal.distributions.mallows import Mallows, log_normalizer
from prefcal.distributions.mixture import mode_by_enumeration
from prefcal.errors import DataError
from prefcal.views import View


class Smoothed(Distribution):
    """A ranking from the list, then Mallows around it: each listed ranking lends its probability to those near it.

    P(pi) = sum over listed sigma of p(sigma) phi^d(sigma, pi) / Z(phi), d the number of pairs that pi orders
    otherwise than sigma. phi = 0 is the list itself, phi = 1 uniform. Every ranking is possible for phi > 0.

    Parameters
    ----------
    base
        The list and its probabilities.
    dispersion
        phi in [0, 1], one for all.

    Raises
    ------
    DataError
        For a dispersion outside [0, 1].

    Notes
    -----
    Exact throughout: marginals are averages of those of Mallows around the r listed rankings, O(n r) an outcome;
    ``log_prob`` O(r m^2) an instance.

    References
    ----------
    G. Lebanon, Y. Mao (2008), Non-parametric modeling of partially ranked data, JMLR 9.

    Examples
    --------
    >>> h = Smoothed(Categorical([[0, 1, 2], [0, 2, 1]], [[0.5, 0.5]]), 0.5)
    >>> h.marginal("top-1").probs.round(3).tolist()
    [[[0.571, 0.214, 0.214]]]
    """

    def __init__(self, base: Categorical, dispersion: float) -> None:
        if not 0.0 <= dispersion <= 1.0:
            raise DataError(f"dispersion {dispersion} is not in [0, 1]", field="dispersion")
        self.base, self.dispersion = base, float(dispersion)

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return self.base.n_items

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: Any) -> Smoothed:
        return Smoothed(self.base[index], self.dispersion)

    @property
    def _kernel(self) -> Mallows:
        """Mallows around each listed ranking, r instances."""
        return Mallows(np.argsort(self.base.orders, axis=1) + 1, np.full(len(self.base.orders), self.dispersion))

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`; O(r m^2) an instance."""
        full = check_orders(orders, len(self), self.n_items)
        out = np.empty(len(self))
        with np.errstate(divide="ignore", invalid="ignore"):
            log_phi = np.log(self.dispersion)
            for rows in chunks(len(self), len(self.base.orders)):
                away = distances(full[rows], self.base.orders)
                logs = np.log(self.base.probs[rows]) + np.where(away > 0, away * log_phi, 0.0)
                out[rows] = np.logaddexp.reduce(logs, axis=1)
        return out - log_normalizer(self.dispersion, self.n_items)

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        m = self.n_items
        shape = (view.n_members(m), view.n_outcomes(m))
        out = np.zeros((len(self), shape[0] * shape[1]))
        kernel = self._kernel
        for part in chunks(len(kernel), shape[0] * shape[1]):
            out += self.base.probs[:, part] @ kernel[part].marginal(view).probs.reshape(-1, out.shape[1])
        return out.reshape(len(self), *shape), None

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw a ranking from the list, then one around it."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        m = self.n_items
        centers = np.argsort(self.base.sample(size, rng).reshape(-1, m), axis=1) + 1
        return Mallows(centers, np.full(len(centers), self.dispersion)).sample(1, rng).reshape(len(self), size, m)

    def mode(self) -> IntArray:
        """See :func:`prefcal.distributions.mixture.mode_by_enumeration`."""
        return mode_by_enumeration(self)

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`; O(r) a pair."""
        a, b = check_pairs(first, second, self.n_items)
        odds = self._kernel.pair_log_odds(a, b)
        with np.errstate(divide="ignore"):
            before, behind = (np.log(self.base.probs @ np.exp(-np.logaddexp(0.0, s * odds))) for s in (-1.0, 1.0))
        return np.asarray(before - behind)

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`; O(r m) an instance."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.base.probs @ np.exp(self._kernel.top_log_probs())))


def distances(orders: IntArray, others: IntArray) -> FloatArray:
    """(n, r) Kendall distances of orderings (n, m) to others (r, m), O(m^2) each, as one matrix product."""
    m = orders.shape[1]
    first, second = np.triu_indices(m, 1)

    def signs(of: IntArray) -> FloatArray:
        place = np.argsort(of, axis=1)
        return np.where(place[:, first] < place[:, second], 1.0, -1.0)

    return np.asarray((len(first) - signs(orders) @ signs(others).T) / 2.0)
