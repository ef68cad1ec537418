"""Bounds between estimates from a cell table and from the events: they hold for every data set, and are not idle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings

import prefcal as pc
from prefcal.errors import UsageError
from prefcal.estimators.binnings import bin_errors
from prefcal.estimators.cells import CellTable
from prefcal.estimators.cumulative import cumulative_error
from prefcal.estimators.discretisation import cell_bounds
from prefcal.estimators.events import Forecast
from prefcal.estimators.isotonic import decomposition, recalibrated
from prefcal.estimators.points import Points
from prefcal.estimators.smooth import smooth_ece
from strategies import events_in_few_cells

BINS = 5
EMPTY = np.empty(0)


def table_of(p, y, w=None, bins: int = BINS) -> CellTable:
    p, y = np.asarray(p, float), np.asarray(y, float)
    w = np.ones(len(p)) if w is None else np.asarray(w, float)
    table = CellTable(bins)
    cell = np.minimum((p * bins).astype(np.intp), bins - 1)
    forecast = Forecast(p[:, None], np.log(p)[:, None], np.log1p(-p)[:, None], None, EMPTY)
    table.add(forecast, y[:, None], w[:, None], cell[:, None])
    return table


def values(points: Points, totals: dict[str, float], bins: int) -> dict[str, float]:
    path, binned = cumulative_error(points), bin_errors(points, bins)
    out = {
        "smece": smooth_ece(points).value, "ecce": path.range, "ecce_mad": path.mad, "ece_mass": binned.l1,
        "ece_l2": binned.l2, "mce": binned.largest,
    }  # fmt: skip
    fitted = recalibrated(points)
    for score, total in totals.items():
        part = decomposition(points, score, total=total, fitted=fitted)  # type: ignore[arg-type]
        out |= {f"mcb_{score}": part.mcb, f"dsc_{score}": part.dsc, f"unc_{score}": part.unc}
    return out


def both(p, y, w=None, bins: int = BINS) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Estimates from the events, from their table, and the bounds."""
    table = table_of(p, y, w, bins)
    totals = {"brier": table.total("brier") / table.total("w"), "log": table.total("log_loss") / table.total("w")}
    exact, cells = Points.of(p, y, w), Points.of_table(table)
    return values(exact, totals, bins), values(cells, totals, bins), cell_bounds(table)


