"""Outcomes: what is known about the true ranking of each instance's items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, Ragged, as_array, as_ragged, unwrap
from prefcal.errors import DataError, UsageError

Ties = Literal["unknown", "equal"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Observed (partial) rankings, one record each.

    Build one with :meth:`from_ranks`, :meth:`from_orders`, :meth:`from_best`, :meth:`from_pairs` or
    :meth:`from_ratings`. A record is a bucket order over the items that were ranked; nothing is known about the
    others.

    Parameters
    ----------
    ranks
        Dense ranks of each record's items: 1 = best bucket, 2 = next, ...; NaN = not ranked (nothing is known).
    ties
        What an equal rank means: ``unknown`` = one is better but we do not know which (such pairs are not
        events); ``equal`` = judged to be equally good (y = 1/2 in a pair).
    instance
        (len,) which row of the forecasts each record belongs to; records of one instance form a cluster.
    """

    ranks: Ragged
    ties: Ties
    instance: IntArray

    def __post_init__(self) -> None:
        if self.ties not in ("unknown", "equal"):
            raise UsageError.unknown("meaning of ties", str(self.ties), ("unknown", "equal"))

    def __len__(self) -> int:
        return len(self.ranks)

    def __getitem__(self, index: Any) -> Outcomes:
        """Some records. One record an instance: they are numbered anew, so that ``h[rows]`` goes with ``y[rows]``.
        Several records an instance (:meth:`from_pairs`): they keep the number of their forecast.
        """
        ranks = self.ranks.take(index)
        if (self.instance == np.arange(len(self))).all():
            return Outcomes(ranks, self.ties, np.arange(len(ranks), dtype=np.intp))
        return Outcomes(ranks, self.ties, np.atleast_1d(self.instance[index]))

    @property
    def n_items(self) -> int:
        """Number of items in the universe (of the longest record when items carry no labels)."""
        return self.ranks.n_columns

    @property
    def sizes(self) -> IntArray:
        """(len,) number of items of each record, ranked or not."""
        return self.ranks.sizes

    def dense(self) -> FloatArray:
        """(len, n_items) ranks, NaN = not ranked or no such item."""
        return self.ranks.dense()

    @classmethod
    def from_ranks(
        cls, ranks: Any, *, ties: Ties = "unknown", unranked: Literal["unknown", "last"] = "unknown"
    ) -> Outcomes:
        """Outcomes from ranks.

        Parameters
        ----------
        ranks
            (n, m) or ragged; 1 = best, equal = tied, NaN or None = not ranked. Only the order of the numbers
            matters after checking: they must be positive whole numbers (or mid-ranks, multiples of 1/2).
        ties
            See the class.
        unranked
            ``unknown``: nothing is known about items without a rank. ``last``: they are below all ranked ones
            (top-of-ballot lists), tied among themselves.

        Raises
        ------
        DataError
            For ranks below 1, ranks that are not multiples of 1/2, infinities, rank gaps that no tie explains,
            and instances without any ranked item.

        Examples
        --------
        >>> Outcomes.from_ranks([[1, 2, 2], [3, 1, 2]]).dense().tolist()
        [[1.0, 2.0, 2.0], [3.0, 1.0, 2.0]]
        """
        ragged = as_ragged(ranks, "ranks", drop_nan=False)
        _check_ranks(ragged)
        values = ragged.values
        if unranked == "last":
            values = np.where(np.isnan(values), np.inf, values)
        elif unranked != "unknown":
            raise UsageError.unknown("meaning of unranked", str(unranked), ("unknown", "last"))
        return cls._build(ragged.with_values(values), ties)

    @classmethod
    def from_orders(
        cls, orders: Any, *, n_items: int | None = None, rest: Literal["unknown", "last"] = "last"
    ) -> Outcomes:
        """Outcomes from orderings, best first.

        Parameters
        ----------
        orders
            (n, k) or ragged 0-based items, best first; -1 pads short rows.
        n_items
            Number of items; default: the largest item + 1.
        rest
            Items that an ordering does not name: ``last`` = below all named ones (a top-k list), ``unknown``.

        Raises
        ------
        DataError
            For repeated items, items outside 0..n_items-1, and empty orderings.
        """
        ragged = as_ragged(orders, "orders", drop_nan=False)
        values = ragged.values
        if not np.array_equal(values, np.round(values)):
            bad = _row_of(ragged, np.flatnonzero(values != np.round(values))[0])
            raise DataError("orders must hold whole item numbers", row=f"instance {bad}")
        items = values.astype(np.intp)
        m = int(items.max(initial=-1)) + 1 if n_items is None else n_items
        rows = np.repeat(np.arange(len(ragged)), ragged.sizes)
        if ((items < -1) | (items >= m)).any():
            at = np.flatnonzero((items < -1) | (items >= m))[0]
            raise DataError(f"item {items[at]} is outside 0..{m - 1}", row=f"instance {rows[at]}", field="orders")
        keep = items >= 0
        out = np.full((len(ragged), m), np.inf if rest == "last" else np.nan)
        counts = np.zeros((len(ragged), m), dtype=np.intp)
        np.add.at(counts, (rows[keep], items[keep]), 1)
        if (counts > 1).any() or (counts.sum(axis=1) == 0).any():
            at = int(np.flatnonzero((counts > 1).any(axis=1) | (counts.sum(axis=1) == 0))[0])
            what = "an item occurs twice" if (counts[at] > 1).any() else "the ordering is empty"
            raise DataError(what, row=f"instance {at}", field="orders")
        out[rows[keep], items[keep]] = ragged.flat_columns()[keep]
        return cls._build(Ragged.from_dense(out, drop_nan=False), "unknown")

    @classmethod
    def from_best(cls, best: Any, *, n_items: int | Sequence[int] | npt.NDArray[Any]) -> Outcomes:
        """Outcomes where only the best item, or the set of best items, is known.

        Parameters
        ----------
        best
            (n,) 0-based index of the best item, or one collection of indices for each instance; a set means that
            its members are better than all others and their order is unknown.
        n_items
            Number of items, or (n,) numbers of items where instances differ.

        Raises
        ------
        DataError
            For an index outside the instance's items, an empty set, or a repeated index.

        Examples
        --------
        >>> Outcomes.from_best([0, [0, 2]], n_items=3).dense().tolist()
        [[1.0, 2.0, 2.0], [1.0, 2.0, 1.0]]
        """
        chosen = _index_sets(best)
        sizes = np.asarray(n_items)
        if sizes.dtype.kind not in "iu" or sizes.ndim > 1 or (sizes.ndim == 1 and len(sizes) != len(chosen)):
            raise DataError(
                f"n_items must be a whole number, or one for each of the {len(chosen)} instances, got {n_items!r}"
            )
        sizes = np.broadcast_to(sizes.astype(np.intp), (len(chosen),))
        rows = np.repeat(np.arange(len(chosen)), chosen.sizes)
        for wrong, why in best_problems(chosen, sizes):
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                got = chosen.values[chosen.offsets[at] : chosen.offsets[at + 1]]
                shown = [int(x) if x == np.round(x) else float(x) for x in got[:12]]
                raise DataError(f"best = {shown} {why(at)}", row=f"instance {at}", field="best")
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        ranks = np.full(offsets[-1], 2.0)
        ranks[offsets[rows] + chosen.values.astype(np.intp)] = 1.0
        # A set of all items leaves a single bucket, whose rank is 1: the ranks are dense as they are.
        ragged = Ragged(ranks, offsets, None, int(sizes.max(initial=0)))
        return cls(ragged, "unknown", np.arange(len(chosen), dtype=np.intp))

    @classmethod
    def from_pairs(cls, pairs: Any, *, n_items: int) -> Outcomes:
        """Outcomes from single comparisons, several of an instance allowed.

        Parameters
        ----------
        pairs
            (r, 3) whole numbers: instance, better item, worse item (0-based). One record each; the records of an
            instance share its forecast and form one cluster.
        n_items
            Number of items.
        """
        array = as_array(pairs, "pairs", 2)
        if array.shape[1] != 3 or not np.array_equal(array, np.round(array)):
            raise DataError(f"pairs must have three whole-number columns, got shape {array.shape}")
        triples = array.astype(np.intp)
        wrong = (triples < 0).any(axis=1) | (triples[:, 1:] >= n_items).any(axis=1) | (triples[:, 1] == triples[:, 2])
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"not an instance and two different items of 0..{n_items - 1}: {triples[at].tolist()}",
                row=f"pair {at}",
            )
        ranks = np.full((len(triples), n_items), np.nan)
        rows = np.arange(len(triples))
        ranks[rows, triples[:, 1]], ranks[rows, triples[:, 2]] = 1.0, 2.0
        return cls(Ragged.from_dense(ranks, drop_nan=False), "unknown", triples[:, 0])

    @classmethod
    def from_ratings(cls, ratings: Any, *, ties: Ties = "unknown") -> Outcomes:
        """Outcomes from ratings, higher = better, equal = tied, NaN or None = not rated."""
        ragged = as_ragged(ratings, "ratings", drop_nan=False)
        if np.isinf(ragged.values).any():
            at = _row_of(ragged, int(np.flatnonzero(np.isinf(ragged.values))[0]))
            raise DataError("ratings must be finite", row=f"instance {at}", field="ratings")
        return cls._build(ragged.with_values(-ragged.values), ties)

    @classmethod
    def _build(cls, keys: Ragged, ties: Ties) -> Outcomes:
        """Turn sort keys (smaller = better, NaN = unranked) into dense ranks row by row."""
        if _strict(keys):  # already what we want
            return cls(keys, ties, np.arange(len(keys), dtype=np.intp))
        rows = np.repeat(np.arange(len(keys)), keys.sizes)
        ranked = ~np.isnan(keys.values)
        seen = np.bincount(rows[ranked], minlength=len(keys))
        if (seen == 0).any():
            at = int(np.flatnonzero(seen == 0)[0])
            raise DataError("no item is ranked", row=f"instance {at}")
        order = _order_in_rows(keys)  # NaN sorts last within its row
        sorted_keys, sorted_rows = keys.values[order], rows[order]
        new_row = np.concatenate([[True], sorted_rows[1:] != sorted_rows[:-1]])
        new_bucket = new_row | np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])
        bucket = np.cumsum(new_bucket)
        first = np.repeat(bucket[new_row], keys.sizes[keys.sizes > 0])
        dense = np.empty_like(keys.values)
        dense[order] = bucket - first + 1.0
        dense[~ranked] = np.nan
        return cls(keys.with_values(dense), ties, np.arange(len(keys), dtype=np.intp))


