"""From a path to the records in the file: what the bytes are is decided by the bytes, not by the name."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from prefcal.data.readers.content import Columns, Content, Records, find_constants, slim
from prefcal.data.readers.problems import Problems, printable, shown
from prefcal.data.readers.tables import read_csv, read_parquet
from prefcal.errors import DataError

Progress = Callable[[int, int | None], None]
HEAD: Final = 8192
BOM: Final = b"\xef\xbb\xbf"
_MAGIC: Final = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "bzip2 data; decompress it, or use gzip",
    b"\xfd7zXZ\x00": "xz data; decompress it, or use gzip",
    b"\x28\xb5\x2f\xfd": "zstd data; decompress it, or use gzip",
    b"ARROW1": "an Arrow IPC (Feather) file; write it as Parquet",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"%PDF": "a PDF document",
}


def file_sha256(path: str) -> str:
    """SHA-256 of the file's bytes as hex digits; DataError when it cannot be read."""
    try:
        if os.path.isdir(path):  # noqa: PTH112 - the path may hold characters that Path refuses
            raise DataError("is a directory; name one score file", file=printable(path))
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise DataError(f"no such file{_near(path)}", file=printable(path)) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DataError(f"cannot be read: {printable(reason)}", file=printable(path)) from None


def load(
    path: str, problems: Problems, progress: Progress | None = None, list_fields: frozenset[str] = frozenset()
) -> Content:
    """Parse a file into records.

    ``list_fields`` are further names under which a record may hold a flat list (see ``_as_columns``).

    Raises
    ------
    DataError
        For content that is none of JSON, JSON lines, CSV and Parquet (gzip around the text forms), or breaks off.
    """
    with Path(path).open("rb") as raw:
        total = os.fstat(raw.fileno()).st_size

        def tick() -> None:
            if progress is not None:
                progress(raw.tell(), total)

        head = raw.read(HEAD)
        raw.seek(0)
        try:
            content = _dispatch(path, raw, head, problems, tick, _FLAT | list_fields)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise problems.error(f"the gzip data is damaged or cut off ({error})") from None
        if progress is not None:
            progress(total, total)
    if len(content) == 0:
        if content.n_lost:
            raise problems.error(f"no record can be read; the first problem: {problems.messages[0]}")
        raise problems.error(f"holds no records, only {'metadata' if content.meta else 'a header'}")
    return content


def _dispatch(
    path: str, raw: BinaryIO, head: bytes, problems: Problems, tick: Callable[[], None], flat: frozenset[str]
) -> Content:
    stream = raw
    if head[:2] == b"\x1f\x8b":
        if not path.lower().endswith((".gz", ".gzip")):
            raise problems.error("is gzip data under a name that does not end in .gz; rename or decompress it")
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw))
        head = stream.read(HEAD)
        stream.seek(0)
    if not head.strip().removeprefix(BOM).strip():
        if head:
            head = stream.read()
            stream.seek(0)
        if not head.strip().removeprefix(BOM).strip():
            raise problems.error("is empty" if not head else "holds nothing but white space")
    if head[:4] == b"PAR1":
        if stream is not raw:
            raise problems.error("is Parquet inside gzip; decompress it (Parquet compresses by itself)")
        return read_parquet(path, problems)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise problems.error(f"is {what}; readable are JSON, JSON lines, CSV and Parquet")
    if b"\0" in head:
        raise problems.error("is binary data (or UTF-16 text); readable are JSON, JSON lines, CSV and Parquet")
    text = head.removeprefix(BOM).lstrip()
    if text[:1] in (b"{", b"["):
        return _read_json(stream, problems, tick, flat)
    if text[:1] == b"<":
        raise problems.error("is HTML or XML, perhaps a download that failed; readable are JSON, CSV and Parquet")
    return read_csv(stream, problems, tick)


class _Decoder:
    """JSON as the standard wants it, but for bare NaN and Infinity, which it reports."""

    def __init__(self) -> None:
        self.saw_constant = False
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)

    def _constant(self, token: str) -> float:
        self.saw_constant = True
        return float(token)

    @staticmethod
    def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [k for k, _ in pairs]
            twice = next(k for k in keys if keys.count(k) > 1)
            raise ValueError(f"the key {twice!a} occurs twice in one object")
        return made

    def decode(self, text: str, start: int = 0) -> tuple[Any, int]:
        """The value that begins at ``start`` and where it ends; ValueError says what is wrong."""
        try:
            return self._decoder.raw_decode(text, start)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _read_json(stream: BinaryIO, problems: Problems, tick: Callable[[], None], flat: frozenset[str]) -> Content:
    """JSON lines when one of the first two lines is an object of its own; else one document or several."""
    opening: list[bytes] = []
    for line in stream:
        opening.append(line)
        if len(opening) == 1:
            opening[0] = opening[0].removeprefix(BOM)
        if sum(bool(part.strip()) for part in opening) == 2:
            break
    objects = [_is_object(part) for part in opening]
    if any(objects):
        return _read_lines(opening, stream, problems, tick, flat)
    return _read_document(b"".join(opening) + stream.read(), problems, flat)


def _is_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        value, end = _Decoder().decode(text := line.decode("utf-8").strip())
    except ValueError:
        return False
    return end == len(text) and isinstance(value, dict)


