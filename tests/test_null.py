"""Null laws: exact enumeration of all outcomes for tiny data, the normal form against exact Monte Carlo, p-values."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

import prefcal as pc
from prefcal.estimators.binned import ece as binned_ece
from prefcal.estimators.events import family_for
from prefcal.estimators.inputs import Grouping
from prefcal.estimators.null import compare, normal_null
from prefcal.estimators.scalar import fill_tables, monte_carlo
from prefcal.notions.notion import Notion

DRAWS = 5_000


def pmf(scores: list[float]) -> dict[tuple[int, ...], float]:
    """Plackett-Luce probabilities of all orders."""
    out = {}
    for order in itertools.permutations(range(len(scores))):
        p = 1.0
        for t, a in enumerate(order):
            p *= math.exp(scores[a]) / sum(math.exp(scores[b]) for b in order[t:])
        out[order] = p
    return out


def pair_events(scores, order, *, best_only, labelled):
    """(member, p, y) of the pairs whose order is seen."""
    place = {a: i for i, a in enumerate(order)}
    for a, b in itertools.combinations(range(len(scores)), 2):
        if best_only and 0 not in (place[a], place[b]):
            continue
        p = 1 / (1 + math.exp(scores[b] - scores[a]))
        y = float(place[a] < place[b])
        if labelled:
            yield (a, b), p, y
            yield (b, a), 1 - p, 1 - y
        else:
            yield None, max(p, 1 - p), y if p > 0.5 else 1 - y


def top_events(scores, order, **_):
    winner = max(range(len(scores)), key=lambda a: scores[a])
    yield None, math.exp(scores[winner]) / sum(map(math.exp, scores)), float(order[0] == winner)


def first_events(scores, order, **_):
    """One event for each item: it is the best (labelled)."""
    for a, s in enumerate(scores):
        yield a, math.exp(s) / sum(map(math.exp, scores)), float(order[0] == a)


EVENTS = {"sub-2": pair_events, "top-1:confidence": top_events, "top-1": first_events}


def ece(found, bins):
    """Mean over members of the binned error."""
    table: dict = {}
    for member, p, y in found:
        row = table.setdefault(member, {}).setdefault(min(int(p * bins), bins - 1), [0.0, 0])
        row[0] += y - p
        row[1] += 1
    errors = [sum(abs(r[0]) for r in rows.values()) / sum(r[1] for r in rows.values()) for rows in table.values()]
    return sum(errors) / len(errors)


def exact_law(scores, notion, bins, **how):
    """(values, probabilities) of the error over all outcomes of all instances."""
    values, probs = [], []
    laws = [list(pmf(s).items()) for s in scores]
    for combination in itertools.product(*laws):
        found = [
            event
            for s, (order, _) in zip(scores, combination, strict=True)
            for event in EVENTS[notion](s, order, **how)
        ]
        values.append(ece(found, bins))
        probs.append(math.prod(p for _, p in combination))
    assert math.fsum(probs) == pytest.approx(1)
    return np.array(values), np.array(probs)


def observed(orders, best_only):
    if best_only:
        return pc.Outcomes.from_best([o[0] for o in orders], n_items=len(orders[0]))
    return pc.Outcomes.from_orders(orders)


@pytest.mark.parametrize("bins", [1, 4])
@pytest.mark.parametrize(
    ("notion", "items", "best_only"),
    [
        ("sub-2", "exchangeable", False),
        ("sub-2", "exchangeable", True),
        ("sub-2", "labelled", False),
        ("sub-2", "labelled", True),
        ("top-1:confidence", "labelled", False),
        ("top-1:confidence", "exchangeable", True),
        ("top-1", "labelled", True),
    ],
)
@pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_monte_carlo_is_the_exact_law(n, m, notion, items, best_only, bins):
    """Mean and p-value over 5,000 draws against the enumeration of all outcomes, through the same observation."""
    if m == 2 and notion == "top-1":
        pytest.skip("top-1 of two items is the pair")
    rng = np.random.default_rng([n, m])
    scores = rng.normal(size=(n, m)).tolist()
    labelled = items == "labelled"
    values, probs = exact_law(scores, notion, bins, best_only=best_only, labelled=labelled)
    orders = pc.PlackettLuce(scores).sample(1, rng)[:, 0].tolist()
    result = pc.audit(
        pc.PlackettLuce(scores), observed(orders, best_only), notions=[notion], items=items, bins=bins, draws=DRAWS
    )[notion]
    value = ece(
        [
            e
            for s, o in zip(scores, orders, strict=True)
            for e in EVENTS[notion](s, o, best_only=best_only, labelled=labelled)
        ],
        bins,
    )
    assert result.value == pytest.approx(value, abs=1e-12)
    assert "Monte Carlo" in result.settings["null"]
    mean = float(values @ probs)
    spread = math.sqrt(float((values - mean) ** 2 @ probs) / DRAWS)
    assert result.null_mean == pytest.approx(mean, abs=5 * spread + 1e-9)
    tail = min(float(probs[values >= value - 1e-9].sum()), 1.0)
    assert result.p_value == pytest.approx(tail, abs=5 * math.sqrt(tail * (1 - tail) / DRAWS) + 1e-4)


@pytest.mark.parametrize(("n_at_least", "draws", "p"), [(0, 99, 0.01), (5, 99, 0.06), (99, 99, 1.0)])
def test_p_value_counts_the_observation_itself(n_at_least, draws, p):
    simulated = np.array([2.0] * n_at_least + [0.0] * (draws - n_at_least))
    law = compare(1.0, simulated)
    assert (law.p_value, law.draws) == (pytest.approx(p), draws)
    assert law.mean == pytest.approx(2 * n_at_least / draws)


def test_equal_up_to_rounding_counts_as_at_least_as_large():
    value = 0.1 + 0.2
    assert compare(value, np.full(99, 0.3)).p_value == 1.0


def sequential_law(p: float, h: int, draws: int) -> dict[float, float]:
    """p-value -> probability under the Besag-Clifford rule; each draw is at least as large with probability p."""
    law: dict[float, float] = {}
    for last in range(h, draws + 1):
        law[h / last] = law.get(h / last, 0.0) + math.comb(last - 1, h - 1) * p**h * (1 - p) ** (last - h)
    for count in range(h):
        key = (count + 1) / (draws + 1)
        law[key] = law.get(key, 0.0) + math.comb(draws, count) * p**count * (1 - p) ** (draws - count)
    return law


@pytest.mark.parametrize(("h", "draws"), [(1, 19), (5, 39), (10, 99)])
def test_a_stopped_p_value_is_valid(h, draws):
    """P(p-value <= level) <= level, exactly: the observation is one more draw, so its tail p is uniform."""
    grid = (np.arange(2000) + 0.5) / 2000
    laws = [sequential_law(p, h, draws) for p in grid]
    assert sum(laws[700].values()) == pytest.approx(1)
    for level in (0.01, 0.05, 0.1, 0.25, 0.5, 0.9):
        size = np.mean([sum(q for value, q in law.items() if value <= level + 1e-12) for law in laws])
        assert size <= level + 1e-3


@pytest.mark.parametrize("h", [1, 3, 10])
def test_a_stopped_p_value_reads_draws_in_order(h):
    rng = np.random.default_rng(h)
    for _ in range(50):
        simulated, value = rng.random(99), rng.random()
        count = last = 0
        for t in simulated:
            last += 1
            count += t >= value
            if count == h:
                break
        law = compare(value, simulated, stop_after=h)
        assert law.p_value == pytest.approx(h / last if count == h else (count + 1) / 100)
        assert law.draws == last
        assert "Besag-Clifford" in law.rule
        assert law.mean == simulated.mean()
    assert "fixed" in compare(0.5, simulated).rule


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_monte_carlo_ends_early_only_where_it_may(scale):
    """A calibrated model's draws end after a chunk or two; a rejected one's go to the end."""
    h, y = calibrated(5, 200)
    h = h.scaled(scale)
    family = family_for(Notion.parse("sub-2"), "exchangeable", h, ties_equal=False)
    by = Grouping.build("g", np.arange(200) % 2)
    shared = {"bins": 15, "groupings": [by], "weights": np.ones(200), "per_instance": False}
    tables = fill_tables(h, y, [family], clusters=None, seed=0, **shared)
    ((found, groups),) = monte_carlo(h, y, tables, draws=1050, rng=np.random.default_rng(0), stop_after=10, **shared)
    ((first, _),) = monte_carlo(h, y, tables, draws=100, rng=np.random.default_rng(0), **shared)
    assert found[:100].tolist() == first.tolist()
    assert [len(levels) for levels in groups["g"]] == [len(found)] * 2
    value = float(binned_ece(tables[0].overall.residuals, tables[0].overall.member_weights, 1))
    law = compare(value, found, stop_after=10)
    if scale == 1.0:
        assert len(found) < 1050
        assert law.p_value > 0.05
    else:
        assert len(found) == 1050
        assert law.p_value < 0.01
    with pytest.raises(pc.UsageError, match="stop_after"):
        monte_carlo(h, y, tables, draws=100, rng=np.random.default_rng(0), stop_after=0, **shared)


@pytest.mark.parametrize("notion", ["sub-2", "top-1:confidence", "full", "full:canonical"])
def test_p_values_are_never_zero(notion):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 3))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(-scores).sample(1, rng)[:, 0])
    result = pc.audit(pc.PlackettLuce(5 * scores), y, notions=[notion], draws=99)[notion]
    assert 0 < result.p_value == pytest.approx(1 / (result.settings["draws"] + 1))
    assert result.verdict == "miscalibrated"


def calibrated(seed, n, m=4):
    rng = np.random.default_rng(seed)
    h = pc.PlackettLuce(rng.normal(size=(n, m)))
    return h, pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_same_seed_same_bytes_other_seed_other_draws(items, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    h, y = calibrated(0, 150)
    notions = ("sub-2", "top-1:confidence", "full", "sub-3:canonical")
    texts = [
        pc.audit(h, y, notions=notions, items=items, seed=seed, draws=199, groups={"g": np.arange(150) % 2}).to_json()
        for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1]
    a, b = (json.loads(t)["results"] for t in (texts[0], texts[2]))
    for left, right in zip(a, b, strict=True):
        if left["null_mean"] is None:
            continue
        if left["estimator"] == "skce":  # the kernel estimate draws its features
            assert left["value"] != right["value"]
        elif not left["estimator"].startswith("hpd"):  # its statistic holds a draw, too
            assert left["value"] == right["value"]
        assert left["null_mean"] != right["null_mean"]


@pytest.mark.parametrize("notion", ["sub-2", "top-1:confidence", "top-1", "sub-3"])
@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_the_normal_form_agrees_with_exact_monte_carlo(notion, items):
    """2,000 calibrated instances: null means within 5 %; both are asked for by the same public call.

    Clusters of one's own would make instances the units again, so pairs of instances share a cluster: with
    independent instances the law is the same, and only the normal form is valid.
    """
    h, y = calibrated(1, 2000)
    exact = pc.audit(h, y, notions=[notion], items=items, draws=999)[notion]
    normal = pc.audit(h, y, notions=[notion], items=items, draws=999, clusters=np.arange(2000) // 2)[notion]
    assert "Monte Carlo" in exact.settings["null"]
    assert "normal" in normal.settings["null"]
    assert normal.null_mean == pytest.approx(exact.null_mean, rel=0.05)
    assert normal.p_value == pytest.approx(exact.p_value, abs=0.1)


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize(
    ("notion", "items"), [("sub-2", "exchangeable"), ("top-1", "labelled"), ("sub-3", "labelled")]
)
def test_the_normal_form_has_the_exact_null_mean_on_average(n, notion, items):
    """Both laws of the same 30 calibrated data sets: null means within 6 % (n = 50: 10 %), p-values within 0.1 (0.2).

    Also where a bin holds one or two instances: its own variance alone would make the normal form reject.
    """
    exact, normal, p = [], [], []
    for seed in range(30):
        h, y = calibrated([n, seed], n, m=3)
        family = family_for(Notion.parse(notion), items, h, ties_equal=False)
        shared = {"bins": 15, "groupings": (), "weights": np.ones(n), "per_instance": False}
        tables = fill_tables(h, y, [family], clusters=None, seed=0, **shared)
        table, rng = tables[0].overall, np.random.default_rng(seed)
        ((found, _),) = monte_carlo(h, y, tables, draws=199, rng=rng, **shared)
        law = normal_null(table, rng, 199)
        value = float(binned_ece(table.residuals, table.member_weights, table.members))
        exact.append(found.mean())
        normal.append(law.mean())
        p.append((compare(value, found).p_value, compare(value, law).p_value))
    assert np.mean(normal) == pytest.approx(np.mean(exact), rel=0.1 if n == 50 else 0.06)
    assert np.mean(p, axis=0)[1] == pytest.approx(np.mean(p, axis=0)[0], abs=0.2 if n == 50 else 0.1)


def test_dependent_instances_make_the_null_wider():
    """Each instance nine times: the error that chance explains is that of the distinct ones."""
    h, y = calibrated(2, 100)
    nine = np.repeat(np.arange(100), 9)
    alone = pc.audit(h, y, notions=["sub-2"], items="exchangeable", draws=999)["sub-2"]
    honest = pc.audit(h[nine], y[nine], notions=["sub-2"], items="exchangeable", draws=999, clusters=nine)["sub-2"]
    naive = pc.audit(h[nine], y[nine], notions=["sub-2"], items="exchangeable", draws=999)["sub-2"]
    assert honest.value == pytest.approx(alone.value)
    assert honest.null_mean == pytest.approx(alone.null_mean, rel=0.15)
    assert naive.null_mean == pytest.approx(alone.null_mean / 3, rel=0.15)


def test_pairs_alone_have_no_rankings_to_draw_and_say_so():
    h, y = calibrated(3, 400)
    probs = h.marginal("sub-2").probs
    pairs = np.full((400, 4, 4), np.nan)
    first, second = np.triu_indices(4, 1)
    pairs[:, first, second] = probs[..., 0]
    result = pc.audit(pc.Pairwise(pairs), y, notions=["sub-2"], draws=99)["sub-2"]
    same = pc.audit(h, y, notions=["sub-2"], draws=99)["sub-2"]
    assert result.value == pytest.approx(same.value, abs=1e-12)
    assert ("normal" in result.settings["null"], "Monte Carlo" in same.settings["null"]) == (True, True)


def test_draws_are_as_asked_and_too_few_are_refused():
    h, y = calibrated(4, 60)
    assert pc.audit(h, y, draws=137)["sub-2"].settings["draws"] == 137
    for draws in (98, 0, -1, 99.5):
        with pytest.raises(pc.UsageError, match="draws"):
            pc.audit(h, y, draws=draws)
