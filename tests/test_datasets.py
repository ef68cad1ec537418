"""Data sets: the registry's facts, every published form, checksums, and what happens without mirror or network."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc
from prefcal import datasets
from prefcal.datasets import label_ranking, registry, tables
from prefcal.datasets.registry import DataFile, Source
from prefcal.errors import DataError, UsageError

SOURCE = Source("someone/something", "c0ffee", "MIT", "nobody", "some/folder")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An empty mirror and an empty cache."""
    mirror, cache = tmp_path / "mirror", tmp_path / "cache"
    monkeypatch.setenv("PREFCAL_DATA", str(mirror))
    monkeypatch.setenv("PREFCAL_CACHE", str(cache))
    return mirror, cache


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def a_file(content: bytes, path: str = "a dir/x.csv", **options: object) -> DataFile:
    return DataFile(SOURCE, path, len(content), hashlib.sha256(content).hexdigest(), **options)  # type: ignore[arg-type]


# What the registry says, against the data.


@pytest.mark.parametrize("name", datasets.names())
def test_facts_of_each_set(data_dir: Path, name: str) -> None:
    info, data = datasets.describe(name), datasets.load(name)
    assert data.ranks.shape == (info.n, info.n_items)
    assert len(data.labels) == info.n_items
    assert data.features.shape == (info.n, len(data.feature_names))
    assert data.features.dtype == data.ranks.dtype == np.float64
    original = {column.partition("=")[0] for column in data.feature_names}
    assert len(original) == info.n_features
    ranked = ~np.isnan(data.ranks)
    filled = np.where(ranked, data.ranks, np.arange(info.n_items) + 1000)
    tied = np.array([len(set(row)) < info.n_items for row in filled])
    assert tied.mean() == pytest.approx(info.ties, abs=1e-6)
    assert 1 - ranked.mean() == pytest.approx(info.missing, abs=1e-6)
    assert len({tuple(row) for row in np.nan_to_num(data.ranks).tolist()}) == info.n_distinct
    # Dense ranks: Outcomes keeps them as they are.
    np.testing.assert_array_equal(pc.Outcomes.from_ranks(data.ranks).dense(), data.ranks)
    assert info.licence
    assert info.citation
    assert info.source.page.startswith("https://github.com/")


