"""What a data file is, and how it gets here: a local mirror first, then the cache, then the network."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

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

    @property
    def page(self) -> str:
        """The repository at that commit, for people."""
        return f"https://github.com/{self.repository}/tree/{self.commit}"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of a source: its path there, size in bytes, and sha256.

    Parameters
    ----------
    source, path
        The repository and the path in it.
    size, sha256
        Of the contents; of what comes out where a mirror keeps the file gzipped.
    mirror
        Where a mirror keeps the file, if not at ``source.folder/path``. A name that ends in .gz, where ``path``
        does not, is a compressed copy.
    hosted
        Whether upstream serves this file; False for tables that were made from files of the source, which only
        mirrors have.
    """

    source: Source
    path: str
    size: int
    sha256: str
    mirror: str | None = None
    hosted: bool = True

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Where upstream serves the file (the repository's page where it does not)."""
        if not self.hosted:
            return self.source.page
        return f"https://raw.githubusercontent.com/{self.source.repository}/{self.source.commit}/{quote(self.path)}"

    @property
    def place(self) -> str:
        """Path below the root of a mirror."""
        return self.mirror or f"{self.source.folder}/{self.path}"

    def compressed(self, place: Path) -> bool:
        """Whether ``place`` holds a gzipped copy."""
        return place.suffix == ".gz" and not self.path.endswith(".gz")


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
    places = [] if not mirror else [Path(mirror) / file.place]
    places += [cache_directory() / file.place, _target(file)]
    for place in places:
        if place.is_file():
            packed = file.compressed(place)
            found = hashlib.sha256(_unpack(place)).hexdigest() if packed else file_sha256(str(place))
            if found != file.sha256:
                what = "sha256 of the contents" if packed else "sha256"
                raise DataError(
                    f"{what} is {found}, expected {file.sha256}; remove or replace the file", file=str(place)
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
    if not file.hosted:
        raise DataError(
            f"is in no mirror and no cache, and upstream does not publish it in this form; point PREFCAL_DATA to a "
            f"mirror that has {file.place} (made from {file.url})",
            file=file.name,
        )
    import pooch

    target = _target(file)
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


def read(file: DataFile, *, timeout: float = 30.0) -> bytes:
    """The file's verified contents, fetched if need be and unpacked if the copy is gzipped.

    Raises DataError as :func:`fetch` does.
    """
    place = fetch(file, timeout=timeout)
    return _unpack(place) if file.compressed(place) else place.read_bytes()


def _target(file: DataFile) -> Path:
    return cache_directory() / file.source.folder / file.path


def _unpack(place: Path) -> bytes:
    try:
        return gzip.decompress(place.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"is not a gzip file that can be unpacked ({error}); replace it", file=str(place)) from error
