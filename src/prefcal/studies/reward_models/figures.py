"""Pictures of the page: statistics against accuracy, errors by number of candidates, correlations on one scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prefcal.report.svg import element, picture
from prefcal.report.wording import clean, decimal, decimal_range, percent
from prefcal.result import Interval
from prefcal.studies.reward_models.parts import Scaling

_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 290.0, 10.0, 190.0


@dataclass(frozen=True, slots=True)
class Point:
    """One model: a mark (a short text or none), its place, its interval upwards, and what a pointer shows."""

    x: float
    y: float
    label: str
    name: str
    interval: Interval | None = None


def nice(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Round numbers that span low..high, at most ``most`` + 1 of them (ends included).

    Examples
    --------
    >>> nice(0.05, 0.37)
    (0.0, 0.1, 0.2, 0.3, 0.4)
    """
    high = high if high > low else low + 0.01
    for exponent in range(-6, 6):
        for mantissa in (1, 2, 5):
            step = mantissa * 10.0**exponent
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first <= most:
                return tuple(round(i * step, 10) for i in range(first, last + 1))
    raise ValueError(f"no scale for {low} to {high}")


@dataclass(frozen=True, slots=True)
class Frame:
    """Axes with round ticks."""

    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def x(self, v: float) -> float:
        """Horizontal place of a value."""
        return _LEFT + (_RIGHT - _LEFT) * (v - self.xs[0]) / (self.xs[-1] - self.xs[0])

    def y(self, v: float) -> float:
        """Vertical place of a value, cut at the ends."""
        share = (v - self.ys[0]) / (self.ys[-1] - self.ys[0])
        return _BOTTOM - (_BOTTOM - _TOP) * min(max(share, 0.0), 1.0)

    def draw(self, x_title: str, y_title: str) -> list[Markup]:
        """Ground, grid, ticks and titles."""
        out = [element("rect", x=_LEFT, y=_TOP, width=_RIGHT - _LEFT, height=_BOTTOM - _TOP, class_="plot-area")]
        for t in self.ys:
            out.append(element("line", x1=_LEFT, x2=_RIGHT, y1=self.y(t), y2=self.y(t), class_="grid"))
            text = decimal(t, _digits(self.ys))
            out.append(element("text", text, x=_LEFT - 5, y=self.y(t) + 3.5, text_anchor="end", class_="tick"))
        for t in self.xs:
            text = decimal(t, _digits(self.xs))
            out.append(element("text", text, x=self.x(t), y=_BOTTOM + 13, text_anchor="middle", class_="tick"))
        middle = (_LEFT + _RIGHT) / 2
        out.append(element("text", x_title, x=middle, y=_BOTTOM + 29, text_anchor="middle", class_="axis-title"))
        turn = f"rotate(-90 9 {(_TOP + _BOTTOM) / 2:g})"
        up = (_TOP + _BOTTOM) / 2
        out.append(element("text", y_title, x=9, y=up + 3, text_anchor="middle", class_="axis-title", transform=turn))
        return out


def _digits(ticks: Sequence[float]) -> int:
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def dot(x: float, y: float, r: float, class_: str, *children: Markup) -> Markup:
    """The mark of a series: squares for the published statistic (and top-1), circles for the others."""
    if class_ == "published":
        return element("rect", *children, x=x - r * 0.9, y=y - r * 0.9, width=r * 1.8, height=r * 1.8, class_=class_)
    return element("circle", *children, cx=x, cy=y, r=r, class_=class_)


def scatter(points: Sequence[Point], frame: Frame, class_: str, x_title: str, y_title: str, label: str) -> Markup:
    """Models as numbered dots with intervals, on axes that several pictures may share."""
    out = frame.draw(x_title, y_title)
    for p in points:
        if p.interval is not None and all(math.isfinite(v) for v in p.interval):
            x = frame.x(p.x)
            out.append(
                element("line", x1=x, x2=x, y1=frame.y(p.interval[0]), y2=frame.y(p.interval[1]), class_="whisker")
            )
    for p in points:
        x, y = frame.x(p.x), frame.y(p.y)
        title = element("title", f"{p.name}: {decimal(p.x)}, {decimal(p.y)}")
        out.append(dot(x, y, 3.8 if p.label else 2.6, class_, title))
        if p.label:
            right = x < _RIGHT - 16
            out.append(
                element(
                    "text", p.label, x=x + (6 if right else -6), y=y - 3, class_="point-label",
                    text_anchor="start" if right else "end",
                )
            )  # fmt: skip
    told = "; ".join(f"{p.name} {decimal(p.x)}, {decimal(p.y)}" for p in points[:9])
    return picture(300, 224, f"{label} {told}.", out, "reliability")


