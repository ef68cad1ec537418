"""Notions, the implication rule, the lattice and the search for witnesses."""

import itertools
import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefcal.errors import DataError, UsageError
from prefcal.notions import witnesses as witness_module
from prefcal.notions.exact import in_span, null_basis, row_reduce, solve
from prefcal.notions.lattice import lattice
from prefcal.notions.notion import GIVENS, Notion, all_notions, all_views, partitions
from prefcal.notions.search import find_witness, regenerate
from prefcal.notions.witnesses import Witness, load, save, stored
from prefcal.views import View

VIEWS_3 = ["full", "sub-2", "top-1", "topset-2", "position"]


def smalls(rows, columns):
    return st.lists(st.lists(st.integers(-4, 4), min_size=columns, max_size=columns), min_size=rows, max_size=rows)


# exact linear algebra


@settings(deadline=None)
@given(smalls(4, 5), st.lists(st.integers(-3, 3), min_size=4, max_size=4))
def test_in_span_of_a_combination_and_rank(rows, coefficients):
    a = np.array(rows)
    assert in_span(a, coefficients @ a)
    assert len(row_reduce(a)[1]) == np.linalg.matrix_rank(a)


@settings(deadline=None)
@given(smalls(3, 5), st.lists(st.integers(-4, 4), min_size=5, max_size=5))
def test_in_span_agrees_with_the_rank(rows, target):
    expected = np.linalg.matrix_rank(np.array([*rows, target])) == np.linalg.matrix_rank(np.array(rows))
    assert in_span(rows, target) == expected


@settings(deadline=None)
@given(smalls(3, 6))
def test_null_basis_is_orthogonal_and_complete(rows):
    a = np.array(rows)
    basis = null_basis(a)
    assert not (a.astype(object) @ basis.T).any()
    assert len(basis) == len(row_reduce(basis)[1]) == 6 - np.linalg.matrix_rank(a)


@settings(deadline=None)
@given(smalls(4, 3), st.lists(st.fractions(-3, 3, max_denominator=7), min_size=3, max_size=3))
def test_solve_returns_the_only_solution_or_none(rows, x):
    a = np.array(rows, dtype=object)
    right = a @ np.array(x, dtype=object)
    unique = np.linalg.matrix_rank(a.astype(int)) == 3
    assert solve(a, list(right)) == (x if unique else None)
    assert solve(np.vstack([a, a[:1]]), [*right, right[0] + 1]) is None  # inconsistent


# names


@pytest.mark.parametrize(
    ("text", "given_", "name"),
    [
        ("sub-2", "canonical", "sub-2"),
        ("sub-2:canonical", "canonical", "sub-2"),
        ("sub-2:rankwise", "rankwise", "sub-2:rankwise"),
        ("sub-3", "rankwise", "sub-3"),
        ("full", "rankwise", "full"),
        ("full:canonical", "canonical", "full:canonical"),
        ("top-1:confidence", "confidence", "top-1:confidence"),
        ("topset-3:full", "full", "topset-3:full"),
        ("position:rankwise", "rankwise", "position"),
    ],
)
def test_parse_and_name(text, given_, name):
    notion = Notion.parse(text)
    assert (notion.given, notion.name, str(notion)) == (given_, name, name)
    assert Notion.parse(notion) is notion


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_every_name_reads_back(m):
    notions = all_notions(m)
    assert [Notion.parse(n.name) for n in notions] == list(notions)
    assert len({n.name for n in notions}) == len(notions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("top-1:confidance", ["confidance", "did you mean 'confidence'", "rankwise"]),
        ("top1", ["unknown view 'top1'", "top-K"]),
        ("top-1:", ["unknown given ''", "canonical"]),
        ("sub-1", ["sub-1", "at least 2"]),
        ("top-1:full:x", ["full:x"]),
        ("", ["unknown view ''"]),
        (3, ["got 3"]),
    ],
)
def test_parse_errors_say_what_is_allowed(text, words):
    with pytest.raises(UsageError) as info:
        Notion.parse(text)
    assert all(word in str(info.value) for word in words)


