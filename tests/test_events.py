"""The events of every notion against brute force over all m! rankings and all observations, for up to four items.

The oracle knows the contract only: an observation is the set of full rankings that agree with it; an outcome is known
when all of those share it. What an audit reports (counts, error, accuracy, scores) must be what loops over the events
give.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

import prefcal as pc
from prefcal import audit
from prefcal.views import View

NAN = math.nan
BINS = 15
Event = tuple[object, float, float]  # member, p, y
Pmf = dict[tuple[int, ...], float]


@cache
def weak_orders(items: tuple[int, ...]) -> list[dict[int, int]]:
    """All bucket orders of some items, as dense ranks."""
    if not items:
        return [{}]
    found = []
    for size in range(1, len(items) + 1):
        for best in itertools.combinations(items, size):
            rest = tuple(i for i in items if i not in best)
            found += [dict.fromkeys(best, 1) | {i: r + 1 for i, r in tail.items()} for tail in weak_orders(rest)]
    return found


@cache
def observations(m: int) -> list[list[float]]:
    """Every bucket order of every non-empty set of ranked items, NaN = not ranked."""
    return [
        [ranks.get(i, NAN) for i in range(m)]
        for size in range(1, m + 1)
        for ranked in itertools.combinations(range(m), size)
        for ranks in weak_orders(ranked)
    ]


def test_numbers_of_observations_are_the_ordered_bell_numbers():
    assert [len(weak_orders(tuple(range(m)))) for m in range(1, 5)] == [1, 3, 13, 75]
    assert [len(observations(m)) for m in (2, 3, 4)] == [5, 25, 149]


def plackett_luce(items: tuple[int, ...], scores: dict[int, float]) -> Pmf:
    """Probability of every order of the items, stage by stage."""
    pmf = {}
    for order in itertools.permutations(items):
        p = 1.0
        for t, a in enumerate(order):
            p *= math.exp(scores[a]) / sum(math.exp(scores[b]) for b in order[t:])
        pmf[order] = p
    return pmf


def agrees(order: tuple[int, ...], ranks: dict[int, float]) -> bool:
    """Whether a full ranking is possible given ranks (NaN = not ranked; equal = order not known)."""
    place = {a: order.index(a) for a in order}
    return all(place[a] < place[b] for a, b in itertools.permutations(order, 2) if ranks[a] < ranks[b])


def members(view: View, items: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Items that each member of the view looks at; none where the view has no meaning for so few items."""
    m = len(items)
    least = {"sub": view.k, "top": view.k, "topset": view.k + 1}.get(view.kind, 2)
    if m < max(least, 2):
        return []
    if view.kind == "sub":
        return list(itertools.combinations(items, view.k))
    return [(a,) for a in items] if view.kind == "position" else [items]


def outcome(view: View, member: tuple[int, ...], order: tuple[int, ...]) -> object:
    match view.kind:
        case "sub":
            return tuple(a for a in order if a in member)
        case "position":
            return (member[0], order.index(member[0]) + 1)
        case "topset":
            return frozenset(order[: view.k])
        case "top":
            return order[: view.k]
        case _:
            return order


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-11)


def events(notion: str, items: str, pmf: Pmf, ranks: dict[int, float], ties: str, universe: int) -> Iterator[Event]:
    """What the notion predicts in one instance and what happened; nothing where it is not known.

    ``universe`` is the number of items of the longest instance.
    """
    parsed = pc.Notion.parse(notion)
    view, own = parsed.view, tuple(sorted(next(iter(pmf))))
    possible = [order for order in pmf if agrees(order, ranks)]
    # A pair is one event however it is named: with two items the full ranking and the best item are the pair.
    pairs = view == View("sub", 2) or (view.kind in ("full", "top") and universe == 2)
    if pairs and items == "exchangeable":
        for a, b in itertools.combinations(own, 2):
            p = sum(q for order, q in pmf.items() if order.index(a) < order.index(b))
            if ranks[a] == ranks[b]:
                if ties == "unknown":
                    continue
                y = 0.5
            elif ranks[a] < ranks[b] or ranks[b] < ranks[a]:
                y = float(ranks[a] < ranks[b])
            else:
                continue
            if close(p, 0.5):
                y = 0.5
            yield None, max(p, 1 - p), y if p > 0.5 else 1 - y
        return
    for member in members(view, own):
        name = member if view.kind in ("sub", "position") else None
        probs: dict[object, float] = {}
        for order, q in pmf.items():
            w = outcome(view, member, order)
            probs[w] = probs.get(w, 0.0) + q
        seen = {outcome(view, member, order) for order in possible}
        if parsed.given == "confidence":
            if len(seen) == 1:
                best = max(probs.values())
                share = [w for w, q in probs.items() if close(q, best)]
                yield name, best, (1.0 / len(share) if seen <= set(share) else 0.0)
            continue
        half = ties == "equal" and view == View("sub", 2) and ranks[member[0]] == ranks[member[1]]
        if len(seen) == 1 or half:
            for w, q in probs.items():
                yield (name, w), q, 0.5 if half else float(w in seen)


