"""Abstention: areas, promises and intervals against definitions, numerical derivatives and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import quad
from scipy.stats import binomtest

import prefcal as pc
from prefcal.decisions import abstention
from prefcal.decisions.abstention import areas
from prefcal.decisions.choices import Choices, gather
from prefcal.decisions.uncertainty import mean_of, proportion
from prefcal.errors import DataError, UsageError
from rankings import bucket_orders, plackett_luce_ranks
from strategies import seeds


def choices(risk, hit, weight=None, unit=None) -> Choices:
    order = np.argsort(risk, kind="stable")
    risk, hit = np.asarray(risk, float)[order], np.asarray(hit, float)[order]
    weight = np.ones(len(risk)) if weight is None else np.asarray(weight, float)[order]
    unit = np.arange(len(risk)) if unit is None else np.asarray(unit)[order]
    return Choices(np.log(risk), hit, weight, unit, int(unit.max()) + 1, {"used": len(risk)})


def random_choices(rng: np.random.Generator, n: int = 30) -> Choices:
    risk = np.round(rng.uniform(0.01, 0.6, n), 1) + 0.01  # many ties
    return choices(risk, rng.random(n) > risk, rng.uniform(0.5, 3, n), rng.integers(0, 12, n))


def simulated(rng: np.random.Generator, n: int, factor: float, m: int = 4):
    truth = rng.normal(size=(n, m)) * 1.5
    y = pc.Outcomes.from_ranks(plackett_luce_ranks(truth, rng))
    return pc.PlackettLuce(truth * factor), y


# --------------------------------------------------------------------------------------------------------- gathering


@given(seeds)
def test_choices_by_hand(seed):
    """The pick of each instance and the likelier order of each pair, by loops."""
    rng = np.random.default_rng(seed)
    s, ranks = rng.normal(size=(6, 4)), bucket_orders(6, 4, rng)
    y = pc.Outcomes.from_ranks(ranks)
    expected = {"best": [], "pair": []}
    for x, r in zip(s, ranks, strict=True):
        p = np.exp(x) / np.exp(x).sum()
        if not np.isnan(r).any() and (r == r.min()).sum() == 1:
            expected["best"].append((1 - p.max(), float(p.argmax() == r.argmin())))
        for a in range(4):
            for b in range(a):
                if r[a] < r[b] or r[a] > r[b]:
                    q = 1 / (1 + math.exp(abs(x[a] - x[b])))
                    expected["pair"].append((q, float((x[a] > x[b]) == (r[a] < r[b]))))
    for choice, rows in expected.items():
        if not rows:
            with pytest.raises(DataError, match="no decision has a known outcome"):
                gather([pc.PlackettLuce(s)], y, choice=choice, weights=None, clusters=None)
            continue
        (found,) = gather([pc.PlackettLuce(s)], y, choice=choice, weights=None, clusters=None)
        assert np.allclose(sorted(rows), np.column_stack([found.risk, found.hit]), atol=1e-12)


def test_equal_candidates_count_half_and_unknown_ones_not():
    h, ranks = pc.PlackettLuce([[2.0, 1.0, 0.0]]), [[1, 1, 2]]
    for ties, hits in (("equal", [0.5, 1.0, 1.0]), ("unknown", [1.0, 1.0])):
        y = pc.Outcomes.from_ranks(ranks, ties=ties)
        (found,) = gather([h], y, choice="pair", weights=None, clusters=None)
        assert sorted(found.hit) == hits


def test_an_instance_may_share_its_weight_among_its_pairs():
    h = pc.PlackettLuce([[0.0, 1.0, 5.0], [3.0, 0.0, -1.0]])
    y = pc.Outcomes.from_ranks([[1, 2, 3], [1, 2, np.nan]])
    (found,) = gather([h], y, choice="pair", weights="instance", clusters=None)
    assert np.bincount(found.unit, found.weight) == pytest.approx([1.0, 1.0])


def test_several_models_get_the_same_events():
    """Pairwise probabilities that state one pair only restrict the others to it."""
    probs = np.full((1, 3, 3), np.nan)
    probs[0, 0, 1], probs[0, 1, 0] = 0.7, 0.3
    y = pc.Outcomes.from_ranks([[1, 2, 3]])
    one, other = gather(
        [pc.Pairwise(probs), pc.PlackettLuce([[0.0, 1.0, 2.0]])], y, choice="pair", weights=None, clusters=None
    )
    assert len(one) == len(other) == 1
    assert (one.hit[0], other.hit[0]) == (1.0, 0.0)


# -------------------------------------------------------------------------------------------------------------- area


@given(seeds)
def test_area_is_the_integral_of_the_curve(seed):
    c = random_choices(np.random.default_rng(seed))
    area, excess = areas(c)
    share = np.cumsum(c.weight) / c.weight.sum()
    starts = np.concatenate([[0.0], share[:-1]])
    block = np.concatenate([[0], np.cumsum(np.diff(c.log_risk) != 0)])
    error = (np.bincount(block, c.weight * (1 - c.hit)) / np.bincount(block, c.weight))[block]

    def risk(coverage: float) -> float:
        return float((error * np.clip(np.minimum(share, coverage) - starts, 0, None)).sum() / coverage)

    by_quadrature = sum(quad(risk, a, b, limit=200)[0] for a, b in zip(starts, share, strict=True))
    assert area.value == pytest.approx(by_quadrature, abs=1e-7)
    rate = float(c.weight @ (1 - c.hit) / c.weight.sum())
    perfect = choices(np.where(c.hit == 1, 0.1, 0.9), c.hit, c.weight)
    assert area.value - excess.value == pytest.approx(areas(perfect)[0].value, abs=1e-9)
    assert areas(perfect)[1].value == pytest.approx(0.0, abs=1e-12)
    assert min(rate, area.value) >= 0


def test_area_against_the_sum_over_ranks():
    """Geifman and El-Yaniv's definition, which differs by O(log n / n)."""
    rng = np.random.default_rng(0)
    n = 4000
    risk = rng.uniform(0, 0.5, n)
    c = choices(risk, rng.random(n) > risk)
    cumulative = np.cumsum(1 - c.hit) / np.arange(1, n + 1)
    assert areas(c)[0].value == pytest.approx(cumulative.mean(), abs=3 * math.log(n) / n)
    # a calibrated uniform risk on (0, 1/2): error at quantile u is u / 2, so the area is 1/8
    assert areas(c)[0].value == pytest.approx(1 / 8, abs=0.02)


