"""Public data, fetched when asked for: never part of the package, always checked against a checksum.

Files are looked for in the mirror that the environment variable PREFCAL_DATA names, then in the cache (PREFCAL_CACHE,
else the user's cache directory); what is in neither is downloaded from its public repository at a fixed commit.
"""

from __future__ import annotations

from prefcal.datasets.label_ranking import LabelRankingData, LabelRankingInfo, describe, load, names
from prefcal.datasets.paper import paper_file, paper_files
from prefcal.datasets.registry import DataFile, Source, fetch, find

__all__ = [
    "DataFile",
    "LabelRankingData",
    "LabelRankingInfo",
    "Source",
    "describe",
    "fetch",
    "find",
    "load",
    "names",
    "paper_file",
    "paper_files",
]
