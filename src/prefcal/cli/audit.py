"""``prefcal audit``: read score files, audit each model, show, write, gate."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefcal.audited import Audit, write_files
from prefcal.auditing import audit
from prefcal.cli.gates import Gate
from prefcal.cli.progress import Progress
from prefcal.data.readers import FORMATS, read
from prefcal.data.readers.reading import model_name
from prefcal.data.roles import ROLES
from prefcal.data.source import ScoreFile
from prefcal.distributions.base import Distribution
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.distributions.stated import from_stated
from prefcal.errors import DataError, UsageError
from prefcal.estimators.derived import NAMES, derived_values, levels_of
from prefcal.grouping import Worst, worst_conjunction, worst_group
from prefcal.notions.notion import Notion

_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".gz")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    models = named_files(options, [options.notion, options.group, options.worst, options.fail_if])
    gates = [Gate.parse(text) for text in options.fail_if]
    for notion in options.notion:
        Notion.parse(notion)
    check_targets(options.report, options.json, inputs=[path for _, path in models])
    total = Audit([])
    with Progress() as progress:
        for name, path in models:
            total = total.merge(audit_file(path, name, options, progress))
    failed = [message for gate in gates for message in gate.failures(total)]
    texts = {}
    if options.report:
        from prefcal.report.html import render_html

        texts[options.report] = render_html(total)
    if options.json and options.json != "-":
        texts[options.json] = total.to_json()
    write_files(texts)
    if options.json == "-":
        say(total.to_json())
    elif not options.quiet:
        show(total)
    for target in texts:
        print(f"wrote {target}", file=sys.stderr)
    for message in failed:
        print(f"gate failed: {message}", file=sys.stderr)
    return 1 if failed else 0


def audit_file(path: str, name: str, options: argparse.Namespace, progress: Progress) -> Audit:
    """Read one file and audit its model."""
    file = read_file(path, name, options, progress)
    groups = {field: group_values(file, field) for field in options.group}
    searched = {field: group_values(file, field) for field in options.worst}
    with progress.task(f"auditing {name}"):
        result = audit_scores(
            file,
            notions=options.notion,
            groups=groups,
            adjust=options.adjust,
            weights="instance" if options.weights == "instance" else None,
            bins=options.bins,
            seed=options.seed,
            tolerance=options.tolerance,
            draws=options.draws,
        )
    if searched:
        with progress.task(f"searching the worst group of {name}"):
            result.worst += _searches(file, result, searched, options)
    return result


def _searches(file: ScoreFile, result: Audit, fields: dict[str, Any], options: argparse.Namespace) -> list[Worst]:
    """The worst group, and with two fields the worst conjunction, in every scalar notion of an audit."""
    h = distribution(file)
    found = []
    for notion in dict.fromkeys(r.notion for r in result.results if r.estimator == "ece"):
        for search in (worst_group, worst_conjunction)[: len(fields)]:
            try:
                found.append(
                    search(
                        h,
                        file.outcomes,
                        fields,
                        notion=notion,
                        items=file.info.items,  # type: ignore[arg-type]
                        weights="instance" if options.weights == "instance" else None,
                        clusters=file.clusters,
                        bins=options.bins,
                        adjust=options.adjust,
                        seed=options.seed,
                        model=file.info.model,
                    )
                )
            except DataError as error:
                result.warnings.append(f"{file.info.model}: {error}")
    return found


def read_file(path: str, name: str, options: argparse.Namespace, progress: Progress, **more: Any) -> ScoreFile:
    """Read a score file as the reading options say; ``more`` goes to :func:`prefcal.read`."""
    if options.format is not None and options.format not in FORMATS:
        raise UsageError.unknown("format", options.format, FORMATS)
    columns = {role: value for role in ROLES if (value := getattr(options, role)) is not None}
    with progress.task(f"reading {path}") as advance:
        return read(
            path,
            format=options.format,
            columns=columns,
            aggregate=options.aggregate,
            on_error=options.on_error,
            model=name,
            ties=options.ties,
            items=options.items,
            max_candidates=options.max_candidates,
            progress=advance,
            **more,
        )


def distribution(file: ScoreFile) -> Distribution:
    """The forecasts of a score file."""
    if file.scores is not None:
        return PlackettLuce(file.scores)
    assert file.pair_probs is not None
    return from_stated(file.pair_probs, file.best_probs, file.sizes)


def audit_scores(
    file: ScoreFile, *, notions: list[str], groups: dict[str, Any] | None = None, **settings: Any
) -> Audit:
    """Audit what a reader returned; without ``notions`` those of the default that can be judged."""
    warnings = [f"{file.info.model}: {note}" for note in file.info.notes]
    if file.info.n_skipped:
        warnings.append(f"{file.info.model}: {file.info.n_skipped} records were skipped ({file.info.path})")
    result = audit(
        distribution(file),
        file.outcomes,
        notions=notions or None,
        items=file.info.items,  # type: ignore[arg-type]
        groups=groups,
        clusters=file.clusters,
        model=file.info.model,
        **settings,
    )
    return Audit(result.results, [file.info], warnings + result.warnings)


def group_values(file: ScoreFile, field: str) -> Any:
    """Values of a grouping field, or of a derived group (``@spread``); many numbers are cut at their quartiles.

    Raises UsageError for a field that the file does not have, or with too many values.
    """
    try:
        if field in file.fields:
            return levels_of(file.fields[field], field)
        if field in NAMES:
            return derived_values(field, distribution(file), file.fields)
    except UsageError as error:
        raise UsageError(f"{file.info.path}: {error}") from None
    raise UsageError(
        f"{file.info.path}: no field {field!r} to group by; it has: {', '.join(sorted(file.fields)) or 'none'}; "
        f"derived from the forecasts: {', '.join(NAMES)}"
    )


def show(result: Audit) -> None:
    """Print the summary; colour obeys NO_COLOR and whether stdout is a terminal."""
    from rich.console import Console

    from prefcal.report.terminal import render_terminal

    console = Console(file=sys.stdout, no_color="NO_COLOR" in os.environ or None, highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=100, color_system=None, highlight=False)
    with console.capture() as captured:
        render_terminal(result, console)
    say(captured.get())


def say(text: str) -> None:
    """Write to stdout; a reader that went away (``| head``) is no error and must not hide a failed gate."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def named_files(options: argparse.Namespace, lists: list[list[str]]) -> list[tuple[str, str]]:
    """(name, path) of every model (:func:`_named`), in the order given; paths that ``lists`` swallowed go back."""
    paths = list(options.paths)
    for values in lists:
        paths += [v for v in values if _is_path(v)]
        values[:] = [v for v in values if not _is_path(v)]
    paths += [v for v in options.model if "=" not in v]
    options.model[:] = [v for v in options.model if "=" in v]
    models = [_named(p) for p in paths]
    for pair in options.model:
        name, _, path = pair.partition("=")
        if not name or not path:
            raise UsageError(f"--model takes NAME=PATH, got {pair!r}")
        models.append((name, path))
    if not models:
        raise UsageError(f"no score file: prefcal {options.command} PATH... (or --model NAME=PATH)")
    names = [name for name, _ in models]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError(
            f"several files would be model {twice[0]!r}: {', '.join(p for n, p in models if n == twice[0])}; "
            "name them with --model NAME=PATH"
        )
    return models


