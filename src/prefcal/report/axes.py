"""Small charts of lines and points with intervals, as inline SVG; several series share one pair of axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prefcal.report.svg import element, picture
from prefcal.report.wording import decimal
from prefcal.result import Interval

_WIDTH, _HEIGHT = 300.0, 232.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 290.0, 10.0, 190.0


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind.

    Parameters
    ----------
    name
        What a pointer shows.
    tone
        ``bad``, ``good`` or ``text``: the colour, and with it the mark (square, circle, open circle).
    points
        (x, y, interval of y or None).
    line, dashed
        Whether the points are joined, and how.
    marks
        Whether the points are shown.
    """

    name: str
    tone: str
    points: Sequence[tuple[float, float, Interval | None]]
    line: bool = True
    dashed: bool = False
    marks: bool = True


def chart(
    series: Sequence[Series],
    *,
    xs: Sequence[float],
    ys: Sequence[float],
    x_title: str,
    y_title: str,
    label: str,
    tick: Callable[[float], str] = lambda v: decimal(v, 1),
    x_tick: Callable[[float], str] | None = None,
    diagonal: bool = False,
) -> Markup:
    """Draw series over the ticks ``xs`` and ``ys``, whose ends are the ends of the axes."""

    def at_x(v: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (v - xs[0]) / (xs[-1] - xs[0])

    def at_y(v: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * min(max((v - ys[0]) / (ys[-1] - ys[0]), 0.0), 1.0)

    out = [element("rect", x=_LEFT, y=_TOP, width=_RIGHT - _LEFT, height=_BOTTOM - _TOP, class_="plot-area")]
    for v in ys:
        out.append(element("line", x1=_LEFT, x2=_RIGHT, y1=at_y(v), y2=at_y(v), class_="grid"))
        out.append(element("text", tick(v), x=_LEFT - 5, y=at_y(v) + 3.5, text_anchor="end", class_="tick"))
    for v in xs:
        shown = (x_tick or tick)(v)
        out.append(element("text", shown, x=at_x(v), y=_BOTTOM + 13, text_anchor="middle", class_="tick"))
    middle, up = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
    turn = f"rotate(-90 9 {up:g})"
    out.append(element("text", x_title, x=middle, y=_BOTTOM + 30, text_anchor="middle", class_="axis-title"))
    out.append(element("text", y_title, x=9, y=up + 3, text_anchor="middle", class_="axis-title", transform=turn))
    if diagonal:
        low, high = max(xs[0], ys[0]), min(xs[-1], ys[-1])
        out.append(element("line", x1=at_x(low), y1=at_y(low), x2=at_x(high), y2=at_y(high), class_="diagonal"))
    for s in series:
        stroke = "whisker" if s.tone == "text" else f"range stroke-{s.tone}"
        if s.line and len(s.points) > 1:
            path = "".join(f"{'L' if i else 'M'}{at_x(x):.1f} {at_y(y):.1f}" for i, (x, y, _) in enumerate(s.points))
            dash = "5 3.5" if s.dashed else None
            out.append(element("path", d=path, class_=stroke, fill="none", stroke_dasharray=dash))
    for s in series:
        stroke = "whisker" if s.tone == "text" else f"range stroke-{s.tone}"
        for x, _, interval in s.points:
            if interval is not None and all(math.isfinite(v) for v in interval):
                ends = {"y1": at_y(interval[0]), "y2": at_y(interval[1])}
                out.append(element("line", x1=at_x(x), x2=at_x(x), class_=stroke, **ends))
        for x, y, _ in s.points if s.marks else ():
            title = element("title", f"{s.name}: {(x_tick or tick)(x)}, {tick(y)}")
            out.append(_mark(s.tone, at_x(x), at_y(y), title))
    return picture(_WIDTH, _HEIGHT, label, out, "reliability")


def _mark(tone: str, x: float, y: float, title: Markup) -> Markup:
    if tone == "bad":
        return element("rect", title, x=x - 3.2, y=y - 3.2, width=6.4, height=6.4, class_="fill-bad")
    return element("circle", title, cx=x, cy=y, r=3.4, class_="fill-good" if tone == "good" else "dot-in")


def key(tone: str, dashed: bool | None = None) -> Markup:
    """The sign of a series in a legend: its mark, or its line if ``dashed`` says how it is drawn."""
    if dashed is None:
        child = _mark(tone, 9, 9, Markup(""))
    else:
        stroke = "whisker" if tone == "text" else f"range stroke-{tone}"
        child = element("path", d="M0 9L18 9", class_=stroke, stroke_dasharray="5 3.5" if dashed else None)
    return element("svg", child, viewBox="0 0 18 18", aria_hidden="true", focusable="false", class_="icon")


def round_ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Round numbers that span low..high, at most ``most`` + 1 of them, ends included.

    Examples
    --------
    >>> round_ticks(0.05, 0.37)
    (0.0, 0.1, 0.2, 0.3, 0.4)
    """
    high = high if high > low else low + 0.01
    for exponent in range(-9, 9):
        for mantissa in (1, 2, 5):
            step = mantissa * 10.0**exponent
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first <= most:
                return tuple(round(i * step, 10) for i in range(first, last + 1))
    raise ValueError(f"no scale for {low} to {high}")
