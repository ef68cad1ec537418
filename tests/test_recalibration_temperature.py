"""One temperature: found by brute force, harmless on few data, honest about information, any kind of forecast."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

import prefcal as pc
import strategies
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob
from prefcal.recalibration.powers import listed_choices
from prefcal.recalibration.scales import PRIOR_SPREAD
from prefcal.recalibration.temperature import Temperature


def drawn(n: int, m: int, seed: int, spread: float = 1.5) -> tuple[np.ndarray, pc.Outcomes]:
    """Scores and full rankings that follow them exactly."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m)) * spread
    return scores, pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])


def seen_as(y: pc.Outcomes, how: str) -> pc.Outcomes:
    """The same rankings, less of them known."""
    ranks = y.dense()
    if how == "best":
        return pc.Outcomes.from_best(ranks.argmin(axis=1), n_items=ranks.shape[1])
    if how == "pair":
        return pc.Outcomes.from_ranks(
            np.where(
                np.arange(ranks.shape[1]) < 2, (ranks > ranks[:, [1, 0] + [0] * (ranks.shape[1] - 2)]) + 1.0, np.nan
            )
        )
    if how == "buckets":
        return pc.Outcomes.from_ranks(np.ceil(ranks / 2))
    return y


KINDS = ["PlackettLuce", "Categorical", "Pairwise", "BabingtonSmith"]


def forecast(kind: str, scores: np.ndarray) -> pc.distributions.base.Distribution:
    h = pc.PlackettLuce(scores)
    if kind == "PlackettLuce":
        return h
    if kind == "Categorical":
        full = h.marginal("full")
        return pc.Categorical(full.outcomes[0], full.probs[:, 0])
    odds = scores[:, :, None] - scores[:, None, :]
    probs = 1 / (1 + np.exp(-odds))
    return pc.Pairwise(probs) if kind == "Pairwise" else pc.BabingtonSmith(probs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["full", "best", "pair", "buckets"])
def test_it_maximises_the_penalised_likelihood(kind, how):
    """Against one-dimensional search over the likelihood of the map's own result."""
    if kind == "Pairwise" and how == "full":
        pytest.skip("its composite likelihood is checked by the others")
    scores, y = drawn(120, 4, 3)
    h, y = forecast(kind, 2 * scores), seen_as(y, how)

    def loss(log_t: float) -> float:
        log_p = observed_log_prob(h.scaled(math.exp(-log_t)), y)
        return float(-np.nansum(log_p) + math.log1p((log_t / PRIOR_SPREAD) ** 2))

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x
    fit = pc.recalibrate(h, y, "temperature")
    assert isinstance(fit, Temperature)
    assert math.log(fit.temperature) == pytest.approx(best, abs=2e-5)
    np.testing.assert_allclose(observed_log_prob(fit(h), y), observed_log_prob(h.scaled(1 / fit.temperature), y))


@pytest.mark.parametrize("how", ["full", "best", "pair", "buckets"])
def test_the_truth_is_in_the_interval_as_often_as_it_says(how):
    hits, runs = 0, 120
    for seed in range(runs):
        scores, y = drawn(200, 4, 1000 + seed)
        low, high = pc.recalibrate(pc.PlackettLuce(2 * scores), seen_as(y, how), "temperature").interval
        hits += low < 2 < high
    assert binomtest(hits, runs, 0.95).pvalue > 1e-4, hits / runs


def test_clusters_widen_the_interval():
    """Each instance copied eight times is no more evidence than once, if the copies are known to be one unit."""
    scores, y = drawn(150, 3, 5)
    copies = np.repeat(np.arange(150), 8)
    h = pc.PlackettLuce(scores)
    once = pc.recalibrate(h, y, "temperature", weights=np.full(150, 8.0))
    naive = pc.recalibrate(h[copies], y[copies], "temperature")
    honest = pc.recalibrate(h[copies], y[copies], "temperature", clusters=copies)
    assert honest.temperature == pytest.approx(once.temperature, rel=1e-6)
    np.testing.assert_allclose(honest.interval, once.interval, rtol=1e-4)
    assert np.diff(np.log(honest.interval)) > 2.5 * np.diff(np.log(naive.interval))
    assert honest.record.n_units == 150