def test_is_scalar():
    assert Notion.parse("sub-2").is_scalar(5)
    assert Notion.parse("top-1:canonical").is_scalar(2)
    assert Notion.parse("top-1").is_scalar(4)
    assert Notion.parse("full:confidence").is_scalar(4)
    assert not Notion.parse("top-1:canonical").is_scalar(3)
    assert not Notion.parse("sub-2:full").is_scalar(3)
    with pytest.raises(UsageError, match="at most 3"):
        Notion.parse("sub-4").is_scalar(3)


# families


def test_members_of_top_1_by_hand():
    orders = list(itertools.permutations(range(3)))
    canonical = Notion.parse("top-1:canonical").members(3)
    assert len(canonical) == 3
    for item, member in enumerate(canonical):
        assert member.event.tolist() == [o[0] == item for o in orders]
        assert member.partition.tolist() == [o[0] for o in orders]
    rankwise = Notion.parse("top-1").members(3)
    assert [m.partition.tolist() for m in rankwise] == [m.event.astype(int).tolist() for m in canonical]
    assert all(m.partition.tolist() == list(range(6)) for m in Notion.parse("top-1:full").members(3))


@pytest.mark.parametrize("m", [3, 4])
def test_members_count_and_cover(m):
    for view in all_views(m):
        for g in ("canonical", "rankwise", "full"):
            members = Notion(view, g).members(m)
            assert len(members) == view.n_members(m) * view.n_outcomes(m)
            assert (np.sum([x.event for x in members], axis=0) == view.n_members(m)).all()


def test_confidence_has_no_fixed_family():
    with pytest.raises(UsageError, match="depends on the forecast"):
        Notion.parse("top-1:confidence").members(3)


def test_families_are_limited_to_six_items():
    with pytest.raises(UsageError, match="at most 6 items, got 7"):
        partitions(View("full"), 7)


# the rule


def rule_by_ranks(a, b, m):
    """The rule without shortcuts: every member, ranks by floating-point numpy."""
    if a == b:
        return True
    if "confidence" in (a.given, b.given):
        if a.given == "confidence":
            mine, theirs = (blocks_of(a.view, m), blocks_of(b.view, m))
            return b.given == "confidence" and theirs <= mine
        return rule_by_ranks(a, Notion(b.view, "canonical"), m)
    family = a.members(m)
    for event, partition in b.members(m):
        rows = [np.ones(len(event))]
        for e, c in family:
            if all(len(set(partition[c == label])) == 1 for label in set(c.tolist())):
                rows.append(e.astype(float))
        if np.linalg.matrix_rank(np.array([*rows, event])) > np.linalg.matrix_rank(np.array(rows)):
            return False
    return True


def blocks_of(view, m):
    """The view's partitions as sets of blocks, so that labels do not matter."""
    return {
        frozenset(frozenset(np.flatnonzero(p == label).tolist()) for label in set(p.tolist()))
        for p in partitions(view, m)
    }


@pytest.mark.parametrize("m", [2, 3])
def test_rule_agrees_with_the_definition_for_every_pair(m):
    for a, b in itertools.product(all_notions(m), repeat=2):
        assert a.implies(b, m) == rule_by_ranks(a, b, m), (a.name, b.name)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("sub-3:canonical", "sub-2"),
        ("sub-3:full", "sub-2:full"),
        ("sub-3", "sub-2"),
        ("top-2:canonical", "topset-2"),
        ("position:canonical", "topset-3"),
        ("position:full", "sub-2:full"),
        ("sub-3:full", "position:full"),
    ],
)
def test_rule_agrees_with_the_definition_for_four_items(a, b):
    a, b = Notion.parse(a), Notion.parse(b)
    assert a.implies(b, 4) == rule_by_ranks(a, b, 4)


