"""Plans: closed forms where there are any, whole audits where there are none, and what power must obey."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import prefcal as pc
from prefcal.data.ragged import Ragged
from prefcal.planning import MOST
from prefcal.report.power import render_power

FAST = {"m": 2, "temperature": 2.5}


def test_one_bin_of_pairs_has_a_closed_form():
    """One bin makes the binned error a z statistic, whose n follows from moments of the margin."""
    margin = np.abs(np.random.default_rng(0).normal(scale=math.sqrt(2), size=400_000))
    p, q = 1 / (1 + np.exp(-margin)), 1 / (1 + np.exp(-margin / 1.5))
    shift, second = (q - p).mean(), (q * (1 - p) ** 2 + (1 - q) * p**2).mean()
    limit = 1.959964 * math.sqrt((p * (1 - p)).mean())
    expected = ((limit + 0.841621 * math.sqrt(second - shift**2)) / shift) ** 2
    plan = pc.power(m=2, temperature=1.5, bins=1)
    assert plan.n.value == pytest.approx(expected, rel=0.04)
    assert plan.ece.value == pytest.approx(abs(shift), rel=0.02)


def test_power_grows_with_n_and_reaches_the_target():
    plan = pc.power([50, 100, 200, 400], **FAST)
    rates = [p.power.value for p in plan.points]
    assert [p.n for p in plan.points] == [50, 100, 200, 400]
    assert rates == sorted(rates)
    (at,) = pc.power(math.ceil(plan.n.value), **FAST).points
    assert at.power.value == pytest.approx(0.8, abs=0.02)
    assert plan.n.interval is not None
    assert plan.n.interval[0] < plan.n.value < plan.n.interval[1]


def test_intervals_cover_other_seeds():
    plans = [pc.power(**FAST, seed=seed) for seed in range(4)]
    middle = np.mean([p.n.value for p in plans])
    covered = sum(p.n.interval[0] <= middle <= p.n.interval[1] for p in plans if p.n.interval)
    assert covered >= 3


def test_same_seed_same_bytes():
    assert pc.power(**FAST).to_json() == pc.power(**FAST).to_json()


def test_larger_errors_and_fuller_outcomes_need_fewer():
    base = pc.power(m=3, temperature=1.6).n.value
    assert pc.power(m=3, temperature=2.4).n.value < base
    assert pc.power(m=3, temperature=1.6, observed="best").n.value > base
    assert pc.power(m=3, temperature=1.6, observed="pairs").n.value > 1.5 * base
    assert pc.power(m=3, temperature=1.6, target=0.9).n.value > base
    assert pc.power(m=3, temperature=1.6, alpha=0.01).n.value > base


def test_error_instead_of_temperature():
    by_temperature = pc.power(m=2, temperature=2.0)
    by_error = pc.power(m=2, ece=by_temperature.ece.value)
    assert by_error.temperature == pytest.approx(2.0, rel=0.05)
    assert by_error.n.value == pytest.approx(by_temperature.n.value, rel=0.1)
    with pytest.raises(pc.UsageError, match=r"at most 0\.\d+ is possible"):
        pc.power(m=2, ece=0.6)


def test_given_forecasts_are_the_population():
    h = pc.PlackettLuce(np.random.default_rng(1).normal(size=(20_000, 2)))
    made_up, given = pc.power(**FAST), pc.power(temperature=2.5, forecasts=h)
    assert given.n.value == pytest.approx(made_up.n.value, rel=0.06)
    assert given.settings["population"] == "the given forecasts"


def test_given_outcomes_say_what_is_seen():
    rng = np.random.default_rng(2)
    h = pc.PlackettLuce(rng.normal(size=(3000, 4)))
    y = pc.Outcomes.from_best(h.sample(1, rng)[:, 0, 0], n_items=4)
    given = pc.power(temperature=2.0, forecasts=h, outcomes=y)
    assert given.n.value == pytest.approx(pc.power(temperature=2.0, forecasts=h, observed="best").n.value, rel=0.05)
    triples = np.column_stack([np.repeat(np.arange(3000), 2), np.tile([[0, 1], [2, 3]], (3000, 1))])
    pairs = pc.power(temperature=2.0, forecasts=h, outcomes=pc.Outcomes.from_pairs(triples, n_items=4))
    assert pairs.settings["events_per_instance"] == 1.0


def test_other_distributions_are_populations_too():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(2000, 2))
    as_scores = pc.power(temperature=2.0, forecasts=pc.PlackettLuce(scores))
    best_first = 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))
    # Of two items all distributions are the same, and so is their temperature: only draws differ.
    listed = pc.Categorical([[0, 1], [1, 0]], np.column_stack([best_first, 1 - best_first]))
    gap = np.abs(scores[:, 0] - scores[:, 1])
    mallows = pc.Mallows(np.argsort(np.argsort(-scores, axis=1), axis=1) + 1, np.exp(-gap))
    for h, divided in ((listed, "log-probabilities"), (mallows, "theta")):
        plan = pc.power(temperature=2.0, forecasts=h)
        assert plan.n.value == pytest.approx(as_scores.n.value, rel=0.03)
        assert plan.ece.value == pytest.approx(as_scores.ece.value, rel=1e-6)
        assert divided in plan.settings["divided"]
        assert divided in " ".join(render_power(plan).split())
    pairs = pc.Pairwise(np.stack([[[0.5, p], [1 - p, 0.5]] for p in best_first]))
    plan = pc.power(temperature=2.0, forecasts=pairs)  # no draws of outcomes: the audit uses one null law only
    assert plan.n.value == pytest.approx(as_scores.n.value, rel=0.1)
    with pytest.raises(pc.UsageError, match="Mixture forecasts have no temperature"):
        pc.power(forecasts=pc.Mixture([listed, mallows], [0.5, 0.5]))


def test_lists_of_unequal_length_with_single_items():
    rows = [[0.5], *([[0.0, 1.0], [0.3, -0.4, 2.0]] * 400)]
    h = pc.PlackettLuce(Ragged.from_rows(rows))
    for observed in ("ranks", "best", "pairs"):
        plan = pc.power(100, temperature=3.0, forecasts=h, observed=observed)
        assert plan.settings["m"] == [1, 3]
        assert 0 < plan.points[0].power.value < 1


def test_out_of_reach_is_said():
    h = pc.PlackettLuce(np.zeros((100, 2)))  # p = y = 1/2: nothing can ever be seen
    plan = pc.power(forecasts=h)
    assert plan.n.value == math.inf
    assert f"{MOST:g}" in plan.n.note
    assert json.loads(plan.to_json())["n"]["value"] is None
    assert "out of reach" in render_power(plan)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 1.0}, "not 1"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": 1.2, "ece": 0.1}, "not both"),
        ({"ece": 1.5}, "between 0 and 1"),
        ({"m": 1}, "m must be"),
        ({"bins": 0}, "bins"),
        ({"seed": -1}, "seed"),
        ({"spread": 0.0}, "spread"),
        ({"alpha": 0.9}, "alpha"),
        ({"target": 0.01}, "target"),
        ({"n": 1}, "n must be"),
        ({"n": [10.5]}, "n must be"),
        ({"observed": "some"}, "ranks"),
        ({"m": 9, "items": "labelled"}, "1080 residual cells"),
        ({"notion": "full:canonical"}, "vector notion"),
        ({"notion": "top-1:confidence", "observed": "pairs"}, "no instance would have"),
        ({"forecasts": "x"}, "PlackettLuce"),
    ],
)
def test_errors_say_what_is_wrong(settings, words):
    with pytest.raises(pc.PrefcalError, match=words):
        pc.power(**settings)


def test_outcomes_need_forecasts():
    y = pc.Outcomes.from_best([0, 1], n_items=2)
    with pytest.raises(pc.UsageError, match="outcomes go with forecasts"):
        pc.power(outcomes=y)
    with pytest.raises(pc.DataError, match="one outcome for each forecast"):
        pc.power(outcomes=y, forecasts=pc.PlackettLuce(np.zeros((3, 2))))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"m": 4, "temperature": 1.5},
        {"m": 10, "temperature": 0.7, "observed": "best", "notion": "top-1:confidence"},
        {"m": 5, "temperature": 1.6, "observed": "pairs"},
        {"m": 10, "temperature": 1.5, "observed": "best"},
        {"m": 2, "temperature": 4.0},
    ],
    ids=str,
)
def test_audits_of_the_planned_size_reject_as_planned(settings):
    m, notion, observed = settings["m"], settings.get("notion", "sub-2"), settings.get("observed", "ranks")
    n = math.ceil(pc.power(**settings).n.value)
    rng = np.random.default_rng([5, m])
    hits = 0
    for r in range(300):
        h = pc.PlackettLuce(rng.normal(size=(n, m)))
        orders = h.scaled(1 / settings["temperature"]).sample(1, rng)[:, 0]
        if observed == "best":
            y = pc.Outcomes.from_best(orders[:, 0], n_items=m)
        else:
            ranks = np.argsort(orders, axis=1) + 1.0
            if observed == "pairs":
                ranks[np.argsort(rng.random((n, m)), axis=1) >= 2] = np.nan
            y = pc.Outcomes.from_ratings(-ranks)
        result = pc.audit(h, y, notions=notion, items="exchangeable", seed=r, estimators="ece")[notion]
        hits += max(result.p_value, result.metrics["p_value_cluster_robust"].value) <= 0.05
    # Bins of few events are not quite normal: plans may be a few points on the safe side.
    assert abs(hits / 300 - 0.8) < 3 * math.sqrt(0.16 / 300) + 0.03
