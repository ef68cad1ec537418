"""What a data file is, and how it gets here: a local mirror first, then the cache, then the network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from prefcal.data.readers.containers import file_sha256
from prefcal.errors import DataError


@dataclass(frozen=True, slots=True)
class Source:
    """A public repository at one commit.

    ``folder`` is where a mirror (the directory that PREFCAL_DATA names) keeps the repository's files.
    """

    repository: str
    commit: str
    licence: str
    citation: str
    folder: str


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a source: its path there, size in bytes, and sha256."""

    source: Source
    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Where upstream serves the file."""
        return f"https://raw.githubusercontent.com/{self.source.repository}/{self.source.commit}/{self.path}"


def cache_directory() -> Path:
    """Where fetched files are kept: PREFCAL_CACHE, else the user's cache directory."""
    own = os.environ.get("PREFCAL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(base) / "prefcal"


def find(file: DataFile) -> Path | None:
    """The file in the mirror (PREFCAL_DATA) or the cache, checked; None if it is in neither.

    Raises DataError when a file is there but its checksum is another.
    """
    mirror = os.environ.get("PREFCAL_DATA")
    places = [] if mirror is None else [Path(mirror) / file.source.folder / file.path]
    places.append(cache_directory() / file.source.folder / file.path)
    for place in places:
        if place.is_file():
            found = file_sha256(str(place))
            if found != file.sha256:
                raise DataError(
                    f"sha256 is {found}, expected {file.sha256}; remove or replace the file", file=str(place)
                )
            return place
    return None


def fetch(file: DataFile, *, timeout: float = 30.0) -> Path:
    """The file's path, downloading it to the cache if need be.

    Raises
    ------
    DataError
        When it can be neither found nor downloaded, with the address to fetch it from by hand.
    """
    place = find(file)
    if place is not None:
        return place
    import pooch

    target = cache_directory() / file.source.folder / file.path
    try:
        pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(timeout=timeout),
        )
    except Exception as error:  # requests and pooch raise many kinds; all mean the same to a caller
        raise DataError(
            f"could not be downloaded ({type(error).__name__}); fetch {file.url} yourself into {target}, or point "
            "PREFCAL_DATA to a mirror",
            file=file.name,
        ) from error
    return target