def few() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One heavy cell that bin edges cut."""
    return (2520 + np.linspace(0.1, 0.9, 12)) / 5040, np.tile([0.0, 0.0, 1.0], 4), np.ones(12)


@given(events_in_few_cells())
@example(few())
@settings(deadline=None, max_examples=60)
def test_no_data_break_the_bounds(events):
    p, y, w = events
    exact, cells, bounds = both(p, y, w)
    for name, bound in bounds.items():
        assert abs(exact[name] - cells[name]) <= bound + 1e-9, name
    for name in ("mcb_brier", "dsc_brier", "mcb_log", "dsc_log", "ecce", "ecce_mad"):
        assert cells[name] <= exact[name] + 1e-9
    for name in ("unc_brier", "unc_log"):
        assert cells[name] == pytest.approx(exact[name], abs=1e-12)


def test_random_data_stay_well_inside():
    rng = np.random.default_rng(0)
    p = rng.beta(2, 2, 4000)
    exact, cells, bounds = both(p, rng.random(4000) < p**1.3, rng.exponential(size=4000), 15)
    for name, bound in bounds.items():
        assert abs(exact[name] - cells[name]) <= bound
    assert bounds["ece_mass"] < 0.02
    assert bounds["mcb_log"] < 0.003


def test_isotonic_bounds_are_nearly_reached():
    """A search for the worst data found these: the quarter that a single cell can lose is not the most."""
    one = both((2520 + np.array([0.2, 0.8])) / 5040, [0, 1])
    assert one[0]["dsc_brier"] - one[1]["dsc_brier"] == pytest.approx(0.25)
    assert one[0]["dsc_log"] - one[1]["dsc_log"] == pytest.approx(math.log(2))
    cells = np.repeat(np.arange(6), 3)
    y = [0, 0, 0, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
    w = [
        0.00973414, 0.15891728, 0.00070818, 0.12202785, 0.04498816, 0.06498323, 0.02250987, 0.01264787, 0.00024838,
        0.12345958, 0.06559474, 0.04268457, 0.07991611, 0.04666194, 0.10551569, 0.00500476, 0.01906844, 0.07532922,
    ]  # fmt: skip
    exact, table, bounds = both((1000 + cells + np.tile([0.2, 0.5, 0.8], 6)) / 5040, y, w)
    share = 3.0 * bounds["mcb_brier"]
    assert 0.29 * share < exact["mcb_brier"] - table["mcb_brier"] < share / 3
    cells = np.repeat(np.arange(5), 2)
    y = [0, 1, 1, 0, 0, 1, 0, 1, 1, 1]
    w = [0.220468623, 0.0621941089, 0.0264145242, 0.0731399016, 0.142066423, 0.138564049, 0.0703355086, 0.213669899,
         1.03235237e-05, 0.0531366396]  # fmt: skip
    exact, table, bounds = both((1000 + cells + np.tile([0.2, 0.8], 5)) / 5040, y, w)
    assert 0.8 * bounds["dsc_log"] < exact["dsc_log"] - table["dsc_log"] < bounds["dsc_log"]


def test_equal_mass_bounds_are_nearly_reached():
    """All outcomes of one sign lie on one side of the edge that cuts the heavy cell: the table sees them cancel."""
    n = 1000
    low, high = np.linspace(0.1, 0.3, 400), np.linspace(0.7, 0.9, 400)
    p = np.concatenate([low, (2520 + np.linspace(0.05, 0.95, n - 800)) / 5040, high])
    # Outside the cell outcomes are as forecast (fractions), so that all of the error is inside it.
    y = np.concatenate([low, np.repeat([0.0, 1.0], (n - 800) // 2), high])
    exact, cells, bounds = both(p, y, bins=2)
    assert cells["ece_mass"] < 1e-3
    for name, factor in (("ece_mass", 0.4), ("ece_l2", 0.4), ("mce", 0.4), ("ecce_mad", 0.9), ("ecce", 0.45)):
        assert factor * bounds[name] < exact[name] - cells[name] <= bounds[name], name


def test_a_bin_of_parts_of_one_cell_is_unknown():
    p = (2520 + np.linspace(0.1, 0.9, 30)) / 5040
    _, _, bounds = both(p, np.tile([0, 1], 15), bins=5)
    assert bounds["mce"] > 0.4  # nothing is known but that residuals are at most about 1/2 here
    single = both(p[:1], [1], bins=5)
    assert single[2]["mce"] == single[2]["ece_mass"] == single[2]["mcb_log"] == 0.0
    assert single[0] == pytest.approx(single[1])


def test_forecasts_near_the_ends_need_no_condition():
    """The log score of the recalibrated forecast is bounded by what is in a cell, however small its forecasts are."""
    p = np.array([1e-300, 1e-200, 1e-30, 1e-14, 1e-13, 0.3])
    exact, cells, bounds = both(p, [0, 1, 0, 1, 0, 1])
    for name in ("mcb_log", "dsc_log"):
        assert math.isfinite(exact[name])
        assert 0 <= exact[name] - cells[name] <= bounds[name] <= 1.0


def test_other_numbers_of_bins_and_several_members():
    with pytest.raises(UsageError, match="2 members"):
        cell_bounds(CellTable(15, 2))
    rng = np.random.default_rng(1)
    p = rng.random(300)
    for bins in (1, 7, 13, 60):
        exact, cells, bounds = both(p, rng.random(300) < p, bins=bins)
        for name in ("ece_mass", "ece_l2", "mce"):
            assert abs(exact[name] - cells[name]) <= bounds[name] + 1e-12


def test_notes_of_an_audit_say_how_far():
    rng = np.random.default_rng(2)
    h = pc.PlackettLuce(rng.normal(size=(1200, 10)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    found = pc.audit(h, y, notions="sub-2", items="exchangeable")["sub-2"].metrics
    for name in ("ece_mass", "mcb_log", "smece", "mce", "dsc_log"):
        assert "value from cells of width 1/5040, within " in found[name].note
