"""Temperatures by context, stage and group: what they find, what they leave alone, what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest

import prefcal as pc
from prefcal.recalibration.contextual import CANDIDATES, SPREAD, ContextTemperature, own_features
from prefcal.recalibration.grouped import GroupTemperature
from prefcal.recalibration.likelihood import mean_log_loss, observed_log_prob
from prefcal.recalibration.stages import StageTemperature, best_before


def drawn(truth: pc.distributions.base.Distribution, seed: int) -> pc.Outcomes:
    """Full rankings from the truth; -1 pads short lists."""
    orders = truth.sample(1, seed)[:, 0]
    ranks = [np.argsort(o[: (o >= 0).sum()]) + 1.0 for o in orders]
    return pc.Outcomes.from_ranks(ranks if len({len(r) for r in ranks}) > 1 else np.array(ranks))


def best_of(y: pc.Outcomes) -> pc.Outcomes:
    ranks = y.dense()
    return pc.Outcomes.from_best(np.nanargmin(ranks, axis=1), n_items=y.sizes)


def ragged(n: int, seed: int, most: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=k) * 1.5 for k in rng.integers(2, most + 1, n)]


def test_context_finds_how_the_temperature_depends_on_the_list():
    rows = ragged(3000, 0)
    x = np.random.default_rng(1).normal(size=3000)
    log_t = 0.3 + 0.5 * np.log([len(r) for r in rows]) - 0.4 * x
    truth = pc.PlackettLuce(rows)
    h = pc.PlackettLuce([r * np.exp(t) for r, t in zip(rows, log_t)])
    y = drawn(truth, 2)
    fit = pc.recalibrate(h, y, "context", features={"x": x, "still": np.ones(3000)})
    assert isinstance(fit, ContextTemperature)
    assert fit.left_out == ("still",)
    effect = dict(zip(fit.features, np.array(fit.effects) / np.array(fit.spread)))
    assert effect["x"] == pytest.approx(-0.4, abs=0.08)
    assert effect[CANDIDATES] == pytest.approx(0.5, abs=0.15)
    assert abs(effect[SPREAD]) < 0.15
    low, high = fit.estimates["effect of x"].interval
    assert low < -0.4 * x.std() < high
    plain = pc.recalibrate(h, y, "temperature")
    assert fit.record.after < plain.record.after - 0.02
    assert fit.keeps_order
    assert (fit(h, features={"x": x}).mode() == h.mode()).all()
    with pytest.raises(pc.UsageError, match="needs features"):
        fit(h)
    with pytest.raises(pc.UsageError, match="log score spread"):
        pc.recalibrate(h, y, "context", features={SPREAD: x})


def test_context_uses_no_feature_outside_the_range_it_saw():
    rows = ragged(400, 3)
    h, x = pc.PlackettLuce(rows), np.linspace(-1, 1, 400)
    fit = pc.recalibrate(
        h, drawn(pc.PlackettLuce([r * np.exp(v) for r, v in zip(rows, x)]), 4), "context", features={"x": x}
    )
    far, edge = (fit(h[:5], features={"x": np.full(5, v)}).scores.values for v in (50.0, 1.0))
    np.testing.assert_array_equal(far, edge)


def test_own_features_of_lists():
    h = pc.PlackettLuce([[1.0, 3.0], [0.0, 0.0, 0.0], [2e200, 4e200]])
    features = own_features(h)
    np.testing.assert_allclose(features[CANDIDATES], np.log([2, 3, 2]))
    assert features[SPREAD][2] == pytest.approx(200 * np.log(10), rel=1e-6)
    assert np.isfinite(features[SPREAD]).all()


@pytest.mark.parametrize("method", ["context", "stage-wise", "group-wise"])
def test_few_calibrated_instances_do_little_harm(method):
    """Fifty instances: what the richer maps lose on fresh data, against leaving the forecasts alone."""
    lost = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scores = rng.normal(size=(450, 4)) * 1.5
        truth = pc.PlackettLuce(scores)
        y = drawn(truth, seed)
        groups = [f"g{g}" for g in rng.integers(0, 8, 450)]
        fit = pc.recalibrate(truth[:50], y[:50], method, groups=groups[:50])
        mended = fit(truth[50:], groups=groups[50:])
        lost.append(mean_log_loss(mended, y[50:]) - mean_log_loss(truth[50:], y[50:]))
    assert np.mean(lost) < 0.03


def test_stages_are_found_from_full_rankings():
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(3000, 5)) * 1.5
    scales = np.array([1.0, 0.8, 0.6, 0.4])
    y = drawn(pc.StagedPlackettLuce(scores, scales), 6)
    h = pc.PlackettLuce(scores)
    fit = pc.recalibrate(h, y, "stage-wise")
    assert isinstance(fit, StageTemperature)
    assert not fit.composite
    np.testing.assert_allclose(1 / np.array(fit.temperatures), scales, rtol=0.12)
    assert ((np.array(fit.low) < 1 / scales) & (1 / scales < np.array(fit.high))).all()
    mended = fit(h)
    assert isinstance(mended, pc.StagedPlackettLuce)
    assert fit.record.after < pc.recalibrate(h, y, "temperature").record.after - 0.01
    odds = mended.pair_log_odds(np.array([0]), np.array([1]))[:, 0]
    assert (np.sign(odds) == np.sign(scores[:, 0] - scores[:, 1])).all()
    assert (mended.top_log_probs().argmax(axis=1) == scores.argmax(axis=1)).all()


def test_stages_maximise_the_penalised_likelihood():
    """Against a general optimiser on the likelihood of the map's own result, the prior written out."""
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(60, 4))
    y = drawn(pc.StagedPlackettLuce(scores, [1.5, 1.0, 0.5]), 8)
    fit = pc.recalibrate(pc.PlackettLuce(scores), y, "stage-wise", strength=2.0)

    def loss(log_scale: np.ndarray) -> float:  # with 2, 3, 4 left
        log_p = observed_log_prob(pc.StagedPlackettLuce(scores, np.exp(log_scale)), y).sum()
        steps = (log_scale[:-1] - log_scale[1:]) ** 2 / np.log([3 / 2, 4 / 3])
        return float(-log_p + 0.5 * 2.0 * steps.sum() + np.log1p(log_scale[-1] ** 2))

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(-np.log(fit.temperatures), best, atol=1e-4)


