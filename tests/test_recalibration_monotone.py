"""The monotone map: recovery of a known bend, no harm, exact order, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies
from prefcal.data.ragged import Ragged
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.base import Context, Data
from prefcal.recalibration.conditional_logit import ConditionalLogit
from prefcal.recalibration.fitting import recalibrate
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob
from prefcal.recalibration.monotone import Monotone, kept_apart
from prefcal.recalibration.temperature import Temperature
from recalibration_contract import check_marginals, check_order_kept, check_saved, data_of, weighted_and_repeated


def bend(s):
    return np.where(s < 0, 0.3 * s, 1.2 * s)


def simulated(n: int, seed: int, truth=bend, *, m: int = 4, best: bool = False) -> Data:
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(n, m)) * 1.5 + rng.normal(size=(n, 1))
    orders = pc.PlackettLuce(truth(s)).sample(1, rng)[:, 0]
    y = pc.Outcomes.from_best(orders[:, 0], n_items=m) if best else pc.Outcomes.from_orders(orders)
    return data_of(pc.PlackettLuce(s), y)


@pytest.fixture(scope="module")
def fitted() -> Monotone:
    return Monotone.fit(simulated(2000, 0))


def test_a_bend_is_recovered(fitted):
    assert fitted.roughness > 0
    at = np.array([-3.0, -1.5, 0.0, 1.0, 2.0, 3.0])
    got = fitted.utility(at) - fitted.utility(np.zeros(1))
    assert np.abs(got - bend(at)).max() < 0.35
    assert "below" in fitted.describe()
    assert "order of the candidates is kept" in fitted.describe()
    assert fitted.warnings == ()


def test_slopes_lie_in_their_intervals():
    """Segments on one side of the kink; the smoothing bias beside it is part of what the intervals must bear."""
    hits = []
    for seed in range(8):
        fit = Monotone.fit(simulated(2000, seed))
        ends = [-np.inf, *fit.knots, np.inf]
        for k in range(len(fit.log_slopes)):
            true = 0.3 if ends[k + 1] <= 0 else 1.2 if ends[k] >= 0 else None
            if true is not None:
                low, high = fit.estimates[f"slope_{k + 1}"].interval
                hits.append(low <= true <= high)
    assert np.mean(hits) > 0.88  # 0.933 over 60 seeds


def test_held_out_loss_falls_where_the_scale_bends_and_not_elsewhere():
    for truth, gain in ((bend, 0.02), (lambda s: s, -0.002)):
        test, data = simulated(4000, 99, truth), simulated(2000, 1, truth)
        line, curve = Temperature.fit(data), Monotone.fit(data)
        better = [mean_log_loss(f.apply(test.h, Context()), test.y) for f in (line, curve)]
        assert better[0] - better[1] > gain


def test_fifty_instances_do_no_harm():
    """Calibrated scores, n = 50: the mean held-out log loss rises by less than 0.02 nats a ranking of four."""
    test = simulated(2000, 999, lambda s: s)
    base = mean_log_loss(test.h, test.y)
    rise = [
        mean_log_loss(Monotone.fit(simulated(50, seed, lambda s: s)).apply(test.h, Context()), test.y) - base
        for seed in range(25)
    ]
    assert np.mean(rise) < 0.02


def test_the_straight_map_is_the_temperature():
    data = simulated(300, 3, lambda s: s / 2)
    fit, line = Monotone.fit(data), Temperature.fit(data)
    assert fit.roughness == 0.0
    assert "do not show that the scale bends" in fit.describe()
    np.testing.assert_allclose(np.exp(fit.log_slopes), 1 / line.temperature, rtol=1e-9)
    assert fit.estimates["temperature"] == line.estimates["temperature"]


@settings(max_examples=60, deadline=None)
@given(strategies.scores_with_holes(max_items=4), st.floats(-5, 5), st.sampled_from([1.0, 1e-12, 1e9]))
def test_order_and_ties_are_kept(fitted, scores, shift, unit):
    h = pc.PlackettLuce(scores * unit + shift)
    check_order_kept(h, fitted.apply(h, Context()))


def test_neighbouring_scores_stay_apart():
    flat = Monotone((0.0,), (-30.0, -30.0), (0.0,) * 4, 1.0, Temperature.fit(simulated(50, 0)))
    s = np.array([[1e6, np.nextafter(1e6, np.inf), 1e6], [0.0, 1e-320, -1e-320]])
    h = pc.PlackettLuce(s)
    check_order_kept(h, flat.apply(h, Context()))
    ragged = Ragged.from_dense(s, drop_nan=False)
    np.testing.assert_array_equal(kept_apart(ragged, s.ravel() * 2), s.ravel() * 2)


def test_every_marginal_is_that_of_one_distribution(fitted):
    check_marginals(fitted.apply(pc.PlackettLuce(np.random.default_rng(0).normal(size=(5, 4)) * 3), Context()))


@pytest.mark.parametrize("seed", [0, 4])
def test_saved_maps(tmp_path, seed, fitted):
    check_saved(fitted if seed == 0 else Monotone.fit(simulated(60, seed)), tmp_path)


def test_the_item_likelihood_is_the_observed_one():
    """Bucket orders, gaps and ragged lists: value, gradient and curvature against the likelihood and differences."""
    rng = np.random.default_rng(5)
    rows = [rng.normal(size=k) for k in (2, 3, 5, 4, 4, 3, 2, 5)]
    h = pc.PlackettLuce(rows)
    ratings = [rng.integers(0, 3, len(r)).astype(float) for r in rows]
    ratings[3][1] = np.nan
    data = data_of(h, pc.Outcomes.from_ratings(ratings))
    x = rng.normal(size=(len(h.scores.values), 2))
    likelihood, at = ConditionalLogit(data, x), np.array([0.7, -0.4])
    expected = np.nansum(observed_log_prob(pc.PlackettLuce(h.scores.with_values(x @ at)), data.y))
    value, by_record, information = likelihood.derivatives(at)
    assert value == pytest.approx(expected, abs=1e-9) == likelihood.value(at)
    for k, step in enumerate(np.eye(2) * 1e-5):
        slope = (likelihood.value(at + step) - likelihood.value(at - step)) / 2e-5
        assert by_record.sum(axis=0)[k] == pytest.approx(slope, abs=1e-6)
        bent = (likelihood.derivatives(at + step)[1] - likelihood.derivatives(at - step)[1]).sum(axis=0) / 2e-5
        np.testing.assert_allclose(-information[k], bent, atol=1e-6)


def test_weights_and_row_order():
    data = simulated(200, 7)
    once, twice = weighted_and_repeated(Monotone, data)
    turned = Monotone.fit(data_of(data.h[::-1], data.y[::-1]))
    np.testing.assert_allclose(once.line.temperature, twice.line.temperature, rtol=1e-6)
    np.testing.assert_allclose(turned.log_slopes, Monotone.fit(data).log_slopes, rtol=1e-6)


def test_scores_without_information():
    data = simulated(400, 11, lambda s: 0 * s)
    assert "no detectable information" in " ".join(Monotone.fit(data).warnings)
    wrong = Monotone.fit(simulated(400, 11, lambda s: -s))
    assert "NEGATIVE" in " ".join(wrong.warnings)
    h = simulated(5, 0).h
    check_order_kept(h, wrong.apply(h, Context()))


def test_separable_scores_have_a_finite_map():
    s = np.random.default_rng(0).normal(size=(60, 3))
    fit = Monotone.fit(data_of(pc.PlackettLuce(s), pc.Outcomes.from_orders(np.argsort(-s, axis=1))))
    assert np.isfinite(fit.log_slopes).all()


def test_what_cannot_be_fitted():
    y = pc.Outcomes.from_best([0, 1], n_items=2)
    with pytest.raises(DataError, match="equal within every instance"):
        Monotone.fit(data_of(pc.PlackettLuce([[1.0, 1.0], [2.0, 2.0]]), y))
    with pytest.raises(UsageError, match="option"):
        Monotone.fit(data_of(pc.PlackettLuce([[1.0, 0.0], [2.0, 1.0]]), y), knots=3)


def test_real_reward_models_keep_their_best_candidate(data_dir):
    """RewardMATH, best of 10, half against half: Skywork's scale bends; the pick is the same in every prompt."""
    folder = data_dir / "reward_models/RewardMATH_official/results/RewardMATH"
    file = pc.read(folder / "skywork_llama3_reward.json")
    h, y = pc.PlackettLuce(file.scores), file.outcomes
    turn = np.random.default_rng(0).permutation(len(y))
    fit, test = turn[: len(y) // 2], turn[len(y) // 2 :]
    line, curve = (recalibrate(h[fit], y[fit], method)(h[test]) for method in ("temperature", "monotone"))
    assert mean_log_loss(curve, y[test]) < mean_log_loss(line, y[test]) - 0.02
    np.testing.assert_array_equal(curve.mode()[:, 0], h[test].mode()[:, 0])
