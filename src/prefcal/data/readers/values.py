"""Columns of a file as arrays: numbers, lists of numbers, keys and group labels, each value checked.

Every function walks the column at C speed while it is clean and looks at single values only to say what is wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray, Ragged
from prefcal.data.readers.content import LongText, digest
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import BoolArray, Reading

# Texts longer than this are not group labels.
LABEL_CHARACTERS: Final = 100
NUMBERS: Final = frozenset({int, float})
# Whole numbers up to here are exact in float64.
EXACT_INTEGER: Final = 2**53


def number(value: Any, nulls: bool = False) -> tuple[float, str | None]:
    """A finite number and None, or NaN and what is wrong with the value."""
    if value is None:
        return np.nan, None if nulls else "is null where a number is expected"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan, f"is {shown(value)} where a number is expected"
    try:
        x = float(value)
    except OverflowError:
        return np.nan, "is a number too large for float64"
    if not np.isfinite(x):
        return np.nan, f"is {shown(x)}; only finite numbers are allowed"
    return x, None


def numbers(reading: Reading, name: str, *, nulls: bool = False) -> FloatArray:
    """One number for each record, (n,); one-element lists are unwrapped; NaN where rejected, or null if allowed."""
    array = arrow_numbers(reading.content.arrow(name))
    if array is None:
        column = reading.content.column(name)
        kinds = set(map(type, column))
        if kinds == {list} and set(map(len, column)) == {1}:
            column = [v[0] for v in column]
            kinds = set(map(type, column))
        array = _plain(column) if kinds <= NUMBERS else None
        if array is None:
            array = np.empty(len(column))
            for i, value in enumerate(column):
                inner = value[0] if isinstance(value, list) and len(value) == 1 else value
                array[i], problem = number(inner, nulls)
                if value is MISSING:
                    problem = reading.missing_field(name)
                if problem is not None:
                    reading.reject(i, name, problem)
    reading.reject_where(
        ~np.isfinite(array) & ~(np.isnan(array) & nulls),
        name,
        lambda i: f"is {shown(float(array[i]))}; only finite numbers are allowed",
    )
    return array


def number_lists(reading: Reading, name: str, *, nulls: bool = False, what: str = "candidate") -> Ragged:
    """One list of numbers for each record; rejected records have an empty row.

    One-element lists as entries are unwrapped (``[[1.5], [0.2]]``: logits of shape (n, 1)). With ``nulls`` null
    entries become NaN.
    """
    ragged = _arrow_lists(reading.content.arrow(name))
    if ragged is None:
        column = reading.content.column(name)
        ragged = _plain_lists(column)
        if ragged is None:
            rows: list[list[float]] = []
            for i, value in enumerate(column):
                row, problem = _number_list(value, nulls, what)
                if value is MISSING:
                    problem = reading.missing_field(name)
                if problem is not None:
                    reading.reject(i, name, problem)
                    row = []
                rows.append(row)
            return Ragged.from_rows(rows)
    bad = ~np.isfinite(ragged.values)
    if nulls:
        bad &= ~np.isnan(ragged.values)
    if bad.any():
        at, record = np.flatnonzero(bad), rows_of(ragged)[bad]
        for flat, i in zip(at.tolist(), record.tolist()):
            place = flat - int(ragged.offsets[i])
            value = shown(float(ragged.values[flat]))
            reading.reject(i, name, f"{what} {place} is {value}; only finite numbers are allowed")
    empty = ragged.sizes == 0
    reading.reject_where(empty, name, lambda i: "is an empty list")
    return ragged


def candidate_scores(reading: Reading, name: str) -> Ragged:
    """Lists of scores that can be compared: at least 2 and at most ``max_candidates`` candidates."""
    ragged = number_lists(reading, name)
    check_candidates(reading, ragged.sizes, name)
    return ragged


def check_candidates(reading: Reading, sizes: IntArray, name: str) -> None:
    """Reject records with a single candidate or more than ``max_candidates``."""
    reading.reject_where(
        sizes > reading.max_candidates,
        name,
        lambda i: f"{sizes[i]} candidates; at most {reading.max_candidates} are read (raise max_candidates)",
    )
    reading.reject_where(sizes == 1, name, lambda i: "only one candidate: there is nothing to compare it with")


def same_lengths(reading: Reading, a: Ragged, name_a: str, b: Ragged, name_b: str) -> None:
    """Reject records whose two lists differ in length."""
    sizes_a, sizes_b = a.sizes, b.sizes
    reading.reject_where(
        sizes_a != sizes_b, name_b, lambda i: f"has {sizes_b[i]} entries, but {name_a!r} has {sizes_a[i]}"
    )


def rows_of(ragged: Ragged) -> IntArray:
    """(nnz,) row of each value."""
    return np.repeat(np.arange(len(ragged)), ragged.sizes)


def any_in_row(ragged: Ragged, flags: BoolArray) -> BoolArray:
    """(n,) whether any value of the row is flagged."""
    out = np.zeros(len(ragged), dtype=np.bool_)
    out[rows_of(ragged)[flags]] = True
    return out


def whole_numbers(reading: Reading, values: FloatArray, name: str, low: int, high: int | IntArray) -> None:
    """Reject records whose number is not whole or lies outside low..high."""
    top = np.broadcast_to(np.asarray(high), values.shape)
    with np.errstate(invalid="ignore"):
        bad = ~((values == np.round(values)) & (values >= low) & (values <= top))
    reading.reject_where(
        bad, name, lambda i: f"is {values[i]:.12g}; it must be a whole number of {low}..{int(top[i])}"
    )


def keys(reading: Reading, name: str) -> list[Hashable]:
    """One key for each record, of one type (text or number); null and missing ones are rejected."""
    column = reading.content.column(name)
    out: list[Hashable] = []
    kind: str | None = None
    for i, value in enumerate(column):
        key: Hashable = value.digest if isinstance(value, LongText) else value
        if value is MISSING:
            reading.reject(i, name, reading.missing_field(name))
            key = None
        elif isinstance(value, bool) or not isinstance(value, int | float | str | LongText) or value != value:
            reading.reject(i, name, f"is {shown(value)}; a key must be text or a number")
            key = None
        else:
            this = "text" if isinstance(value, str | LongText) else "a number"
            kind = kind or this
            if this != kind:
                reading.reject(i, name, f"is {shown(value)}, but the keys before it are {kind}; use one type")
                key = None
        out.append(key)
    return out


def as_ids(values: Iterable[Any]) -> npt.NDArray[Any]:
    """Keys as an array: integers if all are, else text; None (a rejected record) counts as either."""
    made = list(values)
    if all(type(v) is int or v is None for v in made):
        array = np.array([0 if v is None else v for v in made])
        if array.dtype.kind == "i":
            return array
    return np.array([v if isinstance(v, str) else str(v) for v in made])


def group_fields(reading: Reading, taken: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Scalar columns usable as groups, for all rows.

    Numbers stay numbers (null = NaN); text, true and false become strings, null ``(missing)``. Columns with
    lists, objects or texts of more than ``LABEL_CHARACTERS`` are left out.
    """
    skip = set(taken)
    out: dict[str, npt.NDArray[Any]] = {}
    for name in reading.content.names:
        if name in skip or reading.content.is_long_text(name):
            continue
        array = arrow_numbers(reading.content.arrow(name))
        if array is not None:
            out[name] = array.astype(np.int64) if _whole(array, reading.content.arrow(name)) else array
            continue
        labels = label_array(reading.content.column(name))
        if labels is not None:
            out[name] = labels
    return out


