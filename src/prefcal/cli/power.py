"""``prefcal power``: how many instances an audit needs."""

from __future__ import annotations

import argparse
import dataclasses

from prefcal.audited import write_files
from prefcal.cli.audit import check_targets, distribution, read_file, say
from prefcal.cli.progress import Progress
from prefcal.data.readers.reading import model_name
from prefcal.errors import UsageError
from prefcal.planning import Plan, power


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from prefcal.report.power import render_power

    check_targets(None, options.json, inputs=[options.source] if options.source else [])
    with Progress() as progress:
        plan = _plan(options, progress)
    text = plan.to_json()
    if options.json == "-":
        say(text)
        return 0
    if options.json:
        write_files({options.json: text})
    say(render_power(plan))
    return 0


def _plan(options: argparse.Namespace, progress: Progress) -> Plan:
    settings = {
        "notion": options.notion, "temperature": options.temperature, "ece": options.ece, "bins": options.bins,
        "alpha": options.alpha, "target": options.power, "seed": options.seed, "observed": options.observed,
    }  # fmt: skip
    if options.source is None:
        if options.items == "labelled":
            settings["items"] = "labelled"
        with progress.task("simulating"):
            return power(
                options.n,
                m=4 if options.candidates is None else options.candidates,
                spread=1.0 if options.spread is None else options.spread,
                **settings,
            )
    if options.candidates is not None or options.spread is not None:
        raise UsageError("--candidates and --spread describe a made-up population: leave them out with --from")
    file = read_file(options.source, model_name(options.source), options, progress)
    h = distribution(file)
    with progress.task("simulating"):
        plan = power(
            options.n,
            forecasts=h,
            outcomes=file.outcomes if options.observed is None else None,
            items=file.info.items,  # type: ignore[arg-type]
            **settings,
        )
    notes = []
    if file.clusters is not None:
        notes.append("instances of this file depend on each other; the plan counts independent ones")
    return dataclasses.replace(plan, inputs=[file.info], warnings=notes)