def _row_of(ragged: Ragged, flat: int) -> int:
    return int(np.searchsorted(ragged.offsets, flat, side="right")) - 1


def _strict(ragged: Ragged) -> bool:
    """Whether every row is a permutation of 1..m: the common case of complete rankings, told without sorting."""
    m = ragged.n_columns
    if not ragged.is_dense or not 1 <= m <= 62 or len(ragged) == 0:
        return False
    values = ragged.values
    if not (values.min() == 1 and values.max() == m):  # also False for NaN
        return False
    whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        return False
    seen = np.bitwise_or.reduce(np.left_shift(1, whole).reshape(-1, m), axis=1)
    return bool((seen == (1 << (m + 1)) - 2).all())


def _order_in_rows(ragged: Ragged) -> IntArray:
    """Index that sorts the flat values within each row, rows staying in place; NaN last."""
    if ragged.is_dense:  # several times faster than a lexsort over everything
        m = max(ragged.n_columns, 1)
        within = np.argsort(ragged.values.reshape(-1, m), axis=1, kind="stable")
        order: IntArray = (within + np.arange(len(within))[:, None] * m).reshape(-1)
        return order
    return np.lexsort((ragged.values, np.repeat(np.arange(len(ragged)), ragged.sizes)))


def _index_sets(best: Any) -> Ragged:
    """Indices of the best items, one row an instance, from integers, arrays or collections of integers."""
    if isinstance(best, Ragged):
        return best
    best = unwrap(best)
    if isinstance(best, np.ndarray) and best.dtype.kind in "iu" and best.ndim in (1, 2):
        array = best[:, None] if best.ndim == 1 else best
        return Ragged.from_dense(array.astype(np.float64), drop_nan=False)
    if not isinstance(best, Iterable) or isinstance(best, str | bytes):
        raise DataError(f"best must hold an index or a set of indices for each instance, got {best!r}")
    rows = [list(b) if isinstance(b, Iterable) and not isinstance(b, str | bytes) else [b] for b in best]
    for i, row in enumerate(rows):
        if not all(isinstance(x, int | np.integer) and not isinstance(x, bool | np.bool_) for x in row):
            raise DataError(
                f"best must be an index or a set of distinct indices, got {row[:12]!r}",
                row=f"instance {i}",
                field="best",
            )
    return Ragged.from_rows(rows)


