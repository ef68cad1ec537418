"""``prefcal recalibrate``: fit a map on a score file, measure it out of sample, save it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from prefcal.audited import write_files
from prefcal.cli.audit import check_targets, distribution, named_files, read_file, say
from prefcal.cli.progress import Progress
from prefcal.data.source import ScoreFile
from prefcal.errors import UsageError
from prefcal.mending import mend
from prefcal.notions.notion import Notion

MAX_LEVELS = 100  # more are numbers, or ids


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    models = named_files(options, [options.notion, options.feature, options.item_feature])
    if len(models) != 1:
        raise UsageError(f"one score file at a time: a map belongs to one model, got {len(models)} files")
    ((name, path),) = models
    check_targets(options.report, options.json, save=options.save, inputs=[path])
    for notion in options.notion:
        Notion.parse(notion)
    from prefcal.recalibration import METHODS

    if options.method not in METHODS:
        raise UsageError.unknown("method", options.method, METHODS)
    with Progress() as progress:
        file = read_file(path, name, options, progress, item_columns=options.item_feature)
        with progress.task(f"recalibrating {name}"):
            found = mend(
                distribution(file),
                file.outcomes,
                options.method,
                notions=options.notion or None,
                items=file.info.items,  # type: ignore[arg-type]
                **context(file, options.feature, options.item_feature, options.group),
                weights="instance" if options.weights == "instance" else None,
                clusters=file.clusters,
                folds=options.folds,
                bins=options.bins,
                seed=options.seed,
                tolerance=options.tolerance,
                model=name,
                inputs=[file.info],
            )
    texts = {}
    if options.save:
        texts[options.save] = json.dumps(found.fitted_map.document(), indent=1, allow_nan=False) + "\n"
    if options.report:
        from prefcal.report.mending import render_mending

        texts[options.report] = render_mending(found)
    if options.json and options.json != "-":
        texts[options.json] = found.to_json()
    write_files(texts)
    if options.json == "-":
        say(found.to_json())
    elif not options.quiet:
        from prefcal.report.mending import terminal_mending

        say(terminal_mending(found))
    for target in texts:
        print(f"wrote {target}", file=sys.stderr)
    return 0


def context(file: ScoreFile, features: list[str], item_features: list[str], group: str | None) -> dict[str, Any]:
    """What a map may use besides the forecasts, from the fields of a file.

    Raises UsageError for a field that the file does not have or that is not numbers.
    """
    numbers = {}
    for field in features:
        if field not in file.fields:
            have = ", ".join(sorted(file.fields)) or "none"
            raise UsageError(f"{file.info.path}: no field {field!r} for a feature; it has: {have}")
        values = file.fields[field]
        if values.dtype.kind not in "iuf":
            raise UsageError(f"{file.info.path}: field {field!r} holds text, a feature must be a number")
        numbers[field] = values.astype(np.float64)
    return {
        "features": numbers or None,
        "item_features": {field: file.item_fields[field] for field in item_features} or None,
        "groups": None if group is None else _names(file, group),
    }


def _names(file: ScoreFile, field: str) -> Any:
    """Group names as they stand in the file: cuts at quantiles would differ from file to file."""
    if field not in file.fields:
        have = ", ".join(sorted(file.fields)) or "none"
        raise UsageError(f"{file.info.path}: no field {field!r} to group by; it has: {have}")
    values = file.fields[field]
    levels = len(set(values.tolist()))
    if levels > MAX_LEVELS:
        raise UsageError(f"{file.info.path}: {field!r} has {levels} distinct values; at most {MAX_LEVELS} are groups")
    return values
