"""The report as one self-contained page: no network, no script, the same bytes for the same audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefcal.report.contract import AuditLike
from prefcal.report.findings import group_name
from prefcal.report.lattice import Implies
from prefcal.report.lattice_svg import STATES, lattice_svg, state_text
from prefcal.report.summary import Summary, summarize
from prefcal.report.svg import Scale, axis_cell, icon, interval_cell, reliability
from prefcal.report.wording import (
    VERDICTS,
    count,
    decimal,
    decimal_range,
    metric,
    metric_text,
    p_clause,
    p_value,
    percent,
)
from prefcal.report.worst import forest_cell, scale_of_groups

# Up to here things stand open on the page; more of them fold.
OPEN_FINDINGS, OPEN_PICTURES, OPEN_DIAGRAMS, OPEN_GROUP_TABLES = 6, 6, 6, 3
OPEN_SEARCHES = 4


def render_html(audit: AuditLike, *, implies: Implies | None = None) -> str:
    """Render the report of an audit.

    Parameters
    ----------
    audit
        Anything with ``results``, ``inputs``, ``warnings`` and ``version`` (an ``Audit``).
    implies
        Whether one notion implies another, by name, for every number of items; default the rule of
        :mod:`prefcal.notions`.

    Returns
    -------
    One HTML page. It loads nothing and has no script; every text from the data is escaped.
    """
    page: str = environment().get_template("page.html.j2").render(page_context(summarize(audit, implies=implies)))
    return page


def page_context(summary: Summary) -> dict[str, Any]:
    """What the templates see."""
    return {
        "s": summary,
        "verdicts": VERDICTS,
        "states": STATES,
        "limits": {
            "findings": OPEN_FINDINGS,
            "pictures": OPEN_PICTURES,
            "diagrams": OPEN_DIAGRAMS,
            "groups": OPEN_GROUP_TABLES,
            "worst": OPEN_SEARCHES,
        },
        "estimators": {"ece": "ECE", "skce": "SKCE"},
    }


def environment(*folders: Path) -> Any:
    """The jinja2 environment of all pages: autoescape everywhere, undefined names are errors.

    ``folders`` hold a page's own templates and come before the shared ones.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": count,
        "decimal": decimal,
        "range": decimal_range,
        "p": p_value,
        "p_clause": p_clause,
        "percent": percent,
        "group_name": group_name,
    }
    environment.globals |= {
        "axis_cell": axis_cell,
        "forest_cell": forest_cell,
        "icon": icon,
        "interval_cell": interval_cell,
        "lattice_svg": lattice_svg,
        "metric": metric,
        "metric_text": metric_text,
        "reliability": reliability,
        "scale_of": Scale.of,
        "scale_of_groups": scale_of_groups,
        "state_text": state_text,
    }
    return environment
