"""Rankwise errors against golden values, a loop over outcomes, and the audit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prefcal as pc
from prefcal.errors import UsageError
from prefcal.estimators.rankwise import AGGREGATES, rankwise_errors
from strategies import items_and_view, seeds
from test_dirichlet import golden_forecast


def binary_ece(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    bin_of = np.minimum(np.floor(p * bins), bins - 1)
    return sum(abs(float((y - p)[bin_of == b].sum())) for b in range(bins)) / len(p)


@pytest.mark.parametrize("name", ["iris", "vehicle"])
def test_golden_values(data_dir: Path, name: str) -> None:
    folder = data_dir / "paper" / "golden"
    arrays = np.load(folder / f"{name}.npz")
    records = [r for r in json.loads((folder / f"{name}.json").read_text()) if "full_rank" not in r["fn"]]
    assert len(records) >= 80
    for record in records:
        h = golden_forecast(arrays, record["case"])
        y = pc.Outcomes.from_ranks(arrays[f"y_{record['case']}"])
        view = ("sub" if "sub_k" in record["fn"] else "top") + f"-{record['k']}"
        assert rankwise_errors(h, y, view).mean == pytest.approx(record["value"], abs=1e-6), record


@given(question=items_and_view(), seed=seeds, bins=st.sampled_from([1, 2, 7, 10, 15]))
def test_equals_a_loop_over_outcomes(question: tuple[int, pc.View], seed: int, bins: int) -> None:
    m, view = question
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(3 * rng.normal(size=(9, m)))
    orders = h.sample(1, rng)[:, 0]
    found = rankwise_errors(h, pc.Outcomes.from_orders(orders), view, bins)
    p = h.marginal(view).probs
    y = (view.classify(orders)[..., None] == np.arange(p.shape[2])).astype(float)
    p, y = p.reshape(9, -1), y.reshape(9, -1)
    errors = np.array([binary_ece(p[:, e], y[:, e], bins) for e in range(p.shape[1])])
    np.testing.assert_allclose(found.errors, errors, atol=1e-12)
    np.testing.assert_allclose(found.prevalence, y.mean(axis=0))
    np.testing.assert_allclose(found.mass, p.mean(axis=0))
    np.testing.assert_array_equal(found.members, view.outcomes(m).reshape(p.shape[1], -1))
    assert found.mean == pytest.approx(errors.mean(), abs=1e-12)
    assert found.max == pytest.approx(errors.max(), abs=1e-12)
    assert found.prevalence_weighted == pytest.approx(np.average(errors, weights=y.mean(axis=0)), abs=1e-12)
    assert found.mass_weighted == pytest.approx(np.average(errors, weights=p.mean(axis=0)), abs=1e-12)
    seen = y.any(axis=0)
    only = rankwise_errors(h, pc.Outcomes.from_orders(orders), view, bins, observed_only=True)
    np.testing.assert_array_equal(only.members, found.members[seen])
    assert only.mean == pytest.approx(errors[seen].mean(), abs=1e-12)


def test_probabilities_on_bin_edges_fall_in_the_upper_bin() -> None:
    # Two forecasts of 0.1 and 0.05: apart in 10 bins (errors 0.1 and 0.05), together in one (they cancel in part).
    h = pc.Categorical([[0, 1], [1, 0]], [[0.1, 0.9], [0.05, 0.95]])
    y = pc.Outcomes.from_orders([[0, 1], [1, 0]])
    assert rankwise_errors(h, y, "full", 10).errors == pytest.approx([(0.9 + 0.05) / 2, (0.9 - 0.05) / 2])
    assert rankwise_errors(h, y, "full", 1).errors == pytest.approx([(0.9 - 0.05) / 2] * 2)


@pytest.mark.parametrize("view", ["sub-2", "sub-3", "top-2", "topset-2", "position", "full"])
@pytest.mark.parametrize("ties", ["unknown", "equal"])
def test_mean_is_what_the_audit_reports(view: str, ties: str) -> None:
    rng = np.random.default_rng(11)
    h = pc.PlackettLuce(rng.normal(size=(80, 4)))
    ranks = np.argsort(h.sample(1, 0)[:, 0], axis=1) + 1.0
    ranks[:10] = [[1, 2, 2, 3]] * 10  # ties
    ranks[10:20, 3] = np.nan  # unranked items
    ranks[10:20, :3] = [[2, 3, 1]] * 10
    y = pc.Outcomes.from_ranks(ranks, ties=ties)
    audited = pc.audit(h, y, notions=[f"{view}:rankwise"], items="labelled", bins=10)[f"{view}:rankwise"]
    found = rankwise_errors(h, y, view)
    assert found.mean == pytest.approx(audited.value, abs=1e-12)


def test_instances_that_lack_items_and_repeated_forecasts() -> None:
    rng = np.random.default_rng(12)
    scores = rng.normal(size=(40, 4))
    scores[:15, 2] = np.nan
    h = pc.PlackettLuce(scores)
    pairs = [(i, 0, 1) if i % 3 else (i, 3, 0) for i in range(40) for _ in range(2)]
    y = pc.Outcomes.from_pairs(pairs, n_items=4)
    audited = pc.audit(h, y, notions=["sub-2:rankwise"], items="labelled", bins=10)["sub-2:rankwise"]
    found = rankwise_errors(h, y, "sub-2")
    assert found.mean == pytest.approx(audited.value, abs=1e-12)
    assert np.isnan(found.errors[found.n_instances == 0]).all()
    assert (found.n_instances == 0).any()
    with pytest.raises(UsageError, match="draws=0"):
        rankwise_errors(h, y, "sub-2", draws=9)


def test_null_law_of_every_aggregate() -> None:
    rng = np.random.default_rng(13)
    truth = pc.PlackettLuce(rng.normal(size=(200, 4)))
    y = pc.Outcomes.from_orders(truth.sample(1, 1)[:, 0])
    calibrated = rankwise_errors(truth, y, "sub-3", draws=99)
    audited = pc.audit(truth, y, notions=["sub-3:rankwise"], items="labelled", bins=10)["sub-3:rankwise"]
    assert set(calibrated.null) == set(AGGREGATES)
    assert calibrated.null["mean"].mean == pytest.approx(audited.null_mean, rel=0.05)
    assert all(law.p_value > 0.01 for law in calibrated.null.values())
    over = rankwise_errors(truth.scaled(5.0), y, "sub-3", draws=99)
    assert all(law.p_value == pytest.approx(0.01) for law in over.null.values())
    again = rankwise_errors(truth, y, "sub-3", draws=99, observed_only=True)
    assert again.null["max"].mean == pytest.approx(calibrated.null["max"].mean, rel=1e-9)
    tied = pc.Outcomes.from_ranks([[1, 2, 2, 3]] * 200)
    with pytest.raises(UsageError, match="without ties"):
        rankwise_errors(truth, tied, "sub-2", draws=9)


def test_null_law_of_pairs_has_no_p_value() -> None:
    rng = np.random.default_rng(14)
    h = pc.PlackettLuce(rng.normal(size=(100, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, 0)[:, 0])
    probs = np.full((100, 3, 3), np.nan)
    a, b = np.triu_indices(3, 1)
    probs[:, a, b] = h.marginal("sub-2").probs[..., 0]
    pairs = rankwise_errors(pc.Pairwise(probs), y, "sub-2", draws=199)
    whole = rankwise_errors(h, y, "sub-2", draws=199)
    assert pairs.mean == pytest.approx(whole.mean)
    assert pairs.null["mean"].mean == pytest.approx(whole.null["mean"].mean, rel=0.1)
    assert np.isnan(pairs.null["mean"].p_value)


def test_views_beyond_the_limit_of_an_audit_and_samples_of_subsets() -> None:
    rng = np.random.default_rng(15)
    h = pc.PlackettLuce(rng.normal(size=(6, 11)))
    y = pc.Outcomes.from_orders(h.sample(1, 0)[:, 0])
    whole = rankwise_errors(h, y, "sub-4")
    assert len(whole.errors) == 330 * 24
    some = rankwise_errors(h, y, "sub-4", subsets=[300, 5])
    picked = np.r_[300 * 24 : 301 * 24, 5 * 24 : 6 * 24]
    np.testing.assert_array_equal(some.members, whole.members[picked])
    np.testing.assert_allclose(some.errors, whole.errors[picked], atol=1e-14)


@pytest.mark.parametrize("bins", [0, 5041, 2.5, True])
def test_bad_bins(bins: object) -> None:
    h, y = pc.PlackettLuce([[0.0, 1.0]]), pc.Outcomes.from_orders([[0, 1]])
    with pytest.raises(UsageError, match="bins"):
        rankwise_errors(h, y, "full", bins)  # type: ignore[arg-type]


def test_too_many_sums_are_refused() -> None:
    h = pc.PlackettLuce(np.zeros((2, 10)))
    y = pc.Outcomes.from_orders(np.tile(np.arange(10), (2, 1)))
    with pytest.raises(UsageError, match="smaller k"):
        rankwise_errors(h, y, "full", 100)
