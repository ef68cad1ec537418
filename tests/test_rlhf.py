"""The RLHF simulation: identities, limits, derivatives, and what recalibration can and cannot do."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from prefcal.decisions.rlhf import fitted_slope, gain, kl, policy, population_slope, simulate, train, win_rate
from prefcal.decisions.worlds import World, distorted, noisy, scaled, trained_on_flipped
from prefcal.errors import DataError, UsageError
from strategies import seeds

betas = st.floats(0.05, 20.0)


def world(seed: int = 0, prompts: int = 4, answers: int = 6) -> World:
    return World.random(prompts=prompts, answers=answers, seed=seed)


# ------------------------------------------------------------------------------------------------------------ policy


@given(seeds, betas)
def test_the_policy_maximises_its_objective(seed, beta):
    """Against a general optimiser, on one prompt."""
    w = world(seed, prompts=1, answers=4)

    def negative(logits):
        log_p = (logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())[None]
        return beta * kl(log_p, w.log_ref) - gain(w.reward, log_p, w.log_ref)

    best = minimize(negative, w.log_ref[0], options={"gtol": 1e-9}).fun
    assert negative(policy(w.reward, w.log_ref, beta)[0]) <= best + 1e-7


@given(seeds, betas, st.floats(0.1, 10.0))
def test_a_scale_is_a_change_of_beta(seed, beta, factor):
    w = world(seed)
    assert np.allclose(policy(factor * w.reward, w.log_ref, beta), policy(w.reward, w.log_ref, beta / factor))


@given(seeds, betas)
def test_the_gain_grows_with_optimisation_at_the_known_rate(seed, beta):
    """d E[r] / d(1/beta) = mean variance of r under the policy; the KL's derivative is 1/beta times that."""
    w = world(seed)
    t, e = 1 / beta, 1e-5
    up, down = (policy(w.reward, w.log_ref, 1 / (t + s)) for s in (e, -e))
    p = np.exp(policy(w.reward, w.log_ref, beta))
    mean = (p * w.reward).sum(axis=1, keepdims=True)
    variance = float((p * (w.reward - mean) ** 2).sum(axis=1).mean())
    slope = (gain(w.reward, up, w.log_ref) - gain(w.reward, down, w.log_ref)) / (2 * e)
    assert slope == pytest.approx(variance, rel=1e-4, abs=1e-8)
    slope = (kl(up, w.log_ref) - kl(down, w.log_ref)) / (2 * e)
    assert slope == pytest.approx(t * variance, rel=1e-4, abs=1e-7)


def test_limits_of_beta():
    w = world()
    assert policy(w.reward, w.log_ref, math.inf) is w.log_ref
    assert gain(w.reward, w.log_ref, w.log_ref) == kl(w.log_ref, w.log_ref) == 0
    assert win_rate(w, w.log_ref) == pytest.approx(0.5)
    greedy = policy(w.reward, w.log_ref, 0.0)
    assert np.allclose(greedy.max(axis=1), 0)
    assert (greedy.argmax(axis=1) == w.reward.argmax(axis=1)).all()
    assert np.allclose(np.exp(policy(w.reward, w.log_ref, 1e-4)), np.exp(greedy))
    assert kl(greedy, w.log_ref) == pytest.approx(-w.log_ref.max(where=greedy == 0, axis=1, initial=-np.inf).mean())
    tied = policy(np.array([[1.0, 1.0, 0.0]]), np.log([[0.2, 0.6, 0.2]]), 0.0)
    assert np.exp(tied[0]) == pytest.approx([0.25, 0.75, 0.0])
    assert np.isfinite(policy(w.reward * 1e8, w.log_ref, 1e-8)[greedy == 0]).all()
    with pytest.raises(UsageError, match="beta"):
        policy(w.reward, w.log_ref, -1.0)


@given(seeds, betas)
def test_loss_is_what_is_lost_of_the_objective(seed, beta):
    w = world(seed)
    reward = noisy(w, 1.0, seed=seed)
    objective = [
        gain(w.reward, p, w.log_ref) - beta * kl(p, w.log_ref)
        for p in (policy(w.reward, w.log_ref, beta), policy(reward, w.log_ref, beta))
    ]
    assert train(w, reward, beta)["loss"] == pytest.approx(objective[0] - objective[1], abs=1e-9)


