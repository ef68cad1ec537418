"""Label-ranking data sets: features of an instance, and the ranks that it gives to a fixed set of labels."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import numpy as np

from prefcal.data.ragged import FloatArray
from prefcal.datasets import tables
from prefcal.datasets.paper import SOURCE as PAPER
from prefcal.datasets.registry import DataFile, Source, find, read
from prefcal.errors import UsageError

_SCIKIT_LR: Final = Source(
    repository="alfaro96/scikit-lr",
    commit="46702a8d7c48ca09987e912421458853e722b160",
    licence="MIT",
    citation="J. C. Alfaro, J. A. Aledo, J. A. Gamez. scikit-lr 0.2.0.",
    folder="label_ranking/scikit-lr",
)
_PYLDL: Final = Source(
    repository="SpriteMisaka/PyLDL",
    commit="082937638e075b35d349a2e69e36219d52512dc8",
    licence="MIT",
    citation="X. Geng. Label distribution learning. IEEE TKDE 28 (2016) 1734-1748.",
    folder="label_ranking/PyLDL",
)
_PREFLIB: Final = Source(
    repository="fleverest/PrefLib-Data",
    commit="e70f12c3f1ee0dfa6f7974618522df0aa4ce9d91",
    licence="GPL-3 (of the repository, a copy of the PrefLib data)",
    citation="N. Mattei, T. Walsh. PrefLib: a library for preferences. ADT 2013.",
    folder="label_ranking/PrefLib-Data",
)
_ELECTIONS: Final = Source(
    repository="DBaudry/Preference_Learning",
    commit="d3afbc8abcab823df2501d76426b9d4bbccc1ebe",
    licence="none stated: research use only, settle the licence before you pass the data on",
    citation="C. R. de Sa, C. Soares, A. Knobbe. Entropy-based discretization methods for ranking data. Information "
    "Sciences 329 (2016) 921-936; the authors' collection is Mendeley Data, doi 10.17632/3mv94c8jpc.",
    folder="label_ranking/Preference_Learning",
)


@dataclass(frozen=True, slots=True)
class _Family:
    source: Source
    reader: tables.Reader
    citation: str
    notes: str


_FAMILIES: Final = {
    "paper": _Family(
        PAPER, tables.numbered_ranks, PAPER.citation,
        "The sets of the paper's study, as it used them. Several files are sorted by class: shuffle or stratify.",
    ),
    "kebi": _Family(
        _SCIKIT_LR, tables.scikit_lr_ranks,
        "W. Cheng, J. Huhn, E. Huellermeier. Decision tree and instance-based learning for label ranking. ICML "
        "2009, 161-168.",
        "Semi-synthetic: labels are classes ranked by the probabilities of a naive Bayes classifier, or numeric "
        "attributes ranked by their standardised value. Some files are sorted by class: shuffle or stratify.",
    ),
    "yeast": _Family(
        _SCIKIT_LR, tables.scikit_lr_orderings,
        "E. Huellermeier, J. Furnkranz, W. Cheng, K. Brinker. Label ranking by learning pairwise preferences. "
        "Artificial Intelligence 172 (2008) 1897-1916; raw data: M. B. Eisen et al., PNAS 95 (1998) 14863-14868.",
        "The circulating files hold orderings (the label at each place) but are commonly read as ranks; here they "
        "are inverted to true ranks, so results published on the files as read are not comparable. Tied expression "
        "values were broken upstream in no clear order.",
    ),
    "ldl": _Family(
        _PYLDL, tables.label_distribution, _PYLDL.citation,
        "Ranks are description degrees from high to low; degrees equal to 1e-9 are ties. Same genes as yeast/*.",
    ),
    "tied": _Family(
        _SCIKIT_LR, tables.scikit_lr_buckets,
        "J. C. Alfaro, J. A. Aledo, J. A. Gamez. Learning decision trees for the partial label ranking problem. "
        "International Journal of Intelligent Systems 36 (2021) 890-918.",
        "Complete bucket orders: groups of tied labels, made upstream from class probabilities.",
    ),
    "preflib": _Family(
        _PREFLIB, tables.preflib, _PREFLIB.citation,
        "Real votes without features, sorted as in the source: shuffle before any split. Label numbers are PrefLib's "
        "alternative numbers.",
    ),
    "real": _Family(
        _ELECTIONS, tables.bucket_strings, _ELECTIONS.citation,
        "The repository states no licence (official statistics and a UCI set underneath): research use only.",
    ),
}  # fmt: skip

_NOTES: Final = {
    "kebi/cpu": "Called cpu-small in the papers.",
    "yeast/cold": "6.8 % of the rows have a tied expression value.",
    "yeast/diau": "25.2 % of the rows have a tied expression value.",
    "yeast/dtt": "9.9 % of the rows have a tied expression value.",
    "preflib/apa1998": "Top-of-ballot lists: unranked means not named on the ballot.",
    "preflib/burlington2009": "Top-of-ballot lists: unranked means not named on the ballot.",
    "preflib/dots": "One feature, level = 3, 5, 7, 9: the gap in the number of dots between neighbouring pictures "
    "(large = easy), about 795 votes each; the true order is L1, L2, L3, L4 (fewest dots first).",
    "real/german2005": "412 German districts; labels a-e are parties in the order of the source.",
    "real/german2009": "412 German districts; labels a-e are parties in the order of the source.",
    "real/algae": "River samples of the COIL 1999 competition; most ties are amounts of zero.",
} | {
    f"tied/{name}": f"Shares its rows with kebi/{name}: never train on one and test on the other."
    for name in ("glass", "iris", "vehicle", "vowel", "wine")
}  # fmt: skip

_CITATIONS: Final = {
    "preflib/agh2003": "P. Skowron, P. Faliszewski, A. Slinko. AAMAS 2013.",
    "preflib/agh2004": "P. Skowron, P. Faliszewski, A. Slinko. AAMAS 2013.",
    "preflib/apa1998": "S. Popov, A. Popova, M. Regenwetter. Decision 2015.",
    "preflib/breakfast": "P. E. Green, V. R. Rao. Applied Multidimensional Scaling. 1972.",
    "preflib/burlington2009": "J. O'Neill. OpenSTV. 2013.",
    "preflib/dots": "A. Mao, A. D. Procaccia, Y. Chen. Better human computation through principled voting. AAAI "
    "2013.",
    "real/german2005": "M. Boley et al. One click mining. 2013.",
    "real/german2009": "M. Boley et al. One click mining. 2013.",
}

_WITHHELD: Final = {
    "paper/political": "survey answers of 170 persons under survey terms, and a case number among the features",
}


@dataclass(frozen=True, slots=True)
class LabelRankingInfo:
    """What is known about a data set without loading it.

    Parameters
    ----------
    name
        ``family/set``, e.g. ``kebi/iris``.
    n, n_features, n_items
        Rows, feature columns as published (before text is encoded), labels.
    ties, missing
        Share of rows with tied labels, share of labels without a rank.
    n_distinct
        Number of different rankings.
    table
        The file of a mirror that :func:`load` prefers.
    upstream
        The files at their public source from which the same table is made.
    licence, citation, notes
        The licence that the source states, what to cite, and what a user must know.
    """

    name: str
    n: int
    n_features: int
    n_items: int
    ties: float
    missing: float
    n_distinct: int
    table: DataFile
    upstream: tuple[DataFile, ...]
    licence: str
    citation: str
    notes: str

    @property
    def family(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    @property
    def source(self) -> Source:
        """The public repository, at a commit."""
        return self.upstream[0].source


@dataclass(frozen=True, slots=True)
class LabelRankingData:
    """A loaded data set.

    Parameters
    ----------
    name
        ``family/set``.
    features
        (n, p) numbers, NaN = missing. A column of text with values v1, v2, ... (sorted) becomes one 0/1 column
        ``name=v`` for each value, all NaN where the text is missing: categories have no order, so they get no codes.
    feature_names
        (p,) names of the columns of ``features``.
    ranks
        (n, m) 1 = best, equal = tied, NaN = unranked; dense (no gap after a tie).
    labels
        (m,) names of the items.
    info
        Source, licence, citation, notes.
    """

    name: str
    features: FloatArray
    feature_names: tuple[str, ...]
    ranks: FloatArray
    labels: tuple[str, ...]
    info: LabelRankingInfo


@cache
def _registry() -> dict[str, LabelRankingInfo]:
    text = resources.files("prefcal.datasets").joinpath("label_ranking.tsv").read_text(encoding="utf-8")
    registry = {}
    for line in text.splitlines()[1:]:
        name, n, p, m, ties, missing, distinct, place, size, sha256, origin = line.split("\t")
        family = _FAMILIES[name.partition("/")[0]]
        upstream = []
        for part in origin.split(";"):
            path, part_size, part_sha256 = part.split("|")
            upstream.append(DataFile(family.source, path, int(part_size), part_sha256))
        if upstream[0].sha256 == sha256:
            table = DataFile(family.source, upstream[0].path, int(size), sha256, mirror=place)
            upstream = [table]
        else:
            unpacked = place.removesuffix(".gz")
            table = DataFile(family.source, unpacked, int(size), sha256, mirror=place, hosted=False)
        registry[name] = LabelRankingInfo(
            name=name, n=int(n), n_features=int(p), n_items=int(m), ties=float(ties), missing=float(missing),
            n_distinct=int(distinct), table=table, upstream=tuple(upstream), licence=family.source.licence,
            citation=" ".join(filter(None, (family.citation, _CITATIONS.get(name)))),
            notes=" ".join(filter(None, (family.notes, _NOTES.get(name)))),
        )  # fmt: skip
    return registry


def names(family: str | None = None) -> tuple[str, ...]:
    """Names of the data sets, all or those of one family.

    Families: ``paper``, ``kebi``, ``yeast``, ``ldl``, ``tied``, ``preflib``, ``real``.

    Examples
    --------
    >>> names("yeast")
    ('yeast/cold', 'yeast/diau', 'yeast/dtt', 'yeast/spo')
    """
    if family is not None and family not in _FAMILIES:
        raise UsageError.unknown("family of data sets", family, _FAMILIES)
    return tuple(name for name, info in _registry().items() if family in (None, info.family))


def describe(name: str) -> LabelRankingInfo:
    """What is known about a data set, without loading it.

    Raises UsageError for an unknown name, with the names it may have meant.

    Examples
    --------
    >>> info = describe("paper/letter")
    >>> info.n, info.n_features, info.n_items
    (20000, 16, 26)
    """
    registry = _registry()
    if name in registry:
        return registry[name]
    if name in _WITHHELD:
        raise UsageError(f"{name} is not offered: {_WITHHELD[name]}; see {PAPER.page}")
    near = [known for known in registry if known.partition("/")[2] == name.rpartition("/")[2]]
    near = near or difflib.get_close_matches(name, registry, n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise UsageError(
        f"unknown data set {name!r}{hint} (prefcal.datasets.names() lists all {len(registry)}, in the families "
        f"{', '.join(_FAMILIES)})"
    )


def load(name: str) -> LabelRankingData:
    """Load a data set from the mirror, from the cache, or from its public source.

    The mirror's table is used where there is one; else the source's own files, downloaded once, give the same table.
    All contents are checked against their sha256 before they are parsed.

    Parameters
    ----------
    name
        One of :func:`names`.

    Raises
    ------
    UsageError
        For an unknown name.
    DataError
        When the data can be neither found nor downloaded, or a file is not the registered one.
    """
    info = describe(name)
    if find(info.table) is not None and not info.table.hosted:
        table = tables.mirror_table([read(info.table)])
    else:
        reader = tables.preflib_levels if name == "preflib/dots" else _FAMILIES[info.family].reader
        table = reader([read(file) for file in info.upstream])
    features, feature_names = encode(table.feature_names, table.features)
    return LabelRankingData(name, features, feature_names, table.ranks, table.labels, info)


def encode(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[FloatArray, tuple[str, ...]]:
    """Turn columns of text into numbers, see :class:`LabelRankingData`; ``""`` = missing.

    A column is numeric when all its values that are not missing are numbers.

    Examples
    --------
    >>> values, columns = encode(["size", "colour"], [["1.5", "red"], ["", "blue"]])
    >>> columns
    ('size', 'colour=blue', 'colour=red')
    >>> values.tolist()
    [[1.5, 0.0, 1.0], [nan, 1.0, 0.0]]
    """
    parts, encoded = [np.empty((len(rows), 0))], []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        try:
            numbers = np.array([value or "nan" for value in values], dtype=np.float64)
        except ValueError:
            text = np.array(values)
            levels = sorted(set(values) - {""})
            indicators = (text[:, None] == np.array(levels)).astype(np.float64)
            indicators[text == ""] = np.nan
            parts.append(indicators)
            encoded += [f"{column}={level}" for level in levels]
        else:
            parts.append(numbers[:, None])
            encoded.append(column)
    return np.concatenate(parts, axis=1), tuple(encoded)
