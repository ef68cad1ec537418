"""What every distribution over rankings offers, and the marginal of a view."""

from __future__ import annotations

import math
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

    #: What a temperature divides (:meth:`scaled`), in words; empty where the forecasts have none.
    tempered: ClassVar[str] = ""

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

    @property
    def has_best(self) -> bool:
        """Whether each item's probability to be the best is known (:meth:`top_log_probs`)."""
        return self.has_rankings

    @property
    def has_labels(self) -> bool:
        """Whether item j is the same item in every instance; False for lists of unequal length."""
        return True

    def scaled(self, factor: float) -> Distribution:
        """Bolder (above 1) or more timid forecasts: what ``tempered`` names, multiplied by ``factor`` >= 0.

        A temperature is 1 / factor. Factor 1 changes nothing (but listed probabilities are renormalised), and two
        factors in a row multiply. What is certain, or impossible, stays so.

        Raises UsageError where the forecasts have no such scale, and for factors that are not finite and >= 0.
        """
        raise UsageError(f"{type(self).__name__} has no temperature: no one number makes it bolder or more timid")

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

    def marginal(
        self, view: str | View, *, rng: np.random.Generator | int | None = None, n_samples: int = 20_000
    ) -> Marginal:
        """Probability of every outcome of a view.

        Exact wherever affordable (each class states its cost); otherwise, and only then, a sample of
        ``n_samples`` rankings an instance drawn with ``rng`` gives estimates, with their standard errors in the
        result.

        Where instances lack items: ``sub`` and ``position`` give NaN in the members that an instance lacks (and a
        ``position`` worse than its number of items probability 0); ``full``, ``top`` and ``topset`` are refused,
        since their outcomes are about all items. Take the parts of :meth:`blocks` then.

        Raises
        ------
        UsageError
            When the view has no meaning for ``n_items`` items, the result would pass ``MARGINAL_LIMIT`` numbers,
            or sampling is needed and ``rng`` is None.
        """
        view = View.parse(view)
        m = self.n_items
        view.check(m)
        shape = (len(self), view.n_members(m), view.n_outcomes(m))
        if math.prod(shape) > MARGINAL_LIMIT:
            raise UsageError(
                f"marginal {view.name}: {shape[0]} instances x {shape[1]} members x {shape[2]} outcomes is more than "
                f"{MARGINAL_LIMIT} numbers; use a smaller k, fewer instances at a time (h[a:b]), or sample()"
            )
        probs, stderr = self._probs(view.resolve(m), rng, n_samples)
        return Marginal(view, m, probs.reshape(shape), None if stderr is None else stderr.reshape(shape))

    @abstractmethod
    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """Probabilities (n, members, outcomes) of a valid, resolved view, and standard errors if sampled."""

    def _sampled(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray]:
        """Estimate a marginal from ``n_samples`` rankings an instance: relative frequencies, standard errors."""
        m, n_samples = self.n_items, check_size(n_samples)
        generator = as_generator(rng, f"marginal {view.name}: no exact way is affordable for {m} items, and sampling")
        members, outcomes = view.n_members(m), view.n_outcomes(m)
        probs = np.empty((len(self), members, outcomes))
        for rows in chunks(len(self), n_samples * members * max(view.k, 1)):
            probs[rows] = frequencies(view.classify(self[rows].sample(n_samples, generator)), outcomes)
        return probs, np.sqrt(probs * (1.0 - probs) / n_samples)

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

    def sample_keys(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Draw ``size`` rankings of a dense block as keys, smaller = better, (size, n, m).

        Default: the ranks of :meth:`sample`; cheaper where a draw is a race (Plackett-Luce).
        """
        orders = self.sample(size, rng)
        return np.argsort(orders, axis=2).transpose(1, 0, 2).astype(np.float64)

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
        """Split into dense blocks of equal size, at most about ``elements`` items each, in a fixed order."""
        step = max(1, elements // max(self.n_items, 1))
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield Block(rows, self[rows], None)


def as_generator(rng: np.random.Generator | int | None, what: str) -> np.random.Generator:
    """Make a generator from a seed; a generator passes through. UsageError when there is neither."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None or isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise UsageError(f"{what} needs rng, a numpy Generator or a seed >= 0, got {rng!r}")
    return np.random.default_rng(int(rng))


def check_factor(factor: float) -> float:
    """Check what :meth:`Distribution.scaled` multiplies by."""
    if not (math.isfinite(factor) and factor >= 0):
        raise UsageError(f"factor must be a finite number >= 0, got {factor!r}")
    return float(factor)


def powers(log_probs: FloatArray, factor: float) -> FloatArray:
    """(n, r) probabilities proportional to exp(factor * log_probs); rows sum to 1, what is impossible stays so."""
    with np.errstate(invalid="ignore"):
        logs = np.where(np.isneginf(log_probs), -np.inf, factor * log_probs)
    p = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares: FloatArray = p / p.sum(axis=1, keepdims=True)
    return shares


def check_size(size: int) -> int:
    """Check a number of draws."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise UsageError(f"size must be a whole number >= 1, got {size!r}")
    return int(size)


def check_pairs(first: npt.ArrayLike, second: npt.ArrayLike, m: int) -> tuple[IntArray, IntArray]:
    """Check two equally long lists of items, elementwise different."""
    a, b = np.atleast_1d(np.asarray(first)), np.atleast_1d(np.asarray(second))
    if a.ndim != 1 or a.shape != b.shape or (a.size and (a.dtype.kind not in "iu" or b.dtype.kind not in "iu")):
        raise UsageError(f"first and second must be equally long lists of items, got {a.shape} and {b.shape}")
    a, b = a.astype(np.intp), b.astype(np.intp)
    bad = (a < 0) | (a >= m) | (b < 0) | (b >= m) | (a == b)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise UsageError(f"pair {at} = ({a[at]}, {b[at]}) is not two different items of 0..{m - 1}")
    return a, b


def check_orders(orders: npt.ArrayLike, n: int, m: int, sizes: IntArray | None = None) -> IntArray:
    """Broadcast orderings to (n, m) and check each: ``sizes[i]`` different items of 0..m-1, then -1 up to m.

    ``sizes`` None means m for all. Raises UsageError, naming the row.
    """
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
    expected = np.full(n, m) if sizes is None else sizes
    holes = ((full >= 0) != (np.arange(m) < expected[:, None])).any(axis=1)
    bad = twice | holes | (ordered < -1).any(axis=1) | (ordered >= m).any(axis=1)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        what = f"items 0..{m - 1}" if expected[at] == m else f"its {expected[at]} items, then -1"
        raise UsageError(f"orders row {at} is not an ordering of {what}: {full[at].tolist()}")
    return full


def frequencies(outcome: IntArray, n_outcomes: int) -> FloatArray:
    """Relative frequencies (n, members, outcomes) of outcome indices (n, draws, members)."""
    n, draws, members = outcome.shape
    cell = (np.arange(n)[:, None, None] * members + np.arange(members)) * n_outcomes + outcome
    counts = np.bincount(cell.reshape(-1), minlength=n * members * n_outcomes)
    shares: FloatArray = counts.reshape(n, members, n_outcomes) / draws
    return shares


def chunks(n: int, cost: int, budget: int = 1 << 20) -> Iterator[slice]:
    """Slices of ``n`` instances that cost ``cost`` numbers each, at most about ``budget`` numbers a slice."""
    step = max(1, budget // max(cost, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
