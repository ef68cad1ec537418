"""Inline SVG: reliability diagrams, intervals on a common scale, verdict marks; colours are classes of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from prefcal.report.lattice import State
from prefcal.report.wording import count, decimal, decimal_range, percent, short_count
from prefcal.result import CurvePoint, Result


def element(tag: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """One element; text and attribute values are escaped, ``_`` in attribute names becomes ``-``.

    Examples
    --------
    >>> print(element("text", "a < b", x=1.50, text_anchor="end", class_="tick"))
    <text x="1.5" text-anchor="end" class="tick">a &lt; b</text>
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-") if name != "viewBox" else name}="{escape(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup(f"<{tag}{shown}/>" if not children else f"<{tag}{shown}>{inner}</{tag}>")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return value
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def picture(width: float, height: float, label: str, children: Iterable[Markup], class_: str) -> Markup:
    """An SVG picture with a label for those who do not see it."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        role="img",
        aria_label=label,
        class_=class_,
    )


def mark(state: State, x: float, y: float, size: float = 11) -> list[Markup]:
    """The sign of a state around (x, y): colour, shape and symbol each tell it."""
    s = size
    if state == "calibrated":
        tick = f"M{x - 0.45 * s:.1f} {y + 0.02 * s:.1f}l{0.32 * s:.1f} {0.34 * s:.1f}l{0.56 * s:.1f} {-0.68 * s:.1f}"
        return [element("circle", cx=x, cy=y, r=s, class_="fill-good"), element("path", d=tick, class_="sign")]
    if state == "undetermined":
        r = 1.15 * s
        d = f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z"
        question = element(
            "text", "?", x=x, y=y + 0.42 * s, text_anchor="middle", class_="question", font_size=1.2 * s
        )
        return [element("path", d=d, class_="fill-unclear"), question]
    if state == "unaudited":
        return [element("circle", cx=x, cy=y, r=0.5 * s, class_="outline-none")]
    a = 0.92 * s
    box = {"x": x - a, "y": y - a, "width": 2 * a, "height": 2 * a, "rx": 0.3 * s}
    c = 0.36 * s
    cross = f"M{x - c:.1f} {y - c:.1f}l{2 * c:.1f} {2 * c:.1f}m0 {-2 * c:.1f}l{-2 * c:.1f} {2 * c:.1f}"
    if state == "miscalibrated":
        return [element("rect", **box, class_="fill-bad"), element("path", d=cross, class_="sign")]
    stripes = ""
    h = 0.82 * a
    for k in (-0.9, 0.0, 0.9):  # three stripes from lower left to upper right, cut by the box
        o = k * a
        x0, y0 = max(-h, -h + o), min(h, h + o)
        x1, y1 = min(h, h + o), max(-h, -h + o)
        stripes += f"M{x + x0:.1f} {y + y0:.1f}L{x + x1:.1f} {y + y1:.1f}"
    return [element("rect", **box, class_="outline-bad"), element("path", d=stripes, class_="stripes")]


def icon(state: State) -> Markup:
    """A small mark to stand before its word in text."""
    return element(
        "svg", *mark(state, 9, 9, 7), viewBox="0 0 18 18", aria_hidden="true", focusable="false", class_="icon"
    )


# ---------------------------------------------------------------------------------------------------- reliability

_LEFT, _RIGHT, _TOP, _BOTTOM, _BARS_TOP, _BARS_BOTTOM = 38.0, 292.0, 8.0, 208.0, 220.0, 252.0


def reliability(result: Result) -> Markup:
    """Reliability diagram of a result that has a curve: points, intervals, null band and counts."""
    points = [c for c in result.curve if c.n]
    low = (
        0.5
        if points and min(c.low for c in points) >= 0.5 - 1 / 30 and min(c.mean_forecast for c in points) >= 0.5
        else 0.0
    )

    def at_x(p: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (p - low) / (1 - low)

    def at_y(f: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * f

    ticks = [low + (1 - low) * t / 5 for t in range(6)]
    out = [element("rect", x=_LEFT, y=_TOP, width=_RIGHT - _LEFT, height=_BOTTOM - _TOP, class_="plot-area")]
    for t in (0.0, 0.25, 0.5, 0.75, 1.0):
        out.append(element("line", x1=_LEFT, x2=_RIGHT, y1=at_y(t), y2=at_y(t), class_="grid"))
        out.append(element("text", f"{100 * t:.0f}", x=_LEFT - 6, y=at_y(t) + 3.5, text_anchor="end", class_="tick"))
    for c in points:
        x0, x1 = at_x(max(c.low, low)), at_x(c.high)
        y0, y1 = at_y(min(c.null_band[1], 1.0)), at_y(max(c.null_band[0], 0.0))
        if math.isfinite(y1 - y0):
            out.append(element("rect", x=x0, y=y0, width=x1 - x0, height=max(y1 - y0, 0.8), class_="band"))
    out.append(element("line", x1=at_x(low), y1=at_y(low), x2=at_x(1), y2=at_y(1), class_="diagonal"))
    for c in points:
        if math.isfinite(c.interval[0] + c.interval[1]):
            x = at_x(c.mean_forecast)
            y0, y1 = at_y(min(c.interval[1], 1.0)), at_y(max(c.interval[0], 0.0))
            out.append(element("line", x1=x, x2=x, y1=y0, y2=y1, class_="whisker"))
    for c in points:
        outside = not c.null_band[0] <= c.mean_outcome <= c.null_band[1]
        title = f"says {percent(c.mean_forecast)}, happens {percent(c.mean_outcome)}, {count(c.n, 'event')}"
        out.append(
            element(
                "circle",
                element("title", title),
                cx=at_x(c.mean_forecast),
                cy=at_y(c.mean_outcome),
                r=3.6,
                class_="dot-out" if outside else "dot-in",
            )
        )
    most = max((c.n for c in points), default=1)
    for c in points:
        height = max((_BARS_BOTTOM - _BARS_TOP) * c.n / most, 0.7)
        x0, x1 = at_x(max(c.low, low)), at_x(c.high)
        out.append(
            element(
                "rect",
                x=x0 + 0.6,
                width=max(x1 - x0 - 1.2, 0.8),
                y=_BARS_BOTTOM - height,
                height=height,
                class_="bar",
            )
        )
    out.append(element("line", x1=_LEFT, x2=_RIGHT, y1=_BARS_BOTTOM, y2=_BARS_BOTTOM, class_="axis"))
    out.append(element("text", short_count(most), x=_LEFT - 6, y=_BARS_TOP + 7, text_anchor="end", class_="tick"))
    for t in ticks:
        anchor = "start" if t == low else "end" if t == 1 else "middle"
        x = at_x(t) - (2 if t == low else -2 if t == 1 else 0)
        out.append(element("text", f"{100 * t:.0f}", x=x, y=_BARS_BOTTOM + 13, text_anchor=anchor, class_="tick"))
    middle = (_LEFT + _RIGHT) / 2
    out.append(element("text", "says, %", x=middle, y=_BARS_BOTTOM + 28, text_anchor="middle", class_="axis-title"))
    up = f"rotate(-90 10 {(_TOP + _BOTTOM) / 2:g})"
    out.append(
        element(
            "text",
            "happens, %",
            x=10,
            y=(_TOP + _BOTTOM) / 2 + 3,
            text_anchor="middle",
            class_="axis-title",
            transform=up,
        )
    )
    return picture(300, 286, reliability_label(result, points), out, "reliability")


def reliability_label(result: Result, points: Sequence[CurvePoint]) -> str:
    """What a reliability diagram shows, in a sentence or two."""
    head = f"Reliability diagram of {result.model} in {result.notion}, {count(len(points), 'bin')} with events."
    if not points:
        return head
    chosen = sorted({0, len(points) // 2, len(points) - 1})
    said = "; ".join(
        f"says {percent(points[i].mean_forecast)}, happens {percent(points[i].mean_outcome)}" for i in chosen
    )
    outside = sum(not c.null_band[0] <= c.mean_outcome <= c.null_band[1] for c in points)
    return f"{head} From low to high: {said}. {outside} of {len(points)} points lie outside the null band."


# ------------------------------------------------------------------------------------------- intervals on one scale

_WIDTH, _HEIGHT, _PAD = 240.0, 26.0, 16.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A common scale for dots with intervals."""

    low: float
    high: float
    ticks: tuple[float, ...]
    tolerance: float | None

    @classmethod
    def of(cls, results: Sequence[Result]) -> Scale:
        """The scale that holds 0, the tolerance, all values and all interval ends of these results."""
        tolerances = [r.settings.get("tolerance") for r in results]
        shown = [float(t) for t in tolerances if isinstance(t, int | float) and math.isfinite(t)]
        tolerance = shown[0] if shown and len(shown) == len(results) and len(set(shown)) == 1 else None
        values = [0.0, *([] if tolerance is None else [tolerance])]
        for r in results:
            values += [v for v in (r.debiased, *r.interval) if math.isfinite(v)]
        low, high = min(values), max(values)
        high = high if high > low else low + 0.01
        step = next(s for s in _steps() if (high - low) / s <= 5)
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        ticks = tuple(round(i * step, 12) for i in range(first, max(last, first + 1) + 1))
        return cls(low, max(high, ticks[-1]), ticks, tolerance)

    def at(self, value: float) -> float:
        """Horizontal place of a value in a cell."""
        return _PAD + (_WIDTH - 2 * _PAD) * (value - self.low) / (self.high - self.low)


def _steps() -> Iterable[float]:
    for exponent in range(-9, 9):
        for mantissa in (1, 2, 5):
            yield mantissa * 10.0**exponent


def axis_cell(scale: Scale) -> Markup:
    """The head of a column of :func:`interval_cell`."""
    digits = max(0, -math.floor(math.log10(scale.ticks[1] - scale.ticks[0]) + 1e-9))
    labels = [
        element("text", decimal(t, digits), x=scale.at(t), y=16, text_anchor="middle", class_="tick")
        for t in scale.ticks
    ]
    text = f"Scale from {decimal(scale.ticks[0], digits)} to {decimal(scale.ticks[-1], digits)}"
    return picture(_WIDTH, 20, text, labels, "cell-plot")


def interval_cell(result: Result, scale: Scale) -> Markup:
    """Debiased error with its interval on a common scale; the tolerance is shaded."""
    middle = _HEIGHT / 2
    out = []
    if scale.tolerance is not None:
        x0, x1 = scale.at(max(scale.low, 0.0)), scale.at(scale.tolerance)
        out.append(element("rect", x=x0, y=0, width=max(x1 - x0, 0.5), height=_HEIGHT, class_="band"))
    out += [element("line", x1=scale.at(t), x2=scale.at(t), y1=0, y2=_HEIGHT, class_="grid") for t in scale.ticks]
    out.append(element("line", x1=scale.at(0), x2=scale.at(0), y1=0, y2=_HEIGHT, class_="axis"))
    tone = {"calibrated": "good", "miscalibrated": "bad", "undetermined": "unclear"}[result.verdict]
    if all(math.isfinite(v) for v in result.interval):
        x0, x1 = (scale.at(v) for v in result.interval)
        out.append(element("line", x1=x0, x2=x1, y1=middle, y2=middle, class_=f"range stroke-{tone}"))
        for x in (x0, x1):
            out.append(element("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, class_=f"range stroke-{tone}"))
    if math.isfinite(result.debiased):
        x = scale.at(result.debiased)
        if result.verdict == "miscalibrated":
            out.append(element("rect", x=x - 4, y=middle - 4, width=8, height=8, rx=1, class_="fill-bad"))
        elif result.verdict == "calibrated":
            out.append(element("circle", cx=x, cy=middle, r=4.5, class_="fill-good"))
        else:
            d = f"M{x:.1f} {middle - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z"
            out.append(element("path", d=d, class_="fill-unclear"))
    label = f"debiased error {decimal(result.debiased)}, interval {decimal_range(result.interval)}"
    return picture(_WIDTH, _HEIGHT, label, out, "cell-plot")
