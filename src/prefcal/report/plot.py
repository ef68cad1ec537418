"""Figures with matplotlib: Axes in, Axes out; drawing computes no statistic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefcal.errors import UsageError
from prefcal.result import CurvePoint, Result


@dataclass(slots=True)
class ReliabilityDisplay:
    """A reliability diagram: the numbers, and the artists that show them.

    Parameters
    ----------
    points
        The bins with events of the result's curve.
    label
        Name in the legend.
    ax, line_, intervals_, band_, diagonal_
        The Axes drawn on and its artists; None before :meth:`plot`.
    """

    points: tuple[CurvePoint, ...]
    label: str
    ax: Any = None
    line_: Any = None
    intervals_: Any = None
    band_: list[Any] = field(default_factory=list)
    diagonal_: Any = None

    @classmethod
    def from_result(cls, result: Result) -> ReliabilityDisplay:
        """The display of a result; UsageError when it has no reliability curve."""
        points = tuple(c for c in result.curve if c.n)
        if not points:
            why = "it has no events" if result.curve or not result.n_events else "it compares whole forecast vectors"
            raise UsageError(
                f"{result.model}, {result.notion}: there is no reliability curve to plot, because {why}; plot "
                "a notion of single events such as sub-2 or top-1:confidence"
            )
        return cls(points, f"{result.model}, {result.notion}")

    def frame(self) -> list[dict[str, Any]]:
        """Exactly what :meth:`plot` draws, one dict a bin; ``pandas.DataFrame(display.frame())`` makes a table."""
        return [
            {
                "low": c.low,
                "high": c.high,
                "n": c.n,
                "mean_forecast": c.mean_forecast,
                "mean_outcome": c.mean_outcome,
                "interval_low": c.interval[0],
                "interval_high": c.interval[1],
                "null_low": c.null_band[0],
                "null_high": c.null_band[1],
            }
            for c in self.points
        ]

    def plot(self, ax: Any = None, **line: Any) -> ReliabilityDisplay:
        """Draw on ``ax`` (default: a new figure) and return the display; ``line`` styles the points."""
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots()
        rows = self.frame()
        x, y = [r["mean_forecast"] for r in rows], [r["mean_outcome"] for r in rows]
        self.ax = ax
        self.band_ = [
            ax.fill_between([r["low"], r["high"]], r["null_low"], r["null_high"], color="0.85", linewidth=0, zorder=1)
            for r in rows
        ]
        (self.diagonal_,) = ax.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, zorder=2)
        style = {"marker": "o", "linestyle": "none", "markersize": 5, "label": self.label, "zorder": 4} | line
        (self.line_,) = ax.plot(x, y, **style)
        self.intervals_ = ax.vlines(
            x,
            [r["interval_low"] for r in rows],
            [r["interval_high"] for r in rows],
            colors=self.line_.get_color(),
            linewidth=1.2,
            zorder=3,
        )
        ax.set(xlim=(min(0.5, rows[0]["low"]) if rows[0]["low"] > 0.45 else 0, 1), ylim=(0, 1))
        ax.set(xlabel="says", ylabel="happens", title=self.label)
        return self


def plot_reliability(result: Result, ax: Any = None, **line: Any) -> ReliabilityDisplay:
    """Reliability diagram with 95 % intervals and the band of a calibrated model.

    Parameters
    ----------
    result
        A result with a curve.
    ax
        Axes to draw on; a new figure when None. Nothing else is touched.
    **line
        Style of the points, as for ``Axes.plot``.

    Returns
    -------
    The display: its Axes is ``.ax``, its numbers ``.frame()``.

    Raises
    ------
    UsageError
        When the result has no reliability curve (notions of several outcomes at once).
    """
    return ReliabilityDisplay.from_result(result).plot(ax, **line)
