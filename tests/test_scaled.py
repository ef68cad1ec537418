"""Temperature of every distribution that has one: brute force over rankings, identities, and the ends of floats."""

from __future__ import annotations

import warnings
from itertools import permutations

import numpy as np
import pytest

import prefcal as pc
from prefcal.distributions.stacked import stack
from prefcal.distributions.staged import StagedPlackettLuce
from prefcal.distributions.stated import PairsAndBest
from prefcal.errors import UsageError

ORDERS = np.array(list(permutations(range(3))))


def models() -> dict[str, pc.PlackettLuce]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 3))
    odds = rng.normal(size=(4, 3, 3))
    pairs = 1 / (1 + np.exp(-(odds - odds.transpose(0, 2, 1))))
    listed = rng.dirichlet(np.ones(6), size=4)
    listed[0, 2], listed[0, 3] = 0.0, listed[0, 3] + listed[0, 2]
    return {
        "PlackettLuce": pc.PlackettLuce(scores),
        "StagedPlackettLuce": StagedPlackettLuce(scores, [1.0, 0.5]),
        "Mallows": pc.Mallows(rng.permuted(np.tile([1, 2, 3], (4, 1)), axis=1), [0.0, 0.2, 0.7, 1.0]),
        "BabingtonSmith": pc.BabingtonSmith(pairs),
        "Categorical": pc.Categorical(ORDERS, listed),
    }


def all_probs(h) -> np.ndarray:
    return np.exp(np.stack([h.log_prob(order) for order in ORDERS], axis=1))


@pytest.mark.parametrize("name", sorted(models()))
def test_powers_and_identities(name):
    h = models()[name]
    assert h.tempered
    p = all_probs(h)
    np.testing.assert_allclose(all_probs(h.scaled(1.0)), p, atol=1e-14)
    np.testing.assert_allclose(all_probs(h.scaled(3.0).scaled(0.5)), all_probs(h.scaled(1.5)), atol=1e-12)
    for factor in (0.3, 2.0, 40.0):
        q = all_probs(h.scaled(factor))
        np.testing.assert_allclose(q.sum(axis=1), 1.0, atol=1e-12)
        if name not in ("PlackettLuce", "StagedPlackettLuce"):  # for the others it is a power of every probability
            power = p**factor
            np.testing.assert_allclose(q, power / power.sum(axis=1, keepdims=True), atol=1e-12)
    flat = all_probs(h.scaled(0.0))
    np.testing.assert_allclose(flat, (p > 0) / (p > 0).sum(axis=1, keepdims=True), atol=1e-12)
    if name != "BabingtonSmith":  # whose comparisons may form cycles
        np.testing.assert_allclose(h.scaled(1e9).log_prob(h.scaled(1e9).mode())[1:3], 0.0, atol=1e-9)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="factor"):
            h.scaled(bad)


def test_staged_scores_are_scaled_stage_by_stage():
    scores, scales = np.array([[1.0, 0.2, -1.0]]), np.array([1.0, 0.5])
    twice = StagedPlackettLuce(scores, scales).scaled(2.0)
    np.testing.assert_allclose(all_probs(twice), all_probs(StagedPlackettLuce(scores, 2 * scales)), atol=1e-14)


def test_stated_pairs_and_best_agree_on_two_items():
    h = PairsAndBest([[[0.5, 0.8], [0.2, 0.5]]], [[0.8, 0.2]]).scaled(2.0)
    assert h.pairs.probs[0, 0, 1] == pytest.approx(0.64 / 0.68)
    assert h.best[0, 0] == pytest.approx(0.64 / 0.68)
    pairs = pc.Pairwise([[[0.5, 1.0, 0.7], [0.0, 0.5, np.nan], [0.3, np.nan, 0.5]]])
    twice = pairs.scaled(2.0).probs[0]
    assert twice[0, 1] == 1.0
    assert twice[1, 0] == 0.0
    assert np.isnan(twice[1, 2])
    assert twice[0, 2] == pytest.approx(0.49 / 0.58)
    bold = pairs.scaled(1e6).probs[0]
    assert 0 < bold[2, 0] < 1e-300  # next to certain, but not impossible


def test_stacked_parts_are_scaled_together():
    all_models = models()
    a, b = all_models["Mallows"], all_models["PlackettLuce"]
    both = stack([([0, 2, 4, 6], a), ([1, 3, 5, 7], b)])
    assert both.tempered == "theta = -log(dispersion); the scores"
    expected = np.empty((8, 6))
    expected[::2], expected[1::2] = all_probs(a.scaled(2.0)), all_probs(b.scaled(2.0))
    np.testing.assert_array_equal(all_probs(both.scaled(2.0)), expected)
    mixture = pc.Mixture([b, b.scaled(2.0)], [0.5, 0.5])
    assert not mixture.tempered
    with pytest.raises(UsageError, match="Mixture has no temperature"):
        mixture.scaled(2.0)
    assert not stack([([0, 1, 2, 3], a), ([4, 5, 6, 7], mixture)]).tempered


def test_scores_at_the_end_of_floats_keep_their_order_and_their_gaps():
    huge = float(np.finfo(np.float64).max)
    scores = np.array([
        [huge, -huge, 0.0], [huge, np.nextafter(huge, 0.0), 1.0], [-huge, -0.99 * huge, -0.5],
        [0.3, 0.1, -0.2], [huge, huge, 0.0],
    ])  # fmt: skip
    h = pc.PlackettLuce(scores)
    for factor in (1.5, 50.0, 1e300):
        bold = h.scaled(factor)
        values = bold.scores.dense()
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(bold.mode(), h.mode())
        np.testing.assert_array_equal(values[3], factor * scores[3])
        assert values[4, 0] == values[4, 1]  # equal scores stay equal
        assert values[1, 2] == factor
        # What differed there still differs, by more than any probability can tell from certainty.
        assert values[1, 0] - values[1, 1] > 1e280
        assert values[2, 2] == -0.5 * factor
    np.testing.assert_array_equal(h.scaled(0.5).scores.dense(), scores * 0.5)


@pytest.mark.parametrize("size", [1.7e308, 1e300, 1e155, 1e-300])
def test_audits_take_scores_of_any_size(size):
    rng = np.random.default_rng(1)
    unit = rng.normal(size=(60, 4))
    unit /= np.abs(unit).max()
    y = pc.Outcomes.from_orders(pc.PlackettLuce(unit).sample(1, rng)[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pc.audit(pc.PlackettLuce(size * unit), y, items="exchangeable")
    for notion in ("sub-2", "top-1:confidence"):
        assert found[notion].verdict == ("miscalibrated" if size > 1 else found[notion].verdict)
        assert 0 <= found[notion].value <= 1
