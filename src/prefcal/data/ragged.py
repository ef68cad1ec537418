"""Rows of unequal length in one flat array: scores or ranks of each instance's items."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

# Elements of one dense block: a few MB of float64 for all pairs of ten candidates, so that it stays in cache.
BLOCK_ELEMENTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Ragged:
    """``n`` rows of values, row i being ``values[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    values
        (nnz,) all rows one after another.
    offsets
        (n + 1,) non-decreasing, from 0 to nnz.
    columns
        (nnz,) which of the ``n_columns`` labelled items each value belongs to (increasing within a row), or None
        when row i simply holds items 0, 1, ..., size - 1.
    n_columns
        Number of items in the universe; the longest row when there are no labels.
    """

    values: FloatArray
    offsets: IntArray
    columns: IntArray | None
    n_columns: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> IntArray:
        """(n,) number of items of each row."""
        return np.diff(self.offsets)

    @property
    def is_dense(self) -> bool:
        """Whether every row holds every item of the universe."""
        return len(self.values) == len(self) * self.n_columns

    @classmethod
    def from_dense(cls, array: FloatArray, *, drop_nan: bool) -> Ragged:
        """Wrap an (n, m) array; with ``drop_nan`` NaN entries mean that the row has no such item."""
        n, m = array.shape
        if drop_nan:
            present = ~np.isnan(array)
            if not present.all():
                offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.intp)
                columns = np.broadcast_to(np.arange(m), (n, m))[present].astype(np.intp)
                return cls(array[present], offsets, columns, m)
        return cls(np.ascontiguousarray(array).reshape(-1), np.arange(n + 1, dtype=np.intp) * m, None, m)

    @classmethod
    def from_rows(cls, rows: Sequence[npt.ArrayLike]) -> Ragged:
        """Concatenate rows of any lengths; items carry no labels beyond their place."""
        sizes = np.fromiter((len(r) for r in rows), dtype=np.intp, count=len(rows))  # type: ignore[arg-type]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        flat = np.empty(offsets[-1], dtype=np.float64)
        for i, row in enumerate(rows):
            try:
                flat[offsets[i] : offsets[i + 1]] = row
            except (TypeError, ValueError) as error:
                raise DataError(f"not a list of numbers ({error})", row=f"instance {i}") from None
        return cls(flat, offsets, None, int(sizes.max()) if len(sizes) else 0)

    def take(self, index: Any) -> Ragged:
        """Rows by slice, integer array or boolean mask, in the order asked for."""
        rows = np.arange(len(self))[index]
        rows = np.atleast_1d(rows)
        if self.is_dense:
            m = self.n_columns
            return Ragged.from_dense(self.values.reshape(-1, m)[rows], drop_nan=False)
        sizes = self.sizes[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
        flat = np.repeat(self.offsets[:-1][rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
        columns = None if self.columns is None else self.columns[flat]
        return Ragged(self.values[flat], offsets, columns, self.n_columns)

    def with_values(self, values: FloatArray) -> Ragged:
        """The same shape holding other values."""
        return Ragged(values, self.offsets, self.columns, self.n_columns)

    def dense(self, fill: float = np.nan) -> FloatArray:
        """(n, n_columns) with ``fill`` where the row has no such item; a view when nothing is missing."""
        if self.is_dense:
            return self.values.reshape(len(self), self.n_columns)
        out = np.full((len(self), self.n_columns), fill)
        out[np.repeat(np.arange(len(self)), self.sizes), self.flat_columns()] = self.values
        return out

    def flat_columns(self) -> IntArray:
        """(nnz,) item of each value."""
        if self.columns is not None:
            return self.columns
        return np.arange(len(self.values), dtype=np.intp) - np.repeat(self.offsets[:-1], self.sizes)

    def block(self, rows: slice | IntArray, size: int) -> FloatArray:
        """Dense (len(rows), size) values of rows that all have ``size`` items."""
        if self.is_dense:
            return self.values.reshape(-1, size)[rows]
        starts = self.offsets[:-1][rows]
        flat: FloatArray = self.values[starts[:, None] + np.arange(size)]
        return flat

    def block_columns(self, rows: slice | IntArray, size: int) -> IntArray | None:
        """Dense (len(rows), size) items of such rows, or None when they are simply 0..size-1."""
        if self.columns is None:
            return None
        starts = self.offsets[:-1][rows]
        flat: IntArray = self.columns[starts[:, None] + np.arange(size)]
        return flat

    def blocks(self, elements: int = BLOCK_ELEMENTS) -> Iterator[tuple[slice | IntArray, int]]:
        """Yield (rows, size): rows of one size, at most about ``elements`` values a block, in a fixed order."""
        if self.is_dense:
            groups: list[tuple[int, IntArray | None]] = [(self.n_columns, None)]
        else:
            sizes = self.sizes
            groups = [(int(s), np.flatnonzero(sizes == s)) for s in np.unique(sizes)]
        for size, rows in groups:
            count = len(self) if rows is None else len(rows)
            step = max(1, elements // max(size, 1))
            for start in range(0, count, step):
                part = slice(start, min(start + step, count))
                yield (part if rows is None else rows[part]), size


def as_ragged(data: Any, name: str, *, drop_nan: bool) -> Ragged:
    """Read numbers per instance from whatever a user has.

    Accepts a :class:`Ragged`, an (n, m) numpy array, nested lists (ragged or not), a pandas, Polars or PyArrow
    table (one column an item) or list column, a torch tensor, or anything numpy can convert. Nothing is imported:
    a user who passes such an object has imported its library.

    Raises
    ------
    DataError
        For anything that is not a two-dimensional or ragged collection of numbers.
    """
    if isinstance(data, Ragged):
        return data
    data = unwrap(data)
    if isinstance(data, np.ndarray) and data.dtype != object:
        array = data
    else:
        rows = list(data) if not np.isscalar(data) and data is not None else None
        if rows is None or any(np.isscalar(r) or r is None for r in rows):
            raise DataError(f"{name} must hold one row of numbers for each instance, got {type(data).__name__}")
        if not rows:
            raise DataError(f"{name} is empty: it must hold at least one instance")
        rows = [np.array([np.nan if v is None else v for v in unwrap(r)]) for r in rows]
        for i, r in enumerate(rows):
            if r.ndim != 1 or (r.size and r.dtype.kind not in "fiub"):
                raise DataError(f"{name} must hold numbers, found {r[:3]!r}", row=f"instance {i}")
        if len({len(r) for r in rows}) > 1:
            ragged = Ragged.from_rows(rows)
            if drop_nan and np.isnan(ragged.values).any():
                raise DataError(f"{name}: NaN in lists of unequal length; leave the item out instead")
            return ragged
        array = np.array(rows)
    if array.ndim != 2:
        raise DataError(f"{name} must have two dimensions (instances, items), got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} must hold numbers, got dtype {array.dtype}")
    return Ragged.from_dense(array.astype(np.float64, copy=False), drop_nan=drop_nan)


def as_array(data: Any, name: str, ndim: int) -> FloatArray:
    """A float array of ``ndim`` dimensions from anything :func:`as_ragged` takes; DataError otherwise."""
    try:
        array = np.asarray(unwrap(data), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers of {ndim} dimensions ({error})") from None
    if array.ndim != ndim:
        raise DataError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    return array


def unwrap(data: Any) -> Any:
    """Turn frames, columns and tensors into numpy arrays (object arrays of lists when ragged)."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(data, torch.Tensor):
        return data.detach().cpu().numpy()
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        if isinstance(data, arrow.Table):
            return np.column_stack([c.to_numpy(zero_copy_only=False) for c in data.columns])
        if isinstance(data, arrow.Array | arrow.ChunkedArray):
            return np.array(data.to_pylist(), dtype=object) if arrow.types.is_nested(data.type) else data.to_numpy()
    if hasattr(data, "to_numpy"):  # pandas and Polars frames and series
        array = data.to_numpy()
        return array.astype(np.float64) if array.ndim == 2 and array.dtype == object else array
    return data