def label_array(column: list[Any]) -> npt.NDArray[Any] | None:
    """A scalar column as an array of numbers or strings; None when it is neither or holds nothing."""
    kinds = set(map(type, column))
    absent = {type(None), type(MISSING)}
    present = kinds - absent
    if not present or not present <= {int, float, str, bool}:
        return None
    if present <= NUMBERS:
        if present == {int} and kinds == present and max(map(abs, column)) <= EXACT_INTEGER:
            return np.array(column, dtype=np.int64)
        try:
            return np.array([np.nan if v is None or v is MISSING else v for v in column], dtype=np.float64)
        except OverflowError:
            pass
    if str in kinds and max(len(v) for v in column if type(v) is str) > LABEL_CHARACTERS:
        return None
    if kinds == {str}:
        return np.array(column)
    return np.array(["(missing)" if v is None or v is MISSING else v if type(v) is str else _text(v) for v in column])


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _whole(array: FloatArray, column: Any) -> bool:
    import pyarrow.types

    return bool(pyarrow.types.is_integer(column.type)) and bool((np.abs(array) <= EXACT_INTEGER).all())


def _plain(values: list[Any]) -> FloatArray | None:
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return None


def _plain_lists(column: list[Any]) -> Ragged | None:
    """Lists of numbers without anything to complain of but non-finite values and empty lists; else None."""
    if set(map(type, column)) != {list}:
        return None
    sizes = np.fromiter(map(len, column), dtype=np.intp, count=len(column))
    flat = list(chain.from_iterable(column))
    kinds = set(map(type, flat))
    if kinds == {list} and set(map(len, flat)) == {1}:
        flat = [v[0] for v in flat]
        kinds = set(map(type, flat))
    values = _plain(flat) if kinds <= NUMBERS else None
    return None if values is None else ragged_of(values, sizes)


