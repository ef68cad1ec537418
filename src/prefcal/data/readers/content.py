"""The content of a file as named columns of records, whatever container it came in."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, Final

from prefcal.data.readers.problems import MISSING

# Texts longer than this (prompts, answers) are dropped while reading; only their digest stays.
LONG_TEXT: Final = 256


class LongText:
    """A text that was not kept: its length, and a digest that tells it from other texts."""

    __slots__ = ("digest", "length")

    def __init__(self, text: str) -> None:
        self.digest, self.length = digest(text), len(text)

    def __repr__(self) -> str:
        return f"text of {self.length} characters"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LongText) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def digest(text: str) -> str:
    """A key for a text: 16 hex digits of its BLAKE2b hash."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def slim(value: Any) -> Any:
    """The value without long texts and conversations; numbers and short strings unchanged."""
    if type(value) is str:
        return LongText(value) if len(value) > LONG_TEXT else value
    if type(value) is list and value and type(value[0]) in (str, dict, list):
        head = value[0]
        if type(head) is dict and "content" in head:
            return LongText(json.dumps(value))
        if type(head) is str or (type(head) is list and head and type(head[0]) in (str, dict)):
            return [slim(v) for v in value]
    return value


class Content(ABC):
    """Records of a file.

    Parameters
    ----------
    container
        How the records were stored, in words.
    names
        Fields, in order of first appearance.
    numbers
        What to call each record in a message, counted from 1.
    unit
        The word before that number: ``line``, ``record`` or ``row``.
    meta
        Facts about the whole file: a metadata record, or the scalars beside columns.
    broken
        Records that cannot be used whatever the format: (index, field, message).
    n_lost
        Records that could not even be parsed (only when they may be skipped).
    """

    def __init__(
        self,
        container: str,
        names: Sequence[str],
        numbers: Sequence[int],
        unit: str,
        meta: dict[str, Any] | None = None,
    ) -> None:
        self.container, self.names, self.numbers, self.unit = container, tuple(names), numbers, unit
        self.meta = meta or {}
        self.broken: list[tuple[int, str | None, str]] = []
        self.n_lost = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, i: int) -> str:
        """Name of record i for a message."""
        return f"{self.unit} {self.numbers[i]}"

    @abstractmethod
    def column(self, name: str) -> list[Any]:
        """Values of a field, MISSING where a record lacks it."""

    def arrow(self, name: str) -> Any:
        """The column as a pyarrow ChunkedArray, or None when the file is not columnar."""
        return None

    def sample(self, name: str) -> Any:
        """The first value of a field that is there and not null; MISSING when there is none."""
        if name not in self.names:
            return MISSING
        return next((v for v in self.column(name) if v is not MISSING and v is not None), MISSING)

    def is_long_text(self, name: str) -> bool:
        """Whether reading the field would load texts only (asked before it is read)."""
        return False


class Records(Content):
    """One object a record."""

    def __init__(self, container: str, records: list[dict[str, Any]], numbers: Sequence[int], unit: str) -> None:
        meta: dict[str, Any] = {}
        if records and records[0].get("_record") == "metadata":
            meta, records, numbers = records[0], records[1:], numbers[1:]
        super().__init__(container, list(dict.fromkeys(chain.from_iterable(records))), numbers, unit, meta)
        self.records = records

    def column(self, name: str) -> list[Any]:
        """See :class:`Content`."""
        return [r.get(name, MISSING) for r in self.records]

    def sample(self, name: str) -> Any:
        """See :class:`Content`."""
        values = (r.get(name, MISSING) for r in self.records)
        return next((v for v in values if v is not MISSING and v is not None), MISSING)


class Columns(Content):
    """One object whose list fields are the columns; its scalars describe the file."""

    def __init__(self, container: str, columns: dict[str, list[Any]], meta: dict[str, Any]) -> None:
        n = len(next(iter(columns.values())))
        super().__init__(container, list(columns), range(1, n + 1), "record", meta)
        self.columns = columns

    def column(self, name: str) -> list[Any]:
        """See :class:`Content`."""
        return self.columns[name]


class Cells(Content):
    """Text cells of a CSV file; a cell is read as a number, a list, true/false, null (empty) or text."""

    def __init__(self, container: str, columns: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> None:
        super().__init__(container, [c for c in columns if c], numbers, "line")
        self.columns = columns
        self.parsed: dict[str, list[Any]] = {}

    def column(self, name: str) -> list[Any]:
        """See :class:`Content`."""
        if name not in self.parsed:
            self.parsed[name] = [cell_value(c) for c in self.columns[name]]
        return self.parsed[name]

    def sample(self, name: str) -> Any:
        """See :class:`Content`."""
        cells = self.columns.get(name, ())
        return next((cell_value(c) for c in cells if c != ""), MISSING)


_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NAMED: Final = {"true": True, "false": False, "null": None, "nan": math.nan, "-nan": math.nan}
_INFINITE: Final = {
    "inf": math.inf,
    "+inf": math.inf,
    "-inf": -math.inf,
    "infinity": math.inf,
    "-infinity": -math.inf,
}


def cell_value(cell: Any) -> Any:
    """What a CSV cell stands for.

    Examples
    --------
    >>> [cell_value(c) for c in ("1", "0.5", "[1, 2]", "abc", "", "True")]
    [1, 0.5, [1, 2], 'abc', None, True]
    """
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        try:
            return int(text) if text.lstrip("+-").isdigit() else float(text)
        except ValueError:  # more digits than Python converts
            return float(text)
    if text[0] == "[":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return cell
    lowered = text.lower()
    if lowered in _NAMED:
        return _NAMED[lowered]
    return _INFINITE.get(lowered, cell)


def find_constants(value: Any, depth: int = 0) -> bool:
    """Whether a parsed JSON value holds NaN or an infinity anywhere."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, list | dict) and depth < 50:
        inner: Iterable[Any] = value.values() if isinstance(value, dict) else value
        return any(find_constants(v, depth + 1) for v in inner)
    return False
