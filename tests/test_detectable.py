"""What data could have shown: exact laws of residual sums, and audits that reject as often as promised."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

import prefcal as pc
from prefcal.data.ragged import Ragged
from prefcal.distributions.base import Distribution
from prefcal.distributions.stacked import stack
from prefcal.distributions.staged import StagedPlackettLuce
from prefcal.distributions.stated import PairsAndBest
from prefcal.errors import UsageError
from prefcal.estimators.cells import CellTable
from prefcal.estimators.detectable import SAMPLE, detectable
from prefcal.estimators.events import family_for
from prefcal.estimators.rejections import Rejections, RepeatedTest, crossing
from prefcal.estimators.scalar import fill_tables
from prefcal.estimators.tempered import MANY_CELLS, TemperedTruth
from prefcal.notions.notion import Notion
from prefcal.report.power import detectable_text

BINS = 5


def outcomes(orders: np.ndarray, seen: str) -> pc.Outcomes:
    m = orders.shape[1]
    if seen == "ranks":
        return pc.Outcomes.from_orders(orders)
    if seen == "best":
        return pc.Outcomes.from_best(orders[:, 0], n_items=m)
    return pc.Outcomes.from_best(np.sort(orders[:, :2], axis=1), n_items=m)  # the best two, unordered


def family(notion: str, items: str, h: Distribution):
    return family_for(Notion.parse(notion), items, h, ties_equal=False)


def table(h: Distribution, y: pc.Outcomes, f, *, weight: float = 1.0, clusters=None) -> CellTable:
    weights = np.full(len(y), weight)
    filled = fill_tables(
        h, y, [f], bins=15, groupings=(), weights=weights, per_instance=False, clusters=clusters, seed=0
    )
    return filled[0].overall


def enumerated(h: Distribution, f, seen: str, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and conditional covariance of the residual sums by brute force over all rankings."""
    size = f.n_members * BINS
    mean, covariance = np.zeros(size), np.zeros((size, size))
    for i in range(len(h)):
        one = h[[i]]
        (block,) = one.blocks()
        forecast = f.forecast(block)
        cell = np.broadcast_to(f.residual_cells(forecast, BINS), forecast.p.shape)[0]
        first, second = np.zeros(size), np.zeros((size, size))
        for order in permutations(range(h.n_items)):
            chance = math.exp(one.scaled(1 / temperature).log_prob(np.array([order]))[0])
            y = f.observe(forecast, outcomes(np.array([order]), seen).dense())[0]
            r = np.bincount(cell, np.nan_to_num(y - forecast.p[0]), minlength=size)
            first += chance * r
            second += chance * np.outer(r, r)
        mean += first
        covariance += second - np.outer(first, first)
    return mean, covariance