def summary(instances: list[list[Event]], items: str, weights: list[float] | None = None) -> dict[str, float]:
    """Numbers of an audit, by loops."""
    bins: dict[object, list[list[float]]] = {}
    total = dict.fromkeys(("w", "accuracy", "mean_forecast", "brier", "log_loss"), 0.0)
    for i, found in enumerate(instances):
        weight = 1.0 if weights is None else weights[i]
        for member, p, y in found:
            rows = bins.setdefault(member if items == "labelled" else None, [[0.0] * 3 for _ in range(BINS)])
            row = rows[min(int(p * BINS), BINS - 1)]
            for j, x in enumerate((weight, weight * p, weight * y)):
                row[j] += x
            total["w"] += weight
            total["accuracy"] += weight * y
            total["mean_forecast"] += weight * p
            total["brier"] += weight * (y - p) ** 2
            loss = (-y * math.log(p) if y > 0 else 0.0) + (-(1 - y) * math.log1p(-p) if y < 1 else 0.0)
            total["log_loss"] += weight * loss
    errors = [sum(abs(r[2] - r[1]) for r in rows) / sum(r[0] for r in rows) for rows in bins.values()]
    out = {name: value / total["w"] for name, value in total.items() if name != "w"}
    return out | {
        "ece": sum(errors) / len(errors),
        "n_events": sum(map(len, instances)),
        "n_instances": sum(bool(found) for found in instances),
    }


def assert_same(h, y, notions: list[str], items: str, instances: list[tuple[Pmf, dict[int, float]]], **options):
    """The audit of all notions that have an event agrees with the oracle."""
    ties = y.ties
    asked = {}
    for notion in notions:
        found = [list(events(notion, items, pmf, ranks, ties, h.n_items)) for pmf, ranks in instances]
        if any(found):
            asked[notion] = summary(found, items)
    assert asked
    result = audit(h, y, notions=list(asked), items=items, bins=BINS, draws=99, **options)
    for notion, want in asked.items():
        got = result[notion]
        assert (got.n_events, got.n_instances) == (want["n_events"], want["n_instances"]), notion
        assert got.coverage["used"] == want["n_instances"], notion
        assert sum(got.coverage.values()) == len(instances), notion
        assert got.value == pytest.approx(want["ece"], abs=1e-12), notion
        for name in ("accuracy", "mean_forecast", "brier", "log_loss"):
            assert got.metrics[name].value == pytest.approx(want[name], rel=1e-11, abs=1e-12), (notion, name)
        assert sum(point.n for point in got.curve) == want["n_events"], notion


def scalar_notions(m: int) -> list[str]:
    """Every notion of every view that is judged by single numbers, under each of the view's names."""
    views = ["full", "position"]
    views += [f"sub-{k}" for k in range(2, m + 1)]
    views += [f"top-{k}" for k in range(1, m + 1)]
    views += [f"topset-{k}" for k in range(1, m)]
    return ["sub-2"] + [f"{v}:{g}" for v in views for g in ("rankwise", "confidence")]


def repeated(m: int, times: int) -> list[list[float]]:
    return observations(m) * times