def _read_lines(
    opening: list[bytes], stream: BinaryIO, problems: Problems, tick: Callable[[], None], flat: frozenset[str]
) -> Content:
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    constants: list[int] = []
    lost = 0
    decoder = _Decoder()
    number = 0
    for source in (opening, stream):
        for line in source:
            number += 1
            if number % 4096 == 0:
                tick()
            record, problem = _parse_line(line, decoder)
            if problem is not None:
                problems.record(f"line {number}", None, problem)
                lost += 1
            elif record is not None:
                if decoder.saw_constant:
                    constants.append(len(records))
                    decoder.saw_constant = False
                records.append(record)
                numbers.append(number)
    if len(records) == 1 and not lost:
        columns = _as_columns(records[0], bool(constants), problems, flat)
        if columns is not None:
            return columns
    content = Records("JSON lines", records, numbers, "line")
    content.n_lost = lost
    dropped = len(records) - len(content)  # the metadata line
    _report_constants(content, [i - dropped for i in constants if i >= dropped])
    return content


def _parse_line(line: bytes, decoder: _Decoder) -> tuple[dict[str, Any] | None, str | None]:
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 text (byte {error.start + 1} of the line)"
    if not text:
        return None, None
    try:
        value, end = decoder.decode(text)
    except json.JSONDecodeError as error:
        return None, f"broken or cut-off JSON ({error.msg} at column {error.colno})"
    except ValueError as error:
        return None, f"JSON that cannot be read: {error}"
    if end != len(text):
        return None, f"broken JSON (more text after the object, at column {end + 1})"
    if not isinstance(value, dict):
        return None, f"{shown(value)} where an object {{...}} is expected"
    return {k: slim(v) for k, v in value.items()}, None


def _read_document(data: bytes, problems: Problems, flat: frozenset[str]) -> Content:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise problems.error(f"not UTF-8 text (byte {error.start + 1} of the file)", f"line {line}") from None
    del data
    decoder = _Decoder()
    values: list[Any] = []
    at, size = 0, len(text)
    while True:
        while at < size and text[at] in " \t\r\n\ufeff":
            at += 1
        if at == size:
            break
        try:
            value, at = decoder.decode(text, at)
        except json.JSONDecodeError as error:
            raise problems.error(
                f"broken or cut-off JSON ({error.msg} at column {error.colno})", f"line {error.lineno}"
            ) from None
        except ValueError as error:
            line = text.count("\n", 0, at) + 1
            raise problems.error(f"JSON that cannot be read: {error}", f"value that begins at line {line}") from None
        values.append(value)
    del text
    if len(values) == 1 and isinstance(values[0], list):
        return _records(values[0], "JSON array", decoder.saw_constant, problems)
    if len(values) == 1 and isinstance(values[0], dict):
        columns = _as_columns(values[0], decoder.saw_constant, problems, flat)
        if columns is not None:
            return columns
    return _records(values, "JSON objects" if len(values) > 1 else "JSON object", decoder.saw_constant, problems)


def _records(values: list[Any], container: str, constants: bool, problems: Problems) -> Content:
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for i, value in enumerate(values):
        if isinstance(value, dict):
            records.append({k: slim(v) for k, v in value.items()})
            numbers.append(i + 1)
        else:
            problems.record(f"record {i + 1}", None, f"{shown(value)} where an object {{...}} is expected")
    if not values:
        raise problems.error("is an empty JSON array: no records")
    content = Records(container, records, numbers, "record")
    content.n_lost = len(values) - len(records)
    if constants:
        _report_constants(content, range(len(content)))
    return content


def _report_constants(content: Records, indices: Any) -> None:
    for i in indices:
        for name, value in content.records[i].items():
            if find_constants(value):
                content.broken.append((i, name, _CONSTANT))


_CONSTANT: Final = "holds NaN or Infinity, which JSON does not have; write null or leave the record out"


# Fields that hold one record's numbers when they are flat lists.
_FLAT: Final = frozenset({"scores", "score", "score_chosen", "best_probs"})


def _as_columns(value: dict[str, Any], constants: bool, problems: Problems, flat: frozenset[str]) -> Columns | None:
    """Columns when the object's lists are columns; None when the object is one record.

    One record and columns look alike when their lists hold only numbers: such lists under the names in ``flat``
    are one record's, unless there is an ``instance`` column beside them (the long shape).
    """
    lists = {k: v for k, v in value.items() if isinstance(v, list)}
    one_record = any(k in flat and not any(isinstance(v, list) for v in lists[k]) for k in lists)
    matrix = lists.get("pair_probs")
    if matrix and all(isinstance(row, list) and not any(isinstance(v, list) for v in row) for row in matrix):
        one_record = True
    if not lists or (one_record and "instance" not in lists):
        return None
    sizes = {k: len(v) for k, v in lists.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{k!a}: {n}" for k, n in list(sizes.items())[:8])
        first = next(iter(sizes.values()))
        odd = next(k for k, n in sizes.items() if n != first)
        raise problems.error(f"columns of unequal length ({told}); each must hold one entry a record", None, odd)
    if not next(iter(sizes.values())):
        raise problems.error("its columns are empty lists: no records", None, next(iter(sizes)))
    columns = {k: [slim(v) for v in column] for k, column in lists.items()}
    content = Columns("JSON columns", columns, {k: v for k, v in value.items() if k not in lists})
    for name, column in columns.items() if constants else ():
        for i, entry in enumerate(column):
            if find_constants(entry):
                content.broken.append((i, name, _CONSTANT))
    return content


def _near(path: str) -> str:
    try:
        names = [p.name for p in Path(path).parent.iterdir()]
    except OSError:
        return ""
    near = get_close_matches(Path(path).name, names, n=1)
    return f" (did you mean {printable(near[0])!r}?)" if near else ""
