"""``prefcal study label-ranking``: run what is missing, show a table, write the report."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TextIO

from prefcal.audited import write_files
from prefcal.cli.audit import check_target
from prefcal.errors import UsageError
from prefcal.studies.label_ranking.models import NEURAL, PAPER_MODELS
from prefcal.studies.label_ranking.neural import load_torch
from prefcal.studies.label_ranking.protocol import DEFAULT_NOTIONS, Job, ProtocolName, Settings
from prefcal.studies.label_ranking.run import Progress, plan
from prefcal.studies.label_ranking.run import run as run_jobs
from prefcal.studies.label_ranking.sets import PAPER_SETS, short_name
from prefcal.studies.label_ranking.store import Store
from prefcal.studies.label_ranking.summary import PUBLISHED_SETS, Cell, summarize

_PLAIN_EVERY = 10.0


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    check_target(options.report)
    settings = Settings(
        folds=options.folds,
        seed=options.seed,
        notions=tuple(options.notions or DEFAULT_NOTIONS),
        bins=options.bins,
        draws=options.draws,
        budget=options.budget,
        kernel=options.kernel,
    )
    models = options.models or list(PAPER_MODELS)
    if any(model in NEURAL for model in models):
        others = [name for name in PAPER_MODELS if name not in NEURAL]
        load_torch(f"models pl and rc (without it: --models {' '.join(others)})")
    jobs = planned(options, models, settings)
    if options.jobs < 0:
        raise UsageError(f"--jobs must be at least 1, got {options.jobs}")
    processes = options.jobs or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0]) or 1
    store = Store(options.resume, settings)
    reporter = Reporter(sys.stderr)
    end = run_jobs(store, jobs, processes=processes, listener=reporter)
    reporter.close(end)
    store.compact()
    rows = store.rows()
    print(table(summarize(rows)))
    print(f"\nresults: {store.folder}")
    if options.report:
        from prefcal.studies.label_ranking.report import render

        write_files({options.report: render(rows, settings)})
        print(f"report: {options.report}")
    return 0


def planned(options: argparse.Namespace, models: list[str], settings: Settings) -> list[Job]:
    """Jobs of the protocols that were asked for."""
    if options.ablate and options.protocol == "exact":
        raise UsageError(
            "--ablate switches the effects of the published protocol off: add --protocol published or both"
        )
    protocols: tuple[ProtocolName, ...] = (
        ("published", "exact") if options.protocol == "both" else (options.protocol,)
    )
    jobs = []
    for protocol in protocols:
        # No values were published for pendigits and letter, and the truncated forecasts of letter are slow.
        default = PUBLISHED_SETS if protocol == "published" else PAPER_SETS
        names = [short_name(name) for name in options.datasets or default]
        jobs += plan(protocol, names, models, settings, ablate=options.ablate)
    return jobs


class Reporter:
    """Shows finished fits and an estimate of the time that is left."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.terminal = stream, stream.isatty()
        self.shown = -_PLAIN_EVERY
        self.drawn = False

    def __call__(self, progress: Progress) -> None:
        """Show where the run is."""
        now = time.monotonic()
        if not self.terminal and now - self.shown < _PLAIN_EVERY and progress.done < progress.total:
            return
        self.shown = now
        left = "" if progress.remaining is None else f", about {duration(progress.remaining)} left"
        job = progress.last
        last = "" if job is None else f" ({job.protocol} {job.dataset} {job.model} fold {job.fold})"
        text = f"{progress.done} of {progress.total} fits in {duration(progress.elapsed)}{left}{last}"
        if self.terminal:
            self.stream.write(f"\r\x1b[2K{text[:100]}")
            self.stream.flush()
            self.drawn = True
        else:
            print(text, file=self.stream, flush=True)

    def close(self, progress: Progress) -> None:
        """Say what was done."""
        if self.drawn:
            self.stream.write("\r\x1b[2K")
        kept = f", {progress.kept} were stored already" if progress.kept else ""
        print(f"{progress.done} fits done in {duration(progress.elapsed)}{kept}", file=self.stream)


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Examples
    --------
    >>> duration(4.2), duration(75), duration(7260)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(cells: list[Cell]) -> str:
    """Sub-2 and top-1 errors as plain text: value, null level and p."""
    shown = [c for c in cells if c.estimator == "rankwise_ece" and c.notion in ("sub-2", "top-1") and c.is_main]
    if not shown:
        return "no results of sub-2 or top-1"
    head = ("set", "model", "protocol", "notion", "error", "null", "debiased", "95 % interval", "p")
    lines: list[tuple[str, ...]] = [head]
    for c in shown:
        interval = "" if c.high != c.high else f"{c.low:.3f} - {c.high:.3f}"
        numbers = [("" if v != v else f"{v:.3f}") for v in (c.value, c.null_mean, c.debiased)]
        p = "" if c.p_value != c.p_value else f"{c.p_value:.3f}"
        lines.append((c.dataset, c.model, c.protocol, c.notion, *numbers, interval, p))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )
