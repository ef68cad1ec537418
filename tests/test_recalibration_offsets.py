"""Offsets for position, length and other traits: recovery for scores and for pairs, and what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
from prefcal.data.ragged import Ragged
from prefcal.errors import DataError, UsageError
from prefcal.recalibration.base import Context, Data
from prefcal.recalibration.conditional_logit import within_spread
from prefcal.recalibration.fitting import recalibrate
from prefcal.recalibration.likelihood import mean_log_loss
from prefcal.recalibration.offsets import Offset, _ratio
from prefcal.recalibration.temperature import Temperature
from recalibration_contract import check_marginals, check_saved, data_of, weighted_and_repeated


def simulated(n: int, seed: int, *, m: int = 4, scale: float = 0.6, first: float = -0.5, best: bool = True) -> Data:
    """Scores that overrate the item shown first by 0.5 / 0.6 units; length has no effect."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(n, m)) * 2
    shown_first = (np.argsort(rng.random((n, m)), axis=1) == 0).astype(float)
    orders = pc.PlackettLuce(scale * s + first * shown_first).sample(1, rng)[:, 0]
    y = pc.Outcomes.from_best(orders[:, 0], n_items=m) if best else pc.Outcomes.from_orders(orders)
    features = {
        "shown first": Ragged.from_dense(shown_first, drop_nan=False),
        "length": Ragged.from_dense(np.exp(rng.normal(size=(n, m))) * 100, drop_nan=False),
    }
    return data_of(pc.PlackettLuce(s), y, item_features=features)