def covariance_error(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
@pytest.mark.parametrize(
    ("notion", "items", "seen"),
    [
        ("sub-2", "exchangeable", "ranks"),
        ("sub-2", "exchangeable", "best"),
        ("sub-2", "exchangeable", "two"),
        ("top-1:confidence", "exchangeable", "best"),
        ("sub-2", "labelled", "ranks"),
        ("top-1:rankwise", "exchangeable", "ranks"),
    ],
)
def test_law_is_that_of_all_rankings(notion, items, seen, temperature):
    h = pc.PlackettLuce(np.random.default_rng(1).normal(size=(6, 4)))
    f = family(notion, items, h)
    y = outcomes(h.mode(), seen)
    model = TemperedTruth(h, y, f, bins=BINS)
    law = model.law(temperature, np.random.default_rng(2))
    mean, covariance = enumerated(h, f, seen, temperature)
    if seen == "two":
        assert np.all(np.abs(law.mean - mean) <= 5 * np.sqrt(law.noise) + 1e-12)
        assert law.noise.any()
    else:
        np.testing.assert_allclose(law.mean, mean, atol=1e-10)
        assert not law.noise.any()
    rough = 0.2 if seen == "two" else 0.3 if model.size > MANY_CELLS else 0.1  # the number of simulated outcomes
    assert covariance_error(law.conditional, covariance) < rough
    if seen != "two":  # the variance of every event is exact
        events = np.bincount(model.parts[0].cell.ravel(), minlength=model.size) == 1
        np.testing.assert_allclose(np.diag(law.conditional)[events], np.diag(covariance)[events], atol=1e-10)
    if notion == "top-1:confidence":  # one event an instance: nothing is simulated
        np.testing.assert_allclose(law.conditional, covariance, atol=1e-10)
    explained = law.second - law.conditional
    if seen != "two":
        assert np.linalg.eigvalsh(explained).min() > -1e-9
        if temperature == 1.0:
            np.testing.assert_allclose(law.mean, 0.0, atol=1e-12)
            np.testing.assert_allclose(explained, 0.0, atol=1e-12)


def other_models() -> dict[str, Distribution]:
    rng = np.random.default_rng(4)
    scores, odds = rng.normal(size=(5, 4)), rng.normal(size=(5, 4, 4))
    places = rng.permuted(np.tile(np.arange(1, 5), (5, 1)), axis=1)
    orders = np.array(list(permutations(range(4))))
    return {
        "staged": StagedPlackettLuce(scores, [1.5, 0.5, 1.0]),
        "Mallows": pc.Mallows(places, [0.2, 0.5, 0.5, 0.9, 1.0]),
        "BabingtonSmith": pc.BabingtonSmith(1 / (1 + np.exp(odds.transpose(0, 2, 1) - odds))),
        "Categorical": pc.Categorical(orders, rng.dirichlet(np.ones(24), size=5)),
        "stacked": stack([([0, 2], pc.Mallows(places[:2], 0.4)), ([1, 3, 4], pc.PlackettLuce(scores[:3]))]),
    }


@pytest.mark.parametrize("name", sorted(other_models()))
@pytest.mark.parametrize(
    ("notion", "items", "seen"),
    [
        ("sub-2", "exchangeable", "ranks"),
        ("sub-2", "exchangeable", "best"),  # without Luce's axiom: a calibrated model has residuals here
        ("top-1:confidence", "exchangeable", "best"),
        ("top-1:rankwise", "labelled", "ranks"),
        ("sub-3:confidence", "exchangeable", "ranks"),
        ("full:confidence", "exchangeable", "ranks"),
    ],
)
def test_law_of_other_distributions_is_that_of_all_rankings(name, notion, items, seen):
    h = other_models()[name]
    f = family(notion, items, h)
    y = outcomes(h.mode(), seen)
    model = TemperedTruth(h, y, f, bins=BINS)
    for temperature in (0.5, 1.0, 2.0):
        law = model.law(temperature, np.random.default_rng(2))
        mean, covariance = enumerated(h, f, seen, temperature)
        np.testing.assert_allclose(law.mean, mean, atol=1e-10)
        assert covariance_error(law.conditional, covariance) < 0.1
        if notion.endswith("confidence") and notion != "sub-3:confidence":  # one event an instance
            np.testing.assert_allclose(law.conditional, covariance, atol=1e-10)


def test_single_events_need_no_rankings():
    """What one pair, or the best item, shows has a law also where only pairs and best items are stated."""
    rng = np.random.default_rng(5)
    whole = pc.PlackettLuce(rng.normal(size=(40, 3)))
    ranks = np.tile([1.0, 2.0, np.nan], (40, 1))
    pairs = pc.Pairwise(whole_pairs := pair_matrix(whole))
    one = pc.Outcomes.from_ranks(rng.permuted(ranks, axis=1))
    best = pc.Outcomes.from_best(whole.mode()[:, 0], n_items=3)
    stated = PairsAndBest(whole_pairs, np.exp(whole.top_log_probs()))
    for model, y, notion, truth in (
        (pairs, one, "sub-2", whole), (stated, one, "sub-2", whole), (stated, best, "top-1:confidence", whole),
    ):  # fmt: skip
        f, g = family(notion, "exchangeable", model), family(notion, "exchangeable", truth)
        ours = TemperedTruth(model, y, f, bins=BINS).law(1.7, np.random.default_rng(0))
        theirs = TemperedTruth(truth, y, g, bins=BINS).law(1.7, np.random.default_rng(0))
        for name in ("mean", "second", "conditional", "single", "stated", "told"):
            # With one event an instance nothing but rounding may differ: nothing is simulated on our side.
            expected = np.diag(np.diag(getattr(theirs, name))) if name == "conditional" else getattr(theirs, name)
            np.testing.assert_allclose(getattr(ours, name), expected, atol=1e-9, err_msg=name)


def pair_matrix(h: pc.PlackettLuce) -> np.ndarray:
    s = h.scores.dense()
    return 1 / (1 + np.exp(s[:, None, :] - s[:, :, None]))


def test_equal_scores_have_no_residual():
    h = pc.PlackettLuce(np.zeros((8, 2)))
    y = pc.Outcomes.from_best([0] * 8, n_items=2)
    law = TemperedTruth(h, y, family("sub-2", "exchangeable", h), bins=BINS).law(3.0, np.random.default_rng(0))
    assert not law.mean.any()
    assert np.abs(law.second).max() < 1e-12


def test_one_bin_is_a_z_test():
    """With one bin the binned error is |sum of residuals| / n: its power has a closed form."""
    rng = np.random.default_rng(3)
    h = pc.PlackettLuce(rng.normal(size=(4000, 2)))
    y = pc.Outcomes.from_orders(h.mode())
    model = TemperedTruth(h, y, family("sub-2", "exchangeable", h), bins=1)
    truth, null = model.law(1.5, rng), model.law(1.0, rng)
    margin = np.abs(np.diff(h.scores.dense(), axis=1)[:, 0])
    p, q = 1 / (1 + np.exp(-margin)), 1 / (1 + np.exp(-margin / 1.5))
    n, shift = 500, (q - p).mean()
    second = (q * (1 - p) ** 2 + (1 - q) * p**2).mean()
    limit = 1.959964 * math.sqrt((p * (1 - p)).mean() / n)  # both null laws have the variance that forecasts state
    sd = math.sqrt((second - shift**2) / n)
    expected = 0.5 * math.erfc((limit - abs(shift)) / sd / math.sqrt(2))
    found = RepeatedTest(null, instances=n, rng=rng).rejections(truth)
    assert 0.3 < expected < 0.9
    assert abs(found.rate - expected) < 4 * found.se + 0.01


def test_size_of_the_test_is_what_is_asked_for():
    h = pc.PlackettLuce(np.random.default_rng(4).normal(size=(500, 4)))
    model = TemperedTruth(h, pc.Outcomes.from_orders(h.mode()), family("sub-2", "exchangeable", h), bins=15)
    null = model.law(1.0, np.random.default_rng(0))
    for alpha in (0.01, 0.05, 0.2):
        found = RepeatedTest(null, instances=500, rng=np.random.default_rng(1), alpha=alpha).rejections(null)
        assert abs(found.rate - alpha) < 5 * found.se + 0.003


def found_for(h: pc.PlackettLuce, y: pc.Outcomes, *, weight: float = 1.0, seed: int = 0, clusters=None):
    f = family("sub-2", "exchangeable", h)
    return detectable(
        h, y, f, table(h, y, f, weight=weight, clusters=clusters), weights=np.full(len(y), weight),
        clusters=clusters, seed=seed,
    )  # fmt: skip


def simulated(n: int, m: int = 4, seed: int = 0) -> tuple[pc.PlackettLuce, pc.Outcomes]:
    rng = np.random.default_rng([seed, n])
    h = pc.PlackettLuce(rng.normal(size=(n, m)))
    return h, pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])


