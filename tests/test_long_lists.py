"""Lists of very many candidates."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import forecasts, noise
from prefcal.cli.apply import columns


def test_one_long_list_does_not_swell_the_others():
    sizes = [400] + [2] * 200
    h = pc.PlackettLuce([np.zeros(k).tolist() for k in sizes])
    fit = pc.recalibrate(forecasts("PlackettLuce"), noise(), "uniform")
    found = columns(fit(h))["pair_probs"]
    assert [p.shape for p in found] == [(k, k) for k in sizes]


def test_lists_of_very_many_candidates_have_their_decisions():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 1100))
    scores[0, :2] = 9.0  # two share the first place
    best = [0, int(scores[1].argmax()), int(scores[2].argmin())]
    found = pc.decisions.best_of_n(pc.PlackettLuce(scores), pc.Outcomes.from_best(best, n_items=1100))
    (all_of,) = [s for s in found.sizes if s.n == 1100]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert all_of.claimed.value == pytest.approx(float((p.max(axis=1) / p.sum(axis=1)).mean()), rel=1e-9)
    assert all_of.realised.value == pytest.approx((0.5 + 1.0 + 0.0) / 3)
    assert {s.n for s in found.sizes} >= {2, 16}
    assert 32 in found.left_out


@pytest.mark.slow
def test_a_plan_for_long_lists_stays_in_memory():
    tracemalloc.start()
    found = pc.power(m=100, temperature=2.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5e9
    assert 2 < found.n.value < 20


def test_a_plan_has_a_largest_number_of_candidates():
    with pytest.raises(pc.UsageError, match="m must be at most 1000"):
        pc.power(m=4096, temperature=2.0)
