"""The binned error of a table: value, bias removed, interval, curve, and the parts of the Brier score."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
from prefcal.estimators.binned import _tilt_and_shift, binned_error, ece_debiased
from prefcal.estimators.cells import CellTable, contrasts
from prefcal.estimators.events import Forecast
from strategies import seeds


def simulated(seed: int, n: int, m: int = 3, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    return pc.PlackettLuce(scale * scores), pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])


def coins(p: np.ndarray, y: np.ndarray, **options) -> pc.Result:
    """An audit whose events are (p, y) with p >= 1/2: pairs of two items, exchangeable."""
    probs = np.full((len(p), 2, 2), np.nan)
    probs[:, 0, 1] = p
    ranks = np.where(np.asarray(y)[:, None] == 1, [[1, 2]], [[2, 1]])
    options = {"bins": 10, "draws": 99, "items": "exchangeable", "notions": ["sub-2"]} | options
    return pc.audit(pc.Pairwise(probs), pc.Outcomes.from_ranks(ranks), **options)["sub-2"]


@settings(max_examples=30, deadline=None)
@given(seed=seeds, items=st.sampled_from(["labelled", "exchangeable"]), notion=st.sampled_from(["sub-2", "full"]))
def test_parts_of_the_brier_score_add_up(seed, items, notion):
    """brier = calibration - resolution + uncertainty + within, and each part is not negative but `within`."""
    h, y = simulated(seed, 40)
    metrics = pc.audit(h, y, notions=[notion], items=items, draws=99)[notion].metrics
    parts = {k.removeprefix("brier_"): v.value for k, v in metrics.items() if k.startswith("brier_")}
    assert set(parts) == {"calibration", "resolution", "uncertainty", "within"}
    total = parts["calibration"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert metrics["brier"].value == pytest.approx(total, abs=1e-13)
    assert min(parts["calibration"], parts["resolution"], parts["uncertainty"]) >= 0
    for name in parts:
        assert metrics[f"brier_{name}"].interval is None
        assert metrics[f"brier_{name}"].note


def test_parts_of_the_brier_score_of_constant_forecasts_in_bins():
    """Where forecasts do not vary inside bins nothing is `within`, and the parts are Murphy's."""
    p = np.array([0.55] * 40 + [0.75] * 40 + [0.95] * 20)
    y = np.array([1] * 20 + [0] * 20 + [1] * 36 + [0] * 4 + [1] * 20)
    metrics = coins(p, y).metrics
    rates = np.array([0.5, 0.9, 1.0])
    share, forecast, mean = np.array([0.4, 0.4, 0.2]), np.array([0.55, 0.75, 0.95]), y.mean()
    assert metrics["brier_calibration"].value == pytest.approx(share @ (forecast - rates) ** 2)
    assert metrics["brier_resolution"].value == pytest.approx(share @ (rates - mean) ** 2)
    assert metrics["brier_uncertainty"].value == pytest.approx(mean * (1 - mean))
    assert metrics["brier_within"].value == pytest.approx(0, abs=1e-15)
    assert metrics["brier"].value == pytest.approx(np.mean((p - y) ** 2))


def test_error_of_constant_forecasts_by_hand():
    p = np.array([0.55] * 40 + [0.75] * 40 + [0.95] * 20)
    y = np.array([1] * 20 + [0] * 20 + [1] * 36 + [0] * 4 + [1] * 20)
    assert coins(p, y).value == pytest.approx(0.4 * 0.05 + 0.4 * 0.15 + 0.2 * 0.05)


@pytest.mark.parametrize(
    ("p", "low"), [(1.0, 0.9), (0.999, 0.9), (0.95, 0.9), (0.5, 0.5), (0.59, 0.5), (0.61, 0.6), (0.75, 0.7)]
)
def test_bins_are_closed_on_the_left_and_1_is_in_the_last(p, low):
    point = coins(np.full(10, p), np.ones(10)).curve
    assert len(point) == 1
    assert point[0].low == pytest.approx(low)
    assert point[0].n == 10