def test_weight_two_is_the_record_twice_and_order_does_not_matter():
    scores, y = drawn(80, 4, 6)
    h = pc.PlackettLuce(scores)
    doubled = np.concatenate([np.arange(80), np.arange(40)])
    weights = np.where(np.arange(80) < 40, 2.0, 1.0)
    one = pc.recalibrate(h, y, "temperature", weights=weights)
    two = pc.recalibrate(h[doubled], y[doubled], "temperature")
    assert one.temperature == pytest.approx(two.temperature, rel=1e-6)
    assert one.record.after == pytest.approx(two.record.after)
    rows = np.random.default_rng(0).permutation(80)
    assert pc.recalibrate(h[rows], y[rows], "temperature").temperature == pytest.approx(
        pc.recalibrate(h, y, "temperature").temperature, rel=1e-6
    )


def test_fifty_calibrated_instances_lose_next_to_nothing():
    """Held-out log loss of 50 calibrated instances against no map: about one hundredth of a nat an instance."""
    lost = []
    for seed in range(100):
        scores, y = drawn(50, 4, seed)
        fit = pc.recalibrate(pc.PlackettLuce(scores), y, "temperature")
        fresh, observed = drawn(400, 4, 10_000 + seed)
        h = pc.PlackettLuce(fresh)
        lost.append(mean_log_loss(fit(h), observed) - mean_log_loss(h, observed))
    assert np.mean(lost) < 0.015  # 1 / (2 n) = 0.010 is the price of any fitted number
    assert np.quantile(lost, 0.95) < 0.07


def test_scores_without_information_are_said_to_have_none():
    scores, y = drawn(400, 3, 7)
    noise = np.random.default_rng(8).normal(size=scores.shape)
    fit = pc.recalibrate(pc.PlackettLuce(noise), y, "temperature")
    assert fit.slope_interval[0] <= 0 <= fit.slope_interval[1]
    assert "no detectable information" in fit.warnings[0]
    assert fit.temperature > 1
    assert pc.recalibrate(pc.PlackettLuce(scores), y, "temperature").warnings == ()


def test_false_alarms_about_information_are_as_rare_as_they_should_be():
    """Scores that carry none are warned about in about 97.5 % of data sets (the other 2.5 % look informative)."""
    warned = 0
    for seed in range(150):
        _, y = drawn(100, 3, seed)
        noise = np.random.default_rng(500 + seed).normal(size=(100, 3))
        warned += bool(pc.recalibrate(pc.PlackettLuce(noise), y, "temperature").warnings)
    assert binomtest(warned, 150, 0.975).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_negative_information_is_reported_and_never_flipped(kind):
    scores, y = drawn(500, 3, 9)
    h = forecast(kind, -scores)
    fit = pc.recalibrate(h, y, "temperature")
    assert "NEGATIVE information" in fit.warnings[0]
    assert fit.slope_interval[1] < 0
    assert fit.temperature == math.inf
    assert "equally likely" in fit.describe()
    np.testing.assert_allclose(fit(h).marginal("sub-2").probs, 0.5, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_order_everything_right_have_a_finite_temperature(kind):
    scores, _ = drawn(60, 3, 10)
    y = pc.Outcomes.from_ratings(scores)
    fit = pc.recalibrate(forecast(kind, scores), y, "temperature")
    assert fit.slope == math.inf
    assert fit.slope_interval is None
    assert "right" in fit.slope_note
    assert 0 < fit.temperature < 1
    wrong = pc.recalibrate(forecast(kind, -scores), y, "temperature")
    assert wrong.slope == -math.inf
    assert "NEGATIVE" in wrong.warnings[0]


def test_all_scores_equal_leave_the_temperature_alone():
    y = pc.Outcomes.from_orders([[0, 1, 2]] * 5)
    fit = pc.recalibrate(pc.PlackettLuce(np.zeros((5, 3))), y, "temperature")
    assert fit.temperature == pytest.approx(1.0)
    assert fit.warnings


@pytest.mark.parametrize("size", [1e-59, 1e-8, 1e-3, 1e3, 1e8, 1e59])
def test_scores_of_any_size(size):
    scores, y = drawn(300, 3, 11)
    fit = pc.recalibrate(pc.PlackettLuce(scores * size), y, "temperature")
    if 1e-20 < size < 1e20:
        assert fit.temperature == pytest.approx(size, rel=0.25)
    assert math.isfinite(fit.record.after)


def test_impossible_records_are_left_out_and_counted():
    h = pc.Categorical([[0, 1, 2], [1, 0, 2]], np.tile([0.7, 0.3], (30, 1)))
    orders = [[0, 1, 2]] * 15 + [[1, 0, 2]] * 14 + [[2, 1, 0]]
    fit = pc.recalibrate(h, pc.Outcomes.from_orders(orders), "temperature")
    assert fit.n_impossible == 1
    assert "probability 0" in fit.warnings[-1]
    certain = pc.Pairwise(np.tile([[0.5, 1.0], [0.0, 0.5]], (2, 1, 1)))
    with pytest.raises(pc.DataError, match="impossible"):
        pc.recalibrate(certain, pc.Outcomes.from_orders([[1, 0], [1, 0]]), "temperature")


def test_lists_too_long_for_one_chunk():
    """More than 2^20 numbers: every record keeps its own outcome."""
    scores, y = drawn(12_000, 4, 14)
    h = forecast("Categorical", 2 * scores)
    parts = listed_choices(h, y)
    assert len(parts) > 1
    log_p = np.empty(12_000)
    for part in parts:
        log_p[part.rows] = part.log_prob(1.0)
    np.testing.assert_allclose(log_p, observed_log_prob(h, y))


def test_several_records_of_an_instance_share_its_forecast():
    scores, _ = drawn(40, 3, 12)
    rng = np.random.default_rng(0)
    pairs = np.array([[i, *rng.permutation(3)[:2]] for i in rng.integers(0, 40, 300)])
    h = pc.PlackettLuce(scores)
    fit = pc.recalibrate(h, pc.Outcomes.from_pairs(pairs, n_items=3), "temperature")
    assert fit.record.n_records == 300
    assert fit.record.n_units == len(np.unique(pairs[:, 0]))
    flat = pc.PlackettLuce(np.stack([scores[pairs[:, 0], pairs[:, 1]], scores[pairs[:, 0], pairs[:, 2]]], axis=1))
    same = pc.recalibrate(flat, pc.Outcomes.from_orders(np.tile([0, 1], (300, 1))), "temperature")
    assert fit.temperature == pytest.approx(same.temperature, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5).flatmap(lambda m: st.tuples(strategies.score_rows(4, m), strategies.ranks(4, m))))
