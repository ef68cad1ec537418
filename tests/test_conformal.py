"""Ranking sets: coverage over many seeded runs, membership against enumeration, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import forecasts, noise
from prefcal.errors import DataError, UsageError


def world(rng, n, m=4, scale=1.0, spread=1.0):
    """A Plackett-Luce world and a model whose scores are ``scale`` times too large."""
    scores = rng.normal(size=(n, m)) * spread
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    return pc.PlackettLuce(scores * scale), y


def covered(event, score, n, level, runs, scale, n_test=40, **settings):
    """Number of covered outcomes in one test instance of each of ``runs`` worlds, times ``n_test``."""
    shares = []
    for seed in range(runs):
        h, y = world(np.random.default_rng([n, seed]), n + n_test, scale=scale)
        rule = pc.conformal_sets(h[:n], y[:n], event=event, score=score, level=level, seed=seed, **settings)
        shares.append(rule(h[n:]).contains(y[n:]).mean())
    return np.array(shares)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(
    ("event", "score"),
    [("top-1", "adaptive"), ("top-1", "probability"), ("full", "adaptive"), ("top-2", "probability"),
     ("topset-2", "adaptive"), ("partial-order", "adaptive")],
)  # fmt: skip
@pytest.mark.parametrize("n", [50, 200])
def test_coverage_is_nominal_over_1000_runs_whatever_the_forecast(event, score, n, scale):
    level, runs = 0.8, 1000
    shares = covered(event, score, n, level, runs, scale, n_test=10)
    nominal = math.ceil(level * (n + 1)) / (n + 1)
    noise = 4 * shares.std() / math.sqrt(runs)
    assert shares.mean() >= nominal - noise
    if event != "partial-order":  # its scores have an atom at 0 (no pair turned out the other way round)
        assert shares.mean() <= nominal + noise


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_of_one_calibration_set_follows_the_beta_law(level):
    n, runs = 60, 300
    shares = covered("top-1", "probability", n, level, runs, 2.0, n_test=400)
    h, y = world(np.random.default_rng(0), n)
    low, high = pc.conformal_sets(h, y, level=level).coverage_range()[None]
    inside = ((shares >= low - 0.02) & (shares <= high + 0.02)).mean()  # 0.02: noise of 400 test instances
    assert inside >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)


def test_the_promise_holds_within_groups():
    """One group is forecast well, one badly: without groups the bad one is covered too rarely."""
    plain, within = [], []
    for seed in range(200):
        rng = np.random.default_rng([7, seed])
        h, y = world(rng, 440)
        group = np.array(["a", "b"] * 220)
        scores = h.scores.dense().copy()
        scores[1::2] = scores[1::2, ::-1] * 3
        h = pc.PlackettLuce(scores)
        bad = group[240:] == "b"
        for out, use in ((plain, None), (within, group)):
            rule = pc.conformal_sets(h[:240], y[:240], groups=None if use is None else use[:240], level=0.6)
            hit = rule(h[240:], groups=None if use is None else use[240:]).contains(y[240:])
            out.append((hit[~bad].mean(), hit[bad].mean()))
    noise = 4 * np.std(within, axis=0) / math.sqrt(200)
    assert (np.mean(within, axis=0) >= 0.6 - noise).all()
    assert np.mean(plain, axis=0)[1] < 0.5


def test_a_small_or_unseen_group_gets_everything():
    h, y = world(np.random.default_rng(0), 60)
    group = ["big"] * 55 + ["small"] * 5
    rule = pc.conformal_sets(h, y, groups=group, level=0.9)
    assert rule.n == {"big": 55, "small": 5}
    assert rule.coverage_range()["small"] == (1.0, 1.0)
    assert rule(h[:3], groups=["small", "new", None]).sizes.tolist() == [4, 4, 4]
    assert (rule(h[:3], groups=["big"] * 3).sizes < 4).any()


def test_cross_covers_and_uses_all_data():
    shares = []
    for seed in range(150):
        h, y = world(np.random.default_rng([9, seed]), 100, scale=3.0)
        rule = pc.conformal_sets(h[:60], y[:60], level=0.8, method="cross", folds=5, seed=seed)
        assert rule.n == {None: 60}
        shares.append(rule(h[60:]).contains(y[60:]).mean())
    noise = 4 * np.std(shares) / math.sqrt(len(shares))
    assert np.mean(shares) >= 0.8 - noise  # the theorem alone promises 0.6
    assert np.mean(shares) <= 0.9


def test_membership_against_enumeration():
    """The set of orderings of a partial order, and of an enumerated view, by plain loops over all orders."""
    rng = np.random.default_rng(3)
    h, y = world(rng, 80, scale=2.0)
    order_rule = pc.conformal_sets(h, y, event="partial-order", level=0.7)
    full_rule = pc.conformal_sets(h, y, event="full", level=0.7)
    scores = []
    for i in range(80):
        probs = {o: math.exp(h[i].log_prob(np.array(o))[0]) for o in itertools.permutations(range(4))}
        truth = tuple(np.argsort(y.dense()[i]).tolist())
        scores.append(sum(p for p in probs.values() if p >= probs[truth] - 1e-15))
    cut = sorted(scores)[math.ceil(0.7 * 81) - 1]
    new, _ = world(rng, 20, scale=2.0)
    orders, partial = full_rule(new), order_rule(new)
    for i in range(20):
        probs = {o: math.exp(new[i].log_prob(np.array(o))[0]) for o in itertools.permutations(range(4))}
        expected = {o for o, p in probs.items() if sum(q for q in probs.values() if q >= p - 1e-15) <= cut + 1e-12}
        assert {tuple(o) for o in orders[i].tolist()} == expected
        assert orders.sizes[i] == len(expected)
        settled = partial[i]
        assert partial.sizes[i] == len(settled)
        agree = {
            o for o in itertools.permutations(range(4)) if all(o.index(a) < o.index(b) for a, b in settled.tolist())
        }
        for o in itertools.permutations(range(4)):
            inside = partial.contains(pc.Outcomes.from_orders(np.tile(o, (20, 1))))[i]
            assert bool(inside) == (o in agree)
        mode = tuple(new[i].mode()[0].tolist())
        assert mode in agree  # settled pairs agree with the model's own order


def test_names_and_order_of_candidates_do_not_matter():
    rng = np.random.default_rng(5)
    scores = np.round(rng.normal(size=(120, 5)), 1)  # ties of scores
    best = rng.integers(0, 5, 120)
    mixed = rng.permuted(np.tile(np.arange(5), (120, 1)), axis=1)
    moved = np.take_along_axis(scores, mixed, axis=1)
    where = (mixed == best[:, None]).argmax(axis=1)
    y, z = pc.Outcomes.from_best(best, n_items=5), pc.Outcomes.from_best(where, n_items=5)
    for score in ("adaptive", "probability"):
        a = pc.conformal_sets(pc.PlackettLuce(scores), y, score=score)(pc.PlackettLuce(scores))
        b = pc.conformal_sets(pc.PlackettLuce(moved), z, score=score)(pc.PlackettLuce(moved))
        assert np.array_equal(a.sizes, b.sizes)
        assert np.array_equal(a.contains(y), b.contains(z))
        for i in range(0, 120, 17):
            assert sorted(mixed[i][b[i]].tolist()) == sorted(a[i].tolist())


def test_ragged_candidates_and_unknown_outcomes():
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 7, 300)
    h = pc.PlackettLuce([rng.normal(size=s).tolist() for s in sizes])
    ranks = [np.argsort(np.argsort(rng.normal(size=s))) + 1.0 for s in sizes]
    ranks = [r if i % 10 else np.where(np.arange(len(r)) == 0, 1.0, np.nan) for i, r in enumerate(ranks)]
    y = pc.Outcomes.from_ranks([r.tolist() for r in ranks])
    for event in ("top-1", "partial-order"):
        rule = pc.conformal_sets(h, y, event=event, level=0.8)
        sets = rule(h)
        hit = sets.contains(y)
        unknown = np.array([(i % 10 == 0 and s > 1) or (event != "top-1" and s == 1) for i, s in enumerate(sizes)])
        assert np.array_equal(np.isnan(hit), unknown)
        assert rule.n_unusable == (unknown | (sizes == 1)).sum()
        assert np.nanmean(hit) >= 0.8 - 0.02
        assert len(sets) == 300
    with pytest.raises(UsageError, match="instances have 1 to 6 items"):
        pc.conformal_sets(h, y, event="full")


def test_several_records_of_an_instance_count_once():
    rng = np.random.default_rng(8)
    h, _ = world(rng, 30)
    pairs = [(i, 0, 1) for i in range(30) for _ in range(5)]
    y = pc.Outcomes.from_pairs(pairs, n_items=4)
    rule = pc.conformal_sets(h, y, event="partial-order", level=0.8)
    assert rule.n == {None: 30}


def test_what_cannot_be_asked_is_refused():
    h, y = world(np.random.default_rng(0), 30)
    for bad, message in [
        ({"event": "sub-2"}, "several"), ({"event": "best"}, "unknown view"), ({"level": 1.0}, "level"),
        ({"score": "x"}, "score"), ({"method": "jackknife"}, "method"), ({"method": "cross", "folds": 31}, "folds"),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=message):
            pc.conformal_sets(h, y, **bad)
    with pytest.raises(DataError, match="known outcome of top-1"):
        pc.conformal_sets(h, pc.Outcomes.from_ranks([[1, np.nan, np.nan, np.nan]] * 30), event="top-1")
    wide = pc.PlackettLuce(np.zeros((30, 9)))
    with pytest.raises(UsageError, match="partial-order"):
        pc.conformal_sets(wide, pc.Outcomes.from_orders(np.tile(np.arange(9), (30, 1))), event="full")
    rule = pc.conformal_sets(h, y)
    with pytest.raises(UsageError, match="without groups"):
        rule(h, groups=["a"] * 30)
    with pytest.raises(UsageError, match="no instance 30"):
        rule(h)[30]
    cross = pc.conformal_sets(h, y, method="cross", folds=3)
    with pytest.raises(UsageError, match="split"):
        cross.coverage_range()


def test_cross_sets_need_no_kept_order_unless_they_are_about_pairs():
    h, y = forecasts("Categorical"), noise()
    sets = pc.conformal_sets(h, y, method="cross", folds=3, level=0.8)(h)
    assert np.isfinite(sets.contains(y)).all()
    with pytest.raises(pc.UsageError, match="keeps the order of candidates for partial-order"):
        pc.conformal_sets(h, y, event="partial-order", method="cross", folds=3)


@pytest.mark.parametrize("score", ["adaptive", "probability"])
def test_single_candidates_change_no_other_set(score):
    rng = np.random.default_rng(0)
    lists = [rng.normal(size=4).tolist() for _ in range(80)]
    ratings = [(np.array(s) + rng.gumbel(size=4)).tolist() for s in lists]
    new = pc.PlackettLuce([rng.normal(size=4).tolist() for _ in range(20)] + [[0.0]])
    found = []
    for more in (0, 40):
        h = pc.PlackettLuce(lists + [[1.0]] * more)
        y = pc.Outcomes.from_ratings(ratings + [[1.0]] * more)
        rule = pc.conformal_sets(h, y, level=0.7, score=score)
        assert (rule.n, rule.n_unusable) == ({None: 80}, more)
        found.append(rule(new).sizes)
    np.testing.assert_array_equal(*found)
    assert found[0][-1] == 1
    assert found[0][:-1].mean() < 4