def test_stages_without_data_follow_their_neighbours():
    scores = np.random.default_rng(9).normal(size=(500, 6)) * 1.5
    y = best_of(drawn(pc.PlackettLuce(scores * 0.5), 10))
    fit = pc.recalibrate(pc.PlackettLuce(scores), y, "stage-wise", pairs=False)
    np.testing.assert_allclose(fit.temperatures, fit.temperatures[-1], rtol=1e-6)
    assert fit.high[0] / fit.low[0] > fit.high[-1] / fit.low[-1]
    plain = pc.recalibrate(pc.PlackettLuce(scores), y, "temperature")
    assert fit.temperatures[-1] == pytest.approx(plain.temperature, rel=1e-4)


def test_pairs_of_best_only_data_agree_with_a_plackett_luce_truth():
    scores = np.random.default_rng(11).normal(size=(1500, 5)) * 1.5
    y = best_of(drawn(pc.PlackettLuce(scores * 0.5), 12))
    fit = pc.recalibrate(pc.PlackettLuce(scores), y, "stage-wise")
    assert fit.composite
    assert "pairs of the best item" in fit.describe()
    for low, high in zip(fit.low, fit.high):
        assert low < 2.0 < high


def test_best_before_is_the_pair_marginal():
    rng = np.random.default_rng(13)
    scores, scales = rng.normal(size=(7, 6)) * 2, rng.uniform(0.3, 2, 5)
    odds = pc.StagedPlackettLuce(scores, scales).pair_log_odds(np.zeros(5, dtype=int), np.arange(1, 6))
    np.testing.assert_allclose(best_before(scores, scales), -np.logaddexp(0, -odds), atol=1e-12)


def test_longer_lists_than_seen_use_the_last_stage():
    rows = ragged(300, 14, most=5)
    fit = pc.recalibrate(pc.PlackettLuce(rows), drawn(pc.PlackettLuce(rows), 15), "stage-wise")
    longer = fit(pc.PlackettLuce([np.zeros(9), np.zeros(3)]))
    assert longer.scales[-1] == pytest.approx(1 / fit.temperatures[-1])
    assert len(longer.scales) == 8


def test_stages_cannot_be_told_from_partial_lists():
    y = pc.Outcomes.from_ranks([[1, 2, np.nan]] * 4)
    with pytest.raises(pc.DataError, match="stages cannot be told apart"):
        pc.recalibrate(pc.PlackettLuce(np.zeros((4, 3))), y, "stage-wise")
    for strength in (0, -1.0, float("nan"), "much"):
        with pytest.raises(pc.UsageError, match="strength"):
            pc.recalibrate(pc.PlackettLuce(np.zeros((4, 3))), y, "stage-wise", strength=strength)


def grouped_data(n: int, seed: int, spread: float) -> tuple[pc.PlackettLuce, pc.Outcomes, list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 12, n)
    log_t = 0.5 + spread * rng.normal(size=12)
    scores = rng.normal(size=(n, 4)) * 1.5
    y = drawn(pc.PlackettLuce(scores * np.exp(-log_t[codes])[:, None]), seed)
    return pc.PlackettLuce(scores), y, [f"group {c:02d}" for c in codes], log_t


