"""``prefcal compare``: several models on the same instances."""

from __future__ import annotations

import argparse
import dataclasses
import sys

import numpy as np

from prefcal.audited import write_files
from prefcal.cli.audit import check_targets, distribution, named_files, read_file, say
from prefcal.cli.progress import Progress
from prefcal.comparing import Comparison, compare
from prefcal.data.ragged import IntArray
from prefcal.data.source import ScoreFile
from prefcal.errors import DataError, UsageError


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    models = named_files(options, [options.notion])
    if len(models) < 2:
        raise UsageError("a comparison needs at least two score files: prefcal compare A B ...")
    check_targets(options.report, options.json, inputs=[path for _, path in models])
    with Progress() as progress:
        files = {name: read_file(path, name, options, progress) for name, path in models}
        with progress.task("comparing"):
            found = compare_files(
                files,
                notions=options.notion,
                weights="instance" if options.weights == "instance" else None,
                bins=options.bins,
                seed=options.seed,
            )
    texts = {}
    if options.report:
        from prefcal.report.comparison import render_comparison

        texts[options.report] = render_comparison(found)
    if options.json and options.json != "-":
        texts[options.json] = found.to_json()
    write_files(texts)
    if options.json == "-":
        say(found.to_json())
    else:
        from prefcal.report.comparison_text import render_text

        say(render_text(found))
    for target in texts:
        print(f"wrote {target}", file=sys.stderr)
    return 0


def compare_files(
    files: dict[str, ScoreFile], *, notions: list[str], weights: str | None = None, bins: int = 15, seed: int = 0
) -> Comparison:
    """Compare the models of several files about the same data; without ``notions`` those that all models state."""
    rows = same_instances(files)
    first = next(iter(files.values()))
    warnings = []
    for name, file in files.items():
        warnings += [f"{name}: {note}" for note in file.info.notes]
        if file.info.n_skipped:
            warnings.append(f"{name}: {file.info.n_skipped} records were skipped ({file.info.path})")
    found = compare(
        {name: distribution(file)[rows[name]] for name, file in files.items()},
        first.outcomes,
        notions=notions or None,
        items=first.info.items,  # type: ignore[arg-type]
        weights=weights,
        clusters=first.clusters,
        bins=bins,
        seed=seed,
    )
    return dataclasses.replace(
        found, inputs=[file.info for file in files.values()], warnings=warnings + found.warnings
    )


def same_instances(files: dict[str, ScoreFile]) -> dict[str, IntArray]:
    """Rows of each file so that row i is the same instance in all: by id, or by place where files have none.

    Raises DataError when the instances, their candidates, their outcomes or their clusters differ.
    """
    names = list(files)
    reference = files[names[0]]
    rows = {names[0]: np.arange(len(reference))}
    for name in names[1:]:
        file = files[name]
        if len(file) != len(reference):
            raise DataError(f"{len(file)} instances, but {names[0]} has {len(reference)}", file=file.info.path)
        if file.ids is None or reference.ids is None:
            rows[name] = np.arange(len(file))
        else:
            place = {key: i for i, key in enumerate(file.ids.tolist())}
            missing = [key for key in reference.ids.tolist() if key not in place]
            if missing:
                raise DataError(
                    f"{len(missing)} instances of {names[0]} are missing, {missing[0]!r} first: not the same data",
                    file=file.info.path,
                )
            rows[name] = np.array([place[key] for key in reference.ids.tolist()], dtype=np.intp)
        if not _same_outcomes(file, rows[name], reference):
            raise DataError(f"the outcomes are not those of {names[0]}: not the same data", file=file.info.path)
        if not _same_clusters(file, rows[name], reference):
            raise DataError(f"the clusters are not those of {names[0]}: not the same data", file=file.info.path)
    return rows


def _same_outcomes(file: ScoreFile, rows: IntArray, reference: ScoreFile) -> bool:
    """Whether the records of each instance are the same, in the same order, once instances are."""
    y, expected = file.outcomes, reference.outcomes
    if len(y) != len(expected):
        return False
    new_place = np.argsort(rows)
    ours, theirs = np.argsort(new_place[y.instance], kind="stable"), np.argsort(expected.instance, kind="stable")
    if not np.array_equal(new_place[y.instance][ours], expected.instance[theirs]):
        return False
    a, b = y.ranks.take(ours), expected.ranks.take(theirs)
    return np.array_equal(a.offsets, b.offsets) and np.array_equal(a.values, b.values, equal_nan=True)


def _same_clusters(file: ScoreFile, rows: IntArray, reference: ScoreFile) -> bool:
    """Whether the same instances belong together, whatever the clusters are called."""
    if file.clusters is None or reference.clusters is None:
        return file.clusters is None and reference.clusters is None
    pairs = np.unique(np.column_stack([file.clusters[rows], reference.clusters]), axis=0)
    return len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))
