"""What every distribution over rankings offers, and the marginal of a view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import BLOCK_ELEMENTS, FloatArray, IntArray
from prefcal.errors import UsageError
from prefcal.views import View

# Largest number of probabilities that one exact marginal call may hold (float64: 1 GiB).
MARGINAL_LIMIT = 1 << 27


@dataclass(frozen=True, slots=True)
class Marginal:
    """Probabilities of a view's outcomes.

    Parameters
    ----------
    view
        The view, as asked for.
    n_items
        Number of items ``m`` of the universe.
    probs
        (n, members, outcomes); NaN where the instance lacks an item of the member.
    stderr
        None when exact; else the standard error of each probability, same shape.
    """

    view: View
    n_items: int
    probs: FloatArray
    stderr: FloatArray | None = None

    @property
    def members(self) -> IntArray:
        """Items each member looks at, see :meth:`prefcal.views.View.members`."""
        return self.view.members(self.n_items)

    @property
    def outcomes(self) -> IntArray:
        """What the outcomes are, see :meth:`prefcal.views.View.outcomes`."""
        return self.view.outcomes(self.n_items)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.probs, dtype=dtype, copy=copy)


@dataclass(frozen=True, slots=True)
class Block:
    """Instances that all have the same number of items, without gaps.

    ``dist`` is dense: item j of row i is item ``columns[i, j]`` of the whole distribution (j itself when None).
    """

    rows: slice | IntArray
    dist: Distribution
    columns: IntArray | None


class Distribution(ABC):
    """One probability distribution over the rankings of ``m`` items for each of ``n`` instances.

    Orders are best..worst, items 0-based. Instances may lack items (``sizes``); their orders are then padded
    with -1.
    """

    #: Whether full rankings have probabilities (False for pairwise probabilities alone).
    has_rankings: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_items(self) -> int:
        """Number of items ``m`` of the universe (of the longest instance when items carry no labels)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: Any) -> Distribution:
        """The same kind of distribution for some instances: integer (one instance), slice, indices or mask."""

    @property
    def sizes(self) -> IntArray:
        """(n,) number of items of each instance."""
        return np.full(len(self), self.n_items, dtype=np.intp)

    @abstractmethod
    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """Log probability of one full ordering for each instance.

        Parameters
        ----------
        orders
            (n, m) orderings, or (m,) the same for all; -1 pads instances with fewer items.

        Returns
        -------
        (n,) natural logarithms; -inf for an impossible ordering.
        """

    @abstractmethod
    def marginal(
        self, view: str | View, *, rng: np.random.Generator | int | None = None, n_samples: int = 20_000
    ) -> Marginal:
        """Probability of every outcome of a view.

        Exact wherever affordable (each class states its cost); otherwise, and only then, a sample of
        ``n_samples`` rankings an instance drawn with ``rng`` gives estimates, with their standard errors in the
        result. Raises UsageError when the result would pass ``MARGINAL_LIMIT`` numbers or sampling is needed and
        ``rng`` is None.
        """

    @abstractmethod
    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """Draw ``size`` independent orderings for each instance, (n, size, m); -1 pads short instances."""

    @abstractmethod
    def mode(self) -> IntArray:
        """(n, m) a most probable ordering of each instance; equal items in the order of their index."""

    @abstractmethod
    def pair_log_odds(self, first: IntArray, second: IntArray) -> FloatArray:
        """Log odds that item ``first[e]`` comes before item ``second[e]``, (n, len(first)).

        Exact; infinite where one order is impossible; NaN where the model states no probability or the
        instance lacks the item. Log odds keep what probabilities lose near 0 and 1.
        """

    @abstractmethod
    def top_log_probs(self) -> FloatArray:
        """(n, m) log probability of each item to be the best; -inf if impossible or absent."""

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
        """Split into dense blocks of equal size, at most about ``elements`` items each, in a fixed order."""
        step = max(1, elements // max(self.n_items, 1))
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield Block(rows, self[rows], None)


def check_orders(orders: npt.ArrayLike, n: int, m: int) -> IntArray:
    """Broadcast orderings to (n, m) and check that each is a permutation (or padded with -1 at the end)."""
    array = np.asarray(orders)
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or array.shape[-1] != m:
        raise UsageError(
            f"orders must be whole numbers of shape ({m},) or ({n}, {m}), got {array.dtype} {array.shape}"
        )
    if array.ndim == 2 and len(array) != n:
        raise UsageError(f"orders has {len(array)} rows for {n} instances")
    full = np.broadcast_to(array, (n, m)).astype(np.intp)
    ordered = np.sort(full, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    bad = twice | (ordered < -1).any(axis=1) | (ordered >= m).any(axis=1)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise UsageError(f"orders row {at} is not an ordering of items 0..{m - 1}: {full[at].tolist()}")
    return full
