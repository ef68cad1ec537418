"""Figures draw what their frame holds, where they are told to."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fabricated_audits import scalar_result, vector_result
from prefcal.errors import UsageError
from prefcal.report.plot import plot_reliability


def test_the_given_axes_is_used_and_nothing_else():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    before = dict(mpl.rcParams)
    display = plot_reliability(scalar_result(n=300), left)
    assert display.ax is left
    assert not right.lines
    assert not right.collections
    assert dict(mpl.rcParams) == before


def test_frame_is_what_is_drawn():
    r = scalar_result(n=300)
    display = plot_reliability(r, Figure().subplots(), color="k")
    frame = display.frame()
    assert [row["n"] for row in frame] == [c.n for c in r.curve if c.n]
    assert sum(row["n"] for row in frame) == r.n_events
    assert display.line_.get_xdata().tolist() == [row["mean_forecast"] for row in frame]
    assert display.line_.get_ydata().tolist() == [row["mean_outcome"] for row in frame]
    ends = np.array([s[:, 1] for s in display.intervals_.get_segments()])
    assert ends.tolist() == [[row["interval_low"], row["interval_high"]] for row in frame]
    assert len(display.band_) == len(frame)
    assert display.line_.get_color() == "k"


def test_no_curve_is_an_error():
    with pytest.raises(UsageError, match="compares whole forecast vectors"):
        plot_reliability(vector_result())