def judge(
    n: int, seed: int, *, favour: float = 0.8, scale: float = 0.5
) -> tuple[pc.Pairwise, pc.Outcomes, np.ndarray]:
    """An over-confident judge of pairs that adds ``favour`` log-odds for the answer shown first."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n) * 1.5
    shown_first = rng.random(n) < 0.5
    log_odds = truth / scale + favour * np.where(shown_first, 1.0, -1.0)
    probs = np.full((n, 2, 2), np.nan)
    probs[:, 0, 1] = 1 / (1 + np.exp(-log_odds))
    y = pc.Outcomes.from_best((rng.random(n) > 1 / (1 + np.exp(-truth))).astype(int), n_items=2)
    return pc.Pairwise(probs), y, np.stack([shown_first, ~shown_first], axis=1).astype(float)


def test_scale_and_effects_are_recovered():
    true = {"scale": 0.6, "shown first": -0.5, "length": 0.0, "shown first (score units)": 0.5 / 0.6}
    hits = dict.fromkeys(true, 0)
    for seed in range(100):
        found = Offset.fit(simulated(500, seed)).estimates
        for name, value in true.items():
            low, high = found[name].interval
            hits[name] += low <= value <= high
    assert min(hits.values()) >= 88  # 95 expected, three binomial standard errors


def test_a_position_biased_judge_of_pairs():
    hits = np.zeros(2)  # of (scale, shown first)
    for seed in range(60):
        h, y, shown = judge(600, seed)
        found = recalibrate(h, y, "offset", item_features={"shown first": shown}).estimates
        for k, (name, value) in enumerate((("scale", 0.5), ("shown first (score units)", 0.8))):
            low, high = found[name].interval
            hits[k] += low <= value <= high
    assert (hits >= 51).all()  # 57 expected
    h, y, shown = judge(4000, 99)
    fit = recalibrate(h, y, "offset", item_features={"shown first": shown})
    test, happened, seen = judge(4000, 100)
    line = Temperature.fit(data_of(h, y)).apply(test, Context())
    assert (
        mean_log_loss(fit(test, item_features={"shown first": seen}), happened)
        < mean_log_loss(line, happened) - 0.005
    )
    assert "being shown first is overrated by 0." in fit.describe()


def test_logistic_regression_is_the_oracle():
    """Two items, weak priors: scikit-learn without intercept on the differences gives the same numbers."""
    from sklearn.linear_model import LogisticRegression

    data = simulated(400, 3, m=2, best=False)
    s, f = data.h.scores.dense(), data.item_features["shown first"].dense()
    x = np.stack([s[:, 0] - s[:, 1], f[:, 0] - f[:, 1]], axis=1)
    spreads = [within_spread(v.ravel(), np.full(400, 2), np.ones(400)) for v in (s, f)]
    won = (data.y.dense()[:, 0] == 1).astype(int)
    fit = Offset.fit(
        Data(data.h, data.y, data.weights, data.units, item_features={"f": data.item_features["shown first"]})
    )
    deviations = [10.0, fit.effect_sd]  # of the prior: as one ridge of 1
    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(
        x / spreads * deviations, won
    )
    np.testing.assert_allclose([fit.scale, *fit.effects], model.coef_[0] / spreads * deviations, rtol=1e-5)


def test_fifty_instances_do_no_harm():
    """Calibrated scores and two idle features, n = 50 full rankings: the log loss rises by less than 0.03 nats."""
    test = simulated(2000, 999, scale=1.0, first=0.0, best=False)
    base = mean_log_loss(test.h, test.y)
    context = Context(item_features=test.item_features)
    rise = [
        mean_log_loss(Offset.fit(simulated(50, s, scale=1.0, first=0.0, best=False)).apply(test.h, context), test.y)
        - base
        for s in range(40)
    ]
    assert np.mean(rise) < 0.03


def test_held_out_gain_over_a_temperature():
    data, test = simulated(2000, 1, first=-1.5), simulated(4000, 2, first=-1.5)
    fit = Offset.fit(data)
    got = mean_log_loss(fit.apply(test.h, Context(item_features=test.item_features)), test.y)
    assert got < mean_log_loss(Temperature.fit(data).apply(test.h, Context()), test.y) - 0.02


def test_the_result_is_plackett_luce_and_consistent():
    data = simulated(30, 0)
    fit = Offset.fit(data)
    out = fit.apply(data.h, Context(item_features=data.item_features))
    expected = fit.scale * data.h.scores.dense()
    for name, b in zip(fit.features, fit.effects, strict=True):
        expected = expected + b * data.item_features[name].dense()
    np.testing.assert_allclose(out.scores.dense(), expected)
    check_marginals(out[:5])


def test_ragged_lists_and_named_features():
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=rng.integers(2, 6)) for _ in range(200)]
    lengths = [rng.normal(size=len(r)) for r in rows]
    h = pc.PlackettLuce(rows)
    y = pc.Outcomes.from_best([0] * 200, n_items=h.sizes)
    fit = recalibrate(h, y, "offset", item_features={"length": lengths, "unused": rows})
    assert fit.features == ("length", "unused")
    only = recalibrate(h[:100], y[:100], "offset", item_features={"length": lengths[:100]})
    assert only(h, item_features={"length": lengths}).sizes.tolist() == h.sizes.tolist()
    with pytest.raises(UsageError, match="'length'"):
        only(h)
    with pytest.raises(DataError, match="each candidate"):
        only(h, item_features={"length": [r[:1] for r in rows]})


def test_certain_pair_forecasts_count_as_a_fitted_number():
    """A judge that says A or B: the scale makes its verdicts as sure as they are right."""
    rng = np.random.default_rng(0)
    p = (rng.random(3000) < 0.5).astype(float)
    right = rng.random(3000) < 0.75
    probs = np.full((3000, 2, 2), np.nan)
    probs[:, 0, 1] = p
    y = pc.Outcomes.from_best(np.where(right, 1 - p, p).astype(int), n_items=2)
    shown = rng.permuted(np.tile([0.0, 1.0], (3000, 1)), axis=1)
    fit = recalibrate(pc.Pairwise(probs), y, "offset", item_features={"shown first": shown})
    out = fit(pc.Pairwise(probs), item_features={"shown first": np.zeros((3000, 2))}).probs[:, 0, 1]
    np.testing.assert_allclose(np.maximum(out, 1 - out), right.mean(), atol=5e-3)
    assert fit.cap == 1.0
    assert "certain forecasts" in fit.describe()
    np.testing.assert_allclose(
        out + fit(pc.Pairwise(probs), item_features={"shown first": np.zeros((3000, 2))}).probs[:, 1, 0], 1
    )


@settings(max_examples=100, deadline=None)
@given(st.floats(-5, 5), st.floats(0.01, 5), st.floats(0.001, 1), st.floats(-0.9, 0.9), st.floats(0.001, 1))
def test_fiellers_interval_holds_the_ratios_that_are_not_rejected(b, a, var_b, correlation, var_a):
    cov = correlation * (var_a * var_b) ** 0.5
    found = _ratio(b, a, var_b, cov, var_a)
    if found is None:
        assert a * a <= 1.96**2 * var_a * 1.001
        return
    for r in found:
        size = (b - r * a) ** 2 / (var_b - 2 * r * cov + r * r * var_a)
        assert size == pytest.approx(1.959964**2, rel=1e-3)
    assert found[0] <= b / a <= found[1]


def test_scores_that_mislead_are_ignored_not_flipped():
    data = simulated(800, 0, scale=-0.6)
    fit = Offset.fit(data)
    assert fit.scale == 0.0
    assert "not flipped" in fit.warnings[0]
    assert "shown first (score units)" not in fit.estimates
    assert "corrected by" in fit.describe()


def test_row_order_weights_and_units():
    data = simulated(200, 4)
    once, twice = weighted_and_repeated(Offset, data)
    np.testing.assert_allclose([once.scale, *once.effects], [twice.scale, *twice.effects], rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(np.sqrt(once.covariance[0]), np.sqrt(twice.covariance[0]), rtol=0.05)
    turned = Offset.fit(data.take(np.arange(200)[::-1]))
    np.testing.assert_allclose(turned.effects, Offset.fit(data).effects, rtol=1e-6)


def test_what_cannot_be_fitted():
    data = simulated(50, 0)
    constant = {"position": Ragged.from_dense(np.full((50, 4), 0.1), drop_nan=False)}
    with pytest.raises(DataError, match="never differs"):
        Offset.fit(Data(data.h, data.y, data.weights, data.units, item_features=constant))
    with pytest.raises(UsageError, match="item features"):
        Offset.fit(data_of(data.h, data.y))
    with pytest.raises(UsageError, match="'order'"):
        Offset.fit(data, item_features=["order"])
    with pytest.raises(UsageError, match="item_features"):
        recalibrate(data.h, data.y, "offset")


@pytest.mark.parametrize("kind", ["PlackettLuce", "Pairwise"])
def test_saved_maps(tmp_path, kind):
    if kind == "PlackettLuce":
        fit = Offset.fit(simulated(100, 0))
    else:
        h, y, shown = judge(100, 0)
        fit = recalibrate(h, y, "offset", item_features={"shown first": shown})
    check_saved(fit, tmp_path)


def test_a_judge_of_llmbar_overrates_length(data_dir):
    """GPT-4's ratings of adversarial pairs: one more e-fold of length is worth too much, out of sample as well."""
    scores, label, length = [], [], []
    for name in ("Natural", "Adversarial/Neighbor", "Adversarial/GPTOut", "Adversarial/Manual"):
        path = data_dir / f"reward_models/LLMBar/Dataset/LLMBar/{name}/evaluators/GPT-4/Rating/result.json"
        file = pc.read(path, on_error="skip")
        records = json.loads(path.read_text(encoding="utf-8"))
        kept = [r for r in records if all(r["results"][0][f"score_{j}"][0] for j in (1, 2))]
        assert len(kept) == len(file.outcomes)
        scores += file.scores.dense().tolist()
        label += [r["label"] - 1 for r in kept]
        length += [[np.log1p(len(r["output_1"])), np.log1p(len(r["output_2"]))] for r in kept]
    h, y, x = pc.PlackettLuce(scores), pc.Outcomes.from_best(label, n_items=2), np.array(length)
    fit = recalibrate(h, y, "offset", item_features={"log length": x})
    assert fit.estimates["log length (score units)"].interval[0] > 0.5
    gains = []
    for seed in range(5):
        turn = np.random.default_rng(seed).permutation(len(h))
        a, b = turn[: len(h) // 2], turn[len(h) // 2 :]
        line = recalibrate(h[a], y[a], "temperature")(h[b])
        moved = recalibrate(h[a], y[a], "offset", item_features={"log length": x[a]})(
            h[b], item_features={"log length": x[b]}
        )
        gains.append(mean_log_loss(line, y[b]) - mean_log_loss(moved, y[b]))
    assert min(gains) > 0