@pytest.mark.parametrize("ties", ["unknown", "equal"])
@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_plackett_luce(m, items, ties):
    """Distinct scores and scores with ties, every observation with each."""
    rng = np.random.default_rng(m)
    ranks = repeated(m, 4 if m < 4 else 2)
    scores = rng.normal(scale=1.5, size=(len(ranks), m))
    y = pc.Outcomes.from_ranks(ranks, ties=ties)
    instances = [
        (plackett_luce(tuple(range(m)), dict(enumerate(s.tolist()))), dict(enumerate(r)))
        for s, r in zip(scores, ranks, strict=True)
    ]
    assert_same(pc.PlackettLuce(scores), y, scalar_notions(m), items, instances)


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_equal_scores_share_the_event(m, items):
    """Scores 0, 1, 2 with many ties: 1/2 in pairs, 1/w where w outcomes share the largest probability."""
    rng = np.random.default_rng(10 + m)
    ranks = repeated(m, 3 if m < 4 else 1)
    scores = rng.choice([0.0, 1.0, 0.1], size=(len(ranks), m))
    y = pc.Outcomes.from_ranks(ranks)
    instances = [
        (plackett_luce(tuple(range(m)), dict(enumerate(s.tolist()))), dict(enumerate(r)))
        for s, r in zip(scores, ranks, strict=True)
    ]
    notions = [n for n in scalar_notions(m) if n == "sub-2" or n.endswith("confidence")]
    assert_same(pc.PlackettLuce(scores), y, notions, items, instances)


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
@pytest.mark.parametrize("m", [3, 4])
def test_categorical(m, items):
    """Any distribution, with probabilities that are exactly zero."""
    rng = np.random.default_rng(20 + m)
    ranks = repeated(m, 3 if m < 4 else 1)
    orders = list(itertools.permutations(range(m)))
    probs = rng.dirichlet(np.full(len(orders), 0.5), size=len(ranks)) * (rng.random((len(ranks), len(orders))) > 0.3)
    probs[:, 0] += 1e-3
    probs /= probs.sum(axis=1, keepdims=True)
    # An event of probability zero that happens has an infinite log loss (tests/test_cells.py): keep to possible ones.
    kept = [
        (dict(zip(orders, p.tolist(), strict=True)), dict(enumerate(r)), p, r)
        for p, r in zip(probs, ranks, strict=True)
    ]
    for notion in scalar_notions(m):
        usable = []
        for pmf, observed, p, r in kept:
            found = list(events(notion, items, pmf, observed, "unknown", m))
            if all((q > 1e-9 or y == 0) and (q < 1 - 1e-9 or y == 1) for _, q, y in found):
                usable.append((pmf, observed, p, r))
        h = pc.Categorical(orders, [p for *_, p, _ in usable])
        y = pc.Outcomes.from_ranks([r for *_, r in usable])
        # Sums of tiny and zero probabilities lose digits that log loss would show: a lone notion at a time.
        assert len(usable) > len(ranks) // 3
        assert_same(h, y, [notion], items, [(pmf, observed) for pmf, observed, *_ in usable])


@pytest.mark.parametrize("ties", ["unknown", "equal"])
@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_pairwise(items, ties):
    """Pairwise probabilities, some not stated: those pairs are no events."""
    rng = np.random.default_rng(3)
    m, ranks = 4, repeated(4, 2)
    upper = rng.uniform(0.02, 0.98, size=(len(ranks), m, m))
    upper[rng.random(upper.shape) < 0.3] = NAN
    probs = np.full(upper.shape, NAN)
    a, b = np.triu_indices(m, 1)
    probs[:, a, b] = upper[:, a, b]
    found: list[list[Event]] = []
    for i, r in enumerate(ranks):
        one: list[Event] = []
        for first, second in itertools.combinations(range(m), 2):
            p = float(probs[i, first, second])
            if math.isnan(p) or math.isnan(r[first]) or math.isnan(r[second]):
                continue
            if r[first] == r[second] and ties == "unknown":
                continue
            y = 0.5 if r[first] == r[second] else float(r[first] < r[second])
            if items == "labelled":
                one += [((first, second), p, y), ((second, first), 1 - p, 1 - y)]
            else:
                one.append((None, max(p, 1 - p), y if p > 0.5 else 1 - y))
        found.append(one)
    want = summary(found, items)
    got = audit(
        pc.Pairwise(probs),
        pc.Outcomes.from_ranks(ranks, ties=ties),
        notions=["sub-2"],
        items=items,
        bins=BINS,
        draws=99,
    )["sub-2"]
    assert (got.n_events, got.n_instances) == (want["n_events"], want["n_instances"])
    assert got.value == pytest.approx(want["ece"], abs=1e-12)
    for name in ("accuracy", "mean_forecast", "brier", "log_loss"):
        assert got.metrics[name].value == pytest.approx(want[name], abs=1e-11)


@pytest.mark.parametrize("view", ["top-1", "full", "sub-3", "position", "topset-2", "top-1:confidence"])
def test_pairwise_probabilities_answer_questions_about_pairs_only(view):
    h = pc.Pairwise(np.full((4, 3, 3), 0.5))
    with pytest.raises(pc.UsageError, match=r"pair"):
        audit(h, pc.Outcomes.from_ranks([[1, 2, 3]] * 4), notions=[view])