def test_intervals_of_means_are_those_of_independent_instances():
    """Accuracy, mean forecast, Brier and log loss of one event an instance: mean +- 1.96 sd / sqrt(n)."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 300)
    y = (rng.random(300) < p).astype(float)
    metrics = coins(p, y).metrics
    loss = -np.log(np.where(y == 1, p, 1 - p))
    for name, values in (("accuracy", y), ("mean_forecast", p), ("brier", (y - p) ** 2), ("log_loss", loss)):
        half = 1.959964 * values.std(ddof=1) / math.sqrt(300)
        assert metrics[name].value == pytest.approx(values.mean())
        assert metrics[name].interval == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-6)


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.1, 0.3])
def test_the_debiased_error_is_nearly_unbiased(gap):
    """Ten bins of 100 events, each with rate p - gap: the mean over 300 data sets against the population's error.

    No unbiased estimate of an absolute value exists: what is left is under a quarter of a bin's standard error, where
    the plain error is off by 0.8 of it at gap 0, and there under a fifth of the plain error's bias.
    """
    rng = np.random.default_rng(1)
    centres = np.repeat((np.arange(10) + 0.5) / 20 + 0.5, 100)
    plain, debiased, null = [], [], []
    for _ in range(300):
        y = (rng.random(1000) < centres - gap).astype(float)
        r = coins(centres, y, bins=20)
        plain.append(r.value)
        debiased.append(r.debiased)
        null.append(r.null_mean)
    se = float(np.mean([math.sqrt(p * (1 - p) / 100) for p in np.unique(centres) - gap]))
    assert abs(np.mean(debiased) - gap) < 0.26 * se
    if gap == 0:
        assert np.mean(plain) == pytest.approx(0.8 * se, rel=0.1)
        assert np.mean(null) == pytest.approx(0.8 * se, rel=0.1)
        assert abs(np.mean(debiased)) < 0.2 * np.mean(plain)


def test_bias_shrinks_with_the_number_of_events():
    """The plain error of a calibrated model falls like 1 / sqrt(n), and its null mean with it."""
    null = []
    for n in (100, 400, 1600):
        h, y = simulated(2, n)
        null.append(pc.audit(h, y, notions=["sub-2"], items="exchangeable", draws=399)["sub-2"].null_mean)
    assert null[0] / null[1] == pytest.approx(2, rel=0.15)
    assert null[1] / null[2] == pytest.approx(2, rel=0.15)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, n=st.integers(1, 30), items=st.sampled_from(["labelled", "exchangeable"]))
def test_every_number_is_in_its_range(seed, n, items):
    h, y = simulated(seed, n, m=4, scale=float(np.random.default_rng(seed).choice([0.1, 1.0, 30.0])))
    for r in pc.audit(h, y, notions=["sub-2", "top-1:confidence", "sub-3"], items=items, draws=99).results:
        assert 0 <= r.value <= 1
        assert 0 <= r.null_mean <= 1
        assert 0 <= r.interval[0] <= r.interval[1] <= 1
        for name in ("accuracy", "mean_forecast", "brier"):
            assert 0 <= r.metrics[name].value <= 1
        assert r.metrics["log_loss"].value >= 0
        for point in r.curve:
            assert 0 <= point.interval[0] <= point.mean_outcome + 1e-12
            assert point.mean_outcome - 1e-12 <= point.interval[1] <= 1
            assert point.null_band[0] - 1e-12 <= point.mean_forecast <= point.null_band[1] + 1e-12
            assert point.low <= point.mean_forecast <= point.high
            assert 0 <= point.mean_outcome <= 1


def test_null_bands_hold_95_percent_of_a_calibrated_models_bins():
    inside = total = 0
    for seed in range(120):
        h, y = simulated(seed, 300)
        for point in pc.audit(h, y, notions=["top-1:confidence"], bins=10, draws=99).results[0].curve:
            if point.n >= 30:
                inside += point.null_band[0] <= point.mean_outcome <= point.null_band[1]
                total += 1
    assert total > 300
    assert inside / total == pytest.approx(0.95, abs=0.03)


def table_of(p: np.ndarray, y: np.ndarray, bins: int = 10) -> CellTable:
    """One event an instance."""
    table = CellTable(bins)
    with np.errstate(divide="ignore"):
        forecast = Forecast(p[:, None], np.log(p)[:, None], np.log1p(-p)[:, None], None, np.empty(0))
    cell = np.minimum((p * bins).astype(int), bins - 1)[:, None]
    table.add(forecast, np.asarray(y, float)[:, None], np.ones((len(p), 1)), cell)
    return table


def test_one_bin_far_from_calibration_has_the_interval_of_a_mean():
    """One bin, its gap many standard errors: value +- 2.06 se, and nothing to take off."""
    rng = np.random.default_rng(0)
    p = np.full(2000, 0.75)
    y = rng.random(2000) < 0.6
    found = binned_error(table_of(p, y, bins=1), np.random.default_rng(1), draws=4000)
    se = y.std(ddof=1) / math.sqrt(2000)
    assert found.debiased == pytest.approx(found.value, abs=1e-12)
    assert found.interval[0] == pytest.approx(found.value - 2.06 * se, abs=0.1 * se)
    assert found.interval[1] == pytest.approx(found.value + 2.06 * se, abs=0.1 * se)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(2, 300), bins=st.sampled_from([1, 5, 15]))
def test_the_interval_holds_what_its_family_centres_on(seed, n, bins):
    """It lies in [0, 1], is not empty, and does not lie above the plain error (which is biased upward)."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, n)
    y = rng.random(n) < np.clip(p + rng.normal() * 0.2, 0, 1)
    found = binned_error(table_of(p, y, bins), rng, draws=200)
    low, high = found.interval
    assert 0 <= low <= high <= 1
    assert low <= found.value + 1e-12


