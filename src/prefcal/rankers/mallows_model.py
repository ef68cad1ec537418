"""One Mallows model for all instances."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from prefcal.data.ragged import IntArray
from prefcal.distributions.mallows import Mallows
from prefcal.rankers.base import LabelRanker, check_number
from prefcal.rankers.mallows_fit import fit_mallows


class MallowsModel(LabelRanker):
    """Mallows model of the training rankings, whatever the features: the baseline that knows the marginals only.

    Parameters
    ----------
    center
        ``kemeny``: the ranking with the fewest pairwise disagreements, exact up to 10 items and wherever the
        majorities do not contradict each other (see ``center_is_exact_``); ``borda``: by mean rank.
    prior
        Weight, in rankings, of uniformly drawn rankings added for the dispersion; 0 = maximum likelihood.

    Attributes
    ----------
    center_
        (m,) ranks of the items in the centre.
    dispersion_
        phi in [0, 1]; 0 when the training rankings are unanimous (their centre is then certain, unless ``prior``).
    center_is_exact_
        Whether the centre is known to be a Kemeny ranking.

    Notes
    -----
    Ties and partial rankings: see :func:`~prefcal.rankers.mallows_fit.fit_mallows`. Features are not looked at;
    only their number of rows and columns is.

    References
    ----------
    M. A. Fligner, J. S. Verducci (1986), Distance based ranking models.

    Examples
    --------
    >>> model = MallowsModel().fit([[0.0]] * 3, [[1, 2, 3], [1, 2, 3], [2, 1, 3]])
    >>> model.center_.tolist(), round(model.dispersion_, 3)
    ([1, 2, 3], 0.169)
    """

    center_: IntArray
    dispersion_: float
    center_is_exact_: bool

    def __init__(self, *, center: Literal["kemeny", "borda"] = "kemeny", prior: float = 0.0) -> None:
        self.center = center
        self.prior = prior

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MallowsModel:
        """Fit to ranks (n, m); see :class:`LabelRanker`."""
        prior = check_number("prior", self.prior, low=0.0)
        _, ranks, weight = self._training_data(X, y, sample_weight)
        model, exact = fit_mallows(ranks, csr_array(weight[None, :]), prior=prior, center=self.center)
        self.center_ = model.places[0] + 1
        self.dispersion_ = float(model.dispersion[0])
        self.center_is_exact_ = bool(exact[0])
        return self

    def predict_distribution(self, X: Any) -> Mallows:
        """The same Mallows model for each of (n, p) instances."""
        n = len(self._features(X))
        return Mallows(self.center_, np.full(n, self.dispersion_))
