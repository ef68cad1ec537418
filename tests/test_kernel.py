"""Kernel estimates of vector notions: unbiased by enumeration, blind to labels, and right on the paper's examples."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest

import prefcal as pc
from prefcal.estimators.ranking_kernels import mallows_kernel
from prefcal.notions.population import paper_table
from prefcal.views import View

VECTOR_3 = [
    "full:canonical", "full:full", "sub-2:full", "top-1:canonical", "top-1:full", "position:canonical",
    "topset-2:canonical", "position:full",
]  # fmt: skip
ORDERS = {m: np.array(list(itertools.permutations(range(m)))) for m in (3, 4)}


def kernel(h, y, notion, items="labelled", **options):
    return pc.audit(h, y, notions=[notion], items=items, **options)[notion]


def categorical(rng, n: int, m: int = 3) -> tuple[pc.Categorical, np.ndarray]:
    probs = rng.dirichlet(np.ones(math.factorial(m)), size=n)
    return pc.Categorical(ORDERS[m], probs), probs


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("notion", VECTOR_3)
def test_the_mean_over_all_outcomes_is_zero_for_a_calibrated_model(notion, items):
    """Enumeration of all 36 outcomes of two instances with different forecasts: exact, whatever the kernel."""
    h, probs = categorical(np.random.default_rng(1), 2)
    total = spread = 0.0
    for i, j in itertools.product(range(6), repeat=2):
        value = kernel(h, pc.Outcomes.from_orders(ORDERS[3][[i, j]]), notion, items).value
        total += probs[0, i] * probs[1, j] * value
        spread += probs[0, i] * probs[1, j] * value**2
    assert total == pytest.approx(0, abs=1e-8)  # contributions are rounded to 2^-28
    assert spread > 1e-6


@pytest.mark.parametrize(("notion", "view"), [("full:canonical", "full"), ("top-1:canonical", "top-1")])
def test_the_mean_over_all_outcomes_is_the_squared_gap_of_equal_forecasts(notion, view):
    """With one forecast for all k is 1, and the estimate's mean is gap' K gap (K = 1 on equal outcomes for views)."""
    rng = np.random.default_rng(2)
    forecast, truth = rng.dirichlet(np.ones(6), size=2)
    h = pc.Categorical(ORDERS[3], [forecast] * 2)
    total = 0.0
    for outcome in itertools.product(range(6), repeat=2):
        y = pc.Outcomes.from_orders(ORDERS[3][list(outcome)])
        total += math.prod(truth[list(outcome)]) * kernel(h, y, notion).value
    parts = View.parse(view).classify(ORDERS[3])[:, 0]
    gap = np.bincount(parts, truth - forecast)
    ranks = np.argsort(ORDERS[3], axis=1)
    k = mallows_kernel(ranks, ranks) if view == "full" else np.eye(len(gap))
    assert total == pytest.approx(float(gap @ k @ gap), abs=1e-8)


@pytest.mark.parametrize("notion", ["full:canonical", "sub-3:canonical", "top-1:canonical", "top-2:full",
                                    "topset-2:canonical", "position:canonical", "sub-2:full"])  # fmt: skip
def test_exchangeable_results_do_not_depend_on_how_items_are_stored(notion):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(60, 4))
    orders = pc.PlackettLuce(0.5 * scores).sample(1, rng)[:, 0]
    ranks = np.argsort(orders, axis=1) + 1
    moved = np.argsort(rng.random(scores.shape), axis=1)
    a = kernel(pc.PlackettLuce(scores), pc.Outcomes.from_ranks(ranks), notion, "exchangeable")
    b = kernel(
        pc.PlackettLuce(np.take_along_axis(scores, moved, 1)),
        pc.Outcomes.from_ranks(np.take_along_axis(ranks, moved, 1)),
        notion,
        "exchangeable",
    )
    assert a.value == pytest.approx(b.value, rel=1e-9, abs=1e-12)
    assert (a.n_events, a.n_instances) == (b.n_events, b.n_instances)
    assert a.null_mean == pytest.approx(b.null_mean, abs=0.01)


def test_labelled_results_do_not_depend_on_the_names_of_items():
    """One renaming for all instances."""
    rng = np.random.default_rng(4)
    h, probs = categorical(rng, 80)
    orders = ORDERS[3][rng.integers(6, size=80)]
    names = np.array([2, 0, 1])
    for notion in ("full:canonical", "top-1:canonical"):
        a = kernel(h, pc.Outcomes.from_orders(orders), notion)
        b = kernel(pc.Categorical(names[ORDERS[3]], probs), pc.Outcomes.from_orders(names[orders]), notion)
        assert b.value == pytest.approx(a.value, abs=0.02)  # other features of the same kernel
        assert (a.p_value < 0.05) == (b.p_value < 0.05)


EXPECTED = {
    1: {"sub-2": True, "top-1": False, "full": False, "full:canonical": False, "top-1:canonical": False,
        "full:rankwise": False},
    2: {"sub-2": False, "full:rankwise": True, "full:canonical": False, "top-1": False, "top-1:canonical": False},
    3: {"top-1": True, "top-1:canonical": True, "sub-2": False, "full:rankwise": False, "full:canonical": False,
        "sub-2:full": False},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("table", [1, 2, 3])
def test_the_papers_counterexamples(table):
    """5,000 draws of each population: exactly the notions that hold are not rejected."""
    population = paper_table(table)
    _, probs, orders = population.sample(5000, np.random.default_rng(table))
    h, y = pc.Categorical(ORDERS[3], probs), pc.Outcomes.from_orders(orders)
    results = pc.audit(h, y, notions=list(EXPECTED[table]), items="labelled", draws=199)
    for notion, holds in EXPECTED[table].items():
        assert population.holds(notion) == holds
        result = results[notion]
        if holds:
            assert result.p_value > 0.05, notion
            assert result.verdict == "calibrated", notion
            assert result.debiased < 0.02
        else:
            assert result.p_value < 0.01, notion
            assert result.verdict == "miscalibrated", notion


@pytest.mark.parametrize("notion", ["sub-2", "top-1", "full"])
@pytest.mark.parametrize("table", [1, 3])
def test_debiased_errors_of_the_papers_populations_are_the_exact_ones(table, notion):
    """A single context: the mean gap over members is a rational number, which the estimate must be near."""
    population = paper_table(table)
    _, probs, orders = population.sample(20_000, np.random.default_rng(7))
    result = pc.audit(
        pc.Categorical(ORDERS[3], probs),
        pc.Outcomes.from_orders(orders),
        notions=[notion],
        items="labelled",
        draws=99,
    )[notion]
    exact = float(population.violation(notion).mean)
    assert result.debiased == pytest.approx(exact, abs=0.005)
    assert result.interval[0] - 0.003 <= exact <= result.interval[1] + 0.003


def test_more_than_one_number_of_items_is_refused_with_a_way_out():
    h = pc.PlackettLuce([[1.0, 0.0], [1.0, 0.0, 2.0]] * 5)
    y = pc.Outcomes.from_ranks([[1, 2], [1, 2, 3]] * 5)
    with pytest.raises(pc.UsageError, match="same number of items"):
        pc.audit(h, y, notions=["full:canonical"])


@pytest.mark.parametrize("notion", ["top-4:canonical", "sub-5:canonical", "topset-7:full"])
def test_too_many_outcomes_are_refused(notion):
    h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(5, 15)))
    with pytest.raises(pc.UsageError, match=r"confidence|smaller k"):
        pc.audit(h, pc.Outcomes.from_orders(h.mode()), notions=[notion])


def test_pairwise_forecasts_have_no_vector_notions():
    with pytest.raises(pc.UsageError, match="sub-2"):
        pc.audit(
            pc.Pairwise(np.full((4, 3, 3), 0.5)), pc.Outcomes.from_ranks([[1, 2, 3]] * 4), notions=["full:canonical"]
        )


def test_certain_forecasts_that_are_right_are_calibrated():
    """All residuals are 0: the estimate is 0, its instances count, and nothing is rejected."""
    h = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10)
    y = pc.Outcomes.from_orders([[0, 1, 2]] * 10 + [[2, 1, 0]] * 10)
    result = kernel(h, y, "full:canonical")
    assert result.value == pytest.approx(0, abs=1e-12)
    assert (result.p_value, result.n_instances) == (1.0, 20)
    assert result.verdict == "calibrated"


def test_one_instance_has_no_kernel_estimate():
    h = pc.Categorical([[0, 1, 2], [2, 1, 0]], [[0.5, 0.5]] * 3)
    y = pc.Outcomes.from_ranks([[1, 2, 3], [1, 1, 1], [1, 2, 2]])
    with pytest.raises(pc.PrefcalError, match="two instances"):
        kernel(h, y, "full:canonical")


def test_unknown_outcomes_are_left_out():
    rng = np.random.default_rng(5)
    h, _ = categorical(rng, 60)
    ranks = np.argsort(ORDERS[3][rng.integers(6, size=60)], axis=1) + 1.0
    ranks[::3] = [1, 2, 2]
    result = kernel(h, pc.Outcomes.from_ranks(ranks), "full:canonical")
    assert (result.n_events, result.n_instances, result.coverage["used"]) == (40, 40, 40)
    assert sum(result.coverage.values()) == 60
    top = kernel(h, pc.Outcomes.from_ranks(ranks), "top-1:canonical")
    assert top.n_instances == 60
    known = np.arange(60) % 3 > 0
    alone = kernel(h[known], pc.Outcomes.from_ranks(ranks[known]), "full:canonical")
    assert alone.n_instances == 40


def test_clusters_are_the_units():
    """Each instance four times in one cluster: as few independent units as before, no false alarm."""
    rng = np.random.default_rng(6)
    rejected_naive = rejected = 0
    for seed in range(12):
        h, probs = categorical(np.random.default_rng(seed), 60)
        outcome = (np.cumsum(probs, axis=1) < rng.random((60, 1))).sum(axis=1)
        y = pc.Outcomes.from_orders(ORDERS[3][outcome])
        four = np.repeat(np.arange(60), 4)
        order = rng.permutation(240)
        rejected += kernel(h[four][order], y[four][order], "full:canonical", clusters=four[order]).p_value <= 0.05
        rejected_naive += kernel(h[four], y[four], "full:canonical").p_value <= 0.05
    assert rejected <= 3
    assert rejected_naive >= 6


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_groups_of_vector_notions(items):
    rng = np.random.default_rng(8)
    scores = rng.normal(size=(400, 3))
    bad = np.arange(400) % 2 == 1
    orders = pc.PlackettLuce(np.where(bad[:, None], 0.0, scores)).sample(1, rng)[:, 0]
    audit = pc.audit(
        pc.PlackettLuce(scores), pc.Outcomes.from_orders(orders),
        notions=["full:canonical"], items=items, groups={"bad": np.where(bad, "yes", "no")},
    )  # fmt: skip
    assert audit.select(notion="full:canonical", group={"bad": "yes"}).verdict == "miscalibrated"
    assert audit.select(notion="full:canonical", group={"bad": "no"}).verdict != "miscalibrated"


def test_weights_are_not_ignored():
    """Rows of weight 0 are no instances; a way of weighing that does not exist is refused, not passed over."""
    rng = np.random.default_rng(9)
    h, _ = categorical(rng, 60)
    y = pc.Outcomes.from_orders(ORDERS[3][rng.integers(6, size=60)])
    with contextlib.suppress(pc.UsageError):
        result = kernel(h, y, "full:canonical", weights=(np.arange(60) % 2).astype(float))
        assert (result.n_instances, result.coverage["used"]) == (30, 30)


def test_a_group_without_known_outcomes_is_left_out():
    """As for scalar notions: it has no Result, and the others keep theirs."""
    rng = np.random.default_rng(10)
    h, _ = categorical(rng, 60)
    ranks = np.argsort(ORDERS[3][rng.integers(6, size=60)], axis=1) + 1.0
    group = np.array(["a"] * 40 + ["b"] * 20)
    ranks[group == "b"] = [1, 1, 1]
    audit = pc.audit(
        h, pc.Outcomes.from_ranks(ranks), notions=["full:canonical", "full"], groups={"g": group}, draws=99
    )
    for notion in ("full:canonical", "full"):
        assert [r.group for r in audit.results if r.notion == notion] == [None, {"g": "a"}]
