"""Outcomes: what is known about the true ranking of each instance's items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, Ragged, as_array, as_ragged
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
        return Outcomes(self.ranks.take(index), self.ties, np.atleast_1d(self.instance[index]))

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
        """
        sets = [np.atleast_1d(np.asarray(b)) for b in best]
        sizes = np.broadcast_to(np.asarray(n_items, dtype=np.intp), (len(sets),))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        values = np.full(offsets[-1], 2.0)
        for i, s in enumerate(sets):
            if s.ndim != 1 or s.size == 0 or s.dtype.kind not in "iu" or len(np.unique(s)) != len(s):
                raise DataError(
                    f"best must be an index or a set of distinct indices, got {s.tolist()!r}",
                    row=f"instance {i}",
                    field="best",
                )
            if s.min() < 0 or s.max() >= sizes[i]:
                raise DataError(
                    f"best = {s.tolist()} is outside 0..{sizes[i] - 1}", row=f"instance {i}", field="best"
                )
            values[offsets[i] + s] = 1.0
        return cls._build(Ragged(values, offsets, None, int(sizes.max(initial=0))), "unknown")

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
        rows = np.repeat(np.arange(len(keys)), keys.sizes)
        ranked = ~np.isnan(keys.values)
        seen = np.bincount(rows[ranked], minlength=len(keys))
        if (seen == 0).any():
            at = int(np.flatnonzero(seen == 0)[0])
            raise DataError("no item is ranked", row=f"instance {at}")
        order = np.lexsort((keys.values, rows))  # NaN sorts last within its row
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


def _check_ranks(ragged: Ragged) -> None:
    values = ragged.values
    rows = np.repeat(np.arange(len(ragged)), ragged.sizes)
    ranked = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        bad = ranked & ~((values >= 1) & (np.abs(values) < np.inf) & (2 * values == np.round(2 * values)))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"rank {values[at]:g} is not allowed: ranks are 1, 2, ... with 1 = best (mid-ranks such as 1.5 for ties)",
            row=f"instance {rows[at]}",
            field="ranks",
        )
    # Allowed rank systems: dense (1,2,2,3), standard (1,2,2,4), modified (1,3,3,4) and mid-ranks (1,2.5,2.5,4).
    order = np.lexsort((values, rows))
    v, r = values[order], rows[order]
    keep = ~np.isnan(v)
    v, r = v[keep], r[keep]
    if len(v) == 0:
        return
    starts = np.flatnonzero(np.concatenate([[True], (v[1:] != v[:-1]) | (r[1:] != r[:-1])]))
    size = np.diff(np.concatenate([starts, [len(v)]]))
    row, value = r[starts], v[starts]
    first = np.concatenate([[True], row[1:] != row[:-1]])
    bucket_number = np.arange(len(row)) - np.maximum.accumulate(np.where(first, np.arange(len(row)), 0)) + 1
    row_start = np.searchsorted(r, row)  # place of the row's first ranked value
    before = starts - row_start  # items in better buckets
    n_rows = len(ragged)
    fits = np.zeros(n_rows, dtype=bool)
    for expected in (bucket_number, before + 1, before + size, before + (size + 1) / 2):
        wrong = np.bincount(row, weights=value != expected, minlength=n_rows)
        fits |= wrong == 0
    if not fits.all():
        at = int(np.flatnonzero(~fits)[0])
        shown = values[ragged.offsets[at] : ragged.offsets[at + 1]]
        raise DataError(
            f"ranks {[None if np.isnan(x) else float(x) for x in shown[:12]]} have a gap that no tie explains; "
            "use 1, 2, ... in each instance (or ratings, if only the order of the numbers matters)",
            row=f"instance {at}",
            field="ranks",
        )
