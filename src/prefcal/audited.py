"""All results of an audit: looked up, tabulated, written as JSON or a report."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

import prefcal
from prefcal.errors import UsageError
from prefcal.notions.notion import Notion
from prefcal.result import Result

if TYPE_CHECKING:
    from prefcal.data.source import InputInfo
    from prefcal.grouping import Worst


Backend = Literal["pyarrow", "pandas", "polars"]


@dataclasses.dataclass(slots=True)
class Audit:
    """Results of one or several models; ``audit["sub-2"]`` is the Result over all instances of the only model.

    ``worst`` holds what :func:`prefcal.worst_group` and :func:`prefcal.worst_conjunction` found, where they were
    asked; the JSON document then has a key ``worst``.
    """

    results: list[Result]
    inputs: list[InputInfo] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    version: str = prefcal.__version__
    worst: list[Worst] = dataclasses.field(default_factory=list)

    def __getitem__(self, notion: str) -> Result:
        models = self.models
        if len(models) > 1:
            raise UsageError(f"several models ({', '.join(models)}): use select(model=..., notion=...)")
        return self.select(notion=notion)

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order they came."""
        return list(dict.fromkeys(r.model for r in self.results))

    def select(self, *, notion: str, model: str | None = None, group: Mapping[str, Any] | None = None) -> Result:
        """The Result of a notion, model and group (None: all instances). Raises UsageError if there is none."""
        name = Notion.parse(notion).name
        for r in self.results:
            if (
                Notion.parse(r.notion).name == name
                and model in (None, r.model)
                and r.group == (group and dict(group))
            ):
                return r
        asked = {"notion": notion, "model": model, "group": group}
        have = sorted({(r.notion, r.model, str(r.group)) for r in self.results})
        raise UsageError(f"no result for {asked}; the audit holds {have}")

    def merge(self, other: Audit) -> Audit:
        """Results of both, for audits of several models."""
        return Audit(
            self.results + other.results,
            self.inputs + other.inputs,
            self.warnings + [w for w in other.warnings if w not in self.warnings],
            self.version,
            self.worst + other.worst,
        )

    def records(self) -> list[dict[str, Any]]:
        """The ``results`` of the JSON document (design 4.4): one entry for each estimator of each Result."""
        return [record for r in self.results for record in r.records()]

    def frame(self, backend: Backend = "pyarrow") -> Any:
        """The results as a table without curves, one row for each estimator."""
        rows = []
        for record in self.records():
            row = {k: v for k, v in record.items() if k not in ("curve", "settings", "interval", "group")}
            row["group"] = None if record["group"] is None else json.dumps(record["group"], default=str)
            row["low"], row["high"] = record["interval"] or (None, None)
            rows.append(row)
        return table_of(rows, backend)

    def document(self) -> dict[str, Any]:
        """The JSON document; ``created`` follows SOURCE_DATE_EPOCH where that is set."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        now = (
            datetime.datetime.now(datetime.UTC)
            if epoch is None
            else datetime.datetime.fromtimestamp(int(epoch), datetime.UTC)
        )
        return {
            "schema": 1,
            "prefcal": self.version,
            "created": now.replace(microsecond=0).isoformat(),
            "inputs": [i.record() for i in self.inputs],
            "results": self.records(),
            "warnings": self.warnings,
        } | ({"worst": [w.record() for w in self.worst]} if self.worst else {})

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The JSON document as text; written to ``path`` if one is given."""
        text = json.dumps(self.document(), indent=1, ensure_ascii=True, allow_nan=False, default=_plain) + "\n"
        if path is not None:
            write_files({os.fspath(path): text})
        return text

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the self-contained HTML report."""
        from prefcal.report.html import render_html

        write_files({os.fspath(path): render_html(self)})

    def plot(self, notion: str | None = None, *, model: str | None = None, ax: Any = None) -> Any:
        """Draw the reliability diagram of a notion (default: the first with a curve) with matplotlib."""
        from prefcal.report.plot import plot_reliability

        if notion is None:
            notion = next(r.notion for r in self.results if r.curve)
        return plot_reliability(self.select(notion=notion, model=model), ax=ax)


def table_of(rows: list[dict[str, Any]], backend: Backend) -> Any:
    """Rows as a table of ``pyarrow``, ``pandas`` or ``polars``; UsageError for another backend."""
    if backend not in get_args(Backend):
        raise UsageError.unknown("backend", backend, get_args(Backend))
    import pyarrow

    table = pyarrow.Table.from_pylist(rows)
    if backend == "pandas":
        return table.to_pandas()
    if backend == "polars":
        import polars

        return polars.from_arrow(table)
    return table


def write_files(texts: Mapping[str, str]) -> None:
    """Write all files, whole, or none: temporary ones beside them take their names when every one is complete."""
    umask = os.umask(0)
    os.umask(umask)
    ready: list[tuple[Path, Path]] = []
    try:
        for target, text in texts.items():
            path = Path(target).absolute()
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            ready.append((Path(name), path))
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(name).chmod(0o666 & ~umask)
        for temporary, path in ready:
            temporary.replace(path)
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
