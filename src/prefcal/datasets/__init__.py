"""Public data, fetched when asked for: never part of the package, always checked against a checksum."""

from __future__ import annotations

from prefcal.datasets.registry import DataFile, Source, fetch, find

__all__ = ["DataFile", "Source", "fetch", "find"]
