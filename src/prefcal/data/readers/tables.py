"""CSV and Parquet files as content."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from prefcal.data.readers.content import LONG_TEXT, Cells, Content, LongText
from prefcal.data.readers.problems import Problems, printable, shorten, shown
from prefcal.errors import DataError

_BOM: Final = "\ufeff"


def read_csv(stream: BinaryIO, problems: Problems, tick: Callable[[], None]) -> Content:
    """Comma- or tab-separated text with a header line; lists in cells as JSON text.

    Raises
    ------
    DataError
        For text without columns, a header that names a column twice, rows of another length, and bad quoting.
    """
    lines = _lines(stream, problems, tick)
    blank, first = 0, ""
    for first in lines:
        if first.strip().strip(_BOM):
            break
        blank += 1
    first = first.removeprefix(_BOM)
    delimiter = max((",", "\t"), key=first.count)
    if delimiter not in first:
        hint = "; separate columns by commas or tabs, not semicolons" if ";" in first else ""
        raise problems.error(
            f"begins with {shown(first.strip())}: neither JSON, nor CSV with a header line, nor Parquet{hint}",
            f"line {blank + 1}",
        )
    reader = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[list[Any]] = []
    numbers: list[int] = []
    lost = 0
    begin = blank + 1
    try:
        for row in reader:
            number, begin = begin, blank + reader.line_num + 1
            if not row:
                continue
            if not header:
                header = [name.strip() for name in row]
                twice = next((c for c in header if c and header.count(c) > 1), None)
                if twice is not None:
                    raise problems.error("the header names this column twice", f"line {number}", twice)
            elif len(row) != len(header):
                problems.record(f"line {number}", None, f"{len(row)} cells where the header has {len(header)}")
                lost += 1
            else:
                rows.append([c if len(c) <= LONG_TEXT or c.lstrip()[:1] == "[" else LongText(c) for c in row])
                numbers.append(number)
    except csv.Error as error:
        raise problems.error(f"broken CSV ({error})", f"line {begin}") from None
    columns: dict[str, tuple[Any, ...]] = dict.fromkeys(header, ())
    if rows:
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    content = Cells("CSV", columns, numbers)
    content.n_lost = lost
    return content


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _lines(stream: BinaryIO, problems: Problems, tick: Callable[[], None]) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if number % 4096 == 0:
            tick()
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise problems.error(f"not UTF-8 text (byte {error.start + 1} of the line)", f"line {number}") from None


def read_parquet(path: str, problems: Problems) -> Content:
    """A Parquet file; columns are read when asked for."""
    import pyarrow.parquet

    with _arrow_errors(problems, None):
        file = pyarrow.parquet.ParquetFile(path)
        names = file.schema_arrow.names
    twice = next((c for c in names if names.count(c) > 1), None)
    if twice is not None:
        raise problems.error("two columns have this name", None, twice)
    return _Parquet(file, problems)


@contextmanager
def _arrow_errors(problems: Problems, name: str | None) -> Iterator[None]:
    """Damage may show as Arrow's own exceptions, as OSError, or as text that is not UTF-8 (a ValueError)."""
    import pyarrow

    try:
        yield
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        message = printable(shorten(next(iter(str(error).splitlines()), type(error).__name__), 200))
        raise problems.error(f"a damaged or cut-off Parquet file ({message})", None, name) from None


class _Parquet(Content):
    def __init__(self, file: Any, problems: Problems) -> None:
        super().__init__("Parquet", file.schema_arrow.names, range(1, file.metadata.num_rows + 1), "row")
        self.file, self.problems = file, problems
        self.loaded: dict[str, Any] = {}

    def arrow(self, name: str) -> Any:
        if name not in self.loaded:
            with _arrow_errors(self.problems, name):
                self.loaded[name] = self.file.read(columns=[name]).column(name)
        return self.loaded[name]

    def column(self, name: str) -> list[Any]:
        with _arrow_errors(self.problems, name):
            values: list[Any] = self.arrow(name).to_pylist()
        return values

    def is_long_text(self, name: str) -> bool:
        size = 0
        metadata = self.file.metadata
        for g in range(metadata.num_row_groups):
            group = metadata.row_group(g)
            for c in range(group.num_columns):
                chunk = group.column(c)
                if chunk.path_in_schema.split(".")[0] == name:
                    size += chunk.total_uncompressed_size
        return bool(size > LONG_TEXT * max(len(self), 1))
