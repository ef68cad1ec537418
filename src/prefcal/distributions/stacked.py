"""Forecasts of different kinds or from different fits, put back into one row for each instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import BLOCK_ELEMENTS, FloatArray, IntArray, Ragged
from prefcal.distributions.base import Block, Distribution, as_generator, check_pairs, check_size
from prefcal.distributions.categorical import Categorical, joined_lists
from prefcal.distributions.mallows import Mallows
from prefcal.distributions.pairwise import Pairwise
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import UsageError
from prefcal.views import View, combination_index


def stack(parts: Sequence[tuple[npt.ArrayLike, Distribution]]) -> Distribution:
    """One distribution from parts that each forecast some of the instances.

    Parameters
    ----------
    parts
        (rows, distribution): the distribution's instance i is instance ``rows[i]`` of the whole. The rows of all
        parts must be 0..n-1, each once.

    Returns
    -------
    Where all parts are Plackett-Luce, Categorical, Pairwise or Mallows, one distribution of that kind: parts of
    Categorical over the rankings that any of them lists. Else, or where the parts have different items, a
    :class:`Stacked`. Probabilities are the parts' own either way.

    Examples
    --------
    >>> a, b = PlackettLuce([[0.0, 1.0]]), PlackettLuce([[5.0, 1.0], [2.0, 2.0]])
    >>> stack([([1], a), ([0, 2], b)]).mode().tolist()
    [[0, 1], [1, 0], [0, 1]]
    >>> a, b = Categorical([[0, 1, 2]], [[1.0]]), Categorical([[2, 1, 0], [0, 1, 2]], [[0.25, 0.75]])
    >>> stack([([1], a), ([0], b)]).probs.tolist()
    [[0.75, 0.25], [1.0, 0.0]]
    """
    whole = Stacked(parts)
    joined = _joined([dist for _, dist in whole.parts])
    if joined is None:
        return whole
    return joined[np.argsort(np.concatenate([rows for rows, _ in whole.parts]))]


def _joined(models: Sequence[Distribution]) -> Distribution | None:
    """The instances of all models one after the other, in one distribution of their kind; None if there is none."""
    scores = [dist.scores for dist in models if isinstance(dist, PlackettLuce)]
    if len(scores) == len(models):
        return _joined_scores(scores)
    if len({dist.n_items for dist in models}) > 1:
        return None
    pairs = [dist.probs for dist in models if isinstance(dist, Pairwise)]
    if len(pairs) == len(models):
        return Pairwise._wrap(np.concatenate(pairs))
    centered = [dist for dist in models if isinstance(dist, Mallows)]
    if len(centered) == len(models):
        places, dispersion = ([getattr(d, name) for d in centered] for name in ("places", "dispersion"))
        return Mallows._wrap(np.concatenate(places), np.concatenate(dispersion))
    listed = [dist for dist in models if isinstance(dist, Categorical)]
    return joined_lists(listed) if len(listed) == len(models) else None


def _joined_scores(scores: Sequence[Ragged]) -> PlackettLuce | None:
    gaps = any(s.columns is not None for s in scores)
    lists = any(s.columns is None and not s.is_dense for s in scores)
    if gaps and (lists or len({s.n_columns for s in scores}) > 1):
        return None
    sizes = np.concatenate([s.sizes for s in scores])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    columns = np.concatenate([s.flat_columns() for s in scores]) if gaps else None
    return PlackettLuce(
        Ragged(np.concatenate([s.values for s in scores]), offsets, columns, max(s.n_columns for s in scores))
    )


class Stacked(Distribution):
    """Distributions of different kinds, one after the other: see :func:`stack`.

    Every method asks each part about its own instances; costs are those of the parts. Items carry labels where those
    of all parts do and all have the same items.

    Raises
    ------
    UsageError
        When rows are missing or named twice, or there is nothing to stack.
    """

    def __init__(self, parts: Sequence[tuple[npt.ArrayLike, Distribution]]) -> None:
        named = [(np.atleast_1d(np.asarray(rows, dtype=np.intp)), dist) for rows, dist in parts]
        if not named:
            raise UsageError("there is nothing to stack: no part was given")
        found = [(rows, dist) for rows, dist in named if len(rows)] or named[:1]
        for i, (rows, dist) in enumerate(found):
            if len(rows) != len(dist):
                raise UsageError(f"part {i} names {len(rows)} rows but forecasts {len(dist)} instances")
        n = sum(len(rows) for rows, _ in found)
        every = np.sort(np.concatenate([rows for rows, _ in found]))
        if (every != np.arange(n)).any():
            raise UsageError(f"the rows of all parts must be 0..{n - 1}, each once")
        self.parts: tuple[tuple[IntArray, Distribution], ...] = tuple(found)
        self._part = np.empty(n, dtype=np.intp)
        self._place = np.empty(n, dtype=np.intp)
        for i, (rows, _) in enumerate(self.parts):
            self._part[rows], self._place[rows] = i, np.arange(len(rows))
        self.has_rankings = all(dist.has_rankings for _, dist in self.parts)  # type: ignore[misc]

        words = [dist.tempered for _, dist in self.parts]
        self.tempered = "; ".join(dict.fromkeys(words)) if all(words) else ""  # type: ignore[misc]

    @property
    def n_items(self) -> int:
        """Number of items of the part that has most."""
        return max(dist.n_items for _, dist in self.parts)

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: Any) -> Stacked:
        rows = np.atleast_1d(np.arange(len(self))[index])
        kept = []
        for i, (_, dist) in enumerate(self.parts):
            at = np.flatnonzero(self._part[rows] == i)
            kept.append((at, dist[self._place[rows[at]]]))
        return Stacked(kept)

    @property
    def sizes(self) -> IntArray:
        """(n,) number of items of each instance."""
        out = np.empty(len(self), dtype=np.intp)
        for rows, dist in self.parts:
            out[rows] = dist.sizes
        return out

    @property
    def has_best(self) -> bool:
        """Whether every part knows who is best."""
        return all(dist.has_best for _, dist in self.parts)

    @property
    def has_labels(self) -> bool:
        """Whether item j is the same item in every instance."""
        return all(dist.has_labels and dist.n_items == self.n_items for _, dist in self.parts)

    def _gather(self, values: Sequence[FloatArray | IntArray], fill: float, dtype: Any) -> Any:
        """(n, width) from (rows of a part, its width), padded at the right."""
        out = np.full((len(self), *max(v.shape[1:] for v in values)), fill, dtype=dtype)
        for (rows, _), v in zip(self.parts, values, strict=True):
            out[rows, ..., : v.shape[-1]] = v
        return out

    def scaled(self, factor: float) -> Stacked:
        """See :meth:`Distribution.scaled`; every part by the same factor."""
        return Stacked([(rows, dist.scaled(factor)) for rows, dist in self.parts])

    def log_prob(self, orders: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.log_prob`."""
        array = np.asarray(orders)
        if array.ndim == 1:
            array = np.broadcast_to(array, (len(self), len(array)))
        if array.shape != (len(self), self.n_items):
            raise UsageError(f"orders must have shape ({len(self)}, {self.n_items}), got {array.shape}")
        out = np.empty(len(self))
        for rows, dist in self.parts:
            out[rows] = dist.log_prob(array[rows][:, : dist.n_items])
        return out

    def _probs(
        self, view: View, rng: np.random.Generator | int | None, n_samples: int
    ) -> tuple[FloatArray, FloatArray | None]:
        m = self.n_items
        uneven = any(dist.n_items != m for _, dist in self.parts)
        if uneven and view.kind not in ("sub", "position"):
            raise UsageError(
                f"marginal {view.name}: instances have {int(self.sizes.min())} to {m} items and no outcome about all "
                "items; use blocks(), which yields parts without gaps, or views sub-k and position"
            )
        generator = None if rng is None else as_generator(rng, "marginal")
        probs = np.full((len(self), view.n_members(m), view.n_outcomes(m)), np.nan)
        stderr = np.zeros_like(probs)
        sampled = False
        for rows, dist in self.parts:
            size = dist.n_items
            if view.kind == "sub" and size < view.k:
                continue
            own = View("sub", size) if view.kind == "sub" and view.k == size else view
            part = dist.marginal(own, rng=generator, n_samples=n_samples)
            if view.kind == "sub":
                member = combination_index(view.members(size), m)
                at: Any = (rows[:, None], member)
            elif view.kind == "position":
                probs[rows[:, None], np.arange(size), size:] = 0.0
                at = (rows[:, None, None], np.arange(size)[:, None], np.arange(size))
            else:
                at = rows
            probs[at] = part.probs
            if part.stderr is not None:
                stderr[at], sampled = part.stderr, True
        return probs, stderr if sampled else None

    def sample(self, size: int, rng: np.random.Generator | int) -> IntArray:
        """See :meth:`Distribution.sample`."""
        size, rng = check_size(size), as_generator(rng, "sample()")
        orders: IntArray = self._gather([dist.sample(size, rng) for _, dist in self.parts], -1, np.intp)
        return orders

    def mode(self) -> IntArray:
        """See :meth:`Distribution.mode`."""
        orders: IntArray = self._gather([dist.mode() for _, dist in self.parts], -1, np.intp)
        return orders

    def pair_log_odds(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """See :meth:`Distribution.pair_log_odds`."""
        a, b = check_pairs(first, second, self.n_items)
        out = np.full((len(self), len(a)), np.nan)
        for rows, dist in self.parts:
            here = np.flatnonzero((a < dist.n_items) & (b < dist.n_items))
            if len(here):
                out[rows[:, None], here] = dist.pair_log_odds(a[here], b[here])
        return out

    def top_log_probs(self) -> FloatArray:
        """See :meth:`Distribution.top_log_probs`."""
        logs: FloatArray = self._gather([dist.top_log_probs() for _, dist in self.parts], -np.inf, np.float64)
        return logs

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[Block]:
        """See :meth:`Distribution.blocks`; the parts' blocks, one part after the other."""
        for rows, dist in self.parts:
            for block in dist.blocks(elements):
                yield Block(rows[block.rows], block.dist, block.columns)