def ragged_of(values: FloatArray, sizes: IntArray) -> Ragged:
    """Rows of the given sizes out of one flat array."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.intp)
    return Ragged(values, offsets, None, int(sizes.max(initial=0)))


def _number_list(value: Any, nulls: bool, what: str) -> tuple[list[float], str | None]:
    if not isinstance(value, list):
        return [], f"is {shown(value)} where a list of numbers is expected"
    if not value:
        return [], "is an empty list"
    row: list[float] = []
    for j, entry in enumerate(value):
        inner = entry[0] if isinstance(entry, list) and len(entry) == 1 else entry
        x, problem = number(inner, nulls)
        if problem is not None:
            return [], f"{what} {j} {problem}"
        row.append(x)
    return row, None


def arrow_numbers(column: Any) -> FloatArray | None:
    """An Arrow column of numbers without nulls as an array; None for anything else."""
    if column is None:
        return None
    import pyarrow.types as types

    if column.null_count or not (types.is_integer(column.type) or types.is_floating(column.type)):
        return None
    array: FloatArray = column.to_numpy().astype(np.float64)
    return array


def _arrow_lists(column: Any) -> Ragged | None:
    """Rows straight from Arrow's buffers: no Python object is made."""
    if column is None:
        return None
    import pyarrow
    import pyarrow.types as types

    kind = column.type
    fixed = types.is_fixed_size_list(kind)
    if column.null_count or not (fixed or types.is_list(kind) or types.is_large_list(kind)):
        return None
    if not (types.is_integer(kind.value_type) or types.is_floating(kind.value_type)):
        return None
    chunks = column.chunks
    array = chunks[0] if len(chunks) == 1 else pyarrow.concat_arrays(chunks)
    flat = array.flatten()
    if flat.null_count:
        return None
    values = flat.to_numpy(zero_copy_only=False).astype(np.float64)
    if fixed:
        return ragged_of(values, np.full(len(array), kind.list_size, dtype=np.intp))
    offsets = array.offsets.to_numpy().astype(np.intp)
    return ragged_of(values, np.diff(offsets))


def text_keys(reading: Reading, name: str) -> list[str]:
    """A digest of each record's text; records without a text are rejected."""
    out: list[str] = []
    for i, value in enumerate(reading.content.column(name)):
        if isinstance(value, str | LongText) and value != "":
            out.append(value.digest if isinstance(value, LongText) else digest(value))
        else:
            problem = reading.missing_field(name) if value is MISSING else f"is {shown(value)} where text is expected"
            reading.reject(i, name, problem)
            out.append("")
    return out