def test_no_residual_and_no_noise_is_no_error():
    p = np.array([0.0, 0.0, 1.0, 1.0])
    found = binned_error(table_of(p, p), np.random.default_rng(0), draws=99)
    assert (found.value, found.debiased, found.interval) == (0.0, 0.0, (0.0, 0.0))


def test_residuals_that_cancel_leave_room_for_an_error():
    """A bin whose outcomes match its forecasts by chance does not show that its error is 0: about two se remain."""
    p, y = np.full(40, 0.5), np.tile([0, 1], 20)
    found = binned_error(table_of(p, y, bins=1), np.random.default_rng(0), draws=2000)
    assert found.value == 0.0
    assert found.interval[0] == 0.0
    se = 0.5 / math.sqrt(39)
    assert 1.5 * se < found.interval[1] < 2.5 * se


@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("signs", ["one way", "tilted", "mixed"])
def test_bias_of_a_normal_bin_is_as_documented(delta, signs):
    """Among many cells |z| ~ N(delta, 1): a sixth of a deviation at most, where |z| overstates by up to 0.8."""
    rng = np.random.default_rng(0)
    direction = {
        "one way": np.ones(500),
        "tilted": np.sign(np.arange(500) - 249.5),
        "mixed": rng.choice([-1, 1], 500),
    }
    z = delta * direction[signs] + rng.standard_normal((400, 500))
    ones = np.ones(500)
    tilt = contrasts(np.eye(500), 1)
    squares = tilt.T @ tilt
    found = ece_debiased(z, ones, ones, 1, squares) / 500
    assert abs(found.mean() - delta) < 0.17
    # The unit does not matter.
    assert ece_debiased(3 * z, 3 * ones, ones, 1, 9 * squares) / 500 == pytest.approx(3 * found)


def test_debiasing_many_tables_at_once_is_debiasing_each():
    rng = np.random.default_rng(4)
    sums = rng.normal(size=(6, 40, 12))  # groups, instances, cells of 3 members
    scale, weights = np.sqrt((sums**2).sum(axis=1)), np.full((6, 12), 30.0)
    tilt = contrasts(sums, 3)
    squares = np.einsum("gia,gib->gab", tilt, tilt)
    together = ece_debiased(sums.sum(axis=1), scale, weights, 3, squares)
    for i in range(6):
        alone = ece_debiased(sums[i].sum(axis=0), scale[i], weights[i], 3, squares[i])
        assert float(alone) == pytest.approx(together[i])


def test_one_sure_bin_that_is_wrong_keeps_its_error_beside_bins_that_say_nothing():
    """Nearly all forecasts are 1 - 1e-9, half of them wrong: the bin varies as it is seen to, not as stated."""
    rng = np.random.default_rng(5)
    p = np.where(np.arange(2000) < 1900, 1 - 1e-9, rng.uniform(0.05, 0.95, 2000))
    y = np.where(np.arange(2000) < 1900, np.arange(2000) % 2, rng.random(2000) < p)
    found = binned_error(table_of(p, y), rng, draws=400)
    assert found.debiased == pytest.approx(found.value, abs=0.005)
    se = 0.5 * math.sqrt(1900) / 2000
    assert found.interval[0] == pytest.approx(found.value - 2.06 * se, abs=0.01)
    assert found.interval[1] == pytest.approx(found.value + 2.06 * se, abs=0.01)