@given(seeds)
def test_influence_is_the_derivative(seed):
    """Raising all weights of a unit by a factor changes area and excess as their influences say."""
    rng = np.random.default_rng(seed)
    c = random_choices(rng)
    for unit in range(3):
        up, down = (
            areas(Choices(c.log_risk, c.hit, c.weight * np.where(c.unit == unit, 1 + e, 1), c.unit, c.n_units, {}))
            for e in (1e-5, -1e-5)
        )
        for k in range(2):
            numeric = (up[k].value - down[k].value) / 2e-5
            assert areas(c)[k].influence[unit] == pytest.approx(numeric, abs=1e-6)
    assert areas(c)[0].influence.sum() == pytest.approx(0.0, abs=1e-10)


def test_a_temperature_leaves_the_area_of_pairs():
    h, y = simulated(np.random.default_rng(1), 50, 1.0)
    raw = abstention(h, y, choice="pair").aurc.value
    assert abstention(h.scaled(0.25), y, choice="pair").aurc.value == pytest.approx(raw, abs=1e-12)
    assert abstention(h.scaled(0.25), y).aurc.value != abstention(h, y).aurc.value


def test_all_ties_abstain_at_random():
    c = choices([0.3] * 10, [1, 0] * 5)
    area, _ = areas(c)
    assert area.value == pytest.approx(0.5)


# ---------------------------------------------------------------------------------------------------------- promises


@given(seeds)
def test_promises_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = 40
    s, best = np.round(rng.normal(size=(n, 3)) * 2, 1), rng.integers(0, 3, n)
    y = pc.Outcomes.from_best(best, n_items=3)
    found = abstention(pc.PlackettLuce(s), y, promises=[0.05, 0.2, 0.5], draws=0)
    (c,) = gather([pc.PlackettLuce(s)], y, choice="best", weights=None, clusters=None)
    for p in found.promises:
        options = [t for t in np.unique(c.log_risk) if c.risk[c.log_risk <= t].mean() <= p.promise + 1e-12]
        meets = [t for t in np.unique(c.log_risk) if (1 - c.hit[c.log_risk <= t]).mean() <= p.promise + 1e-12]
        assert p.reachable.value == pytest.approx((c.log_risk <= max(meets, default=-np.inf)).mean())
        if not options:
            assert p.accepted is None
            continue
        kept = c.log_risk <= max(options)
        assert p.accepted.coverage.value == pytest.approx(kept.mean())
        assert p.accepted.claimed == pytest.approx(c.risk[kept].mean())
        assert p.accepted.realised.value == pytest.approx((1 - c.hit[kept]).mean())
        assert p.accepted.optimism.value == pytest.approx((1 - c.hit[kept]).mean() - c.risk[kept].mean())


