"""Maps keep the order they promise to keep, are for the kind they were fitted on, and survive being saved."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import N, forecasts, map_inputs, noise
from prefcal.recalibration import METHODS
from prefcal.recalibration.persistence import rebuild

CASES = [
    (method, kind)
    for method, cls in METHODS.items()
    for kind in cls.accepts
    if kind not in ("Mixture", "StagedPlackettLuce") and method != "ties"
]


@pytest.mark.parametrize(("method", "kind"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_map_that_keeps_the_order_keeps_the_first_choice_and_every_pair(method, kind, seed):
    h, more = forecasts(kind), map_inputs(method, N, 3)
    fit = pc.recalibrate(h, noise(seed=seed), method, **more)
    if not fit.keeps_order:
        assert "order of the candidates is kept" not in fit.describe()
        return
    first, second = np.triu_indices(h.n_items, 1)
    after = fit(h, **more)
    turned = np.sign(h.pair_log_odds(first, second)) * np.sign(after.pair_log_odds(first, second)) < 0
    assert not turned.any()
    if h.has_rankings:
        logs = after.top_log_probs()
        chosen = h.top_log_probs().argmax(axis=1)
        assert (logs[np.arange(N), chosen] >= logs.max(axis=1) - 1e-12).all()


def test_a_temperature_of_listed_rankings_may_change_the_first_choice_and_says_so():
    h = forecasts("Categorical")
    fit = pc.recalibrate(h, noise(), "temperature")
    assert not fit.keeps_order
    assert (fit(h).top_log_probs().argmax(axis=1) != h.top_log_probs().argmax(axis=1)).any()
    assert (fit(h).probs.argmax(axis=1) == h.probs.argmax(axis=1)).all() or math.isinf(fit.temperature)


@pytest.mark.parametrize("kind", ["Categorical", "Pairwise", "BabingtonSmith"])
def test_a_temperature_is_for_the_kind_it_was_fitted_on(kind, tmp_path):
    fit = pc.recalibrate(forecasts(kind), noise(), "temperature")
    fit.save(tmp_path / "map.json")
    with pytest.raises(pc.UsageError, match=f"for {kind} forecasts, got PlackettLuce"):
        pc.load_recalibrator(tmp_path / "map.json")(forecasts("PlackettLuce"))
    moved = fit.document()
    moved["parameters"]["kind"] = "PlackettLuce"
    with pytest.raises(pc.DataError, match="accepts"):
        rebuild(moved)


@pytest.mark.parametrize(
    "method", ["temperature", "context", "group-wise", "stage-wise", "monotone", "uniform", "auto"]
)
def test_a_map_of_scores_that_rank_the_wrong_way_comes_back_the_same(method, tmp_path):
    h, more = forecasts("PlackettLuce", 4), map_inputs(method, N, 4)
    rng = np.random.default_rng(0)
    y = pc.Outcomes.from_orders(pc.PlackettLuce(-h.scores.dense()).sample(1, rng)[:, 0])
    fit = pc.recalibrate(h, y, method, **more)
    fit.save(tmp_path / "map.json")
    back = pc.load_recalibrator(tmp_path / "map.json")
    assert back == fit
    np.testing.assert_array_equal(back(h, **more).top_log_probs(), fit(h, **more).top_log_probs())


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_whatever_loads_can_be_saved_and_applied_in_words(method, kind):
    h, more = forecasts(kind), map_inputs(method, N, 3)
    document = json.loads(json.dumps(pc.recalibrate(h, noise(), method, **more).document()))
    for name, value in document["parameters"].items():
        for bad in (None, [None, None], [0, None], 1e308, [1e308], 1e-320):
            changed = json.loads(json.dumps(document))
            changed["parameters"][name] = [bad] * len(value) if isinstance(value, list) and bad == 1e308 else bad
            try:
                fit = rebuild(changed)
                json.dumps(fit.document(), allow_nan=False)
                fit(h, **more)
            except pc.PrefcalError:
                continue
