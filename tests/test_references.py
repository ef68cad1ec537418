"""Agreement with independent implementations; each test is skipped where its package is not installed.

``pip install prefcal[references]`` brings them all. Where numbers differ, a comment says why and by how much.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest

from prefcal.estimators.binnings import bin_errors, l2_squared_debiased
from prefcal.estimators.cumulative import cumulative_error, range_survival
from prefcal.estimators.isotonic import decomposition, recalibrated
from prefcal.estimators.points import Points
from prefcal.estimators.smooth import smooth_ece, smooth_ece_at

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other packages


def reference(module: str, package: str) -> ModuleType:
    return pytest.importorskip(module, reason=f"{package} is not installed", exc_type=ImportError)


def events(seed: int, n: int = 1500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(1.5, 1.0, n)
    return p, (rng.random(n) < p**1.3).astype(int), rng.uniform(0.5, 2.0, n)


class TestRelplot:
    """relplot (the authors of smooth ECE) evaluates the kernel on a coarser grid.

    It cuts the kernel at distance 1/2 and reflects once, sums the density over max(200, 10 / sigma) points of which
    the two ends count whole, divides by the sum of the smoothed forecasts over the same points (here: by the
    weight), and tries bandwidths that are multiples of 1/1024. prefcal solves for the bandwidth and integrates over
    5,041 nodes. Together the differences stay below one in a hundred of the value.
    """

    def test_reference_value(self):
        metrics = reference("relplot.metrics", "relplot")
        rng = np.random.default_rng(0)
        p = rng.beta(2, 2, 2000)
        y = (rng.random(2000) < p**1.2).astype(float)
        theirs, width = metrics.smECE(p, y, return_width=True)
        assert theirs == pytest.approx(0.0641, abs=5e-5)
        ours = smooth_ece(Points.of(p, y))
        assert ours.value == pytest.approx(theirs, abs=1e-4)
        assert abs(ours.bandwidth - width) <= 1 / 1024

    @pytest.mark.parametrize("seed", range(6))
    def test_many(self, seed):
        metrics = reference("relplot.metrics", "relplot")
        p, y, _ = events(seed, n=[50, 200, 1000, 1500, 5000, 20000][seed])
        points = Points.of(p, y)
        for sigma in (0.02, 0.05, 0.1):
            theirs = metrics.smECE_sigma(p, y.astype(float), sigma)
            assert smooth_ece_at(points, sigma) == pytest.approx(theirs, rel=0.01, abs=1e-4)
        assert smooth_ece(points).value == pytest.approx(metrics.smECE(p, y.astype(float)), rel=0.01, abs=1 / 1024)


class TestModelDiagnostics:
    """The same isotonic decomposition, to rounding."""

    @pytest.mark.parametrize("score", ["brier", "log"])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("ties", [False, True])
    def test_decomposition(self, score, weighted, ties):
        scoring = reference("model_diagnostics.scoring", "model-diagnostics")
        p, y, w = events(11)
        p = np.clip(p.round(2), 0.01, 0.99) if ties else p
        function = scoring.SquaredError() if score == "brier" else scoring.LogLoss()
        row = scoring.decompose(y, p, w if weighted else None, scoring_function=function).to_dicts()[0]
        ours = decomposition(Points.of(p, y, w if weighted else None), score)
        assert ours.score == pytest.approx(row["score"], abs=1e-9)
        assert ours.mcb == pytest.approx(row["miscalibration"], abs=1e-9)
        assert ours.dsc == pytest.approx(row["discrimination"], abs=1e-9)
        assert ours.unc == pytest.approx(row["uncertainty"], abs=1e-9)


class TestMCGrad:
    """ECCE-R with weights, and its p-value. MCGrad breaks ties by position, so forecasts are distinct here."""

    @pytest.mark.parametrize("weighted", [False, True])
    def test_ecce(self, weighted):
        metrics = reference("mcgrad.metrics", "MCGrad")
        for seed in range(5):
            p, y, w = events(seed, n=300)
            weight = w if weighted else None
            ours = cumulative_error(Points.of(p, y, weight))
            assert ours.range == pytest.approx(metrics.ecce(y, p, weight), abs=1e-9)
            assert ours.range / ours.scale == pytest.approx(metrics.ecce_sigma(y, p, weight), rel=1e-9)
            assert ours.p_range == pytest.approx(metrics.ecce_pvalue(y, p, weight), abs=1e-9)

    def test_law(self):
        metrics = reference("mcgrad.metrics", "MCGrad")
        for x in (0.6, 1.0, 1.9, 2.1, 3.0, 5.0):
            assert range_survival(x) == pytest.approx(float(metrics.ecce_pvalue_from_sigma(x)), abs=1e-9)


class TestUncertaintyCalibration:
    """Equal-mass L1 and L2, plug-in and debiased (Kumar, Liang & Ma 2019).

    Bins agree where the number of events is a multiple of the bins and forecasts are distinct.
    """

    def test_plug_in(self):
        utils = reference("calibration.utils", "uncertainty-calibration")
        p, y, _ = events(21)
        ours = bin_errors(Points.of(p, y), 15)
        for power, value in ((1, ours.l1), (2, ours.l2)):
            theirs = utils.lower_bound_scaling_ce(p, y, p=power, debias=False, num_bins=15, mode="marginal")
            assert value == pytest.approx(theirs, abs=1e-9)

    def test_debiased(self):
        """With their variance, ybar (1 - ybar) / (n - 1) given the forecasts, the same number.

        The cluster-robust variance of the residuals counts how forecasts vary inside a bin, too; on 100 events a bin
        the two differ by less than 5 % of the correction.
        """
        utils = reference("calibration.utils", "uncertainty-calibration")
        p, y, _ = events(22)
        points = Points.of(p, y)
        found = bin_errors(points, 15)
        theirs = utils.lower_bound_scaling_ce(p, y, p=2, debias=True, num_bins=15, mode="marginal") ** 2
        n = np.bincount(found.bins, minlength=15)
        share = n / len(p)
        sums = np.bincount(found.bins, points.residuals, 15)
        mean = np.bincount(found.bins, points.y, 15) / n
        given = share**2 * mean * (1 - mean) / (n - 1)
        assert l2_squared_debiased(sums, given, share) == pytest.approx(theirs, abs=1e-9)
        r = points.residuals
        robust = np.bincount(found.bins, r**2, 15) - sums**2 / n
        correction = found.l2**2 - theirs
        assert found.l2**2 - l2_squared_debiased(sums, robust, share) == pytest.approx(correction, rel=0.05)


class TestScikitLearn:
    """``calibration_curve`` with uniform and quantile bins, and the isotonic fit."""

    @pytest.mark.parametrize("strategy", ["uniform", "quantile"])
    def test_calibration_curve(self, strategy):
        calibration = reference("sklearn.calibration", "scikit-learn")
        p, y, _ = events(31)
        outcome, forecast = calibration.calibration_curve(y, p, n_bins=15, strategy=strategy)
        found = bin_errors(Points.of(p, y), 15, width="width" if strategy == "uniform" else "mass")
        points = Points.of(p, y)
        n = np.bincount(found.bins, minlength=15)
        np.testing.assert_allclose(np.bincount(found.bins, points.p, 15)[n > 0] / n[n > 0], forecast, atol=1e-9)
        np.testing.assert_allclose(np.bincount(found.bins, points.y, 15)[n > 0] / n[n > 0], outcome, atol=1e-9)
        gaps = np.abs(outcome - forecast) * n[n > 0] / len(p)
        assert found.l1 == pytest.approx(gaps.sum(), abs=1e-9)

    def test_isotonic(self):
        isotonic = reference("sklearn.isotonic", "scikit-learn")
        p, y, w = events(32)
        p = p.round(2)
        theirs = isotonic.IsotonicRegression().fit(p, y, w)
        points = Points.of(p, y, w)
        np.testing.assert_allclose(recalibrated(points), theirs.predict(points.p), atol=1e-9)


def test_ecce_by_brute_force():
    """Always run: largest absolute sum over any interval of sorted forecasts, with exactly rounded sums."""
    p, y, w = events(41, n=60)
    order = np.argsort(p)
    terms = (w * (y - p))[order].tolist()
    largest = max(abs(math.fsum(terms[a:b])) for a in range(60) for b in range(a + 1, 61)) / math.fsum(w)
    assert cumulative_error(Points.of(p, y, w)).range == pytest.approx(largest, abs=1e-12)