def test_more_data_show_smaller_errors():
    small, large = (found_for(*simulated(n)) for n in (150, 600))
    assert large["detectable_temperature_above"].value < small["detectable_temperature_above"].value
    assert large["detectable_temperature_below"].value > small["detectable_temperature_below"].value
    assert large["detectable_ece_above"].value == pytest.approx(small["detectable_ece_above"].value / 2, rel=0.15)
    for estimate in large.values():
        assert estimate.interval is not None
        assert estimate.interval[0] < estimate.value < estimate.interval[1]


def test_weights_count_in_proportion_and_seeds_repeat():
    h, y = simulated(200)
    one, two = found_for(h, y), found_for(h, y, weight=2.0)
    assert one == found_for(h, y)
    for name, estimate in one.items():
        assert two[name].value == pytest.approx(estimate.value, rel=1e-6)


def test_rows_twice_as_clusters_count_once():
    h, y = simulated(300)
    rows = np.repeat(np.arange(300), 2)
    once = found_for(h, y)
    twice = found_for(h[rows], y[rows], clusters=rows)
    alone = found_for(h[rows], y[rows])
    for side in ("above", "below"):
        name = f"detectable_temperature_{side}"
        # The cluster-robust law alone is used for clusters; the exact one can only make rejections rarer.
        assert math.log(twice[name].value) == pytest.approx(math.log(once[name].value), rel=0.15)
        assert abs(math.log(alone[name].value)) < 0.85 * abs(math.log(once[name].value))


