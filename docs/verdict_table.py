"""The tables of verdicts in docs/estimators.md, from what ``prefcal audit`` and ``prefcal recalibrate`` wrote.

``python docs/verdict_table.py verdicts.json mended-A.json ...`` puts them into the page, between its marks;
the page says how the files are made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefcal.studies.reward_models.sources import MODELS

PAGE = Path(__file__).with_name("estimators.md")
Records = Iterable[Mapping[str, Any]]


def by_estimator(records: Records) -> Iterator[tuple[str, str, dict[str, Mapping[str, Any]]]]:
    """Model, notion, and what each estimator found over all instances."""
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for r in records:
        if not r["group"]:
            found.setdefault((r["model"], r["notion"]), {})[r["estimator"]] = r
    for (model, notion), estimates in found.items():
        yield model, notion, estimates


def public_name(model: str) -> str:
    """The public name of a file of RewardMATH or of RewardBench 2 (``owner__name``)."""
    stem = model.removesuffix(" (raw)").removesuffix(" (recalibrated)").removesuffix("_reward")
    return MODELS.get(stem, stem.split("__")[-1])


def number(x: float | None, digits: int = 3) -> str:
    """Fixed digits for what lies in [-1, 1], three significant ones for temperatures; None is infinite."""
    if x is None:
        return "∞"
    if digits:
        return f"{round(x, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before zero
    return f"{x:#.2g}" if x < 10 else f"{x:.0f}"


def interval(r: Mapping[str, Any], digits: int = 3) -> str:
    """[low, high]; empty where both ends are infinite or there is none."""
    low, high = r["interval"] or (None, None)
    return "" if low is None and high is None else f" [{number(low, digits)}, {number(high, digits)}]"


def detectable(e: Mapping[str, Mapping[str, Any]]) -> str:
    """The temperatures below and above 1 that would have been seen; a dash where none would."""
    sides = (e[f"detectable_temperature_{side}"]["value"] for side in ("below", "above"))
    below, above = sides
    return f"{number(below, 0) if below else '–'}, {'–' if above is None else number(above, 0)}"


def verdicts(records: Records) -> Iterator[str]:
    """One row for each model and notion."""
    yield "| model | notion | debiased, 95 % interval | p | verdict | temperature | detectable |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for model, notion, e in by_estimator(records):
        r, t = e["ece"], e["temperature"]
        columns = (
            public_name(model), notion, number(r["debiased"]) + interval(r), f"{r['p_value']:.2g}", r["verdict"],
            number(t["value"], 0) + interval(t, 0), detectable(e),
        )  # fmt: skip
        yield f"| {' | '.join(columns)} |"


def mended(documents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Rows before and after one temperature: error, and what the forecasts know."""
    yield "| model | notion | temperature | says | happens | debiased, 95 % interval | verdict | DSC, interval |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for document in documents:
        for when in ("before", "after"):
            for model, notion, e in by_estimator(document[when]):
                r = e["ece"]
                knows = e["dsc_brier"]
                columns = (
                    public_name(model), notion, when, number(e["mean_forecast"]["value"]),
                    number(e["accuracy"]["value"]), number(r["debiased"]) + interval(r), r["verdict"],
                    number(knows["value"], 4) + interval(knows, 4),
                )  # fmt: skip
                yield f"| {' | '.join(columns)} |"


def put(page: str, name: str, rows: Iterable[str]) -> str:
    """The page with the rows of a table between its marks."""
    before, mark, rest = page.partition(f"<!-- table: {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not (mark and end):
        raise SystemExit(f"the page has no place for the table {name!r}")
    return before + mark + "".join(f"{row}\n" for row in rows) + end + after


def main(audited: str, *recalibrated: str) -> None:
    """Read the JSON files, write the page."""
    first, *others = (json.loads(Path(path).read_text(encoding="utf-8")) for path in (audited, *recalibrated))
    page = put(PAGE.read_text(encoding="utf-8"), "verdicts", verdicts(first["results"]))
    PAGE.write_text(put(page, "mended", mended(others)) if others else page, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