def test_any_data_gives_a_map_that_keeps_the_order(drawn_data):
    scores, ranks = drawn_data
    h = pc.PlackettLuce(scores)
    if 0 < np.ptp(scores, axis=1).max() < 1e-60:
        with pytest.raises(pc.DataError, match="multiply all scores by a constant first"):
            pc.recalibrate(h, pc.Outcomes.from_ranks(ranks), "temperature")
        return
    fit = pc.recalibrate(h, pc.Outcomes.from_ranks(ranks), "temperature")
    assert fit.keeps_order
    assert fit.temperature > 0
    assert fit.interval[0] <= fit.temperature <= fit.interval[1]
    got = fit(h).scores.dense()
    if math.isinf(fit.temperature):
        assert fit.slope <= 0
        assert (got == 0).all()
        return
    assert (np.argsort(-got, kind="stable") == np.argsort(-scores, kind="stable")).all()
    penalty = math.log1p((math.log(fit.temperature) / PRIOR_SPREAD) ** 2)
    assert 4 * fit.record.after + penalty <= 4 * fit.record.before + 1e-9


def test_questions_that_make_no_sense():
    scores, y = drawn(20, 3, 13)
    h = pc.PlackettLuce(scores)
    with pytest.raises(pc.UsageError, match=r"unknown method 'temperatur'.*did you mean 'temperature'"):
        pc.recalibrate(h, y, "temperatur")
    with pytest.raises(pc.UsageError, match="is for PlackettLuce or Categorical"):
        pc.recalibrate(pc.Mallows([1, 2, 3], np.full(20, 0.5)), y, "temperature")
    with pytest.raises(pc.UsageError, match="unknown option of temperature 'smooth'"):
        pc.recalibrate(h, y, "temperature", smooth=3)
    with pytest.raises(pc.UsageError, match=r"this temperature map is for PlackettLuce .* got Mallows"):
        pc.recalibrate(h, y, "temperature")(pc.Mallows([1, 2, 3], 0.5))
    with pytest.raises(pc.DataError, match="nothing can be fitted"):
        pc.recalibrate(h, pc.Outcomes.from_ranks([[1, 1, 1]] * 20), "temperature")
    with pytest.raises(pc.DataError, match="20 forecasts but 19"):
        pc.recalibrate(h, y[:19], "temperature")
    with pytest.raises(pc.DataError, match="features\\['a'\\]"):
        pc.recalibrate(h, y, "context", features={"a": [1.0]})
    with pytest.raises(pc.UsageError, match="needs groups"):
        pc.recalibrate(h, y, "group-wise")