def _debiased(z: np.ndarray) -> np.ndarray:
    """Of (runs, bins) residuals in standard errors of independent bins."""
    ones = np.ones(z.shape[-1])
    tilt = contrasts(np.diag(ones), 1)
    return ece_debiased(z, ones, np.full(z.shape[-1], ones.sum()), 1, tilt.T @ tilt)


@pytest.mark.parametrize("size", [1.0, 2.0])
@pytest.mark.parametrize("shape", ["shift", "tilt"])
def test_gaps_that_bins_share_are_known_better_than_each(shape, size):
    """15 bins, an error of one or two standard errors: unbiased, with the spread of a sum of known signs."""
    rng = np.random.default_rng(7)
    gaps = size * {"shift": np.ones(15), "tilt": np.linspace(-1.5, 1.5, 15)}[shape]
    found = _debiased(gaps + rng.standard_normal((4000, 15)))
    assert abs(found.mean() - np.abs(gaps).mean()) < 0.04
    assert found.std() < 1.1 / math.sqrt(15)  # bin by bin 0.32, 0.29 (shift) and 0.31, 0.28 (tilt)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [0.5, 1.0, 2.0, 4.0])
def test_gaps_without_any_shape_cost_a_third_of_a_standard_error_at_most(seed, size):
    """What leaning on a shared tilt may take off too much; nothing where the gaps are clear."""
    gaps = size * np.random.default_rng(seed).choice([-1.0, 1.0], 15)
    found = _debiased(gaps + np.random.default_rng(1).standard_normal((4000, 15)))
    assert abs(found.mean() - size) < (0.35 if size < 2 else 0.05)


def test_a_shared_gap_is_weighted_by_what_each_bin_knows():
    """Bins of unequal noise: the fit is the weighted least squares one, and its error the robust one."""
    rng = np.random.default_rng(3)
    scale = rng.uniform(0.5, 3.0, 15)
    design = contrasts(np.eye(15), 1)
    r = rng.normal(size=15) * scale
    squares = design.T @ np.diag(scale**2) @ design
    fit, error = _tilt_and_shift(r, scale, squares, 1)
    root = 1 / scale
    model = scale[:, None] ** 2 * design
    coefficients, *_ = np.linalg.lstsq(root[:, None] * model, root * r, rcond=None)
    assert fit == pytest.approx(model @ coefficients)
    covariance = np.linalg.inv(model.T @ np.diag(scale**-2) @ model)
    assert error == pytest.approx(np.sqrt(np.diag(model @ covariance @ model.T)))


def test_bins_without_noise_keep_their_gap():
    """Whatever the others share, which they do not move: their error is known."""
    scale = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    residuals = np.array([3.0, 0.1, -0.2, 0.1, -2.0])
    tilt = contrasts(np.diag(scale), 1)
    found = ece_debiased(residuals, scale, np.full(5, 10.0), 1, tilt.T @ tilt)
    assert 0.5 - 0.3 < found < 0.5 + 0.05
    none = ece_debiased(residuals, np.zeros(5), np.full(5, 10.0), 1, np.zeros((2, 2)))
    assert none == pytest.approx(np.abs(residuals).sum() / 10)
    others = scale > 0
    for gap in (0.0, 50.0):
        residuals[~others] = gap
        fit, _ = _tilt_and_shift(residuals, scale, tilt.T @ tilt, 1)
        assert fit[~others] == pytest.approx(gap)
        if gap == 0.0:
            alone = fit[others]
    assert fit[others] == pytest.approx(alone)


def test_memory_of_debiasing_is_linear_in_the_cells():
    """Labelled notions have thousands of members: 5,040 of full:rankwise over seven items, times the bins."""
    size = 5_040 * 15
    r = np.random.default_rng(0).standard_normal(size)
    tracemalloc.start()
    try:
        found = ece_debiased(r, np.ones(size), np.full(size, 15.0), 5_040, size * np.eye(2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert abs(found) < 0.2
    assert peak < 100 * 8 * size