def with_holes(m: int, rng: np.random.Generator) -> tuple[list[list[float]], list[list[float]]]:
    """Scores with NaN for items that an instance lacks, and every observation of the items it has."""
    scores, ranks = [], []
    for size in range(2, m + 1):
        for own in itertools.combinations(range(m), size):
            for local in observations(size):
                row, rank = [NAN] * m, [NAN] * m
                for j, item in enumerate(own):
                    row[item], rank[item] = float(rng.normal()), local[j]
                scores.append(row)
                ranks.append(rank)
    return scores, ranks


def instances_of(scores: list[list[float]], ranks: list[list[float]]) -> list[tuple[Pmf, dict[int, float]]]:
    return [
        (
            plackett_luce(tuple(i for i, x in enumerate(s) if not math.isnan(x)), dict(enumerate(s))),
            dict(enumerate(r)),
        )
        for s, r in zip(scores, ranks, strict=True)
    ]


@pytest.mark.parametrize("items", ["labelled", "exchangeable"])
def test_instances_that_lack_items(items):
    """NaN holes: labelled members keep their names; a view that is too large for an instance leaves it out."""
    scores, ranks = with_holes(4, np.random.default_rng(5))
    notions = ["sub-2", "sub-2:rankwise", "sub-3:rankwise", "position", "top-1:confidence", "full:confidence"]
    if items == "exchangeable":
        notions = scalar_notions(4)
    assert_same(pc.PlackettLuce(scores), pc.Outcomes.from_ranks(ranks), notions, items, instances_of(scores, ranks))


@pytest.mark.parametrize("notion", ["full", "top-1", "top-2", "topset-2"])
def test_labelled_outcomes_about_all_items_are_refused_where_items_lack(notion):
    scores, ranks = with_holes(3, np.random.default_rng(6))
    with pytest.raises(pc.UsageError):
        audit(pc.PlackettLuce(scores), pc.Outcomes.from_ranks(ranks), notions=[notion], items="labelled")


def test_ragged_lists():
    """Lists of 1 to 4 candidates; short ones leave the notions that have no meaning for them."""
    rng = np.random.default_rng(7)
    scores, ranks = [], []
    for size in (1, 2, 3, 4):
        for local in observations(size) if size > 1 else [[1.0]] * 5:
            scores.append(rng.normal(size=size).tolist())
            ranks.append(local)
    mixed = rng.permutation(len(scores)).tolist()
    scores, ranks = [scores[i] for i in mixed], [ranks[i] for i in mixed]
    h, y = pc.PlackettLuce(scores), pc.Outcomes.from_ranks(ranks)
    assert_same(h, y, scalar_notions(4), "exchangeable", instances_of(scores, ranks))
    with pytest.raises(pc.UsageError, match="exchangeable"):
        audit(h, y, notions=["sub-2"], items="labelled")


@pytest.mark.parametrize("longest", [2, 3])
def test_a_single_candidate_is_no_event(longest):
    """Whatever the longest list: a lone candidate is best for certain, which says nothing about the model."""
    h = pc.PlackettLuce([[1.0], np.arange(longest, dtype=float).tolist()] * 10)
    y = pc.Outcomes.from_ranks([[1], list(range(1, longest + 1))] * 10)
    for result in audit(h, y, draws=99).results:
        assert (result.n_instances, result.coverage["used"]) == (10, 10)
        assert result.metrics["accuracy"].value == 0