@pytest.mark.parametrize("name", [n for n in datasets.names() if not n.startswith("paper/")])
def test_the_public_source_gives_the_same_table(
    data_dir: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, mirrored = datasets.describe(name), datasets.load(name)
    monkeypatch.setenv("PREFCAL_DATA", str(tmp_path))
    if any(registry.find(file) is None for file in info.upstream):
        pytest.skip(f"the files of {info.source.repository} are not in the cache")
    fetched = datasets.load(name)
    assert (fetched.feature_names, fetched.labels) == (mirrored.feature_names, mirrored.labels)
    np.testing.assert_array_equal(fetched.features, mirrored.features)
    np.testing.assert_array_equal(fetched.ranks, mirrored.ranks)


def test_text_features_become_indicators(data_dir: Path) -> None:
    data = datasets.load("real/algae")
    seasons = [i for i, column in enumerate(data.feature_names) if column.startswith("V1=")]
    assert [data.feature_names[i] for i in seasons] == ["V1=autumn", "V1=spring", "V1=summer", "V1=winter"]
    assert (data.features[:, seasons].sum(axis=1) == 1).all()


def test_expression_data_are_ranks_and_dots_come_in_their_order(data_dir: Path) -> None:
    # The spo5 degrees are the raw values of three of the eleven spo time points: read as ranks, the order of the
    # columns they share agrees in all rows; read as orderings it does in no more than chance allows.
    spo, degrees = datasets.load("yeast/spo").ranks, datasets.load("ldl/yeast_spo5").ranks
    strict = np.array([len(set(row)) == 3 for row in degrees.tolist()])

    def agreement(ranks: np.ndarray) -> float:
        shares = []
        for a in range(11):
            for b in range(a + 1, 11):
                for c, d in ((0, 1), (0, 2), (1, 2)):
                    same = (ranks[strict, a] < ranks[strict, b]) == (degrees[strict, c] < degrees[strict, d])
                    shares.append(same.mean())
        return max(shares)

    as_published = np.argsort(spo, axis=1) + 1.0
    assert agreement(spo) > 0.95
    assert agreement(as_published) < 0.75
    dots = datasets.load("preflib/dots")
    assert dots.feature_names == ("level",)
    for level in (3, 5, 7, 9):
        means = dots.ranks[dots.features[:, 0] == level].mean(axis=0)
        assert (np.diff(means) > 0).all()


# The forms in which sources publish, on small files of our own.


def test_scikit_lr_forms() -> None:
    content = [b"f,g,L1,L2,L3\n0.5,1,3,1,2\n-1,2,1,2,3\n"]
    ranks = tables.scikit_lr_ranks(content)
    assert ranks.feature_names == ("x1", "x2")
    assert ranks.ranks.tolist() == [[3, 1, 2], [1, 2, 3]]
    # Label 3 stands first, label 1 second, label 2 third.
    assert tables.scikit_lr_orderings(content).ranks.tolist() == [[2, 3, 1], [1, 2, 3]]
    buckets = tables.scikit_lr_buckets([b"f,L1,L2,L3,L4\n0,1,2,2,4\n0,3,1,1,1\n"])
    assert buckets.ranks.tolist() == [[1, 2, 2, 3], [2, 1, 1, 1]]


def test_preflib_forms() -> None:
    names = b"".join(b"# ALTERNATIVE NAME %d: item\n" % i for i in (1, 2, 3))
    text = b"# TITLE: t\n" + names + b"2: 3,1,2\n1: 2,{1,3}\n1: 2\n"
    table = tables.preflib([text])
    assert table.labels == ("L1", "L2", "L3")
    np.testing.assert_array_equal(table.ranks, [[2, 3, 1], [2, 3, 1], [2, 1, 2], [np.nan, 1, np.nan]])
    levels = tables.preflib_levels([text] * 4)
    assert [row[0] for row in levels.features] == ["3"] * 4 + ["5"] * 4 + ["7"] * 4 + ["9"] * 4


def test_bucket_strings() -> None:
    table = tables.bucket_strings([b"a,b,ranking\n1, x ,c>ab\nNA,XXXXXXX,a>c>b\n"])
    assert table.features == [["1", "x"], ["", ""]]
    assert table.labels == ("a", "b", "c")
    assert table.ranks.tolist() == [[2, 2, 1], [1, 3, 2]]


def test_label_distributions() -> None:
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, {"features": [[1 / 3, 2.0]], "labels": [[0.2, 0.5, 0.2 + 1e-12, 0.1]]})
    table = tables.label_distribution([stream.getvalue()])
    assert table.features == [["0.333333", "2"]]
    assert table.ranks.tolist() == [[2, 1, 2, 3]]


def test_missing_values_stay_missing() -> None:
    values, columns = label_ranking.encode(["n", "t"], [["1", "b"], ["", ""], ["2.5", "a"]])
    assert columns == ("n", "t=a", "t=b")
    np.testing.assert_array_equal(values, [[1, 0, 1], [np.nan, np.nan, np.nan], [2.5, 1, 0]])
    assert label_ranking.encode([], [[], []])[0].shape == (2, 0)


# Finding, checking, fetching.


def test_mirror_before_cache_and_packed_copies(places: tuple[Path, Path]) -> None:
    mirror, cache = places
    content = b"some,table\n1,2\n" * 50
    file = a_file(content, mirror="else/where.csv.gz")
    assert registry.find(file) is None
    put(cache / "some/folder/a dir/x.csv", content)
    assert registry.find(file) == cache / "some/folder/a dir/x.csv"
    put(mirror / "else/where.csv.gz", gzip.compress(content))
    assert registry.find(file) == mirror / "else/where.csv.gz"
    assert registry.read(file) == content


@pytest.mark.parametrize("packed", [False, True])
def test_another_checksum_is_refused(places: tuple[Path, Path], packed: bool) -> None:
    mirror, _ = places
    file = a_file(b"right", mirror="x.csv.gz" if packed else "x.csv")
    put(mirror / file.place, gzip.compress(b"wrong") if packed else b"wrong")
    with pytest.raises(DataError, match=r"sha256.*expected.*remove or replace"):
        registry.find(file)