def test_unions_of_overlapping_events_are_no_combinations():
    # "1 before 2" is a union of events of position, of several items at once, but not a combination of them.
    assert not Notion.parse("position:full").implies("sub-2:full", 3)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("full:canonical", "sub-2", True),
        ("full:canonical", "top-1:confidence", True),
        ("full", "sub-2", False),
        ("sub-3:canonical", "sub-2", True),
        ("sub-3", "sub-2", False),
        ("top-2:canonical", "top-1:canonical", True),
        ("top-2:canonical", "topset-2:canonical", True),
        ("position", "top-1", True),
        ("position:canonical", "top-1:canonical", False),
        # With three items topset-2 is the complement of the last position, with four it is not.
        ("position", "topset-2", False),
        ("top-1:confidence", "top-1:confidence", True),
        ("top-1:confidence", "top-1", False),
        ("sub-5:canonical", "sub-4:canonical", True),
    ],
)
def test_generic_implications(a, b, expected):
    assert Notion.parse(a).implies(b) is expected


def test_generic_case_needs_a_view_that_fits():
    with pytest.raises(UsageError, match="sub-6"):
        Notion.parse("sub-6").implies("sub-2")
    with pytest.raises(UsageError, match="at most 3"):
        Notion.parse("sub-4").implies("sub-2", 3)


def test_degenerate_views_are_the_simpler_ones():
    assert Notion.parse("sub-3:canonical").resolve(3) == Notion.parse("full:canonical")
    assert Notion.parse("top-2").resolve(3) == Notion.parse("full")
    assert Notion.parse("topset-1").resolve(3) == Notion.parse("top-1")
    assert Notion.parse("sub-3:canonical").implies("top-1:full", 3)
    assert Notion.parse("full").implies("top-2", 3)
    assert not Notion.parse("sub-3:canonical").implies("top-1", 4)
    assert lattice(3).relation("sub-3:canonical", "topset-1") == "proved"


# the lattice


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_every_ordered_pair_is_settled(m):
    relations = lattice(m)
    assert relations.open() == ()
    assert relations.contradictions == ()
    assert (relations.proved ^ relations.refuted).all()


def test_three_items_has_all_the_pairs_asked_for():
    names = {f"{v}:{g}" for v in VIEWS_3 for g in GIVENS}
    assert {f"{n.view.name}:{n.given}" for n in lattice(3).notions} == names


@pytest.mark.parametrize("m", [3, 4])
def test_refuted_pairs_have_a_population_that_shows_it(m):
    relations = lattice(m)
    for a, b in itertools.product(relations.notions, repeat=2):
        population = relations.witness(a, b)
        assert (population is not None) == (relations.relation(a, b) == "refuted")
        if population is not None:
            assert len(population) <= 6
            assert population.violation(a).largest == 0 < population.violation(b).largest


def test_cells_that_an_earlier_search_left_open_are_refuted():
    relations = lattice(3)
    for a, b in [
        ("position:canonical", "top-1:confidence"),
        ("position:canonical", "topset-2:confidence"),
        ("position", "top-1:confidence"),
    ]:
        assert relations.relation(a, b) == "refuted"


def test_without_witnesses_the_rest_is_open(monkeypatch):
    monkeypatch.setattr("prefcal.notions.lattice.stored", lambda m: ())
    relations = lattice(3)
    assert len(relations.open()) == int((~relations.proved).sum()) > 0
    assert relations.relation("sub-2", "top-1") == "open"
    assert relations.witness("sub-2", "top-1") is None


