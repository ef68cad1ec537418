"""A record of weight 2 is the record twice, for every map."""

from __future__ import annotations

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import OF_SCORES, stated_pairs


@pytest.mark.parametrize("kind", ["scores", "pairs", "certain pairs"])
@pytest.mark.parametrize("observed", ["full", "best", "tied"])
@pytest.mark.parametrize("method", [*OF_SCORES, "ties"])
def test_weight_2_is_the_row_twice(method, observed, kind):
    if method == "auto" or (kind != "scores" and method not in ("offset", "temperature", "uniform")):
        return  # folds are cut by row; the other maps take scores only
    if (method == "ties") != (observed == "tied") or (observed == "best" and method == "stage-wise"):
        return
    rng = np.random.default_rng(2)
    n = 200
    scores = rng.normal(size=(n, 4))
    bent = pc.PlackettLuce(np.where(scores > 0, 3 * scores, 0.2 * scores))
    ranks = np.argsort(bent.sample(1, rng)[:, 0], axis=1) + 1.0
    y = pc.Outcomes.from_ranks(ranks)
    if observed == "best":
        y = pc.Outcomes.from_best(ranks.argmin(axis=1), n_items=4)
    elif observed == "tied":
        y = pc.Outcomes.from_ranks(np.ceil(ranks / 2), ties="equal")
    h: pc.Distribution = pc.PlackettLuce(scores)
    first, second = np.triu_indices(4, 1)
    if kind != "scores":
        p = stated_pairs(h).probs.copy()
        if kind == "certain pairs":
            if method == "temperature":
                return  # what was certain and did not happen leaves the fit with a count, not a weight
            p[:9] = np.where(np.isnan(p[:9]), p[:9], p[:9].round())
        h = pc.Pairwise(p)
    rows = np.arange(n)
    twice = np.sort(np.concatenate([rows, rows[::3]]))
    weights = np.where(rows % 3 == 0, 2.0, 1.0)
    features = rng.normal(size=(n, 4)) * np.where(rows % 3 == 0, 5.0, 1.0)[:, None]
    length, groups = rng.normal(size=n), np.array(["a", "b"])[rows % 2]

    def inputs(at):
        return {
            "offset": {"item_features": {"length": features[at]}},
            "context": {"features": {"length": length[at]}},
            "group-wise": {"groups": groups[at]},
        }.get(method, {})

    once = pc.recalibrate(h, y, method, weights=weights, **inputs(rows))
    again = pc.recalibrate(h[twice], y[twice], method, clusters=twice, **inputs(twice))
    odds = [fit(h, **inputs(rows)).pair_log_odds(first, second) for fit in (once, again)]
    close = 1e-9 if method in ("offset", "ties") else 1e-6  # the tolerance of the others' fits
    np.testing.assert_allclose(odds[0], odds[1], rtol=close, atol=close)
    for name, found in once.estimates.items():
        other = again.estimates[name]
        assert other.value == pytest.approx(found.value, rel=10 * close, abs=10 * close)
        if found.interval is not None:
            assert other.interval == pytest.approx(found.interval, rel=10 * close, abs=10 * close)
