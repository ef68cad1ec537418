"""Scores from the smallest to the largest doubles."""

from __future__ import annotations

import json

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import OF_SCORES, map_inputs
from prefcal.estimators.derived import spread
from prefcal.estimators.inputs import rounded
from prefcal.recalibration.persistence import rebuild


def extreme(size: float, kind: str) -> tuple[np.ndarray, pc.Outcomes]:
    """Scores whose largest is of a size: all like it, all of one absolute value, or one instance."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 4))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    large = scores / np.abs(scores).max() * size
    if kind == "signs":
        large = np.sign(scores) * size
    elif kind == "one":
        large = np.where(np.arange(len(scores))[:, None] == 7, large, scores)
    return large, y


@pytest.mark.parametrize("kind", ["plain", "signs", "one"])
@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-150, 1e-59, 1e58, 1e150, 1e300, 1.7e308])
def test_a_map_is_fitted_to_scores_of_any_size_or_the_error_says_what_to_do(size, kind):
    scores, y = extreme(size, kind)
    gap = max(float(row.max() / 2 - row.min() / 2) for row in scores)  # halves: the difference may be infinite
    for method in OF_SCORES:
        more = map_inputs(method, len(scores), 4)
        if gap > 1e60 or gap < 1e-60:
            what = "divide" if gap > 1 else "multiply"
            where = "instance 7" if kind == "one" else "instance"
            with pytest.raises(pc.DataError, match=rf"{where}.*{what} all scores by a constant first"):
                pc.recalibrate(pc.PlackettLuce(scores), y, method, **more)
            continue
        if size > 1e50 and method == "auto":
            continue  # each of its maps is tried by itself
        fit = pc.recalibrate(pc.PlackettLuce(scores), y, method, **more)
        assert rebuild(json.loads(json.dumps(fit.document(), allow_nan=False))) == fit
        logs = fit(pc.PlackettLuce(scores), **more).top_log_probs()
        np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0)
        if kind != "one":
            assert fit.record.after <= np.log(24) + 0.1


@pytest.mark.parametrize("kind", ["plain", "one"])
@pytest.mark.parametrize("method", OF_SCORES)
def test_a_map_is_applied_to_scores_of_any_size_or_the_error_names_one(method, kind):
    ordinary, y = extreme(3.0, "plain")
    more = map_inputs(method, len(ordinary), 4)
    first, second = np.triu_indices(4, 1)
    for factor in (1.0, -1.0, 0.02):
        fit = pc.recalibrate(pc.PlackettLuce(factor * ordinary), y, method, **more)
        for size in (5e-324, 1e-300, 1e-150, 1e60, 1e150, 1e300, 1.7e308):
            h = pc.PlackettLuce(extreme(size, kind)[0])
            refused = ""
            try:
                after = fit(h, **more)
            except pc.PrefcalError as error:
                refused = str(error)
            if refused:
                assert size == 1.7e308
                assert "infinite" in refused
                continue
            odds = after.pair_log_odds(first, second)
            np.testing.assert_allclose(np.exp(after.top_log_probs()).sum(axis=1), 1.0)
            assert not np.isnan(odds).any()
            if fit.keeps_order:
                assert not (np.sign(odds) * np.sign(h.pair_log_odds(first, second)) < 0).any()


@pytest.mark.parametrize("kind", ["plain", "signs", "one"])
@pytest.mark.parametrize("size", [5e-324, 1e150, 1.7e308])
def test_decisions_sets_and_groups_take_scores_of_any_size(size, kind):
    scores, y = extreme(size, kind)
    h = pc.PlackettLuce(scores)
    json.dumps(pc.decisions.decisions(h, y, draws=50).document(), allow_nan=False)
    for event in ("partial-order", "top-1", "full"):
        for score in ("adaptive", "probability"):
            assert np.isin(pc.conformal_sets(h, y, event=event, score=score)(h).contains(y), (0.0, 1.0)).all()
    pc.hpd_coverage(h, y)
    pc.rank_histogram(h, y)
    pc.worst_group(h, y, {"a": np.arange(len(scores)) % 2}, min_instances=10, splits=10, permutations=99)
    assert (spread(h) >= 0).all()
    if size == 1e150 and kind == "plain":
        np.testing.assert_allclose(spread(h), 1e150 * np.std(scores / 1e150, axis=1), rtol=1e-9)


def test_rounding_keeps_large_and_small_numbers():
    values = np.array([0.0, 1e-300, -1e-13, 0.1 + 0.2, 1.0, 1 + 1e-14, 1e15 + 0.5, -1.7e308, np.inf, -np.inf])
    found = rounded(values)
    assert found.tolist()[:6] == [0.0, 0.0, 0.0, 0.3, 1.0, 1.0]
    np.testing.assert_allclose(found[6:], values[6:], rtol=1e-11)
    assert np.isnan(rounded(np.array([np.nan]))).all()
    rng = np.random.default_rng(0)
    some = rng.normal(size=200) * 10.0 ** rng.integers(0, 300, 200)
    assert (rounded(some * (1 + 2e-16)) == rounded(some)).mean() > 0.99
