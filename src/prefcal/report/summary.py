"""The one structure that every renderer prints: terminal and page show the same content from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prefcal.report.contract import AuditLike, InputLike
from prefcal.report.definitions import definitions
from prefcal.report.findings import Finding, findings_of
from prefcal.report.lattice import Implies, Picture, pictures
from prefcal.report.wording import clean, clean_result, count, listing
from prefcal.report.worst import WorstTable, worst_tables
from prefcal.result import Result


@dataclass(frozen=True, slots=True)
class Table:
    """Results on one scale: all models in one notion, the smallest error first, or all notions of one model.

    ``head`` says what the rows are (``model`` or ``notion``), ``labels`` names them.
    """

    title: str
    head: str
    labels: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def rows(self) -> tuple[tuple[str, Result], ...]:
        """(label, result) of each row."""
        return tuple(zip(self.labels, self.results, strict=True))


@dataclass(frozen=True, slots=True)
class GroupTable:
    """One model in one notion over the groups of a field, the largest error first."""

    model: str
    notion: str
    field: str
    results: tuple[Result, ...]

    @property
    def n_miscalibrated(self) -> int:
        """How many groups are shown to be miscalibrated."""
        return sum(r.verdict == "miscalibrated" for r in self.results)


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """How many instances a notion could use, and why not the others."""

    model: str
    notion: str
    used: int
    total: int
    left_out: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class InputRow:
    """One audited input as text."""

    model: str
    path: str
    sha256: str
    format: str
    outcome: str
    items: str
    n_instances: int
    n_items: str
    n_skipped: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything a report says, in reading order; all strings are printable plain text."""

    title: str
    subtitle: str
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    groups: tuple[GroupTable, ...]
    coverage: tuple[CoverageRow, ...]
    warnings: tuple[str, ...]
    inputs: tuple[InputRow, ...]
    definitions: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    version: str
    worst: tuple[WorstTable, ...] = ()


def summarize(audit: AuditLike, *, implies: Implies | None = None) -> Summary:
    """Order what an audit found for reading.

    Parameters
    ----------
    audit
        Anything with ``results``, ``inputs``, ``warnings`` and ``version`` (and ``worst``, where a search was made).
    implies
        Whether one notion (by name) implies another for every number of items; default the rule of
        :mod:`prefcal.notions`.
    """
    results = tuple(clean_result(r) for r in audit.results)
    inputs = tuple(input_row(i) for i in audit.inputs)
    overall = tuple(r for r in results if r.group is None)
    models = tuple(dict.fromkeys(r.model for r in results))
    most_items = {clean(i.model): int(i.n_items[1]) for i in audit.inputs}
    return Summary(
        title=_title(models),
        subtitle=_subtitle(results, inputs),
        models=models,
        findings=tuple(findings_of(results)),
        pictures=pictures(overall, most_items, implies),
        tables=_tables(overall, len(models)),
        groups=_group_tables(results),
        coverage=tuple(_coverage(r) for r in overall if r.coverage),
        warnings=tuple(dict.fromkeys(clean(w) for w in audit.warnings)),
        inputs=inputs,
        definitions=definitions(results),
        settings=_common_settings(results),
        version=clean(audit.version),
        worst=worst_tables(getattr(audit, "worst", ())),
    )


def _title(models: tuple[str, ...]) -> str:
    if len(models) == 1:
        return f"How honest is {models[0]}?"
    return f"How honest are these {len(models)} models?" if models else "Nothing was audited"


def _subtitle(results: tuple[Result, ...], inputs: tuple[InputRow, ...]) -> str:
    notions = list(dict.fromkeys(r.notion for r in results))
    sizes = sorted(
        {i.n_instances for i in inputs} or {sum(r.coverage.values()) or r.n_instances for r in results if not r.group}
    )
    parts = []
    if sizes:
        most = count(sizes[-1], "instance")
        parts.append(most if len(sizes) == 1 else f"{count(sizes[0])} to {most}")
    if notions:
        parts.append(f"audited in {listing(notions, 6)}")
    return ", ".join(parts)


def _key(r: Result) -> float:
    return r.debiased if r.debiased == r.debiased else float("inf")


def _tables(overall: tuple[Result, ...], n_models: int) -> tuple[Table, ...]:
    tables: dict[tuple[str, ...], list[Result]] = {}
    if n_models == 1:
        for r in overall:
            tables.setdefault((r.estimator,), []).append(r)
        title = {"ece": "Notions of single events", "skce": "Notions of several outcomes at once"}
        return tuple(
            Table(
                title.get(name, name) if len(tables) > 1 else "", "notion", tuple(r.notion for r in rows), tuple(rows)
            )
            for (name,), rows in tables.items()
        )
    for r in overall:
        tables.setdefault((r.notion, r.items), []).append(r)
    both = {notion for notion, items in tables if items == "labelled"} & {
        n for n, items in tables if items != "labelled"
    }
    return tuple(
        Table(
            f"{notion} ({items} items)" if notion in both else notion,
            "model",
            tuple(r.model for r in sorted(rows, key=_key)),
            tuple(sorted(rows, key=_key)),
        )
        for (notion, items), rows in tables.items()
    )


def _group_tables(results: Iterable[Result]) -> tuple[GroupTable, ...]:
    tables: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        if r.group:
            tables.setdefault((r.model, r.notion, " and ".join(r.group)), []).append(r)
    return tuple(
        GroupTable(model, notion, field, tuple(sorted(rows, key=lambda r: -_key(r) if _key(r) < 1e300 else 1e300)))
        for (model, notion, field), rows in tables.items()
    )


def _coverage(r: Result) -> CoverageRow:
    left_out = tuple((k, v) for k, v in r.coverage.items() if k != "used" and v)
    return CoverageRow(r.model, r.notion, r.coverage.get("used", 0), sum(r.coverage.values()), left_out)


def input_row(i: InputLike) -> InputRow:
    """One input as text."""
    low, high = i.n_items
    settings = getattr(i, "settings", None) or {}
    return InputRow(
        model=clean(i.model),
        path=clean(i.path),
        sha256=clean(i.sha256),
        format=clean(i.format),
        outcome=clean(i.outcome),
        items=clean(i.items),
        n_instances=i.n_instances,
        n_items=f"{low}" if low == high else f"{low} to {high}",
        n_skipped=i.n_skipped,
        skipped=tuple(clean(s) for s in i.skipped),
        notes=tuple(clean(s) for s in i.notes),
        settings=tuple((clean(k), clean(v)) for k, v in settings.items()),
    )


def _common_settings(results: tuple[Result, ...]) -> tuple[tuple[str, str], ...]:
    """Each setting with the values that occur, so that numbers can be made again."""
    seen: dict[str, dict[str, None]] = {}
    for r in results:
        for key, value in r.settings.items():
            if not isinstance(value, dict | list) and value is not None:
                seen.setdefault(clean(key), {})[_setting(value)] = None
    return tuple((key, listing(list(v), 4) if len(v) <= 4 else "varies, see the JSON") for key, v in seen.items())


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else clean(value)