@given(seeds)
def test_invariances(seed):
    rng = np.random.default_rng(seed)
    h, y = simulated(rng, 40, 2.0)
    first = abstention(h, y, draws=0).document()
    shuffle = rng.permutation(40)
    columns = rng.permutation(4)
    moved = abstention(
        pc.PlackettLuce(h.scores.dense()[shuffle][:, columns]),
        pc.Outcomes.from_ranks(y.dense()[shuffle][:, columns]), draws=0,
    ).document()  # fmt: skip
    twice_rows = np.tile(np.arange(40), 2)
    twice = abstention(h[twice_rows], y[twice_rows], clusters=twice_rows, draws=0).document()
    heavy = abstention(h, y, weights=np.full(40, 2.0), draws=0).document()

    def numbers(document, skip):
        if isinstance(document, dict):
            return [v for k in document if k not in skip for v in numbers(document[k], skip)]
        if isinstance(document, list):
            return [v for d in document for v in numbers(d, skip)]
        return [document] if isinstance(document, float) else []

    # n and coverage count rows; doubling the rows of a cluster leaves every number and interval
    for other in (moved, twice, heavy):
        assert numbers(first, ("n", "n_decisions")) == pytest.approx(numbers(other, ("n", "n_decisions")), abs=1e-9)


def test_same_seed_same_bootstrap():
    h, y = simulated(np.random.default_rng(2), 60, 1.0)
    assert abstention(h, y, seed=3) == abstention(h, y, seed=3)
    wide = abstention(h, y, draws=50).at(0.2).reachable.interval
    assert 0 <= wide[0] <= abstention(h, y).at(0.2).reachable.value <= wide[1] <= 1


# --------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (3, 11), (480, 483)])
def test_independent_decisions_get_clopper_and_pearson(hits, n):
    values = np.repeat([1.0, 0.0], [hits, n - hits])
    found = proportion(mean_of(values, np.ones(n), np.arange(n), n), np.ones(n), np.arange(n))
    exact = binomtest(hits, n).proportion_ci(method="exact")
    assert found.interval == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_a_certain_cluster_is_one_observation():
    """Ten equal rows of one cluster that never err say no more than one row."""
    unit = np.repeat(np.arange(5), 10)
    found = proportion(mean_of(np.ones(50), np.ones(50), unit, 5), np.ones(50), unit)
    assert found.interval == pytest.approx((binomtest(5, 5).proportion_ci(method="exact").low, 1.0))


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_intervals_cover(factor):
    """Given forecasts: realised error at a promise, its optimism, and the area's population value by new samples."""
    rng = np.random.default_rng(6)
    truth = rng.normal(size=(150, 4)) * 1.5
    h = pc.PlackettLuce(truth * factor)
    p_hit = np.exp(pc.PlackettLuce(truth).top_log_probs()).max(axis=1)
    claim = np.exp(h.top_log_probs()).max(axis=1)
    order = np.argsort(-claim)
    kept = order[: int((np.cumsum(1 - claim[order]) / np.arange(1, 151) <= 0.1).sum())]
    expected = {"realised": 1 - p_hit[kept].mean(), "optimism": claim[kept].mean() - p_hit[kept].mean()}
    runs, inside = 300, dict.fromkeys(expected, 0)
    for _ in range(runs):
        y = pc.Outcomes.from_best(plackett_luce_ranks(truth, rng).argmin(axis=1), n_items=4)
        accepted = abstention(h, y, promises=[0.1], draws=0).at(0.1).accepted
        for name, value in expected.items():
            low, high = getattr(accepted, name).interval
            inside[name] += low <= value <= high
    assert min(inside.values()) / runs > 0.905


def test_the_area_s_interval_covers():
    rng = np.random.default_rng(7)
    h, y = simulated(rng, 100_000, 2.0, m=3)
    population = abstention(h, y, draws=0).aurc.value
    runs = 300
    inside = 0
    for _ in range(runs):
        h, y = simulated(rng, 200, 2.0, m=3)
        low, high = abstention(h, y, draws=0, promises=[0.1]).aurc.interval
        inside += low <= population <= high
    assert 0.905 < inside / runs < 0.985


def test_over_confidence_breaks_the_promise_and_honesty_keeps_it():
    rng = np.random.default_rng(8)
    h, y = simulated(rng, 3000, 1.0)
    honest, sure = (abstention(f, y, promises=[0.1], draws=0).at(0.1).accepted for f in (h, h.scaled(4.0)))
    assert honest.realised.interval[0] <= 0.1 <= honest.realised.interval[1]
    assert sure.realised.interval[0] > 0.2
    assert sure.coverage.value > honest.coverage.value


def test_what_cannot_be_asked():
    h, y = simulated(np.random.default_rng(9), 5, 1.0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        abstention(h, y, promises=[1.0])
    with pytest.raises(UsageError, match="unknown choice"):
        abstention(h, y, choice="top")
    with pytest.raises(UsageError, match="was not asked for"):
        abstention(h, y, draws=0).at(0.33)
    with pytest.raises(UsageError, match="pairwise"):
        abstention(pc.Pairwise(np.full((5, 4, 4), 0.5)), y)
    with pytest.raises(DataError, match="nothing to decide"):
        abstention(pc.PlackettLuce([[1.0]]), pc.Outcomes.from_best([0], n_items=1))
    single = abstention(h[:1], y[:1])
    assert single.aurc.interval is None
    assert "single" in single.aurc.note
