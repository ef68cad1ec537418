"""``prefcal compare``: several models on the same instances."""

from __future__ import annotations

import argparse
import io
import json

import numpy as np

from prefcal.audited import write_files
from prefcal.auditing import DEFAULT_NOTIONS
from prefcal.cli.audit import check_targets, distribution, named_files, read_file, say
from prefcal.cli.progress import Progress
from prefcal.comparing import Comparison, compare
from prefcal.data.source import ScoreFile
from prefcal.errors import DataError, UsageError

_SHOWN = 10  # pairs of models whose differences are printed; all are in the JSON


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    models = named_files(options, [options.notion])
    if len(models) < 2:
        raise UsageError("a comparison needs at least two score files: prefcal compare A B ...")
    check_targets(None, options.json)
    with Progress() as progress:
        files = {name: read_file(path, name, options, progress) for name, path in models}
        rows = same_instances(files)
        first = next(iter(files.values()))
        forecasts = {name: distribution(file)[rows[name]] for name, file in files.items()}
        notions = options.notion or [n for n in DEFAULT_NOTIONS if n == "sub-2" or first.pair_probs is None]
        with progress.task("comparing"):
            found = compare(
                forecasts,
                first.outcomes[rows[next(iter(files))]],
                notions=notions,
                items=first.info.items,  # type: ignore[arg-type]
                weights="instance" if options.weights == "instance" else None,
                bins=options.bins,
                seed=options.seed,
            )
    text = json.dumps(found.document(), indent=1) + "\n"
    if options.json == "-":
        say(text)
        return 0
    if options.json:
        write_files({options.json: text})
    say(render(found))
    return 0


def same_instances(files: dict[str, ScoreFile]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Rows of each file so that row i is the same instance in all: by id, or by place where files have none.

    Raises DataError when the instances, their candidates or their outcomes differ.
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
        ours, theirs = file.outcomes[rows[name]].ranks, reference.outcomes.ranks
        if not np.array_equal(ours.offsets, theirs.offsets) or not np.array_equal(ours.values, theirs.values, True):
            raise DataError(f"the outcomes are not those of {names[0]}: not the same data", file=file.info.path)
    return rows


def _interval(interval: tuple[float, float]) -> str:
    return f"\\[{interval[0]:.4f}, {interval[1]:.4f}]"


def render(found: Comparison) -> str:
    """The tables of a comparison as text."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(file=io.StringIO(), width=110, color_system=None, highlight=False)
    for notion, n in found.n_instances.items():
        console.print(f"\n{notion}: {n} instances that count for every model")
        for estimator in dict.fromkeys(s.estimator for s in found.standings):
            table = Table(title=estimator, title_justify="left", box=None, pad_edge=False)
            for heading in ("model", "value", "95 % interval", "rank"):
                table.add_column(heading, justify="left" if heading == "model" else "right")
            for s in found.standings:
                if (s.notion, s.estimator) == (notion, estimator):
                    low, high = s.ranks
                    ranks = str(low) if low == high else f"{low} to {high}"
                    table.add_row(escape(s.model), f"{s.value:.4f}", _interval(s.interval), ranks)
            console.print(table)
            pairs = [d for d in found.differences if (d.notion, d.estimator) == (notion, estimator)]
            different = sum(d.p_adjusted <= 0.05 for d in pairs)
            console.print(f"{different} of {len(pairs)} pairs differ at 5 % (Holm)")
            if len(pairs) <= _SHOWN:
                for d in pairs:
                    names = f"{escape(d.first)} - {escape(d.second)}"
                    console.print(f"  {names}: {d.difference:+.4f} {_interval(d.interval)}, p = {d.p_adjusted:.2g}")
            console.print()
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()
