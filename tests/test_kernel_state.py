"""Kernel estimates: features against all pairs, states that merge, error rates, and the paper's counterexamples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

import prefcal as pc
from prefcal.estimators import kernel_residuals
from prefcal.estimators.kernel import kernel_error, kernel_state, plan_kernel
from prefcal.estimators.kernel_exact import exact_kernel_error
from prefcal.estimators.kernel_state import KernelState, merge_states, unit_signs
from prefcal.notions.notion import Notion
from prefcal.notions.population import paper_table

ORDERS = {m: np.array(list(itertools.permutations(range(m)))) for m in (3, 4)}


def estimate(h, y, notion, items="labelled", *, clusters=None, seed=0, kernel=None):
    notion = Notion.parse(notion)
    return kernel_error(h, y, notion, items, weights=np.ones(len(y)), clusters=clusters, seed=seed, kernel=kernel)


def luce(n: int, m: int, seed: int, *, temperature: float = 1.0):
    """Plackett-Luce forecasts of scores divided by the true temperature, and their outcomes."""
    rng = np.random.default_rng([seed, n, m])
    truth = pc.PlackettLuce(rng.normal(size=(n, m)))
    return truth.scaled(temperature), pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize(
    "notion",
    ["full:canonical", "sub-2:full", "sub-2:canonical", "sub-3:canonical", "top-1:canonical", "position:canonical",
     "top-2:full", "full:rankwise", "sub-2:rankwise"],
)  # fmt: skip
def test_random_features_approach_the_sum_over_all_pairs(notion, items):
    h, y = luce(120, 4, 1, temperature=2.5)
    exact = exact_kernel_error(h, y, notion, items)
    seeds = [estimate(h, y, notion, items, seed=s) for s in range(8)]
    plan = plan_kernel(h, notion, items)
    assert all(s.bandwidth == exact.bandwidth == plan.bandwidth for s in seeds)
    values = np.array([s.value for s in seeds])
    assert values.std() > 0
    assert abs(values.mean() - exact.value) < 4.5 * values.std(ddof=1) / math.sqrt(len(values))
    assert {s.n_events for s in seeds} == {exact.n_events}
    null = np.mean([s.interval[1] - s.value for s in seeds])
    assert null == pytest.approx(exact.interval[1] - exact.value, rel=0.35)


def test_the_delta_kernel_of_full_rankings_remains_available():
    h, y = luce(100, 3, 2, temperature=2.0)
    assert estimate(h, y, "full:canonical").kernel == "mallows"
    assert estimate(h, y, "full:canonical", kernel="delta").kernel == "delta"
    with pytest.raises(pc.UsageError, match="kernel"):
        estimate(h, y, "top-1:canonical", kernel="mallows")
    with pytest.raises(pc.UsageError, match="kernel"):
        estimate(*luce(20, 8, 0), "full:canonical", kernel="delta")


def test_kendall_is_half_the_residual_product_of_pairs():
    """By the formula: residuals sgn - (2 p - 1), summed over pairs, with the kernel on all that is given."""
    h, y = luce(60, 4, 3, temperature=2.0)
    found = exact_kernel_error(h, y, "sub-2:full")
    first, second = np.triu_indices(4, 1)
    ranks = y.dense()
    r = np.sign(ranks[:, second] - ranks[:, first]) - np.tanh(h.pair_log_odds(first, second) / 2)
    u = np.sqrt(h.marginal("full").probs[:, 0])
    k = np.exp(-((u[:, None] - u) ** 2).sum(axis=-1) / (2 * found.bandwidth**2))
    total = (k * (r @ r.T))[~np.eye(60, dtype=bool)].mean() / 6
    assert found.value == pytest.approx(total / 2, rel=1e-9)


def test_drawn_references_estimate_what_listing_gives(monkeypatch):
    """Equal forecasts (k = 1), so that only the outcome side differs: the mean over references is the exact value."""
    h = pc.PlackettLuce(np.tile([1.0, 0.3, 0.0, -0.5], (60, 1)))
    y = pc.Outcomes.from_orders(h.scaled(0.3).sample(1, 5)[:, 0])
    listed = exact_kernel_error(h, y, "full:canonical")
    assert listed.references == 0
    monkeypatch.setattr(kernel_residuals, "LISTED_ITEMS", 2)
    drawn = [exact_kernel_error(h, y, "full:canonical", seed=s) for s in range(30)]
    values = np.array([d.value for d in drawn])
    assert drawn[0].references > 1
    assert abs(values.mean() - listed.value) < 4.5 * values.std(ddof=1) / math.sqrt(30)
    assert values.std() < abs(listed.value)


@pytest.mark.parametrize("notion", ["full:canonical", "sub-2:full", "sub-3:canonical", "top-1:canonical"])
@pytest.mark.parametrize("m", [4, 7])
def test_states_of_parts_merge_to_the_whole(notion, m):
    """To the last bit where parts start at multiples of the block; in any order and grouping."""
    n = 2 * 4096 + 300 if notion == "full:canonical" and m == 4 else 4096 + 50
    h, y = luce(n, m, 4)
    plan = plan_kernel(h, notion, redraw=False)
    whole = kernel_state(plan, h, y)
    cuts = [*range(0, n, 4096), n]
    parts = [kernel_state(plan, h[a:b], y[a:b], first=a) for a, b in itertools.pairwise(cuts)]
    for merged in (merge_states(parts), merge_states(parts[::-1])):
        assert merged.value == whole.value
        assert merged.null() == whole.null()
        assert merged.interval() == whole.interval()
        assert (merged.n_units, merged.n_events) == (whole.n_units, whole.n_events)
    empty = KernelState(plan, whole.size, whole.members)
    assert (empty + whole).value == (whole + empty).value == whole.value


def test_merging_is_associative_to_the_bit_wherever_the_data_are_cut():
    h, y = luce(700, 5, 5)
    plan = plan_kernel(h, "full:canonical", redraw=False)
    a, b, c = (kernel_state(plan, h[i:j], y[i:j], first=i) for i, j in ((0, 101), (101, 350), (350, 700)))
    one, other, turned = (a + b) + c, a + (b + c), (c + a) + b
    for name in ("total", "signed", "signed_own"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(getattr(one, name), getattr(turned, name))
    assert one.value == other.value == turned.value
    assert one.value == pytest.approx(kernel_state(plan, h, y).value, rel=1e-6, abs=1e-10)


def test_the_null_law_by_redrawing_merges_too():
    h, y = luce(600, 4, 6)
    plan = plan_kernel(h, "full:canonical")
    assert plan.redraws
    merged = kernel_state(plan, h[:300], y[:300]) + kernel_state(plan, h[300:], y[300:], first=300)
    whole = kernel_state(plan, h, y)
    assert merged.value == pytest.approx(whole.value, rel=1e-6, abs=1e-10)
    assert merged._simulated().std() == pytest.approx(whole._simulated().std(), rel=0.2)


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"bandwidth": 0.123}, {"decay": 1.0}, {"kernel": "delta"}, {"n": 10**6}]
)
def test_states_of_other_plans_do_not_merge(changed):
    h, y = luce(50, 4, 7)
    a = kernel_state(plan_kernel(h, "full:canonical"), h, y)
    b = kernel_state(plan_kernel(h, "full:canonical", **changed), h, y)
    with pytest.raises(pc.UsageError, match=next(iter(changed)) if "n" not in changed else "features|draws|freq"):
        a.merge(b)


def test_a_plan_is_for_its_own_items():
    h, y = luce(50, 4, 8)
    plan = plan_kernel(h, "full:canonical")
    with pytest.raises(pc.UsageError, match="4 items"):
        kernel_state(plan, *luce(50, 3, 8))
    with pytest.raises(pc.UsageError, match="clustered=True"):
        kernel_state(plan, h, y, clusters=np.arange(50) // 2)
    with pytest.raises(pc.UsageError, match="50 forecasts"):
        kernel_state(plan, h, y[:40])
    with pytest.raises(pc.UsageError, match="bandwidth"):
        plan_kernel(h, "full:canonical", bandwidth=0.0)


def test_signs_are_fair_independent_and_belong_to_the_unit():
    signs = unit_signs(np.arange(4000), 130, seed=3)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert np.abs(signs.mean(axis=0)).max() < 5 / math.sqrt(4000)
    correlation = signs.T @ signs / 4000
    assert np.abs(correlation[~np.eye(130, dtype=bool)]).max() < 5 / math.sqrt(4000)
    assert np.array_equal(unit_signs(np.array([7, 2500]), 130, seed=3), signs[[7, 2500]])
    assert not np.array_equal(unit_signs(np.arange(4000), 130, seed=4), signs)


@pytest.mark.parametrize("notion", ["full:canonical", "sub-2:full", "top-1:canonical"])
def test_units_are_clusters_and_order_of_rows_does_not_matter(notion):
    h, y = luce(200, 4, 9, temperature=2.0)
    codes = np.arange(200) // 4
    a = estimate(h, y, notion, clusters=codes)
    moved = np.random.default_rng(0).permutation(200)
    b = estimate(h[moved], y[moved], notion, clusters=codes[moved])
    assert a.n_instances == b.n_instances == 50
    exact = exact_kernel_error(h, y, notion, clusters=codes)
    assert exact.n_instances == 50
    assert a.value == pytest.approx(b.value, rel=1e-4, abs=1e-6)
    other = exact_kernel_error(h[moved], y[moved], notion, clusters=codes[moved], bandwidth=exact.bandwidth)
    assert exact.value == pytest.approx(other.value, abs=1e-12)


def models(m: int, n: int, rng: np.random.Generator):
    """A calibrated forecast of each class and outcomes drawn from it."""
    scores = rng.normal(size=(n, m))
    centers = np.argsort(rng.random((n, m)), axis=1) + 1
    luce_model = pc.PlackettLuce(scores)
    yield luce_model, luce_model.sample(1, rng)[:, 0]
    mallows = pc.Mallows(centers, 0.7)
    yield mallows, mallows.sample(1, rng)[:, 0]
    drawn = luce_model.sample(21, rng)
    yield pc.Samples(drawn[:, 1:]), drawn[:, 0]
    listed = pc.Categorical(luce_model.sample(1, rng)[:40, 0], rng.dirichlet(np.ones(40), size=n))
    yield listed, listed.sample(1, rng)[:, 0]


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("m", [7, 40])
def test_any_distribution_that_can_be_sampled_up_to_forty_items(m, items):
    rng = np.random.default_rng(m)
    for h, orders in models(m, 150, rng):
        for notion in ("full:canonical", "sub-2:full", "top-1:canonical"):
            good = estimate(h, pc.Outcomes.from_orders(orders), notion, items)
            assert good.null.p_value > 0.001
            bad = estimate(h, pc.Outcomes.from_orders(orders[:, ::-1]), notion, items)
            assert bad.value > good.value


def test_more_instances_take_linear_time_memory_and_less_work_each():
    """What is fixed by the plan: state size and work for 10^6 instances of 40 items."""
    h, _ = luce(500, 40, 0)
    plan = plan_kernel(h, "full:canonical", n=1_000_000)
    state = KernelState(plan, 2 * plan.frequencies * plan.mixes, 1)
    assert state.signed.nbytes < 1 << 22
    assert plan.references == 1
    assert plan.redraws == 0


def test_pairwise_probabilities_have_the_kernel_test_of_pairs():
    rng = np.random.default_rng(11)
    luce_model = pc.PlackettLuce(rng.normal(size=(300, 4)))
    first, second = np.triu_indices(4, 1)
    probs = np.full((300, 4, 4), 0.5)
    probs[:, first, second] = 1 / (1 + np.exp(-luce_model.pair_log_odds(first, second)))
    probs[:, second, first] = 1 - probs[:, first, second]
    y = pc.Outcomes.from_orders(luce_model.sample(1, rng)[:, 0])
    assert estimate(pc.Pairwise(probs), y, "sub-2:full").null.p_value > 0.01
    assert estimate(pc.Pairwise(1 - probs), y, "sub-2:full").null.p_value < 0.01
    with pytest.raises(pc.UsageError, match="sub-2"):
        estimate(pc.Pairwise(probs), y, "sub-2:full", "exchangeable")


def test_one_draw_cannot_be_split():
    with pytest.raises(pc.UsageError, match="one draw"):
        estimate(pc.Samples(np.tile(np.arange(4), (10, 1, 1))), luce(10, 4, 0)[1], "full:canonical")


TABLES = {
    1: {"sub-2:full": True, "sub-2:canonical": True, "full:canonical": False, "top-1:canonical": False},
    2: {"full:rankwise": True, "sub-2:full": False, "full:canonical": False, "sub-2:canonical": False},
    3: {"top-1:canonical": True, "top-1:full": True, "sub-2:full": False, "full:canonical": False},
}


@pytest.mark.parametrize("seeds", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("table", [1, 2, 3])
def test_kernel_tests_tell_the_papers_populations_apart(table, seeds):
    """n = 5,000: what fails is found with every seed; what holds is rejected at 5 % as often as a binomial allows."""
    population = paper_table(table)
    most = int(binom.ppf(1 - 1e-4, seeds, 0.05))
    rejected = dict.fromkeys(TABLES[table], 0)
    for seed in range(seeds):
        _, probs, orders = population.sample(5000, np.random.default_rng([table, seed]))
        h, y = pc.Categorical(ORDERS[3], probs), pc.Outcomes.from_orders(orders)
        for notion in rejected:
            rejected[notion] += estimate(h, y, notion, seed=seed).null.p_value <= 0.05
    for notion, holds in TABLES[table].items():
        assert population.holds(notion) == holds
        assert rejected[notion] <= most if holds else rejected[notion] == seeds, (notion, rejected)


def rejections(notion: str, m: int, n: int, runs: int, items: str = "labelled", **options) -> int:
    return sum(
        estimate(*luce(n, m, seed, **options), notion, items, seed=seed).null.p_value <= 0.05 for seed in range(runs)
    )


CALIBRATED = [("full:canonical", 4, 30), ("full:canonical", 7, 30), ("top-1:canonical", 4, 30), ("sub-2:full", 4, 60),
              ("sub-3:canonical", 4, 60), ("position:canonical", 4, 60)]  # fmt: skip


@pytest.mark.parametrize(("notion", "m", "n"), CALIBRATED[:4])
def test_calibrated_models_are_seldom_rejected(notion, m, n):
    runs = 30
    assert rejections(notion, m, n, runs) <= binom.ppf(1 - 1e-4, runs, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("notion", "m", "n"), CALIBRATED)
def test_rejection_rates_of_calibrated_models(notion, m, n):
    """1,000 runs: exact tests within the binomial tolerance of 5 %, random signs at most 7.5 %."""
    runs = 1000
    found = rejections(notion, m, n, runs)
    exact = notion in ("full:canonical", "top-1:canonical")
    assert found <= binom.ppf(0.9999, runs, 0.05 if exact else 0.075)
    assert found >= binom.ppf(1e-4, runs, 0.05 if exact else 0.02)


def test_power_against_a_wrong_temperature():
    """Labelled items, temperature 1.6, n = 400: the full test must see what pairs show."""
    runs = 10
    for notion, m in (("full:canonical", 4), ("sub-2:full", 4), ("full:canonical", 8)):
        assert rejections(notion, m, 400, runs, temperature=1.6) >= 0.6 * runs, (notion, m)