def test_large_data_are_represented_by_a_sample():
    h, y = simulated(3 * SAMPLE, m=2)
    found = found_for(h, y)["detectable_temperature_above"]
    assert f"{SAMPLE} instances" in found.note
    quarter = found_for(h[: 3 * SAMPLE // 4], y[: 3 * SAMPLE // 4])["detectable_temperature_above"]
    assert math.log(quarter.value) == pytest.approx(2 * math.log(found.value), rel=0.2)


def test_tiny_data_show_nothing_and_say_so():
    found = found_for(*simulated(5, m=2))
    assert found["detectable_temperature_above"].value == math.inf
    assert found["detectable_temperature_below"].value == 0.0
    assert "detectable_ece_above" not in found
    assert "would not show" in found["detectable_temperature_above"].note
    words = detectable_text(found["detectable_temperature_above"], found["detectable_temperature_below"])
    assert words == "this data could not have shown any temperature error reliably"


def test_what_has_no_law_says_so():
    h, y = simulated(20, m=9)
    f = family("sub-2", "labelled", h)  # 72 members x 15 bins
    found = detectable(h, y, f, table(h, y, f), weights=np.ones(20))
    assert sorted(found) == ["detectable_temperature_above", "detectable_temperature_below"]
    for estimate in found.values():
        assert math.isnan(estimate.value)
        assert "1080 residual cells" in estimate.note
    assert detectable_text(*found.values()) == ""
    with pytest.raises(UsageError, match="1080 residual cells"):
        TemperedTruth(h, y, f, bins=15)
    f = family("sub-2", "exchangeable", h)
    mixture = pc.Mixture([h, h.scaled(2.0)], [0.5, 0.5])
    found = detectable(mixture, y, f, table(mixture, y, f), weights=np.ones(20))
    assert "Mixture forecasts have no temperature" in found["detectable_temperature_above"].note
    pairs = pc.Pairwise(np.full((20, 9, 9), 0.5))
    with pytest.raises(UsageError, match="depend on each other"):
        TemperedTruth(pairs, y, f, bins=15)


def test_what_takes_too_long_is_left_out_where_a_limit_is_given():
    h, y = simulated(30, m=4)
    f = family("sub-3:rankwise", "exchangeable", h)
    shared = {"weights": np.ones(30), "most": 15**2 + 30 * 4 * 6 * 3}
    assert detectable(h, y, f, table(h, y, f), **shared)["detectable_temperature_above"].value > 1
    shared["most"] -= 1
    assert (
        "longer than the audit" in detectable(h, y, f, table(h, y, f), **shared)["detectable_temperature_above"].note
    )
    f = family("sub-2", "exchangeable", h)
    for model, numbers in ((h, 0), (StagedPlackettLuce(h.scores.dense(), np.ones(3)), 30 * 4 * 8)):
        numbers += 15**2
        for most in (numbers, numbers - 1):
            found = detectable(model, y, f, table(model, y, f), weights=np.ones(30), most=most)
            assert math.isnan(found["detectable_temperature_above"].value) == (most < numbers)


def test_short_lists_and_lists_of_one():
    scores = Ragged.from_rows([[0.3], *([[0.0, 1.0], [0.2, -1.0, 0.7]] * 60)])
    h = pc.PlackettLuce(scores)
    y = pc.Outcomes.from_best([0] * len(h), n_items=h.sizes)
    f = family("sub-2", "exchangeable", h)
    model = TemperedTruth(h, y, f, bins=15)
    assert model.n == len(h) - 1
    assert found_for(h, y)["detectable_temperature_above"].value > 1


def test_crossing_interpolates():
    from statistics import NormalDist

    exact = lambda s: (Rejections(NormalDist().cdf(2.0 * s - 1.64), 0.001), s)  # noqa: E731
    found = crossing(exact, 0.1, 10.0, 0.8)
    assert found is not None
    middle, low, high, error, slope = found
    assert middle == pytest.approx((1.64 + 0.8416) / 2, abs=0.01)
    assert low < middle < high
    assert (error, slope) == (pytest.approx(middle), pytest.approx(1.0))
    assert crossing(lambda s: (Rejections(0.05, 0.001), s), 0.1, 10.0, 0.8) is None


def rejected(h: Distribution, temperature: float, seen: str, notion: str, items: str, runs: int, seed: int) -> float:
    """Share of whole audits that reject, with outcomes of the given temperature."""
    rng = np.random.default_rng([seed, 13])
    hits = 0
    for r in range(runs):
        y = outcomes(h.scaled(1 / temperature).sample(1, rng)[:, 0], seen)
        result = pc.audit(h, y, notions=notion, items=items, seed=r, draws=199, estimators="ece")[notion]
        hits += max(result.p_value, result.metrics["p_value_cluster_robust"].value) <= 0.05
    return hits / runs


def center(n: int, m: int, rng: np.random.Generator) -> pc.Mallows:
    return pc.Mallows(rng.permuted(np.tile(np.arange(1, m + 1), (n, 1)), axis=1), rng.uniform(0.2, 0.9, size=n))


def listed(n: int, m: int, rng: np.random.Generator) -> pc.Categorical:
    return pc.Categorical(np.array(list(permutations(range(m)))), rng.dirichlet(np.ones(math.factorial(m)), size=n))


@pytest.mark.parametrize("kind", ["PlackettLuce", "Mallows"])
def test_audits_reject_as_often_as_promised(kind):
    h, y = simulated(80, seed=5)
    if kind == "Mallows":
        h = center(80, 4, np.random.default_rng(6))
    above = found_for(h, y)["detectable_temperature_above"].value
    share = rejected(h, above, "ranks", "sub-2", "exchangeable", 60, 5)
    assert abs(share - 0.8) < 3.5 * math.sqrt(0.16 / 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "n", "m", "notion", "seen", "items"),
    [
        (center, 100, 4, "sub-2", "ranks", "exchangeable"),
        (center, 200, 4, "sub-2", "best", "exchangeable"),
        (center, 300, 5, "top-1:confidence", "best", "exchangeable"),
        (center, 300, 3, "sub-2", "ranks", "labelled"),
        (center, 200, 4, "sub-3:confidence", "ranks", "exchangeable"),
        (listed, 100, 4, "sub-2", "ranks", "exchangeable"),
        (listed, 200, 4, "sub-2", "best", "exchangeable"),
        (listed, 300, 4, "top-1:confidence", "best", "exchangeable"),
        (listed, 400, 4, "top-1:rankwise", "ranks", "labelled"),
    ],
)
def test_power_of_other_distributions_at_the_claimed_temperature(make, n, m, notion, seen, items):
    rng = np.random.default_rng([4, n, m])
    h = make(n, m, rng)
    f = family(notion, items, h)
    y = outcomes(h.sample(1, rng)[:, 0], seen)
    found = detectable(h, y, f, table(h, y, f), weights=np.ones(n))
    for side in ("above", "below"):
        temperature = found[f"detectable_temperature_{side}"].value
        share = rejected(h, temperature, seen, notion, items, 200, n)
        rough = 0.1 if items == "labelled" else 0.05
        assert abs(share - 0.8) < 3 * math.sqrt(0.16 / 200) + rough, (side, share)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "notion", "seen", "items"),
    [
        (100, 4, "sub-2", "ranks", "exchangeable"),
        (200, 4, "sub-2", "best", "exchangeable"),
        (400, 4, "top-1:confidence", "best", "exchangeable"),
        (300, 2, "sub-2", "ranks", "exchangeable"),
        (200, 5, "sub-2", "two", "exchangeable"),
        (200, 3, "sub-2", "ranks", "labelled"),
        (40, 3, "sub-2", "ranks", "exchangeable"),
    ],
)
def test_power_at_the_claimed_temperature(n, m, notion, seen, items):
    rng = np.random.default_rng([3, n, m])
    h = pc.PlackettLuce(1.5 * rng.normal(size=(n, m)))
    y = outcomes(h.sample(1, rng)[:, 0], seen)
    f = family(notion, items, h)
    found = detectable(h, y, f, table(h, y, f), weights=np.ones(n))
    for side in ("above", "below"):
        temperature = found[f"detectable_temperature_{side}"].value
        share = rejected(h, temperature, seen, notion, items, 300, n)
        # The normal law of the bins is an approximation, rougher for labelled data (few events in many cells) and
        # where the outcome chooses the events (their mean is simulated).
        rough = 0.1 if seen == "two" or items == "labelled" else 0.05
        assert abs(share - 0.8) < 3 * math.sqrt(0.16 / 300) + rough, (side, share)