def test_win_rate_by_loops():
    w = world(prompts=2, answers=3)
    log_p = policy(w.reward, w.log_ref, 0.5)
    total = 0.0
    for x in range(2):
        for a in range(3):
            for b in range(3):
                chance = 1 / (1 + math.exp(w.reward[x, b] - w.reward[x, a]))
                total += math.exp(log_p[x, a] + w.log_ref[x, b]) * chance / 2
    assert win_rate(w, log_p) == pytest.approx(total)


@given(seeds, betas, st.floats(-5, 5))
def test_constants_and_names_of_answers_do_not_matter(seed, beta, constant):
    w = world(seed)
    reward = noisy(w, 1.0, seed=1)
    order = np.random.default_rng(seed).permutation(6)
    rows = np.random.default_rng(seed).permutation(4)
    other = World(w.reward[rows][:, order], w.log_ref[rows][:, order])
    assert train(w, reward, beta) == pytest.approx(train(w, reward + constant, beta), abs=1e-9)
    assert train(w, reward, beta) == pytest.approx(train(other, reward[rows][:, order], beta), abs=1e-9)


# ----------------------------------------------------------------------------------------------------- reward models


def test_distortion_keeps_ranking_and_spread():
    w = world()
    for power in (0.3, 1.0, 3.0):
        bent = distorted(w, power)
        assert (np.argsort(bent, axis=1) == np.argsort(w.reward, axis=1)).all()
        ref = np.exp(w.log_ref)
        sd = [np.sqrt((ref * (r - (ref * r).sum(1, keepdims=True)) ** 2).sum(1)) for r in (bent, w.reward)]
        assert np.allclose(*sd)
    assert np.allclose(distorted(w, 1.0), w.reward - (np.exp(w.log_ref) * w.reward).sum(1, keepdims=True))


def test_training_on_flipped_labels_shrinks():
    w = world()
    assert np.allclose(trained_on_flipped(w, 0.0), w.reward, atol=1e-9)
    some = trained_on_flipped(w, 0.2)
    assert population_slope(w, some) > 1.2
    two = World(np.array([[2.0, 0.0]]), np.log([[0.5, 0.5]]))
    p = 0.8 / (1 + math.exp(-2)) + 0.2 / (1 + math.exp(2))
    fitted = trained_on_flipped(two, 0.2)[0]
    assert fitted[0] - fitted[1] == pytest.approx(math.log(p / (1 - p)))
    with pytest.raises(UsageError, match="flip"):
        trained_on_flipped(w, 0.5)


# ----------------------------------------------------------------------------------------------------- recalibration


@pytest.mark.parametrize("factor", [0.1, 1.0, 7.0, 1e6])
def test_population_slope_undoes_a_scale(factor):
    w = world()
    assert population_slope(w, scaled(w, factor)) == pytest.approx(1 / factor, rel=1e-9)


@given(seeds)
def test_population_slope_maximises_the_expected_likelihood(seed):
    """All ordered pairs of different answers from the reference policy, by loops."""
    w = world(seed, prompts=2, answers=3)
    reward = noisy(w, 0.5, seed=seed)

    def loss(a):
        total = 0.0
        for x in range(2):
            for i in range(3):
                for j in range(3):
                    if i != j:
                        p = 1 / (1 + math.exp(w.reward[x, j] - w.reward[x, i]))
                        chance = math.exp(w.log_ref[x, i] + w.log_ref[x, j]) * p
                        total += chance * np.logaddexp(0.0, -a * (reward[x, i] - reward[x, j]))
        return total

    slope = population_slope(w, reward)
    best = loss(slope)
    if slope > 0:
        assert loss(slope * 0.99) >= best - 1e-12
    assert loss(slope * 1.01 + 1e-3) >= best - 1e-12
    found = minimize_scalar(loss, bounds=(0, 50), method="bounded", options={"xatol": 1e-8})
    assert best <= found.fun + 1e-9


def test_population_slope_of_no_and_negative_information():
    w = world()
    assert population_slope(w, np.zeros_like(w.reward)) == 0
    assert population_slope(w, -w.reward) == 0


def test_fitted_slopes_scatter_around_the_population_s():
    w = world(prompts=20)
    reward = noisy(w, 1.0, seed=3)
    slopes = np.array([fitted_slope(w, reward, 500, seed=s) for s in range(60)])
    target = population_slope(w, reward)
    assert abs(slopes.mean() - target) < 4 * slopes.std() / math.sqrt(60)
    larger = np.std([fitted_slope(w, reward, 4000, seed=s) for s in range(30)])
    assert larger < 0.55 * slopes.std()


