"""Readers of the forms in which label-ranking data are published; each gives one plain table.

All take the contents of the files of one data set, in order, and raise ValueError (or what numpy or csv raise) when
they are not of that form: the contents were checked against their sha256 before.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prefcal.data.ragged import FloatArray

MISSING = frozenset({"", "NA", "XXXXXXX"})


@dataclass(frozen=True, slots=True)
class Table:
    """Features as published (text, ``""`` = missing) and ranks (1 = best, equal = tied, NaN = unranked)."""

    feature_names: tuple[str, ...]
    features: Sequence[Sequence[str]]
    labels: tuple[str, ...]
    ranks: FloatArray


Reader = Callable[[Sequence[bytes]], Table]


def mirror_table(contents: Sequence[bytes]) -> Table:
    """Feature columns, then one column ``L:<label>`` for each label: its rank, empty = unranked."""
    header, rows = _csv(contents[0])
    p = next(i for i, name in enumerate(header) if name.startswith("L:"))
    return Table(
        tuple(header[:p]), [row[:p] for row in rows], tuple(name[2:] for name in header[p:]), _ranks(rows, p)
    )


def numbered_ranks(contents: Sequence[bytes]) -> Table:
    """Feature columns, then columns L1, L2, ...: the rank of each label."""
    header, rows = _csv(contents[0])
    p = next(i for i, name in enumerate(header) if re.fullmatch(r"L\d+", name))
    return Table(tuple(header[:p]), [row[:p] for row in rows], tuple(header[p:]), _ranks(rows, p))


def scikit_lr_ranks(contents: Sequence[bytes]) -> Table:
    """scikit-lr 0.2.0, complete rankings: as :func:`numbered_ranks`, features without names of their own."""
    return _numbered_features(numbered_ranks(contents))


def scikit_lr_orderings(contents: Sequence[bytes]) -> Table:
    """scikit-lr 0.2.0, expression data: column ``Li`` holds the label at place i, which is inverted to ranks."""
    table = scikit_lr_ranks(contents)
    ranks = np.argsort(table.ranks, axis=1).astype(np.float64) + 1.0
    return Table(table.feature_names, table.features, table.labels, ranks)


def scikit_lr_buckets(contents: Sequence[bytes]) -> Table:
    """scikit-lr 0.2.0, bucket orders: ranks made dense (no gap after a tie)."""
    table = scikit_lr_ranks(contents)
    return Table(table.feature_names, table.features, table.labels, dense_ranks(table.ranks))


def label_distribution(contents: Sequence[bytes]) -> Table:
    """MATLAB file with ``features`` and ``labels``: description degrees, ranked from high to low.

    Degrees equal to 1e-9 are ties; features keep 6 significant digits.
    """
    from scipy.io import loadmat

    matrices = loadmat(io.BytesIO(contents[0]))  # type: ignore[arg-type]  # streams are allowed, the stubs miss them
    features = [[f"{x:.6g}" for x in row] for row in matrices["features"]]
    degrees: FloatArray = np.asarray(matrices["labels"], dtype=np.float64)
    ranks = dense_ranks(-degrees.round(9))
    return Table(_names("x", len(features[0])), features, _names("L", ranks.shape[1]), ranks)


def preflib(contents: Sequence[bytes]) -> Table:
    """PrefLib orders (.soc, .soi, .toi): ``count: 3,{1,4},2``, one row a vote, in the order of the file."""
    labels, ranks = _votes(contents[0])
    return Table((), [[] for _ in ranks], labels, ranks)


def preflib_levels(contents: Sequence[bytes]) -> Table:
    """The four PrefLib files of ``dots``: as :func:`preflib`, with the feature ``level`` 3, 5, 7, 9."""
    levels, votes = (3, 5, 7, 9), [_votes(content) for content in contents]
    features = [[str(level)] for level, (_, ranks) in zip(levels, votes, strict=True) for _ in ranks]
    return Table(("level",), features, votes[0][0], np.concatenate([ranks for _, ranks in votes]))


def bucket_strings(contents: Sequence[bytes]) -> Table:
    """Feature columns, then ``ranking``: letters with ``>`` between groups of equals, e.g. ``e>f>abc``."""
    header, rows = _csv(contents[0])
    labels = sorted(set("".join(row[-1] for row in rows)) - {">"})
    features = [["" if value in MISSING else value.strip() for value in row[:-1]] for row in rows]
    ranks = [_places(row[-1].split(">"), labels) for row in rows]
    return Table(tuple(header[:-1]), features, tuple(labels), np.array(ranks))


def dense_ranks(values: FloatArray) -> FloatArray:
    """Rank each row, smallest first: 1, 2, ... without gaps, equal values = equal ranks; no missing values."""
    order = np.sort(values, axis=1)
    new = np.concatenate([np.ones((len(order), 1), dtype=bool), order[:, 1:] > order[:, :-1]], axis=1)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, np.argsort(values, axis=1, kind="stable"), np.cumsum(new, axis=1), axis=1)
    return ranks


def _csv(content: bytes) -> tuple[list[str], list[list[str]]]:
    rows = [row for row in csv.reader(io.StringIO(content.decode("latin-1"))) if row]
    return rows[0], rows[1:]


def _ranks(rows: list[list[str]], p: int) -> FloatArray:
    return np.array([[float(value) if value else np.nan for value in row[p:]] for row in rows])


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i + 1}" for i in range(count))


def _numbered_features(table: Table) -> Table:
    return Table(_names("x", len(table.feature_names)), table.features, table.labels, table.ranks)


def _votes(content: bytes) -> tuple[tuple[str, ...], FloatArray]:
    text = content.decode("utf-8")
    items = re.findall(r"^# ALTERNATIVE NAME (\d+):", text, flags=re.MULTILINE)
    ranks: list[list[float]] = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            count, _, order = line.partition(":")
            groups = [re.findall(r"\d+", group) for group in re.findall(r"\{[^}]*\}|\d+", order)]
            ranks += [_places(groups, items)] * int(count)
    return _names("L", len(items)), np.array(ranks)


def _places(groups: Sequence[Sequence[str]], items: Sequence[str]) -> list[float]:
    place = {item: i + 1.0 for i, group in enumerate(groups) for item in group}
    return [place.get(item, np.nan) for item in items]
