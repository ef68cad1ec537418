"""Weighted points sorted by forecast: what every scalar estimator of calibration error is a function of.

In memory a point is a distinct forecast with the events that share it; from a :class:`CellTable` it is a fine cell.
Estimators are written once for both; each states how far a cell's width (1/5040) can move it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import DataError, UsageError
from prefcal.estimators.cells import CellTable


@dataclass(frozen=True, slots=True)
class Points:
    """Events by forecast, k points.

    Parameters
    ----------
    p
        (k,) forecasts in [0, 1], strictly increasing (cells: mean forecast of the cell).
    w, y
        (k,) total weight > 0, and mean outcome in [0, 1].
    ww
        (k,) sum of squared weights of the events (from a table: as if weights were equal within a cell).
    yy
        Mean over all events of the squared outcome (outcomes may be fractions where equals share an event).
    """

    p: FloatArray
    w: FloatArray
    y: FloatArray
    ww: FloatArray
    yy: float

    @classmethod
    def of(cls, p: npt.ArrayLike, y: npt.ArrayLike, w: npt.ArrayLike | None = None) -> Points:
        """Points of events in memory; events of equal forecast become one point, those of weight 0 are left out.

        Parameters
        ----------
        p, y
            (n,) forecasts and outcomes, both in [0, 1].
        w
            (n,) weights, finite and not negative; None: 1 each.

        Raises
        ------
        DataError
            Lengths differ, a number is outside its range, or nothing has weight.

        Examples
        --------
        >>> Points.of([0.5, 0.2, 0.5], [1, 0, 0]).y
        array([0. , 0.5])
        """
        forecast, outcome, weight = event_arrays(p, y, w)
        used = weight > 0
        if not used.all():
            forecast, outcome, weight = forecast[used], outcome[used], weight[used]
        distinct, place = np.unique(forecast, return_inverse=True)
        total = sums_by(place, weight)
        return cls(
            distinct,
            total,
            np.clip(sums_by(place, weight * outcome) / total, 0.0, 1.0),
            sums_by(place, weight * weight),
            float((weight * outcome * outcome).sum() / total.sum()),
        )

    @classmethod
    def of_table(cls, table: CellTable) -> Points:
        """Points of a cell table, one for each cell that holds weight.

        Raises UsageError for a table of several members, which keeps no fine cells.
        """
        if table.members != 1:
            raise UsageError(f"a cell table of {table.members} members keeps no fine cells: only one member does")
        n, w, wp, wy = table.cells[:4]
        at = np.flatnonzero(w > 0)
        return cls(
            wp[at] / w[at],
            w[at],
            np.clip(wy[at] / w[at], 0.0, 1.0),
            w[at] ** 2 / n[at],
            float(table.moment("wyy").sum() / table.moment("w").sum()),
        )

    @property
    def weight(self) -> float:
        """Total weight."""
        return float(self.w.sum())

    @property
    def residuals(self) -> FloatArray:
        """(k,) sum of w (y - p) over the total weight: the residual process, by point."""
        result: FloatArray = self.w * (self.y - self.p) / self.weight
        return result


def sums_by(index: IntArray, values: FloatArray, size: int = 0) -> FloatArray:
    """(size,) sums of ``values`` by ``index``."""
    return np.asarray(np.bincount(index, values, minlength=size), dtype=np.float64)


def event_arrays(
    p: npt.ArrayLike, y: npt.ArrayLike, w: npt.ArrayLike | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(n,) forecasts, outcomes and weights as checked arrays; DataError says which number is wrong."""
    try:
        forecast, outcome = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
        weight = np.ones(forecast.shape) if w is None else np.asarray(w, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"forecasts, outcomes and weights must be numbers ({error})") from None
    if forecast.ndim != 1 or forecast.shape != outcome.shape or forecast.shape != weight.shape:
        raise DataError(
            f"forecasts, outcomes and weights must be lists of equal length, got shapes {forecast.shape}, "
            f"{outcome.shape} and {weight.shape}"
        )
    for name, values in (("forecasts", forecast), ("outcomes", outcome)):
        bad = ~((values >= 0) & (values <= 1))
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(f"{name} must be in [0, 1], got {values[at]}", row=f"event {at}")
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(f"weights must be finite and not negative, got {weight[at]}", row=f"event {at}")
    if not weight.any():
        raise DataError("no event has weight")
    return forecast, outcome, weight


def unit_codes(clusters: npt.ArrayLike | None, n: int) -> IntArray:
    """(n,) codes from 0 of the independent unit of each event; None: each event is one."""
    if clusters is None:
        return np.arange(n)
    names = np.asarray(clusters)
    if names.shape != (n,):
        raise DataError(f"clusters must be one value for each of {n} events, got shape {names.shape}")
    return np.unique(names, return_inverse=True)[1].astype(np.intp)