def test_recalibration_mends_scale_exactly():
    w = world()
    found = simulate(w, {"sure": scaled(w, 4.0)}, betas=[0.2, 1.0], pairs=None)
    for raw, mended in zip(found.curve("sure", "raw").points, found.curve("sure", "temperature").points, strict=True):
        assert mended.loss.value < 1e-12
        assert abs(mended.over_optimisation.value) < 1e-9
        assert raw.loss.value > 0.01
        assert raw.kl.value > mended.kl.value  # over-confident: too greedy
        assert raw.over_optimisation.value > 0.1


def test_a_temperature_cannot_leave_the_frontier():
    """Whatever the temperature: the same reward model reaches the same pairs of KL and true gain."""
    w = world(prompts=10)
    reward = noisy(w, 2.0, seed=4)
    slope = population_slope(w, reward)
    assert slope < 0.7
    for beta in (0.2, 1.0):
        mended, elsewhere = train(w, slope * reward, beta), train(w, reward, beta / slope)
        for key in ("true_gain", "kl", "win_rate"):
            assert mended[key] == pytest.approx(elsewhere[key], abs=1e-9)


def test_ranking_errors_are_not_mended_but_claims_are():
    w = World.random(prompts=60, answers=24, seed=5)
    found = simulate(w, {"noisy": noisy(w, 1.5, seed=6)}, betas=[0.3], pairs=None)
    raw, mended = (found.curve("noisy", use).points[0] for use in ("raw", "temperature"))
    assert raw.over_optimisation.value > 5 * abs(mended.over_optimisation.value)
    assert 0.1 < mended.loss.value < raw.loss.value
    limit = [train(w, a * noisy(w, 1.5, seed=6), 1e-4)["true_gain"] for a in (1.0, 0.3)]
    assert limit[0] == pytest.approx(limit[1])  # optimised to the end, a scale makes no difference


def test_one_slope_a_group_beats_one_for_all_where_noise_differs():
    w = World.random(prompts=80, answers=24, seed=7)
    group = np.arange(80) % 2
    reward = noisy(w, np.where(group, 3.0, 0.2)[:, None], seed=8)
    found = simulate(w, {"uneven": reward}, betas=[0.3], pairs=None, groups=group)
    one, two = (found.curve("uneven", use).points[0] for use in ("temperature", "by group"))
    assert two.loss.value < 0.8 * one.loss.value
    assert two.true_gain.value > one.true_gain.value


def test_fitted_curves_hold_the_exact_ones():
    w = world(prompts=10)
    found = simulate(w, {"sure": scaled(w, 3.0)}, betas=[0.5], pairs=300, repeats=40, seed=1)
    exact, fitted = (found.curve("sure", use) for use in ("temperature", "fitted"))
    assert fitted.slope.interval[0] < exact.slope.value < fitted.slope.interval[1]
    low, high = fitted.points[0].kl.interval
    assert low < exact.points[0].kl.value < high
    assert found == simulate(w, {"sure": scaled(w, 3.0)}, betas=[0.5], pairs=300, repeats=40, seed=1)
    json.dumps(found.document(), allow_nan=False)


def test_what_cannot_be_asked():
    w = world()
    with pytest.raises(UsageError, match="betas"):
        simulate(w, {}, betas=[0.0])
    with pytest.raises(DataError, match="of shape"):
        simulate(w, {"x": np.zeros((2, 2))}, betas=[1.0])
    with pytest.raises(DataError, match="groups"):
        simulate(w, {}, betas=[1.0], groups=[1, 2])
    with pytest.raises(DataError, match="no finite slope"):
        simulate(w, {"x": scaled(w, 1.0)}, betas=[1.0], pairs=2)
    with pytest.raises(UsageError, match="unknown curve"):
        simulate(w, {"x": w.reward}, betas=[1.0], pairs=None).curve("x", "fitted")
    with pytest.raises(DataError, match="sum to 1"):
        World(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(DataError, match="finite"):
        World(np.array([[np.inf, 0.0]]), np.log([[0.5, 0.5]]))
    with pytest.raises(DataError, match="prompts, answers"):
        World(np.zeros((1, 2)), np.zeros((2, 2)))
    with pytest.raises(UsageError, match="power"):
        distorted(w, 0.0)
