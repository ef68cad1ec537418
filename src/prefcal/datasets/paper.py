"""The public material of the label-ranking paper: its repository, its result tables, golden values."""

from __future__ import annotations

import difflib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from prefcal.datasets.registry import DataFile, Source, fetch
from prefcal.errors import UsageError

CITATION: Final = (
    "Thies, Bengs, Kaufmann, Vollmer, Hüllermeier: Calibrated Preference Learning: The Case of Label Ranking. ICML "
    "2026, arXiv 2605.30447."
)

SOURCE: Final = Source(
    repository="Advueu963/Calibrated_Preference_Learning",
    commit="dc0b53324cfc98625517f6e7cdeb5c65a77b89a6",
    licence="MIT (declared in pyproject.toml; the repository has no LICENSE file)",
    citation=CITATION,
    folder="paper/repository",
)


@cache
def paper_files() -> dict[str, DataFile]:
    """Every file that :func:`paper_file` knows, by its relative path.

    ``results/<set>/*.csv`` are the published values for each fold, byte for byte; ``golden/*`` (forecasts of the
    paper's models with what its estimators return) and ``rb2_models.csv`` (one row for each reward model) were made
    from the repository and are in mirrors only.
    """
    text = resources.files("prefcal.datasets").joinpath("paper_files.tsv").read_text(encoding="utf-8")
    files = {}
    for line in text.splitlines()[1:]:
        path, size, sha256, hosted = line.split("\t")
        files[path] = DataFile(SOURCE, path, int(size), sha256, mirror=f"paper/{path}", hosted=hosted == "yes")
    return files


def paper_file(path: str) -> Path:
    """Local path of one of the paper's files, verified; downloaded to the cache where upstream has it.

    Parameters
    ----------
    path
        Relative path as in :func:`paper_files`, e.g. ``golden/iris.npz``, ``rb2_models.csv`` or
        ``results/iris/kendalls_tau_results_iris.csv``.

    Raises
    ------
    UsageError
        For an unknown path, with the nearest known ones.
    DataError
        When the file cannot be had, or its checksum is another.
    """
    files = paper_files()
    if path not in files:
        near = difflib.get_close_matches(path, files, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UsageError(
            f"the paper has no file {path!r}{hint} (all {len(files)}: list(prefcal.datasets.paper_files()))"
        )
    return fetch(files[path])
