"""Data of the study: features and complete rankings, from the registry or from a CSV file."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import DataError, UsageError

#: The sets of the published study that can be shared, smallest first.
PAPER_SETS = (
    "iris",
    "wine",
    "glass",
    "movies",
    "libras",
    "vowel",
    "authorship",
    "vehicle",
    "yeast",
    "segment",
    "pendigits",
    "letter",
)


@dataclass(frozen=True, slots=True)
class StudySet:
    """One data set.

    Parameters
    ----------
    name
        As asked for.
    features
        (n, p) finite numbers.
    ranks
        (n, m) complete rankings, 1 = best.
    sha256
        Of the arrays: rows of a store belong to exactly this data.
    """

    name: str
    features: FloatArray
    ranks: IntArray
    sha256: str

    @classmethod
    def build(cls, name: str, features: FloatArray, ranks: FloatArray) -> StudySet:
        """Check and hash.

        Raises
        ------
        DataError
            For features that are missing or infinite, and for rankings that have gaps, ties or unranked items:
            the published estimators compare complete rankings, so the study has no silent way to treat them.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or len(x) == 0 or x.shape[1] == 0:
            raise DataError(f"features must be rows x columns, at least one of each, got shape {x.shape}", file=name)
        bad = ~np.isfinite(x)
        if bad.any():
            row, column = (int(v) for v in np.argwhere(bad)[0])
            raise DataError(
                f"feature {column} is {x[row, column]}; the study's models need finite features: impute or drop",
                file=name,
                row=row + 1,
            )
        given = np.asarray(ranks, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] < 2 or len(given) != len(x):
            raise DataError(f"ranks of shape {given.shape} for {len(x)} rows of features", file=name)
        try:
            dense = Outcomes.from_ranks(given).dense()
        except DataError as error:
            raise DataError(str(error), file=name) from None
        m = dense.shape[1]
        incomplete = (np.sort(dense, axis=1) != np.arange(1, m + 1)).any(axis=1)
        if incomplete.any():
            at = int(np.flatnonzero(incomplete)[0])
            what = "leaves items unranked" if np.isnan(dense[at]).any() else "has ties"
            raise DataError(
                f"the ranking {what} ({int(incomplete.sum())} such rows); this study compares complete rankings: "
                "drop or complete these rows, or audit a fitted ranker with prefcal.audit, which handles them",
                file=name,
                row=at + 1,
            )
        whole = dense.astype(np.intp)
        digest = hashlib.sha256()
        for array in (x, whole.astype("<i8")):
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return cls(name, x, whole, digest.hexdigest())

    def __len__(self) -> int:
        return len(self.ranks)

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return int(self.ranks.shape[1])

    @property
    def orders(self) -> IntArray:
        """(n, m) orderings, best first, items 0-based."""
        return np.argsort(self.ranks, axis=1)

    def take(self, rows: IntArray) -> tuple[FloatArray, IntArray]:
        """Features and ranks of some rows."""
        return self.features[rows], self.ranks[rows]


def load_set(name: str) -> StudySet:
    """Load a registered set by name, or a CSV file by its path.

    The paper's sets have short names: ``iris`` is ``paper/iris`` of :mod:`prefcal.datasets`. A CSV file has a header;
    columns that start with ``L`` hold the rank of one item each (1 = best), all others are numeric features.

    Raises
    ------
    UsageError
        For an unknown name.
    DataError
        For a file that does not hold what it should; see :meth:`StudySet.build`.
    """
    if name.endswith((".csv", ".csv.gz")):
        return _read_csv(Path(name))
    from prefcal import datasets

    loaded = datasets.load(f"paper/{name}" if name in PAPER_SETS else name)
    return StudySet.build(name, loaded.features, loaded.ranks)


def short_name(name: str) -> str:
    """``paper/iris`` and ``iris`` are one set; other names and paths stay."""
    rest = name.removeprefix("paper/")
    return rest if rest in PAPER_SETS else name


def _read_csv(path: Path) -> StudySet:
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text)))
    if len(rows) < 2:
        raise DataError("no data rows", file=str(path))
    header = [name.strip() for name in rows[0]]
    labels = [i for i, name in enumerate(header) if name.upper().startswith("L")]
    others = [i for i in range(len(header)) if i not in labels]
    if len(labels) < 2 or not others:
        raise DataError(
            f"{len(labels)} label columns (names that start with L) and {len(others)} feature columns; at "
            "least 2 and 1 are needed",
            file=str(path),
        )
    values = np.empty((len(rows) - 1, len(header)))
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise DataError(f"{len(row)} cells where the header has {len(header)}", file=str(path), row=i + 1)
        for j, cell in enumerate(row):
            try:
                values[i, j] = float(cell) if cell.strip() else np.nan
            except ValueError:
                raise DataError(f"{cell!r} is not a number", file=str(path), row=i + 1, field=header[j]) from None
    return StudySet.build(str(path), values[:, others], values[:, labels])
