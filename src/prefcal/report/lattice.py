"""The lattice of notions as a report shows it: what was audited, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prefcal.result import Result

Implies = Callable[[str, str], bool]
State = Literal["calibrated", "miscalibrated", "undetermined", "refuted", "unaudited"]

GIVENS = ("full", "canonical", "rankwise", "confidence")
_VIEWS = ("full", "sub-2", "top-1", "position", "topset-2")
_KINDS = ("full", "sub", "top", "position", "topset")


@dataclass(frozen=True, slots=True)
class Node:
    """One notion, or several that say the same.

    Parameters
    ----------
    name
        ``VIEW:GIVEN``; the first of ``names``.
    names
        All names in the picture of this notion.
    column, row
        Place: column of the view, row of the given from 1; full calibration, the top, has row 0.
    state
        The verdict when audited; ``refuted`` when a notion that it implies is miscalibrated.
    via
        The audited notion behind the state; "" if none.
    """

    name: str
    names: tuple[str, ...]
    column: int
    row: int
    state: State
    via: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """The lattice of one model; ``edges`` are pairs of node numbers, the stronger first, no edge superfluous."""

    model: str
    columns: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]

    @property
    def refuted(self) -> tuple[Node, ...]:
        """Nodes that were not audited but fall with one that was."""
        return tuple(n for n in self.nodes if n.state == "refuted")


def pictures(
    overall: Sequence[Result], most_items: Mapping[str, int], implies: Implies | None = None
) -> tuple[Picture, ...]:
    """One picture a model, all with the same columns.

    Parameters
    ----------
    overall
        Results over all instances (no groups).
    most_items
        Largest number of items of each model's instances; views that need three items are left out below that.
    implies
        Whether one notion implies another for every number of items; default the rule of ``prefcal.notions``.
    """
    if not overall:
        return ()
    rule = _rule if implies is None else implies
    audited_views = {full_name(r.notion).partition(":")[0] for r in overall}
    only_pairs = bool(most_items) and max(most_items.values()) <= 2
    views = audited_views | ({"full"} if only_pairs else set(_VIEWS))
    columns = tuple(sorted(views, key=_column_key))
    names = [f"{view}:{given}" for view in columns for given in GIVENS]
    above = {(a, b) for a in names for b in names if a != b and rule(a, b)}
    classes = _classes(names, above)
    edges = _covers(classes, above)
    models = dict.fromkeys(r.model for r in overall)
    return tuple(
        Picture(model, columns, _nodes(classes, columns, [r for r in overall if r.model == model], above), edges)
        for model in models
    )


def full_name(notion: str) -> str:
    """``VIEW:GIVEN`` with the default given spelt out.

    Examples
    --------
    >>> full_name("sub-2"), full_name("top-1"), full_name("top-1:confidence")
    ('sub-2:canonical', 'top-1:rankwise', 'top-1:confidence')
    """
    view, _, given = notion.partition(":")
    return f"{view}:{given or ('canonical' if view == 'sub-2' else 'rankwise')}"


def _rule(stronger: str, weaker: str) -> bool:
    """The rule of ``prefcal.notions`` at two sizes, so that nothing counts that is special to the smallest one."""
    from prefcal.notions.notion import Notion

    a, b = Notion.parse(stronger), Notion.parse(weaker)
    if _elementary(stronger, weaker):
        return True
    if max(a.view.k, b.view.k) > 4:  # the rule runs over all m! rankings and stops at six items
        return False
    sizes = (None, 5) if max(a.view.k, b.view.k) <= 2 else (None,)
    return all(a.implies(b, m=size) for size in sizes)


def _elementary(stronger: str, weaker: str) -> bool:
    """What holds for every view and size: full calibration implies all, a finer given of the same view a coarser."""
    (view, given), (other, coarser) = stronger.split(":"), weaker.split(":")
    if view == "full" and given in ("full", "canonical"):
        return True
    finer = {"full": GIVENS, "canonical": GIVENS[1:], "rankwise": ("rankwise",), "confidence": ("confidence",)}
    return view == other and coarser in finer[given]


def _column_key(view: str) -> tuple[int, int]:
    kind, _, k = view.partition("-")
    return (_KINDS.index(kind) if kind in _KINDS else len(_KINDS), -int(k or 0))


def _classes(names: list[str], above: set[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Names that imply each other say the same; ``full:full`` and ``full:canonical`` do so by definition."""
    classes: list[list[str]] = []
    for name in names:
        for members in classes:
            if (name, members[0]) in above and (members[0], name) in above:
                members.append(name)
                break
        else:
            classes.append([name])
    return [tuple(members) for members in classes]


def _covers(classes: list[tuple[str, ...]], above: set[tuple[str, str]]) -> tuple[tuple[int, int], ...]:
    n = range(len(classes))
    over = {(a, b) for a in n for b in n if a != b and (classes[a][0], classes[b][0]) in above}
    return tuple(sorted((a, b) for a, b in over if not any((a, c) in over and (c, b) in over for c in n)))


def _nodes(
    classes: list[tuple[str, ...]], columns: tuple[str, ...], results: list[Result], above: set[tuple[str, str]]
) -> tuple[Node, ...]:
    audited = {full_name(r.notion): r for r in results}
    failed = [(full_name(r.notion), r) for r in results if r.verdict == "miscalibrated"]
    nodes = []
    for members in classes:
        column, row = columns.index(members[0].partition(":")[0]), GIVENS.index(members[0].partition(":")[2]) + 1
        if "full:full" in members:
            row = 0
        hit = next((audited[name] for name in members if name in audited), None)
        state: State = "unaudited"
        via = ""
        if hit is not None:
            state, via = hit.verdict, hit.notion
        else:
            for name, r in failed:
                if (members[0], name) in above and _carries(members[0], name, r.items):
                    state, via = "refuted", r.notion
                    break
        nodes.append(Node(_shortest(members), members, column, row, state, via))
    return tuple(nodes)


def _carries(stronger: str, weaker: str, items: str) -> bool:
    """Whether the implication also holds between the pooled notions of unlabelled items.

    Pooling over subsets weights instances by how many they give, and that differs between views; so for
    exchangeable items only what is given may be made finer, or everything (full calibration), never the view.
    """
    same_view = stronger.partition(":")[0] == weaker.partition(":")[0]
    return items == "labelled" or same_view or stronger in ("full:full", "full:canonical")


def _shortest(members: tuple[str, ...]) -> str:
    return "full" if "full:full" in members else members[0]