def test_a_broken_packed_copy_is_refused(places: tuple[Path, Path]) -> None:
    mirror, _ = places
    file = a_file(b"right" * 100, mirror="x.csv.gz")
    put(mirror / "x.csv.gz", gzip.compress(b"right" * 100)[:-12])
    with pytest.raises(DataError, match="gzip"):
        registry.find(file)


def test_download_goes_to_the_cache(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    content, asked = b"fetched", []

    def retrieve(url: str, known_hash: str, fname: str, path: Path, downloader: object) -> None:
        asked.append((url, known_hash))
        put(Path(path) / fname, content)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    file = a_file(content)
    assert registry.read(file) == registry.read(file) == content
    url = "https://raw.githubusercontent.com/someone/something/c0ffee/a%20dir/x.csv"
    assert asked == [(url, f"sha256:{file.sha256}")]


def test_without_mirror_and_network_the_error_says_what_to_do(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pooch

    def retrieve(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=r"fetch https://raw.*iris\.csv yourself into .* or point PREFCAL_DATA"):
        datasets.load("kebi/iris")
    with pytest.raises(DataError, match=r"point PREFCAL_DATA to a mirror that has paper/golden/iris\.npz"):
        datasets.paper_file("golden/iris.npz")


def test_downloaded_files_are_parsed_in_their_own_form(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cache = places
    content = b"a,L1,L2,L3\n0.25,3,1,2\n"
    info = datasets.describe("yeast/cold")
    digest = hashlib.sha256(content).hexdigest()
    upstream = replace(info.upstream[0], sha256=digest)
    monkeypatch.setitem(label_ranking._registry(), "yeast/cold", replace(info, upstream=(upstream,)))
    put(cache / upstream.source.folder / upstream.path, content)
    data = datasets.load("yeast/cold")
    assert data.ranks.tolist() == [[2, 3, 1]]
    assert data.features.tolist() == [[0.25]]


# Names.


def test_names() -> None:
    assert len(datasets.names()) == len(set(datasets.names())) == 49
    assert len(datasets.names("paper")) == 12
    assert sum(len(datasets.names(f)) for f in ("paper", "kebi", "yeast", "ldl", "tied", "preflib", "real")) == 49
    with pytest.raises(UsageError, match="did you mean 'yeast'"):
        datasets.names("yeasts")


@pytest.mark.parametrize(
    ("name", "meant"), [("iris", "'paper/iris' or 'kebi/iris' or 'tied/iris'"), ("kebi/irs", "'kebi/iris'")]
)
def test_unknown_names_are_answered_with_near_ones(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean .*{meant}"):
        datasets.load(name)


def test_a_withheld_set_says_why() -> None:
    with pytest.raises(UsageError, match="survey"):
        datasets.load("paper/political")


def test_notes_name_the_traps() -> None:
    for name in datasets.names("yeast"):
        assert "inverted to true ranks" in datasets.describe(name).notes
    assert "never train on one" in datasets.describe("tied/vowel").notes
    assert "shuffle" in datasets.describe("preflib/agh2003").notes
    assert "no licence" in datasets.describe("real/algae").notes


# The paper's other files.


def test_every_paper_file_is_in_the_mirror(data_dir: Path) -> None:
    for path in datasets.paper_files():
        assert datasets.paper_file(path) == data_dir / "paper" / path


def test_unknown_paper_file() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'golden/iris\.(json|npz)'"):
        datasets.paper_file("golden/iris")


def test_manifests_are_well_formed() -> None:
    files = [f for n in datasets.names() for f in (datasets.describe(n).table, *datasets.describe(n).upstream)]
    for file in [*files, *datasets.paper_files().values()]:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 0
        assert " " not in file.url


def test_import_is_light() -> None:
    code = (
        "import sys, prefcal.datasets as d; d.describe('kebi/iris'); "
        "print([m for m in ('scipy', 'pandas', 'sklearn', 'pooch', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