def best_problems(chosen: Ragged, sizes: IntArray) -> list[tuple[npt.NDArray[np.bool_], Callable[[int], str]]]:
    """What is wrong with sets of best items: masks of instances, each with the words for instance i.

    Parameters
    ----------
    chosen
        Indices of the best items, one row an instance.
    sizes
        (n,) number of items of each instance.
    """
    n = len(chosen)
    rows = np.repeat(np.arange(n), chosen.sizes)
    values = chosen.values
    with np.errstate(invalid="ignore"):
        outside = ~((values == np.round(values)) & (values >= 0) & (values < sizes[rows]))
    order = np.lexsort((values, rows))
    twice = (np.diff(values[order]) == 0) & (np.diff(rows[order]) == 0)
    repeated = rows[order][1:][twice]
    return [
        (chosen.sizes == 0, lambda i: "is empty: at least one item must be best"),
        (np.bincount(rows[outside], minlength=n) > 0, lambda i: f"is not of 0..{sizes[i] - 1} (counted from 0)"),
        (np.bincount(repeated, minlength=n) > 0, lambda i: "names an item twice"),
    ]


def _check_ranks(ragged: Ragged) -> None:
    for wrong, why in rank_problems(ragged):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise DataError(why(at), row=f"instance {at}", field="ranks")