def test_exchangeable_events_do_not_depend_on_how_items_are_stored():
    rng = np.random.default_rng(8)
    ranks = np.array(repeated(4, 2))
    scores = rng.normal(size=ranks.shape)
    moved = np.argsort(rng.random(ranks.shape), axis=1)
    notions = scalar_notions(4)
    plain = audit(
        pc.PlackettLuce(scores), pc.Outcomes.from_ranks(ranks), notions=notions, items="exchangeable", draws=99
    )
    other = audit(
        pc.PlackettLuce(np.take_along_axis(scores, moved, 1)),
        pc.Outcomes.from_ranks(np.take_along_axis(ranks, moved, 1)),
        notions=notions, items="exchangeable", draws=99,
    )  # fmt: skip
    for notion in notions:
        a, b = plain[notion], other[notion]
        assert (a.n_events, a.n_instances) == (b.n_events, b.n_instances)
        assert a.value == pytest.approx(b.value, abs=1e-12)
        assert a.metrics["accuracy"].value == pytest.approx(b.metrics["accuracy"].value, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "best", "y"),
    [
        ([2.0, 2.0, 0.0], 0, 1 / 2),
        ([2.0, 2.0, 0.0], 1, 1 / 2),
        ([2.0, 2.0, 0.0], 2, 0.0),
        ([1.0, 1.0, 1.0], 1, 1 / 3),
        ([1e4, 1e4, -1e4], 0, 1 / 2),
        ([3.0, 2.0, 0.0], 0, 1.0),
    ],
)
def test_candidates_tied_at_the_top_share_the_credit(scores, best, y):
    result = audit(
        pc.PlackettLuce([scores] * 4), pc.Outcomes.from_best([best] * 4, n_items=3), notions=["top-1:confidence"],
        items="exchangeable", draws=99,
    )["top-1:confidence"]  # fmt: skip
    assert result.metrics["accuracy"].value == pytest.approx(y, abs=1e-15)
    winners = scores.count(max(scores))
    weights = [math.exp(s - max(scores)) for s in scores]
    assert result.metrics["mean_forecast"].value == pytest.approx(1 / math.fsum(weights), rel=1e-14)
    assert winners == 1 or result.metrics["mean_forecast"].value <= 1 / winners


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_scores_of_a_pair_are_one_half(sign):
    y = pc.Outcomes.from_ranks([[1, 2], [2, 1]][::sign])
    result = audit(pc.PlackettLuce([[7.0, 7.0]] * 2), y, notions=["sub-2"], items="exchangeable", draws=99)["sub-2"]
    assert (result.metrics["accuracy"].value, result.metrics["mean_forecast"].value, result.value) == (0.5, 0.5, 0.0)


def test_several_best_items_leave_top_1_but_stay_in_pairs():
    h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(6, 4)))
    y = pc.Outcomes.from_best([[0], [0, 1], [2], [1, 2, 3], [0, 1, 2, 3], [3]], n_items=4)
    result = audit(h, y, items="exchangeable", draws=99)
    assert result["sub-2"].n_events == 3 + 4 + 3 + 3 + 0 + 3
    assert result["sub-2"].n_instances == 5
    assert result["top-1:confidence"].n_events == 3
    assert result["top-1:confidence"].coverage["used"] == 3
    assert sum(result["top-1:confidence"].coverage.values()) == 6


@pytest.mark.parametrize(
    ("notion", "ranks"),
    [
        ("sub-2", [[1, 1, 1]]),
        ("top-1:confidence", [[1, 1, 2]]),
        ("full", [[1, 2, 2]]),
        ("position", [[1, NAN, NAN]]),
        ("top-1", [[1, NAN, 2]]),
    ],
)
def test_no_event_at_all_is_an_error_that_says_why(notion, ranks):
    h = pc.PlackettLuce([[1.0, 2.0, 3.0]] * 3)
    with pytest.raises(pc.DataError, match=rf"{notion}.*no instance has a usable event"):
        audit(h, pc.Outcomes.from_ranks(ranks * 3), notions=[notion])


@pytest.mark.parametrize("m", [7, 9])
def test_too_many_outcomes_are_refused_with_a_way_out(m):
    h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(5, m + 1)))
    y = pc.Outcomes.from_orders(h.mode())
    with pytest.raises(pc.UsageError, match="confidence"):
        audit(h, y, notions=["full:rankwise"])


@pytest.mark.parametrize("m", [3, 6, 7, 8, 10])
def test_confidence_of_the_full_ranking_at_any_number_of_items(m):
    """Also where m! outcomes cannot be listed: the probability of the mode, stage by stage."""
    rng = np.random.default_rng(m)
    scores = rng.normal(scale=2.0, size=(40, m))
    h = pc.PlackettLuce(scores)
    orders = h.sample(1, rng)[:, 0]
    result = audit(h, pc.Outcomes.from_orders(orders), notions=["full:confidence"], draws=99)["full:confidence"]
    p, hit = [], []
    for s, order in zip(scores, orders, strict=True):
        ordered = np.sort(s)[::-1]
        p.append(math.prod(1 / math.fsum(np.exp(ordered[t:] - ordered[t])) for t in range(m)))
        hit.append(list(order) == list(np.argsort(-s)))
    assert result.metrics["mean_forecast"].value == pytest.approx(np.mean(p), rel=1e-12)
    assert result.metrics["accuracy"].value == pytest.approx(np.mean(hit), abs=1e-15)
    assert result.metrics["brier"].value == pytest.approx(np.mean((np.array(hit) - p) ** 2), rel=1e-11)
