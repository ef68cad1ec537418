"""The results store: one small Parquet file for each finished fit, written whole or not at all.

A job's rows appear by an atomic rename after they reached the disk, so a process killed at any moment leaves finished
files and at most stray temporary ones. Reading joins them; a job has one file name, so no row can be doubled.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from prefcal.errors import DataError, UsageError
from prefcal.studies.label_ranking.protocol import Job, Settings

#: Format of the rows; a store of another format is refused.
FORMAT: Final = 1
_SETTINGS = "settings.json"

_TEXT = ("protocol", "dataset", "model", "cut", "support", "notion", "estimator", "data_sha256")
_WHOLE = ("fold", "n_test", "n_fit", "n_items", "tuples", "tuples_used", "draws")
#: Real-valued columns; NaN is stored as null.
NUMBERS: Final = (
    "value", "stderr", "total", "null_mean", "p_value", "spread", "debiased", "low", "high", "fit_seconds",
    "measure_seconds",
)  # fmt: skip


#: All columns of a row.
COLUMNS: Final = (*_TEXT, "mass_filter", *_WHOLE, *NUMBERS, "null_draws", "note")


def schema() -> Any:
    """Columns of a row; NaN numbers are stored as null."""
    import pyarrow as pa

    return pa.schema(
        [(name, pa.string()) for name in _TEXT]
        + [("mass_filter", pa.bool_())]
        + [(name, pa.int64()) for name in _WHOLE]
        + [(name, pa.float64()) for name in NUMBERS]
        + [("null_draws", pa.list_(pa.float32())), ("note", pa.string())]
    )


class Store:
    """A folder of results.

    Parameters
    ----------
    folder
        Made if it does not exist.
    settings
        The settings of the run; those of an existing store must be equal.

    Raises
    ------
    UsageError
        When the folder holds results of other settings, or something else.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Settings) -> None:
        self.folder = Path(folder)
        self.settings = settings
        self.parts = self.folder / "parts"
        described = {"format": FORMAT, "study": "label-ranking", "settings": _plain(settings)}
        path = self.folder / _SETTINGS
        if path.exists():
            _check_same(path, described)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(f"{self.folder} is not empty and holds no results of this study; name another folder")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, (json.dumps(described, indent=1) + "\n").encode())
        self.parts.mkdir(exist_ok=True)

    def path(self, job: Job) -> Path:
        """Where a job's rows are or will be."""
        return self.parts / f"{job.key}.parquet"

    def has(self, job: Job) -> bool:
        """Whether the job is finished."""
        return self.path(job).exists()

    def write(self, job: Job, rows: Sequence[dict[str, Any]]) -> None:
        """Store the rows of a finished job, all or nothing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = schema()
        cleaned = [{k: _null(v) for k, v in row.items()} for row in rows]
        unknown = {k for row in cleaned for k in row} - set(columns.names)
        if unknown:
            raise ValueError(f"rows have unknown columns {sorted(unknown)}")
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(cleaned, schema=columns), sink, compression="zstd")
        write_whole(self.path(job), sink.getvalue().to_pybytes())

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order of their jobs' names; numbers that are null come back as NaN.

        Raises
        ------
        DataError
            For a file that is not what :meth:`write` wrote.
        """
        out: list[dict[str, Any]] = []
        for path in sorted(self.parts.glob("*.parquet")):
            out += read_part(path)
        return out

    def compact(self) -> Path:
        """Write all rows as one file, ``results.parquet`` (a copy for readers; resuming never looks at it)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [{k: _null(v) for k, v in row.items()} for row in self.rows()]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema()), sink, compression="zstd")
        target = self.folder / "results.parquet"
        write_whole(target, sink.getvalue().to_pybytes())
        return target

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of this folder; the operating system frees it however the process ends.

        Raises
        ------
        UsageError
            When another process is running on the folder.
        """
        try:
            import fcntl
        except ImportError:  # no such locks here (Windows): runs on one folder are the caller's care
            yield
            return
        with (self.folder / "lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"another run is working on {self.folder}; wait for it or name another folder"
                ) from None
            for stray in self.parts.glob("*.tmp"):
                stray.unlink(missing_ok=True)
            yield


def read_part(path: Path) -> list[dict[str, Any]]:
    """Rows of one file of a store."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"not a readable part of the store ({error}); delete it to compute it again", file=str(path)
        ) from None
    if table.schema.names != schema().names:
        raise DataError("a part with other columns; delete it to compute it again", file=str(path))
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in NUMBERS:
            if row[name] is None:
                row[name] = float("nan")
    return rows


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it has its whole content or does not exist, also after a crash of the machine."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    with contextlib.suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _plain(settings: Settings) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()}


def _check_same(path: Path, described: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(f"{path}: not the settings of a study ({error})") from None
    if not isinstance(found, dict) or found.get("study") != described["study"] or found.get("format") != FORMAT:
        raise UsageError(f"{path}: results of another study or format; name another folder")
    old, new = found.get("settings", {}), described["settings"]
    different = [
        f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in sorted({*old, *new}) if old.get(k) != new.get(k)
    ]
    if different:
        raise UsageError(
            f"{path.parent} holds results of other settings ({'; '.join(different)}); results of different settings "
            "are never mixed: use the same options, or another folder"
        )


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
