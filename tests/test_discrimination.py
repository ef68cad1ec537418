"""The discrimination parts of the scores, debiased, with their intervals."""

from __future__ import annotations

import numpy as np
import pytest

import prefcal as pc


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [60, 400])
def test_the_interval_of_discrimination_holds_the_debiased_value_and_says_why_not_the_plain_one(n, seed):
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(rng.normal(size=(n, 4)) * rng.choice([0.1, 0.5, 1.0]))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    for r in pc.audit(h, y, items="exchangeable", draws=99).results:
        for part in ("dsc_brier", "dsc_log"):
            e = r.metrics[part]
            assert e.interval[0] <= e.debiased <= e.interval[1]
            assert 0 <= e.debiased <= e.value
            assert "gains by chance" in e.note
        for part in ("unc_brier", "unc_log"):
            assert r.metrics[part].debiased is None
            assert r.metrics[part].interval[0] <= r.metrics[part].value <= r.metrics[part].interval[1]


def test_discrimination_of_a_model_that_knows_nothing_is_0_once_debiased():
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        h = pc.PlackettLuce(rng.normal(size=(300, 2)))
        y = pc.Outcomes.from_best(rng.integers(0, 2, 300), n_items=2)
        e = pc.audit(h, y, items="exchangeable", notions="sub-2", draws=99)["sub-2"].metrics["dsc_brier"]
        found.append((e.value, e.debiased, e.interval[0]))
    value, debiased, low = np.array(found).T
    assert debiased.mean() < 0.5 * value.mean()
    assert (low == 0).mean() >= 0.85  # 20 tests at 5 %, P(more than 3 fail) = 0.016