def rank_problems(ragged: Ragged) -> list[tuple[npt.NDArray[np.bool_], Callable[[int], str]]]:
    """What is wrong with ranks: masks of instances, each with the words for instance i.

    Allowed in an instance are dense ranks (1,2,2,3), standard competition ranks (1,2,2,4), modified ones (1,3,3,4)
    and mid-ranks (1,2.5,2.5,4), of the ranked items; NaN = not ranked.
    """
    if _strict(ragged):
        return []
    values = ragged.values
    n = len(ragged)
    rows = np.repeat(np.arange(n), ragged.sizes)
    ranked = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        bad = ranked & ~((values >= 1) & (np.abs(values) < np.inf) & (2 * values == np.round(2 * values)))

    def show_bad(i: int) -> str:
        first = values[ragged.offsets[i] : ragged.offsets[i + 1]][bad[ragged.offsets[i] : ragged.offsets[i + 1]]][0]
        return f"rank {first:g} is not allowed: ranks are 1, 2, ... with 1 = best (mid-ranks such as 1.5 for ties)"

    def show_gap(i: int) -> str:
        row = values[ragged.offsets[i] : ragged.offsets[i + 1]]
        return (
            f"ranks {[None if np.isnan(x) else float(x) for x in row[:12]]} have a gap that no tie explains; "
            "use 1, 2, ... in each instance (or ratings, if only the order of the numbers matters)"
        )

    order = _order_in_rows(ragged)
    keep = ranked[order]
    v, r = values[order][keep], rows[order][keep]
    fits = np.ones(n, dtype=bool)
    if len(v):
        starts = np.flatnonzero(np.concatenate([[True], (v[1:] != v[:-1]) | (r[1:] != r[:-1])]))
        size = np.diff(np.concatenate([starts, [len(v)]]))
        row, value = r[starts], v[starts]
        first = np.concatenate([[True], row[1:] != row[:-1]])
        number = np.arange(len(row)) - np.maximum.accumulate(np.where(first, np.arange(len(row)), 0)) + 1
        before = starts - np.searchsorted(r, row)  # ranked items in better buckets
        fits = np.zeros(n, dtype=bool)
        for expected in (number, before + 1, before + size, before + (size + 1) / 2):
            fits |= np.bincount(row, weights=value != expected, minlength=n) == 0
    return [
        (np.bincount(rows[bad], minlength=n) > 0, show_bad),
        (np.bincount(rows[ranked], minlength=n) == 0, lambda i: "no item is ranked"),
        (~fits, show_gap),
    ]