def _named(text: str) -> tuple[str, str]:
    """(name, path) of ``PATH`` or ``NAME=PATH``; a file whose own name holds a ``=`` is a path."""
    name, _, path = text.partition("=")
    if name and path and os.sep not in name and not Path(text).exists():
        return name, path
    return model_name(text), text


def _is_path(text: str) -> bool:
    """Whether a value of a list option is really a score file: no notion, field or gate looks like one."""
    return os.sep in text or Path(text).suffix in _SUFFIXES


def check_targets(
    report: str | None, document: str | None, *, inputs: Iterable[str] = (), **others: str | None
) -> None:
    """Fail before the work, not after it, when an output cannot be written, or would replace another or an input.

    ``document`` may be ``-`` (standard output); ``others`` are further outputs by option, ``inputs`` the files read.
    """
    read = {Path(path).resolve() for path in inputs}
    taken: dict[Path, str] = {}
    for option, target in {"report": report, "json": None if document == "-" else document, **others}.items():
        check_target(target)
        if target is None:
            continue
        path = Path(target).resolve()
        if path in taken:
            raise UsageError(f"--{taken[path]} and --{option} both name {target}")
        if path in read:
            raise UsageError(f"--{option} names {target}, which is also read: give another name, or it would be lost")
        taken[path] = option


def check_target(target: str | None) -> None:
    """Fail before the work, not after it, when an output cannot be written."""
    if target is None:
        return
    if target in ("", "-"):
        raise UsageError(f"cannot write the report to {target!r}: give the name of a file (only --json can be -)")
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"cannot write {target}: it is a directory")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {target}: there is no directory {path.parent}")
