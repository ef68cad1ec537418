"""The theory, checked: theorems as instances of the rule, exact counterexamples, and the whole lattice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from prefcal.notions.lattice import Lattice, lattice
from prefcal.notions.notion import GIVENS, Notion, all_views
from prefcal.notions.population import paper_table
from prefcal.views import View

#: Largest absolute gap in the paper's populations (Thies et al. 2026, Tables 1 and 3; 2 is like its Table 2).
PAPER_VALUES: dict[int, dict[str, Fraction]] = {
    1: {
        "sub-2:canonical": Fraction(0),
        "top-1:canonical": Fraction(1, 6),
        "full:rankwise": Fraction(1, 6),
        "full:canonical": Fraction(1, 6),
    },
    2: {
        "full:rankwise": Fraction(0),
        "sub-2:canonical": Fraction(1, 6),
        "top-1:canonical": Fraction(1, 6),
        "full:canonical": Fraction(1, 6),
    },
    3: {
        "top-1:canonical": Fraction(0),
        "sub-2:canonical": Fraction(1, 6),
        "full:rankwise": Fraction(1, 6),
        "full:canonical": Fraction(1, 6),
    },
}
SYMBOLS = {"proved": "P", "refuted": "x", "open": "?"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, whether it is right, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class TableValue:
    """A violation in one of the paper's populations: stated and found largest gap, and the mean gap."""

    table: int
    notion: str
    stated: Fraction
    largest: Fraction
    mean: Fraction


