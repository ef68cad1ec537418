"""The order of the rows changes no number, drawn or not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom

import prefcal as pc
from fabricated_forecasts import N, stated_pairs


def numbers_of(found: object, path: tuple = ()) -> dict:
    """Every number of a nested document by its path."""
    if isinstance(found, dict):
        return {k: v for name, part in found.items() for k, v in numbers_of(part, (*path, name)).items()}
    if isinstance(found, list):
        return {k: v for i, part in enumerate(found) for k, v in numbers_of(part, (*path, i)).items()}
    return {path: found} if isinstance(found, float) else {}


def test_decisions_do_not_depend_on_how_data_are_stored():
    """Many claims and spreads are equal; which row or candidate comes first must not matter."""
    rng = np.random.default_rng(0)
    shown = rng.permuted(np.tile([0.3, -0.4, 1.1, 0.6], (N, 1)), axis=1) * np.repeat([1.0, 2.0], N // 2)[:, None]
    ranks = rng.permuted(np.tile([1.0, 2.0, 3.0, 4.0], (N, 1)), axis=1)

    def found(rows: np.ndarray, columns: list[int], **more) -> dict:
        h, y = pc.PlackettLuce(shown[rows][:, columns]), pc.Outcomes.from_ranks(ranks[rows][:, columns])
        return numbers_of(pc.decisions.decisions(h, y, draws=40, **more).document())

    every, plain = np.arange(N), [0, 1, 2, 3]
    base = found(every, plain)
    assert len(base) > 100
    assert found(rng.permutation(N), plain) == pytest.approx(base, rel=1e-9, nan_ok=True)
    assert found(every, [2, 0, 3, 1]) == pytest.approx(base, rel=1e-9, nan_ok=True)
    twice = np.concatenate([every, every[::3]])
    weights = np.where(every % 3 == 0, 2.0, 1.0)
    parts = (found(every, plain, weights=weights), found(twice, plain, clusters=twice))
    slopes = [{k: v for k, v in part.items() if "by_spread" in k} for part in parts]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-6, nan_ok=True)


DRAWN = [
    "PlackettLuce",
    "Mallows",
    "Categorical",
    "Pairwise",
    "many items",
    "ragged",
    "best only",
    "clusters",
    "Samples",
]


def drawn_case(kind: str, n: int = 90):
    """Forecasts, outcomes and clusters of a kind, some records repeated."""
    rng = np.random.default_rng(7)
    m = 9 if kind == "many items" else 3
    scores = rng.normal(size=(n, m)).round(1)
    scores[n // 2 :] = scores[: n - n // 2]
    h: pc.Distribution = pc.PlackettLuce(scores)
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    clusters = None
    if kind == "Mallows":
        h = pc.Mallows((-scores).argsort().argsort() + 1, rng.choice([0.2, 0.7], n))
    elif kind == "Categorical":
        h = pc.Categorical(list(itertools.permutations(range(3))), rng.dirichlet(np.ones(6), n))
    elif kind == "Pairwise":
        h = stated_pairs(pc.PlackettLuce(scores[:, :2]))
        y = pc.Outcomes.from_best(rng.integers(0, 2, n), n_items=2)
    elif kind == "ragged":
        h = pc.PlackettLuce([row[: 2 + i % 2] for i, row in enumerate(scores)])
        y = pc.Outcomes.from_ratings([row[: 2 + i % 2] for i, row in enumerate(rng.normal(size=(n, 3)))])
    elif kind == "best only":
        y = pc.Outcomes.from_best(rng.integers(0, 3, n), n_items=3)
    elif kind == "clusters":
        clusters = rng.integers(0, 30, n)
    elif kind == "Samples":
        h = pc.Samples(h.sample(8, rng))
    return h, y, clusters


@pytest.mark.parametrize("kind", DRAWN)
def test_the_order_of_rows_changes_no_test_of_uniformity(kind):
    h, y, clusters = drawn_case(kind)
    rng = np.random.default_rng(1)
    calls = []
    if kind != "Samples":
        calls.append(lambda h, y, c: pc.hpd_coverage(h, y, clusters=c))
    if kind not in ("Pairwise", "best only"):
        calls.append(lambda h, y, c: pc.rank_histogram(h, y, clusters=c, items="exchangeable"))
    for call in calls:
        base = call(h, y, clusters)
        for _ in range(3):
            order = rng.permutation(len(y))
            moved = call(h[order], y[order], None if clusters is None else clusters[order])
            for name in ("ks", "ks_p_value", "ad", "ad_p_value", "p_value", "counts"):
                if hasattr(base, name):
                    np.testing.assert_allclose(getattr(moved, name), getattr(base, name), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(np.sort(moved.u, axis=0), np.sort(base.u, axis=0), rtol=1e-9, atol=1e-9)


def test_numbers_stand_beside_their_records():
    h, y, _ = drawn_case("PlackettLuce")
    order = np.argsort(-h.log_prob(np.argsort(y.dense(), axis=1)))
    u = pc.hpd_coverage(h, y).u[order]
    assert np.corrcoef(u, np.arange(len(u)))[0, 1] > 0.5  # the improbable outcomes have large u
    probs = np.exp(h.log_prob(np.argsort(y.dense(), axis=1)))
    every = h.marginal("full").probs[:, 0]
    above = np.where(every > probs[:, None] * (1 + 1e-9), every, 0).sum(axis=1)
    found = pc.hpd_coverage(h, y).u
    assert (found >= above - 1e-12).all()
    assert (found <= above + probs * 6 + 1e-12).all()


@pytest.mark.parametrize("kind", ["few items", "few forecasts", "clusters", "drawn"])
def test_tests_of_uniformity_have_their_size(kind):
    """Random numbers are dealt out by content, and the tests still reject as often as they say."""
    rng = np.random.default_rng(3)
    m, n = (8, 30) if kind == "drawn" else (3, 60)
    found = []
    for seed in range(300):
        scores = rng.normal(size=(n, m))
        if kind == "few forecasts":
            scores = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.5]])[rng.integers(0, 2, n)]
        h = pc.PlackettLuce(scores)
        y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
        clusters = np.arange(n) // 2 if kind == "clusters" else None
        result = pc.hpd_coverage(h, y, clusters=clusters, seed=seed, draws=49)
        found.append((result.ks_p_value, result.ad_p_value))
    for p_values in np.array(found).T:
        for level in (0.05, 0.25, 0.5):
            low, high = binom.ppf([1e-3, 1 - 1e-3], 300, level) / 300
            assert low <= (p_values <= level).mean() <= high


@pytest.mark.parametrize("choice", ["best", "pair"])
@pytest.mark.parametrize("kind", ["plain", "weights", "clusters", "ties"])
def test_the_order_of_rows_changes_no_cost_of_routing(choice, kind):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(80, 4))
    if kind == "ties":
        scores = np.round(scores)
    h = pc.PlackettLuce(2 * scores)
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    weights = rng.random(80) if kind == "weights" else None
    clusters = rng.integers(0, 25, 80) if kind == "clusters" else None

    def found(rows):
        more = {
            "weights": None if weights is None else weights[rows],
            "clusters": None if clusters is None else clusters[rows],
            "choice": choice,
        }
        routed = pc.decisions.routing(h[rows], y[rows], **more)
        kept = pc.decisions.abstention(h[rows], y[rows], draws=60, **more)
        return [x for r in routed.costs for x in (r.regret.value, *r.regret.interval)] + [
            x for p in kept.promises for x in (p.reachable.value, *p.reachable.interval)
        ]

    base = found(np.arange(80))
    for _ in range(3):
        assert found(rng.permutation(80)) == pytest.approx(base, rel=1e-9, abs=1e-12)


def test_the_interval_of_regret_holds_the_luck_of_the_halves():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(80, 4))
    h, y = pc.PlackettLuce(scores), pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    regrets = [pc.decisions.routing(h, y, costs=[0.3], seed=s).costs[0].regret for s in range(20)]
    values = np.array([r.value for r in regrets])
    low, high = np.array([r.interval for r in regrets]).T
    assert values.std() < 0.25 * (high - low).mean()
    assert (low <= values.mean()).all()
    assert (values.mean() <= high).all()
    assert all("halvings" in r.note for r in regrets)
    assert len({round(v, 12) for v in values}) > 1
