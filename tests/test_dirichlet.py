"""The Dirichlet-kernel error against golden values, a loop over the definition, and its own null law."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln

import prefcal as pc
from prefcal.errors import DataError, UsageError
from prefcal.estimators.dirichlet import DirichletKernelError, dirichlet_kernel_error, kernel_errors
from strategies import distribution_rows, seeds


def by_definition(f: np.ndarray, outcome: np.ndarray, bandwidth: float) -> float:
    """The error, one instance at a time."""
    n, width = f.shape
    gaps = []
    for j in range(n):
        others = [i for i in range(n) if i != j]
        log_w = []
        for i in others:
            alpha = f[i] / bandwidth + 1
            density = gammaln(alpha.sum()) - gammaln(alpha).sum()
            log_w.append(density + ((alpha - 1) * np.log(np.maximum(f[j], 1e-8))).sum())
        w = np.exp(np.array(log_w) - max(log_w))
        estimate = sum(w[a] * np.eye(width)[outcome[i]] for a, i in enumerate(others)) / (w.sum() + 1e-8)
        gaps.append(np.abs(estimate - f[j]).sum())
    return float(np.mean(gaps))


def golden_forecast(arrays: np.lib.npyio.NpzFile, case: int) -> pc.Categorical | pc.Pairwise:
    orders, probs = arrays[f"rankings_{case}"].astype(int) - 1, arrays[f"prob_{case}"].T.astype(float)
    m = arrays[f"y_{case}"].shape[1]
    if orders.shape[1] == m:
        return pc.Categorical(orders, probs)
    pairs = np.full((len(probs), m, m), np.nan)
    pairs[:, orders[:, 0], orders[:, 1]] = probs
    return pc.Pairwise(pairs)


@pytest.mark.parametrize("name", ["iris", "vehicle"])
def test_golden_values(data_dir: Path, name: str) -> None:
    folder = data_dir / "paper" / "golden"
    arrays = np.load(folder / f"{name}.npz")
    records = [r for r in json.loads((folder / f"{name}.json").read_text()) if "full_rank" in r["fn"]]
    assert len(records) >= 80
    for record in records:
        h = golden_forecast(arrays, record["case"])
        y = pc.Outcomes.from_ranks(arrays[f"y_{record['case']}"])
        view = ("sub" if "sub_k" in record["fn"] else "top") + f"-{record['k']}"
        value = float(dirichlet_kernel_error(h, y, view, draws=0))
        assert value == pytest.approx(record["value"], abs=1e-6), record


@given(seed=seeds, data=st.data(), bandwidth=st.sampled_from([0.1, 1.0, 3.0]))
def test_equals_the_definition(seed: int, data: st.DataObject, bandwidth: float) -> None:
    rng = np.random.default_rng(seed)
    n, width, sets = int(rng.integers(2, 9)), int(rng.integers(2, 5)), 3
    f = data.draw(distribution_rows(n, width))
    outcomes = rng.integers(0, width, (sets, n))
    found = kernel_errors(f, outcomes, bandwidth=bandwidth)
    for error, outcome in zip(found, outcomes, strict=True):
        assert error == pytest.approx(by_definition(f, outcome, bandwidth), abs=1e-10)


@given(seed=seeds)
def test_unknown_outcomes_take_no_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, width = 8, 3
    f = rng.dirichlet(np.ones(width), size=n)
    outcomes = rng.integers(-1, width, (4, n))
    for error, outcome in zip(kernel_errors(f, outcomes), outcomes, strict=True):
        known = outcome >= 0
        if known.sum() < 2:
            assert np.isnan(error)
        else:
            # The largest weight is over all instances, which only matters beside the 1e-8 in the denominator.
            assert error == pytest.approx(by_definition(f[known], outcome[known], 1.0), abs=1e-6)


def test_truncated_forecasts_are_used_as_given() -> None:
    rng = np.random.default_rng(1)
    f = rng.dirichlet(np.ones(4), size=9)[:, :3]
    outcome = rng.integers(0, 3, 9)
    assert kernel_errors(f, outcome[None])[0] == pytest.approx(by_definition(f, outcome, 1.0), abs=1e-12)


def test_blocks_do_not_change_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    f, outcomes = rng.dirichlet(np.ones(5), size=61), rng.integers(0, 5, (7, 61))
    whole = kernel_errors(f, outcomes)
    monkeypatch.setattr("prefcal.estimators.dirichlet._WORK", 200)
    np.testing.assert_allclose(kernel_errors(f, outcomes), whole, rtol=1e-13)


def test_equal_forecasts_give_leave_one_out_frequencies() -> None:
    h = pc.PlackettLuce(np.zeros((10, 3)))
    y = pc.Outcomes.from_best([0] * 6 + [1] * 4, n_items=3)
    others = 9 + 1e-8
    first = abs(5 / others - 1 / 3) + abs(4 / others - 1 / 3) + 1 / 3
    second = abs(6 / others - 1 / 3) + abs(3 / others - 1 / 3) + 1 / 3
    found = pc_error(h, y, "top-1")
    assert found.value == pytest.approx((6 * first + 4 * second) / 10, abs=1e-12)


def pc_error(h: pc.PlackettLuce, y: pc.Outcomes, view: str, **options: object) -> DirichletKernelError:
    return dirichlet_kernel_error(h, y, view, **{"draws": 0, **options})  # type: ignore[arg-type]


@given(seed=seeds, view=st.sampled_from(["sub-2", "sub-3", "top-1", "topset-2", "position", "full"]))
def test_names_of_items_do_not_matter(seed: int, view: str) -> None:
    rng = np.random.default_rng(seed)
    scores, orders = rng.normal(size=(7, 4)), rng.permuted(np.tile(np.arange(4), (7, 1)), axis=1)
    relabel = rng.permutation(4)
    renamed = np.empty_like(scores)
    renamed[:, relabel] = scores
    before = pc_error(pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders), view).value
    after = pc_error(pc.PlackettLuce(renamed), pc.Outcomes.from_orders(relabel[orders]), view).value
    assert after == pytest.approx(before, abs=1e-10)


def test_unranked_items_leave_their_subsets() -> None:
    rng = np.random.default_rng(3)
    h = pc.PlackettLuce(rng.normal(size=(20, 3)))
    ranks = np.argsort(h.sample(1, 0)[:, 0], axis=1) + 1.0
    ranks[:5, 2] = np.nan
    ranks[:5, :2] = [[1, 2]] * 5
    found = pc_error(h, pc.Outcomes.from_ranks(ranks), "sub-2")
    assert found.n_instances.tolist() == [20, 15, 15]
    rest = pc_error(h[5:], pc.Outcomes.from_ranks(ranks[5:]), "sub-2")
    np.testing.assert_allclose(found.errors[1:], rest.errors[1:])


def test_null_law_tells_calibrated_from_miscalibrated() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(150, 3))
    truth = pc.PlackettLuce(scores)
    small, inside = 0, []
    for repetition in range(20):
        y = pc.Outcomes.from_orders(truth.sample(1, repetition)[:, 0])
        found = pc_error(truth, y, "full", draws=39, seed=repetition)
        small += found.p_value <= 0.05
        inside.append(found.value - found.null_mean)
    assert small <= 4  # Binomial(20, 0.05) exceeds 4 with probability 0.003
    assert abs(np.mean(inside)) < 4 * np.std(inside) / math.sqrt(20)
    over = pc_error(pc.PlackettLuce(4 * scores), y, "full", draws=39)
    assert over.p_value == pytest.approx(1 / 40)
    assert over.value > over.null_mean


def test_null_draws_are_seeded_and_leave_the_value() -> None:
    rng = np.random.default_rng(5)
    h = pc.PlackettLuce(rng.normal(size=(30, 4)))
    y = pc.Outcomes.from_orders(h.sample(1, 0)[:, 0])
    first, again, other = (pc_error(h, y, "sub-2", draws=19, seed=s) for s in (1, 1, 2))
    assert first.null_mean == again.null_mean != other.null_mean
    assert float(first) == float(other) == float(pc_error(h, y, "sub-2"))


def test_pairwise_probabilities_have_a_null_mean_but_no_p_value() -> None:
    rng = np.random.default_rng(6)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, 0)[:, 0])
    probs = np.full((60, 3, 3), np.nan)
    a, b = np.triu_indices(3, 1)
    probs[:, a, b] = h.marginal("sub-2").probs[..., 0]
    whole = pc_error(h, y, "sub-2", draws=199)
    pairs = dirichlet_kernel_error(pc.Pairwise(probs), y, "sub-2", draws=199)
    assert pairs.value == pytest.approx(whole.value, abs=1e-12)
    assert pairs.p_value is None
    assert pairs.null_mean == pytest.approx(whole.null_mean, rel=0.05)
    with pytest.raises(UsageError, match="beyond pairs"):
        dirichlet_kernel_error(pc.Pairwise(probs), y, "top-1")


def test_observed_only_drops_the_other_outcomes() -> None:
    rng = np.random.default_rng(7)
    h = pc.PlackettLuce(rng.normal(size=(12, 4)))
    y = pc.Outcomes.from_orders(h.sample(1, 0)[:, 0])
    outcome = pc.View.parse("full").classify(np.argsort(y.dense(), axis=1))[:, 0]
    seen, index = np.unique(outcome, return_inverse=True)
    expected = by_definition(h.marginal("full").probs[:, 0, seen], index, 1.0)
    assert pc_error(h, y, "full", observed_only=True).value == pytest.approx(expected, abs=1e-10)
    with pytest.raises(UsageError, match="draws=0"):
        pc_error(h, y, "full", observed_only=True, draws=9)


def test_subsets_are_some_of_the_members() -> None:
    rng = np.random.default_rng(8)
    h = pc.PlackettLuce(rng.normal(size=(15, 5)))
    y = pc.Outcomes.from_orders(h.sample(1, 0)[:, 0])
    some = pc_error(h, y, "sub-3", subsets=[7, 2])
    np.testing.assert_allclose(some.errors, pc_error(h, y, "sub-3").errors[[7, 2]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"bandwidth": float("nan")}, "bandwidth"),
        ({"draws": -1}, "draws"),
        ({"subsets": [3]}, "subsets"),
        ({"subsets": [0, 0]}, "twice"),
        ({"view": "sub-4"}, "at most 3"),
    ],
)
def test_bad_questions(options: dict[str, object], message: str) -> None:
    h = pc.PlackettLuce(np.zeros((4, 3)))
    y = pc.Outcomes.from_best([0, 1, 2, 0], n_items=3)
    view = options.pop("view", "sub-2")
    with pytest.raises(UsageError, match=message):
        dirichlet_kernel_error(h, y, str(view), **options)  # type: ignore[arg-type]


def test_too_little_or_too_much_data() -> None:
    h = pc.PlackettLuce(np.zeros((2, 3)))
    with pytest.raises(DataError, match="fewer than 2"):
        dirichlet_kernel_error(h, pc.Outcomes.from_best([0, 1], n_items=3), "full", draws=0)
    with pytest.raises(DataError, match="outcomes"):
        dirichlet_kernel_error(h, pc.Outcomes.from_best([0, 1, 1], n_items=3), "top-1")
    many = pc.PlackettLuce(np.zeros((3000, 10)))
    with pytest.raises(UsageError, match="smaller k"):
        dirichlet_kernel_error(many, pc.Outcomes.from_orders(np.tile(np.arange(10), (3000, 1))), "sub-5")