def test_groups_are_told_apart_as_far_as_they_differ():
    h, y, names, log_t = grouped_data(3000, 16, 0.5)
    fit = pc.recalibrate(h, y, "group-wise", groups=names)
    assert isinstance(fit, GroupTemperature)
    assert 0.3 <= fit.between <= 0.8
    inside = [a < np.exp(t) < b for t, a, b in zip(log_t, fit.low, fit.high)]
    assert sum(inside) >= 10
    np.testing.assert_allclose(np.log(fit.temperatures), log_t, atol=0.35)
    unseen = fit(h[:1], groups=["another"])
    np.testing.assert_allclose(unseen.scores.values, h[:1].scores.values / fit.temperature)
    with pytest.raises(pc.UsageError, match="needs groups"):
        fit(h)


def test_groups_that_are_alike_are_pooled():
    h, y, names, _ = grouped_data(600, 17, 0.0)
    fit = pc.recalibrate(h, y, "group-wise", groups=names)
    plain = pc.recalibrate(h, y, "temperature")
    assert fit.between <= 0.15
    np.testing.assert_allclose(fit.temperatures, plain.temperature, rtol=0.15)


def test_group_posteriors_cover():
    hits, runs = 0, 0
    for seed in range(12):
        h, y, names, log_t = grouped_data(400, 100 + seed, 0.4)
        fit = pc.recalibrate(h, y, "group-wise", groups=names)
        hits += sum(a < np.exp(t) < b for t, a, b in zip(log_t, fit.low, fit.high))
        runs += 12
    assert binomtest(hits, runs, 0.95).pvalue > 1e-3, hits / runs


def test_one_group_is_a_temperature():
    h, y, _, _ = grouped_data(300, 18, 0.0)
    fit = pc.recalibrate(h, y, "group-wise", groups=["all"] * 300)
    assert fit.temperatures[0] == pytest.approx(pc.recalibrate(h, y, "temperature").temperature, rel=0.02)
    assert "one group only" in fit.warnings[-1]


def test_missing_group_names_are_a_group():
    h, y, _, _ = grouped_data(60, 19, 0.0)
    fit = pc.recalibrate(h, y, "group-wise", groups=[None, "a", float("nan")] * 20)
    assert fit.groups == ("(missing)", "a")


@pytest.mark.parametrize("method", ["context", "stage-wise", "group-wise"])
def test_scores_without_information_are_said_to_have_none(method):
    h, y, names, _ = grouped_data(300, 20, 0.0)
    noise = pc.PlackettLuce(np.random.default_rng(21).normal(size=(300, 4)))
    assert "no detectable" in pc.recalibrate(noise, y, method, groups=names).warnings[0]
    turned = pc.PlackettLuce(-h.scores.dense())
    fit = pc.recalibrate(turned, y, method, groups=names)
    assert "NEGATIVE" in fit.warnings[0]
    if method != "group-wise":
        assert "equally likely" in fit.describe()
        np.testing.assert_allclose(np.exp(fit(turned).top_log_probs()), 0.25)


@pytest.mark.parametrize("method", ["context", "stage-wise", "group-wise"])
def test_weight_two_is_the_record_twice(method):
    h, y, names, _ = grouped_data(80, 22, 0.3)
    doubled = np.concatenate([np.arange(80), np.arange(40)])
    one = pc.recalibrate(h, y, method, groups=names, weights=np.where(np.arange(80) < 40, 2.0, 1.0))
    two = pc.recalibrate(h[doubled], y[doubled], method, groups=[names[i] for i in doubled])
    apart = one(h, groups=names).top_log_probs() - two(h, groups=names).top_log_probs()
    np.testing.assert_allclose(apart, 0.0, atol=1e-5)


@pytest.mark.parametrize("method", ["context", "stage-wise"])
def test_long_lists_that_the_scores_order_the_wrong_way_do_not_stop_the_fit(method):
    """Found on a public reward model: Newton steps went back and forth where pairs know and best-of-ten misleads."""
    rng = np.random.default_rng(3)
    pairs, tens = rng.normal(size=(400, 2)), rng.normal(size=(400, 10))
    best = pc.PlackettLuce(pairs).sample(1, rng)[:, 0, 0].tolist()
    best += pc.PlackettLuce(-0.2 * tens).sample(1, rng)[:, 0, 0].tolist()
    h = pc.PlackettLuce([*pairs.tolist(), *tens.tolist()])
    fitted = pc.recalibrate(h, pc.Outcomes.from_best(best, n_items=h.sizes), method)
    odds = fitted(h[:400]).pair_log_odds([0], [1])[:, 0]
    assert 0.6 < np.median(odds / (pairs[:, 0] - pairs[:, 1])) < 1.6
    assert np.exp(fitted(h[400:]).top_log_probs()).max() < 0.2  # next to uniform: 0.1 each
