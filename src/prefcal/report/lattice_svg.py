"""The lattice of notions drawn: columns are views, rows are givens, lines go from stronger to weaker."""

from __future__ import annotations

from markupsafe import Markup

from prefcal.report.lattice import GIVENS, Node, Picture
from prefcal.report.svg import element, mark, picture
from prefcal.report.wording import VERDICTS

_GUTTER, _COLUMN, _TOP, _HEAD, _ROW = 82.0, 58.0, 20.0, 84.0, 60.0
_ROW_WORDS = {
    "full": ("whole forecast",),
    "canonical": ("canonical",),
    "rankwise": ("rankwise",),
    "confidence": ("confidence",),
}
STATES = {state: words for state, (_, words) in VERDICTS.items()} | {
    "refuted": "not audited, but refuted",
    "unaudited": "not audited",
}


def lattice_svg(p: Picture) -> Markup:
    """The lattice of one model, each notion marked by its verdict."""
    width = _GUTTER + _COLUMN * len(p.columns)
    foot = _HEAD + _ROW * (len(GIVENS) - 1) + 36
    out = [_edge(p.nodes[a], p.nodes[b]) for a, b in p.edges]
    for i, view in enumerate(p.columns):
        x = _GUTTER + _COLUMN * (i + 0.5)
        out.append(element("text", view, x=x, y=foot, text_anchor="middle", class_="column-head"))
    for row, given in enumerate(GIVENS):
        lines = _ROW_WORDS[given]
        for k, line in enumerate(lines):
            y = _HEAD + _ROW * row + 4 + 12 * (k - (len(lines) - 1) / 2)
            out.append(element("text", line, x=0, y=y, class_="row-head"))
    for node in p.nodes:
        x, y = _place(node)
        hint = element("title", f"{' = '.join(node.names)}: {state_text(node)}")
        out.append(element("g", hint, *mark(node.state, x, y)))
    out.append(element("text", "everything", x=0, y=_TOP + 4, class_="row-head"))
    return picture(width, foot + 8, lattice_label(p), out, "lattice")


def state_text(node: Node) -> str:
    """A node's state in words, e.g. ``refuted through sub-2``."""
    return f"refuted through {node.via}" if node.state == "refuted" else STATES[node.state]


def lattice_label(p: Picture) -> str:
    """What the picture shows, in words."""
    audited = [f"{n.via} {STATES[n.state]}" for n in p.nodes if n.state in VERDICTS]
    refuted = [n.name for n in p.refuted]
    text = f"Lattice of {len(p.nodes)} notions for {p.model}. Audited: {', '.join(audited) or 'none'}."
    return text + (f" Refuted through these: {', '.join(refuted)}." if refuted else "")


def _place(node: Node) -> tuple[float, float]:
    if node.row == 0:
        return _GUTTER + _COLUMN * 0.5, _TOP
    return _GUTTER + _COLUMN * (node.column + 0.5), _HEAD + _ROW * (node.row - 1)


def _edge(a: Node, b: Node) -> Markup:
    (x0, y0), (x1, y1) = _place(a), _place(b)
    fails = a.state in ("refuted", "miscalibrated") and b.state in ("refuted", "miscalibrated")
    if a.column == b.column and b.row - a.row > 1 and not (a.row == 0 and b.row == 3):
        side = x0 + (24 if a.row else -24)  # past the notions between them
        first, second = (side, y0 + 24), (side, y1 - 24)
    elif a.row == b.row and abs(a.column - b.column) > 1:  # an arc over the views between them
        first, second = (x0, y0 - 30), (x1, y0 - 30)
    elif a.row == 0 and b.column != a.column:  # from the top: across, then down
        first, second = (x0 + 0.55 * (x1 - x0), y0), (x1, y0 + 6)
    else:
        first, second = (x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)
    d = f"M{x0:.1f} {y0:.1f}C{first[0]:.1f} {first[1]:.1f} {second[0]:.1f} {second[1]:.1f} {x1:.1f} {y1:.1f}"
    return element("path", d=d, class_="edge edge-bad" if fails else "edge")
