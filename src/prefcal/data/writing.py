"""Score files out: one record an instance, in the wide shape that :func:`prefcal.read` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from prefcal.data.ragged import FloatArray, Ragged
from prefcal.data.source import ScoreFile
from prefcal.errors import UsageError

#: Endings of files that can be written.
ENDINGS = (".jsonl", ".ndjson", ".json", ".parquet")


def check_ending(path: str) -> None:
    """Raise UsageError unless the name says how to write."""
    if PurePath(path).suffix.lower() not in ENDINGS:
        raise UsageError(f"cannot tell how to write {path!r}: its name must end in {', '.join(ENDINGS)}")


def records(file: ScoreFile, columns: dict[str, Ragged | Sequence[FloatArray]]) -> Iterator[dict[str, Any]]:
    """The records of a file with new columns: id, fields, ranks (null = not known), then ``columns``.

    Parameters
    ----------
    file
        Where ids, fields, candidates' numbers and outcomes come from. Several records of one instance are one record
        each, so they are refused unless they are one each.
    columns
        Name -> one list an instance (Ragged), or one array an instance.

    Raises
    ------
    UsageError
        For outcomes that are several records an instance, and for names that the file uses already.
    """
    ranks = file.outcomes.ranks
    if len(ranks) != len(file) or (file.outcomes.instance != np.arange(len(file))).any():
        raise UsageError(f"{file.info.path}: its outcomes are not one record an instance; they cannot be written")
    taken = {"id", "ranks", *file.fields, *file.item_fields}
    twice = sorted(taken & set(columns))
    if twice:
        raise UsageError(f"{file.info.path} has a field {twice[0]!r} already, which is the name of a result")
    known = file.info.outcome != "none"
    for i in range(len(file)):
        record: dict[str, Any] = {} if file.ids is None else {"id": _plain(file.ids[i])}
        record |= {name: _plain(values[i]) for name, values in file.fields.items()}
        record |= {name: _row(values, i) for name, values in file.item_fields.items()}
        if known:
            record["ranks"] = [None if r != r else int(r) for r in _row(ranks, i)]
        record |= {
            name: _row(values, i) if isinstance(values, Ragged) else _nested(values[i])
            for name, values in columns.items()
        }
        yield record


def render(path: str, rows: Iterator[dict[str, Any]]) -> bytes:
    """The bytes of a file of that name."""
    check_ending(path)
    match PurePath(path).suffix.lower():
        case ".parquet":
            import io

            import pyarrow
            import pyarrow.parquet

            out = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out)
            return out.getvalue()
        case ".json":
            return (json.dumps(list(rows), allow_nan=False) + "\n").encode()
        case _:
            return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _row(values: Ragged, i: int) -> list[float]:
    row: list[float] = values.values[values.offsets[i] : values.offsets[i + 1]].tolist()
    return row


def _nested(value: Any) -> Any:
    """Nested lists with None for NaN."""
    if isinstance(value, np.ndarray):
        return [_nested(v) for v in value]
    return _plain(value)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and value != value else value