def by_size(s: Scaling, frame: Frame) -> Markup:
    """Debiased errors of one model by number of candidates; bars are one standard deviation of the choice."""
    out = frame.draw("candidates", "debiased error")
    for values, sds, line, series in (
        (s.sub, s.sub_sd, "line-sub", "proper"),
        (s.top, s.top_sd, "line-top", "published"),
    ):
        path = "".join(
            f"{'L' if i else 'M'}{frame.x(n):.1f} {frame.y(v):.1f}"
            for i, (n, v) in enumerate(zip(s.sizes, values, strict=True))
        )
        out.append(element("path", d=path, class_=line))
        for n, v, sd in zip(s.sizes, values, sds, strict=True):
            x = frame.x(n)
            if sd > 0:
                out.append(element("line", x1=x, x2=x, y1=frame.y(v - sd), y2=frame.y(v + sd), class_="whisker"))
            out.append(dot(x, frame.y(v), 3, series))
    first, last = s.sizes[0], s.sizes[-1]
    label = (
        f"{clean(s.model)}: debiased error with {first} to {last} candidates; sub-2 from {decimal(s.sub[0])} to "
        f"{decimal(s.sub[-1])}, top-1 from {decimal(s.top[0])} to {decimal(s.top[-1])}"
    )
    return picture(300, 224, label, out, "reliability")


_WIDTH, _HEIGHT, _PAD = 220.0, 24.0, 14.0


def _along(low: float, high: float) -> Callable[[float], float]:
    """Horizontal place in a cell of values between ``low`` and ``high``."""
    return lambda v: _PAD + (_WIDTH - 2 * _PAD) * (v - low) / (high - low)


def range_cell(value: float, interval: Interval | None, ticks: Sequence[float], class_: str) -> Markup:
    """A number with its interval on a scale that all rows of a table share; 0 is marked."""
    at = _along(ticks[0], ticks[-1])
    middle = _HEIGHT / 2
    out = [element("line", x1=at(t), x2=at(t), y1=0, y2=_HEIGHT, class_="axis" if t == 0 else "grid") for t in ticks]
    if interval is not None and all(math.isfinite(v) for v in interval):
        out.append(element("line", x1=at(interval[0]), x2=at(interval[1]), y1=middle, y2=middle, class_="whisker"))
        for v in interval:
            out.append(element("line", x1=at(v), x2=at(v), y1=middle - 4, y2=middle + 4, class_="whisker"))
    out.append(dot(at(value), middle, 4, class_))
    return picture(_WIDTH, _HEIGHT, f"{decimal(value)}, interval {decimal_range(interval)}", out, "cell-plot")


def range_axis(ticks: Sequence[float]) -> Markup:
    """The head of a column of :func:`range_cell`."""
    at = _along(ticks[0], ticks[-1])
    marks = [
        element("text", decimal(t, _digits(ticks)), x=at(t), y=15, text_anchor="middle", class_="tick") for t in ticks
    ]
    return picture(_WIDTH, 20, f"Scale from {decimal(ticks[0], 1)} to {decimal(ticks[-1], 1)}", marks, "cell-plot")


def strip(values: Sequence[float], class_: str) -> Markup:
    """p-values of splits as marks between 0 and 1, with 0.05 shaded."""
    at = _along(0.0, 1.0)
    out = [element("rect", x=at(0), y=2, width=at(0.05) - at(0), height=_HEIGHT - 4, class_="band")]
    out += [element("line", x1=at(t), x2=at(t), y1=2, y2=_HEIGHT - 2, class_="grid") for t in (0, 0.25, 0.5, 0.75, 1)]
    out += [dot(at(v), _HEIGHT / 2, 3, class_) for v in values]
    above = sum(v > 0.05 for v in values) / len(values)
    return picture(
        _WIDTH, _HEIGHT, f"p-values of {len(values)} splits, {percent(above)} above 0.05", out, "cell-plot"
    )
