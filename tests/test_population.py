"""Exact finite populations against a plain reading of the definition, and the rule against random populations."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefcal.errors import DataError, UsageError
from prefcal.notions import search
from prefcal.notions.exact import null_basis
from prefcal.notions.lattice import lattice
from prefcal.notions.notion import Notion, all_notions
from prefcal.notions.population import Population, paper_table


def outcome_functions(view, m):
    """One function from an ordering to an outcome for each member of a view, written without the library."""
    if view.kind == "full":
        return [lambda o: o]
    if view.kind == "top":
        return [lambda o: o[: view.k]]
    if view.kind == "topset":
        return [lambda o: frozenset(o[: view.k])]
    if view.kind == "position":
        return [lambda o, a=a: o.index(a) for a in range(m)]
    return [lambda o, s=s: tuple(x for x in o if x in s) for s in itertools.combinations(range(m), view.k)]


def violation_by_definition(population, notion):
    """(largest, mean) by looping over members, contexts and rankings."""
    m = population.n_items
    orders = list(itertools.permutations(range(m)))
    contexts = list(zip(population.weights, population.forecasts, population.truths))
    per_member = []
    for f in outcome_functions(notion.view, m):
        outcomes = sorted({f(o) for o in orders}, key=str)

        def prob(h, w, f=f):
            return sum(p for p, o in zip(h, orders) if f(o) == w)

        if notion.given == "confidence":
            rows = []
            for weight, h, truth in contexts:
                p = max(prob(h, w) for w in outcomes)
                tied = [w for w in outcomes if prob(h, w) == p]
                rows.append((p, weight, p, sum(prob(truth, w) for w in tied) / len(tied)))
            per_member.append(rows)
            continue
        for w in outcomes:
            rows = []
            for weight, h, truth in contexts:
                key = {
                    "canonical": tuple(prob(h, v) for v in outcomes),
                    "rankwise": prob(h, w),
                    "full": h,
                }[notion.given]
                rows.append((key, weight, prob(h, w), prob(truth, w)))
            per_member.append(rows)
    largest, total = Fraction(0), Fraction(0)
    for rows in per_member:
        for key in {r[0] for r in rows}:
            group = [r for r in rows if r[0] == key]
            share = sum(r[1] for r in group)
            gap = abs(sum(r[1] * r[3] for r in group) / share - sum(r[1] * r[2] for r in group) / share)
            largest = max(largest, gap)
            total += share * gap
    return largest, total / len(per_member)


@st.composite
def populations(draw, m=3, most=4):
    """Few contexts with small whole numbers, so that given values coincide often."""
    n = {2: 2, 3: 6, 4: 24}[m]
    row = st.lists(st.integers(0, 2), min_size=n, max_size=n).filter(any)
    count = draw(st.integers(1, most))

    def distributions(rows):
        return [[Fraction(x, sum(r)) for x in r] for r in rows]

    weights = distributions([draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))])[0]
    base = draw(st.lists(row, min_size=1, max_size=count))
    forecasts = [draw(st.permutations(draw(st.sampled_from(base)))) for _ in range(count)]
    truths = [draw(row) for _ in range(count)]
    return Population(weights, distributions(forecasts), distributions(truths))


@settings(deadline=None)
@given(populations())
def test_violation_is_the_definition_for_three_items(population):
    for notion in all_notions(3):
        v = population.violation(notion)
        assert (v.largest, v.mean) == violation_by_definition(population, notion), notion.name


@settings(max_examples=8, deadline=None)
@given(populations(m=4, most=3))
def test_violation_is_the_definition_for_four_items(population):
    for notion in all_notions(4):
        v = population.violation(notion)
        assert (v.largest, v.mean) == violation_by_definition(population, notion), notion.name


@settings(deadline=None)
@given(populations())
def test_nothing_is_violated_when_the_truth_is_the_forecast(population):
    honest = Population(population.weights, population.forecasts, population.forecasts)
    assert all(honest.holds(notion) for notion in all_notions(3))


@settings(deadline=None)
@given(populations(), st.permutations(range(3)))
def test_renaming_the_items_changes_nothing(population, names):
    orders = list(itertools.permutations(range(3)))
    at = [orders.index(tuple(names[a] for a in o)) for o in orders]
    renamed = Population(
        population.weights,
        *([[r[i] for i in at] for r in rows] for rows in (population.forecasts, population.truths)),
    )
    for notion in all_notions(3):
        assert renamed.violation(notion) == population.violation(notion)


@settings(deadline=None)
@given(populations())
def test_splitting_a_context_changes_nothing(population):
    def doubled(rows):
        return [r for r in rows for _ in range(2)]

    halves = [w / 2 for w in doubled(population.weights)]
    split = Population(halves, doubled(population.forecasts), doubled(population.truths))
    for notion in all_notions(3):
        assert split.violation(notion) == population.violation(notion)


@settings(deadline=None)
@given(populations())
def test_proved_implications_hold_in_any_population(population):
    relations = lattice(3)
    holds = np.array([population.holds(n) for n in relations.notions])
    assert not (relations.proved & np.outer(holds, ~holds)).any()


@pytest.mark.parametrize(("m", "draws"), [(3, 12), (4, 3)])
def test_what_is_proved_holds_wherever_the_premise_does(m, draws):
    """Random populations built to meet the premise, with contexts that share given values."""
    rng = np.random.default_rng(m)
    relations = lattice(m)
    broken = 0
    for i, premise in enumerate(relations.notions):
        for _ in range(draws):
            contexts = search._draw_contexts(premise, m, rng)
            c, n = contexts.shape
            total = np.kron(np.eye(c, dtype=int), np.ones((1, n), dtype=int))
            basis = null_basis(np.vstack([total, search._equations(premise, contexts)]))
            if len(basis) == 0:  # on these contexts only the truth itself meets the premise
                continue
            residual = (rng.integers(-2, 3, len(basis)).astype(object) @ basis).reshape(c, n)
            if not residual.any():
                continue
            population = search._population(contexts, residual)
            assert violation_by_definition(population, premise)[0] == 0
            for j, conclusion in enumerate(relations.notions):
                if relations.proved[i, j]:
                    assert population.holds(conclusion), (premise.name, conclusion.name)
                broken += not population.holds(conclusion)
    assert broken > 0


@pytest.mark.parametrize(
    ("number", "zero", "sixth"),
    [
        (1, ["sub-2"], ["top-1", "full", "full:canonical"]),
        (2, ["full"], ["sub-2", "top-1", "full:canonical"]),
        (3, ["top-1"], ["sub-2", "full", "full:canonical"]),
    ],
)
def test_tables_of_the_paper(number, zero, sixth):
    population = paper_table(number)
    for name in zero + sixth:
        expected = Fraction(0) if name in zero else Fraction(1, 6)
        assert population.violation(name).largest == expected
        assert violation_by_definition(population, Notion.parse(name))[0] == expected


def test_confidence_shares_ties():
    # Items 1 and 2 tied to be first; the truth is always item 1: credit 1/2, forecast 1/2.
    tied = Population([1], [["1/2", 0, "1/2", 0, 0, 0]], [[1, 0, 0, 0, 0, 0]])
    assert tied.holds("top-1:confidence")
    assert tied.violation("top-1").largest == Fraction(1, 2)


def test_sample_follows_the_population():
    population = Population.from_dict(
        {
            "weights": "1/4 3/4",
            "forecasts": ["1/3 1/12 1/12 1/12 1/12 1/3", "1/6 1/6 1/6 1/6 1/6 1/6"],
            "truths": ["1/2 0 1/4 0 1/4 0", "0 0 0 1/2 1/2 0"],
        }
    )
    n = 40_000
    context, forecast, orders = population.sample(n, 3)
    assert (context.shape, forecast.shape, orders.shape) == ((n,), (n, 6), (n, 3))
    assert np.array_equal(forecast, np.array(population.forecasts, dtype=float)[context])
    assert abs((context == 0).mean() - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5
    every = list(itertools.permutations(range(3)))
    for i in range(2):
        chosen = [every.index(tuple(o)) for o in orders[context == i].tolist()]
        share = np.bincount(chosen, minlength=6) / len(chosen)
        truth = np.array(population.truths[i], dtype=float)
        assert (np.abs(share - truth) <= 5 * np.sqrt(truth * (1 - truth) / len(chosen))).all()  # zeros stay zeros
    again = population.sample(n, np.random.default_rng(3))
    assert np.array_equal(again[2], orders)
    assert population.sample(0, 0)[2].shape == (0, 3)
    with pytest.raises(UsageError, match="-1"):
        population.sample(-1, 0)


def test_sample_never_draws_an_impossible_ranking_by_rounding():
    class Extreme(np.random.Generator):
        def random(self, size):
            return np.full(size, np.nextafter(1.0, 0.0))

    truth = ["7/10", "1/10", "1/10", "1/10", 0, 0]
    assert np.cumsum([0.7, 0.1, 0.1, 0.1])[-1] < 1  # what the draw could fall above
    _, _, orders = Population([1], [truth], [truth]).sample(3, Extreme(np.random.PCG64(0)))
    assert orders.tolist() == [[1, 2, 0]] * 3


def test_text_form_reads_back():
    for number in (1, 2, 3):
        population = paper_table(number)
        assert Population.from_dict(population.to_dict()) == population
        assert hash(Population.from_dict(population.to_dict())) == hash(population)


UNIFORM = ["1/6"] * 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1], [[0.5, 0.5]], [["1/2", "1/2"]]), ["0.5", "float", "forecasts"]),
        (([1], [["1/2", "1/3"]], [["1/2", "1/2"]]), ["5/6", "context 0", "forecasts"]),
        (([1], [["3/2", "-1/2"]], [["1/2", "1/2"]]), ["forecasts"]),
        (([1], [["a", "1"]], [["1/2", "1/2"]]), ["'a'"]),
        (([1], [["1/0", "1"]], [["1/2", "1/2"]]), ["'1/0'"]),
        (([1], [[None, "1"]], [["1/2", "1/2"]]), ["None"]),
        (([1], [["1/2", "1/2"]], [["1/2", "1/4"]]), ["truths", "3/4"]),
        ((["1/2", "1/2"], [UNIFORM], [UNIFORM]), ["1 rows for 2 weights", "forecasts"]),
        (([1, 0], [UNIFORM, UNIFORM], [UNIFORM, UNIFORM]), ["weight 0"]),
        (([1], [UNIFORM], [["1/2", "1/2"]]), ["[2, 6]"]),
        (([1], [["1/3"] * 3], [["1/3"] * 3]), ["3 rankings"]),
        (([], [], []), ["weights"]),
    ],
)
def test_bad_populations_are_refused(arguments, words):
    with pytest.raises(DataError) as info:
        Population(*arguments)
    assert all(word in str(info.value) for word in words)


def test_missing_field_is_named():
    with pytest.raises(DataError, match="truths"):
        Population.from_dict({"weights": "1", "forecasts": ["1/2 1/2"]})


def test_view_must_have_a_meaning():
    with pytest.raises(UsageError, match="at most 3"):
        paper_table(1).violation("sub-4")