@dataclass(frozen=True, slots=True)
class TheoryReport:
    """What :func:`check_theory` found."""

    checks: tuple[Check, ...]
    lattices: tuple[Lattice, ...]
    tables: tuple[TableValue, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is right. Open pairs are no failure: they are listed, not guessed."""
        return all(check.ok for check in self.checks)


def check_theory(ms: Sequence[int] = (3, 4)) -> TheoryReport:
    """Check tables, theorems, non-implications and every stored witness, exactly.

    Parameters
    ----------
    ms
        Numbers of items, each 2 to 5. About a second for 3 and 4 together.
    """
    tables = tuple(_table_values())
    checks = []
    for number in PAPER_VALUES:
        wrong = [
            f"{t.notion} is {t.largest}, stated {t.stated}" for t in tables if t.table == number and not _right(t)
        ]
        found = ", ".join(f"{t.notion} {t.largest}" for t in tables if t.table == number)
        checks.append(Check(f"Table {number}, exact values", not wrong, "; ".join(wrong) or found))
    lattices = tuple(lattice(m) for m in ms)
    for relations in lattices:
        checks += _theorems(relations)
        checks += _non_implications(relations)
        checks += _soundness(relations)
    return TheoryReport(tuple(checks), lattices, tables)


def render(report: TheoryReport) -> str:
    """The report as plain text, at most 100 columns wide: checks, tables, one matrix for each number of items."""
    lines = ["Checks"]
    for check in report.checks:
        lines.append(f"  {'ok  ' if check.ok else 'FAIL'} {check.name}")
        if not check.ok:
            lines.append(f"       {check.detail}")
    lines += ["", "Populations of the paper (3 items): largest and mean gap between truth and forecast"]
    for t in report.tables:
        note = "" if _right(t) else f"   stated: {t.stated}"
        lines.append(f"  Table {t.table}  {t.notion:<16}  {t.largest!s:>5}  {t.mean!s:>5}{note}")
    for relations in report.lattices:
        lines += ["", *_matrix(relations)]
    failed = sum(not check.ok for check in report.checks)
    lines += ["", f"{len(report.checks)} checks, {failed} failed."]
    return "\n".join(lines) + "\n"


def _right(value: TableValue) -> bool:
    return value.largest == value.stated


def _table_values() -> Iterator[TableValue]:
    for number, stated in PAPER_VALUES.items():
        population = paper_table(number)
        for name, value in stated.items():
            violation = population.violation(name)
            yield TableValue(number, name, value, violation.largest, violation.mean)


def _theorems(relations: Lattice) -> Iterator[Check]:
    """The paper's implications, for every view of this many items."""
    m = relations.m
    views = all_views(m)
    full, canonical = "full:canonical", "canonical"
    families: dict[str, list[tuple[str, str]]] = {
        "full calibration implies every notion given the full forecast": [(full, f"{v}:full") for v in views],
        "full calibration implies every notion": [(full, f"{v}:{g}") for v in views for g in GIVENS],
        "sub-k implies sub-(k-1)": [(f"sub-{k}:{g}", f"sub-{k - 1}:{g}") for k in range(3, m + 1) for g in _CHAINED],
        "top-k implies top-(k-1)": [(f"top-{k}:{g}", f"top-{k - 1}:{g}") for k in range(2, m) for g in _CHAINED],
        "given full implies canonical": [(f"{v}:full", f"{v}:{canonical}") for v in views],
        "canonical implies rankwise": [(f"{v}:{canonical}", f"{v}:rankwise") for v in views],
        "canonical implies confidence": [(f"{v}:{canonical}", f"{v}:confidence") for v in views],
    }
    for name, pairs in families.items():
        missing = [f"{a} => {b}" for a, b in pairs if relations.relation(a, b) != "proved"]
        detail = f"{len(pairs)} instances" if not missing else "not proved: " + ", ".join(missing)
        yield Check(f"m = {m}: {name}", not missing, detail)


_CHAINED = ("canonical", "full")


def _non_implications(relations: Lattice) -> Iterator[Check]:
    """The paper's counterexamples, for every view of this many items; with 2 items there is only one view."""
    m = relations.m
    if m < 3:
        return
    # A view of two outcomes has no difference between canonical and rankwise.
    wide = [v for v in all_views(m) if v.n_outcomes(m) > 2]
    pairs_of: dict[str, list[tuple[str, str]]] = {
        "sub-2 does not imply top-1": [("sub-2", "top-1:canonical"), ("sub-2:full", "top-1:rankwise")],
        "top-1 does not imply sub-2": [("top-1:canonical", "sub-2"), ("top-1:full", "sub-2")],
        "rankwise does not imply canonical": [(f"{v}:rankwise", f"{v}:canonical") for v in wide],
        "full:rankwise implies neither sub-2 nor top-1": [("full", "sub-2"), ("full", "top-1")],
        "no coarser view implies full calibration": [
            (f"{v}:full", "full:canonical") for v in wide if v != View("full")
        ],
        "confidence does not imply rankwise": [(f"{v}:confidence", f"{v}:rankwise") for v in all_views(m)],
    }
    for name, pairs in pairs_of.items():
        missing = [f"{a} =/> {b}" for a, b in pairs if relations.relation(a, b) != "refuted"]
        detail = f"{len(pairs)} instances" if not missing else "no witness: " + ", ".join(missing)
        yield Check(f"m = {m}: {name}", not missing, detail)


def _soundness(relations: Lattice) -> Iterator[Check]:
    m = relations.m
    wrong = [f"witness {i}: {e}" for i, w in enumerate(relations.witnesses) for e in w.check()]
    count = len(relations.witnesses)
    yield Check(
        f"m = {m}: every stored witness verified in exact fractions",
        not wrong,
        "; ".join(wrong) or f"{count} witnesses",
    )
    both = [f"{a} => {b}" for a, b in relations.contradictions]
    yield Check(f"m = {m}: no witness contradicts the rule", not both, ", ".join(both) or "none")
    steps = (relations.proved.astype(int) @ relations.proved.astype(int)) > 0
    gaps = [f"{relations.notions[i]} => {relations.notions[j]}" for i, j in np.argwhere(steps & ~relations.proved)]
    yield Check(f"m = {m}: the proved relation is transitive", not gaps, ", ".join(gaps) or "closed")


def _matrix(relations: Lattice) -> list[str]:
    """Rows imply columns; columns by number, a space between views."""
    notions = relations.notions
    n = len(notions)
    pending = relations.open()
    counts = f"{int(relations.proved.sum()) - n} proved, {int(relations.refuted.sum())} refuted, {len(pending)} open"
    lines = [
        f"Lattice for {relations.m} items: {n} notions, {n * (n - 1)} ordered pairs: {counts}",
        "  Does the row imply the column?  P proved by the rule   x refuted by a witness   ? open",
    ]
    names = [f"{x.view.name}:{x.given}" for x in notions]
    width = max(map(len, names))
    groups = [[i for i in range(n) if notions[i].view == view] for view in dict.fromkeys(x.view for x in notions)]
    for digit in (10, 1):
        numbers = [f"{(i + 1) // digit % 10}" if i + 1 >= digit else " " for i in range(n)]
        lines.append(" " * (width + 6) + " ".join("".join(numbers[i] for i in group) for group in groups))
    for i, name in enumerate(names):
        cells = ["." if i == j else SYMBOLS[relations.relation(notions[i], notions[j])] for j in range(n)]
        row = " ".join("".join(cells[j] for j in group) for group in groups)
        lines.append(f"  {i + 1:>2} {name:<{width}} {row}")
    same = [" = ".join(_long(x) for x in c) for c in relations.classes if len(c) > 1]
    lines += [f"  Equivalent: {text}" for text in same]
    if pending:
        lines.append("  Open (neither proof nor witness known):")
        lines += [f"    {_long(a)} => {_long(b)}" for a, b in pending]
    else:
        lines.append("  Open: none; every ordered pair is proved or refuted.")
    return lines


def _long(notion: Notion) -> str:
    return f"{notion.view.name}:{notion.given}"