def test_classes_and_covers_rebuild_the_proved_relation():
    relations = lattice(4)
    classes, edges = relations.classes, relations.covers()
    assert (Notion.parse("sub-2"), Notion.parse("sub-2:rankwise")) in classes
    assert sum(map(len, classes)) == len(relations.notions)
    reach = np.eye(len(classes), dtype=bool)
    for i, j in edges:
        reach[i, j] = True
    for _ in classes:
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    for i, j in itertools.product(range(len(classes)), repeat=2):
        assert reach[i, j] == (relations.relation(classes[i][0], classes[j][0]) == "proved")
    for edge in edges:  # no edge can be spared
        others = np.eye(len(classes), dtype=bool)
        for i, j in edges:
            others[i, j] |= (i, j) != edge
        for _ in classes:
            others = others | (others.astype(int) @ others.astype(int) > 0)
        assert not others[edge]


def test_lattice_of_chosen_views():
    relations = lattice(4, views=["sub-2", View("top", 1), "topset-1"])
    assert [n.name for n in relations.notions[::4]] == ["sub-2", "top-1:canonical"]
    with pytest.raises(UsageError, match="position"):
        relations.relation("position", "sub-2")
    with pytest.raises(UsageError, match="at most 3"):
        lattice(3, views=["sub-4"])


@pytest.mark.parametrize("m", [1, 6])
def test_lattice_limits(m):
    with pytest.raises(UsageError, match=f"2 to 5 items, got {m}"):
        lattice(m)


def test_lattice_does_not_load_scipy():
    code = "import sys, prefcal; prefcal.lattice(3); print([m for m in sys.modules if m.startswith('scipy')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# witnesses and the search


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_stored_witnesses_claim_what_is_true_of_all_notions(m):
    for witness in stored(m):
        assert witness.check() == ()
        assert sorted(n.name for n in witness.holds + witness.fails) == sorted(n.name for n in all_notions(m))
        assert Witness.of(witness.population) == witness


def test_corrupted_witness_is_noticed(tmp_path):
    witness = stored(3)[0]
    data = witness.to_dict()
    forecast = [Fraction(x) for x in data["forecasts"][0].split()]
    forecast[0], forecast[1] = forecast[0] - Fraction(1, 100), forecast[1] + Fraction(1, 100)
    data["forecasts"][0] = " ".join(map(str, forecast))
    assert Witness.from_dict(data).check()
    swapped = Witness(witness.population, witness.fails, witness.holds)
    assert len(swapped.check()) == len(all_notions(3))
    with pytest.raises(DataError, match="fails"):
        Witness.from_dict({k: v for k, v in data.items() if k != "fails"})
    bad = tmp_path / "w.json"
    bad.write_text(json.dumps({"3": [data]})[:-9])
    with pytest.raises(DataError, match=r"w\.json"):
        load(bad, 3)


def test_save_replaces_one_entry(tmp_path):
    path = tmp_path / "w.json"
    save(3, stored(3), path)
    save(2, stored(2), path)
    save(3, stored(3)[:2], path)
    assert load(path, 3) == stored(3)[:2]
    assert load(path, 2) == stored(2)
    assert load(path, 4) == ()


def test_find_witness_finds_and_does_not_invent():
    population = find_witness("top-1", "top-1:confidence", 3, rng=1)
    assert population is not None
    assert population.holds("top-1")
    assert not population.holds("top-1:confidence")
    assert find_witness("top-1:canonical", "top-1:confidence", 3, rng=1, tries=40) is None
    assert find_witness("top-1:confidence", "top-1:confidence", 3, rng=1, tries=20) is None


def test_regenerate_is_deterministic_and_settles_three_items(tmp_path, monkeypatch):
    lines = []
    first = regenerate(3, tmp_path / "w.json", progress=lines.append)
    assert first == regenerate(3)
    assert lines[-1].endswith("; 0 pairs left")
    monkeypatch.setattr("prefcal.notions.lattice.stored", lambda m: load(tmp_path / "w.json", m))
    assert lattice(3).open() == ()


def test_data_file_is_packaged():
    assert witness_module.stored(3)
    assert witness_module.stored(17) == ()
