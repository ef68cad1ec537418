"""The choice among maps: folds by unit, the one-standard-error rule, an honest table."""

from __future__ import annotations

import numpy as np
import pytest

import prefcal as pc
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


def test_same_data_same_choice():
    scores, y = scores_and_truth(90, 12)
    one, two = (pc.recalibrate(pc.PlackettLuce(scores), y, folds=3, seed=4) for _ in range(2))
    assert one.document() == two.document()
