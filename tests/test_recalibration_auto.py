"""The choice among maps: folds by unit, the one-standard-error rule, an honest table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import prefcal as pc
from prefcal.distributions.stacked import stack
from prefcal.recalibration.auto import Auto, choose
from prefcal.recalibration.base import METHODS
from prefcal.recalibration.fitting import prepare, unit_folds
from prefcal.recalibration.likelihood import observed_log_prob
from test_recalibration_maps import drawn, grouped_data


def scores_and_truth(n: int, seed: int) -> tuple[np.ndarray, pc.Outcomes]:
    scores = np.random.default_rng(seed).normal(size=(n, 4)) * 1.5
    return scores, drawn(pc.PlackettLuce(scores), seed)


def test_calibrated_forecasts_are_left_alone():
    chosen = []
    for seed in range(5):
        scores, y = scores_and_truth(200, seed)
        chosen.append(pc.recalibrate(pc.PlackettLuce(scores), y, folds=3).chosen.method)
    assert chosen.count("none") >= 4


def test_over_confident_forecasts_get_a_temperature_and_the_table_says_so():
    scores, y = scores_and_truth(400, 6)
    fit = pc.recalibrate(pc.PlackettLuce(2 * scores), y)
    assert isinstance(fit, Auto)
    assert fit.chosen.method == "temperature"
    assert fit.keeps_order
    names = [c.method for c in fit.candidates]
    assert names[0] == "none"
    assert "group-wise" not in names  # no groups were given
    assert [c.complexity for c in fit.candidates] == sorted(c.complexity for c in fit.candidates)
    none = fit.candidates[0]
    assert none.excess > 2 * none.stderr
    assert f"none {none.log_loss:.4f} (+{none.excess:.4f}, standard error {none.stderr:.4f})" in fit.describe()
    assert fit.estimates["excess log loss of none"].value == none.excess
    assert fit(pc.PlackettLuce(2 * scores)).scores.values == pytest.approx(
        pc.recalibrate(pc.PlackettLuce(2 * scores), y, "temperature")(pc.PlackettLuce(2 * scores)).scores.values
    )


def test_groups_take_part_when_given():
    h, y, names, _ = grouped_data(1200, 7, 0.7)
    fit = pc.recalibrate(h, y, groups=names, folds=3)
    assert fit.chosen.method == "group-wise"
    assert "temperature of group 03" in fit.estimates


def test_the_one_standard_error_rule():
    scores, y = scores_and_truth(100, 8)
    data = prepare(pc.PlackettLuce(scores), y)
    maps = [METHODS[m] for m in ("none", "temperature", "context", "stage-wise")]
    noise = np.random.default_rng(0).normal(size=100)
    noise -= noise.mean()
    base = np.full(100, -1.0)
    se = np.sqrt((noise**2).sum() / 100 / 99)
    held_out = {
        "none": base - 1.01 * se + noise,  # just outside one standard error of the best
        "temperature": base - 0.99 * se + noise,
        "context": base - 0.5 * se,
        "stage-wise": base,
    }
    chosen, table = choose(maps, held_out, {}, data)
    assert chosen == "temperature"
    by_name = {c.method: c for c in table}
    assert by_name["none"].stderr == pytest.approx(se)
    assert by_name["none"].excess == pytest.approx(1.01 * se)
    assert by_name["stage-wise"].excess == 0.0
    held_out["temperature"] = np.where(noise > 1.5, -np.inf, base + 1.0)
    del held_out["context"]
    chosen, table = choose(maps, held_out, {"context": "why not"}, data)
    assert chosen == "stage-wise"
    row = next(c for c in table if c.method == "temperature")
    assert row.log_loss is None
    assert "probability 0" in row.note
    assert next(c for c in table if c.method == "context").note == "why not"


def test_held_out_losses_are_those_of_maps_fitted_without_the_fold():
    """The table by hand: fit on the other folds, score the held-out one."""
    scores, y = scores_and_truth(60, 9)
    h = pc.PlackettLuce(2 * scores)
    fit = pc.recalibrate(h, y, folds=4, seed=5)
    log_p = np.empty(60)
    for train, test in unit_folds(np.arange(60), 4, 5):
        assert np.intersect1d(train, test).size == 0
        log_p[test] = observed_log_prob(pc.recalibrate(h[train], y[train], "temperature")(h[test]), y[test])
    row = next(c for c in fit.candidates if c.method == "temperature")
    assert row.log_loss == pytest.approx(-log_p.mean())


def test_folds_keep_units_together():
    units = np.random.default_rng(0).integers(0, 17, 200)
    units = np.unique(units, return_inverse=True)[1]
    seen = np.zeros(200, dtype=int)
    for train, test in unit_folds(units, 5, 0):
        assert not set(units[train]) & set(units[test])
        seen[test] += 1
    assert (seen == 1).all()
    for folds in (1, 18, 2.0, True):
        with pytest.raises(pc.UsageError, match="folds"):
            list(unit_folds(units, folds, 0))


@pytest.mark.parametrize("kind", ["Categorical", "Pairwise", "BabingtonSmith", "Mallows", "StagedPlackettLuce"])
def test_every_kind_of_forecast_has_a_choice(kind):
    scores, y = scores_and_truth(80, 10)
    plain = pc.PlackettLuce(2 * scores[:, :3])
    y = drawn(pc.PlackettLuce(scores[:, :3]), 11)
    probs = 1 / (1 + np.exp(2 * (scores[:, None, :3] - scores[:, :3, None])))
    full = plain.marginal("full")
    h = {
        "Categorical": lambda: pc.Categorical(full.outcomes[0], full.probs[:, 0]),
        "Pairwise": lambda: pc.Pairwise(probs),
        "BabingtonSmith": lambda: pc.BabingtonSmith(probs),
        "Mallows": lambda: pc.Mallows(np.argsort(np.argsort(-scores[:, :3], axis=1), axis=1) + 1, 0.05),
        "StagedPlackettLuce": lambda: pc.StagedPlackettLuce(scores[:, :3], [2.0, 2.0]),
    }[kind]()
    if kind == "Mallows":
        h = pc.Mallows(np.argsort(np.argsort(-scores[:, :3], axis=1), axis=1) + 1, np.full(80, 0.05))
    fit = pc.recalibrate(h, y, folds=2)
    assert fit.record.after <= fit.record.before + 0.02
    assert len(fit(h)) == 80


def rank_classifiers(n: int, seed: int) -> tuple[list[tuple[np.ndarray, pc.Categorical]], pc.Outcomes]:
    """Out-of-fold forecasts as of a classifier over rankings: each of two folds lists what the other one showed.

    Rankings of four items are drawn from 12 of the 24, ten of which are rare: some are shown in one fold only.
    """
    rng = np.random.default_rng(seed)
    orders = np.array(list(itertools.permutations(range(4))))[::2]
    share = np.array([0.5, 0.3, *[0.02] * 10])
    which = rng.choice(12, n, p=share)
    fold = np.arange(n) % 2
    parts = []
    for k in (0, 1):
        seen = np.unique(which[fold != k])
        held = np.flatnonzero(fold == k)
        p = share[seen] * np.exp(rng.normal(size=(len(held), len(seen))) * 0.5)
        parts.append((held, pc.Categorical(orders[seen], p / p.sum(axis=1, keepdims=True))))
    return parts, pc.Outcomes.from_orders(orders[which])


def test_folds_that_list_different_rankings_are_mended_as_one():
    """What a fold never saw had probability 0 and happened: only maps that make room for it are left to choose from.

    What another fold has listed must not tell a map what may happen here: listing all 24 rankings changes nothing.
    """
    parts, y = rank_classifiers(100, 0)
    h = stack(parts)
    raw = observed_log_prob(h, y)
    assert isinstance(h, pc.Categorical)
    assert 0 < np.isinf(raw).sum() < 20
    fit = pc.recalibrate(h, y, folds=3)
    table = {c.method: c for c in fit.candidates}
    assert {m for m, c in table.items() if c.log_loss is None} == {"none", "temperature"}
    orders = np.array(list(itertools.permutations(range(4))))
    place = (orders[None] == h.orders[:, None]).all(axis=2).argmax(axis=1)
    every = np.zeros((100, 24))
    every[:, place] = h.probs
    padded = pc.Categorical(orders, every)
    for method in ("uniform", "back-off", "vector-scaling"):
        one, two = pc.recalibrate(h, y, method)(h), pc.recalibrate(padded, y, method)(padded)
        probs = np.exp([one.log_prob(o) for o in orders])
        assert (probs > 0).all()
        np.testing.assert_allclose(probs.sum(axis=0), 1.0)
        np.testing.assert_allclose(probs, np.exp([two.log_prob(o) for o in orders]), rtol=1e-6)
    found = pc.mend(h, y, notions=["sub-2"], items="labelled", folds=4)
    assert found.log_loss["before"].value == np.inf
    assert found.log_loss["difference"].value == -np.inf
    assert np.isfinite(found.log_loss["after"].value)
    assert found.log_loss["after"].interval is not None
    assert '"value": null' in found.to_json()


def test_pairwise_forecasts_of_several_folds_are_mended_as_one():
    scores, y = scores_and_truth(200, 13)
    odds = 3 * (scores[:, :, None] - scores[:, None, :])
    probs = 1 / (1 + np.exp(-odds))
    folds = [np.arange(200) % 3 == k for k in range(3)]
    h = stack([(np.flatnonzero(f), pc.Pairwise(probs[f])) for f in folds])
    fit = pc.recalibrate(h, y, folds=3)
    whole = pc.recalibrate(pc.Pairwise(probs), y, folds=3)
    assert fit.chosen.method == "temperature"
    assert fit.document() == whole.document()
    np.testing.assert_array_equal(fit(h).probs, whole(pc.Pairwise(probs)).probs)


def test_same_data_same_choice():
    scores, y = scores_and_truth(90, 12)
    one, two = (pc.recalibrate(pc.PlackettLuce(scores), y, folds=3, seed=4) for _ in range(2))
    assert one.document() == two.document()
