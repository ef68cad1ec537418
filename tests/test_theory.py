"""The checks behind ``prefcal theory``: they pass, and they fail when something is wrong."""

from dataclasses import replace
from fractions import Fraction

import pytest

from prefcal.errors import UsageError
from prefcal.notions import theory
from prefcal.notions.lattice import lattice
from prefcal.notions.population import Population, paper_table
from prefcal.notions.theory import check_theory, render
from prefcal.notions.witnesses import Witness, stored


@pytest.fixture(scope="module")
def report():
    return check_theory()


def test_everything_is_right_for_three_and_four_items(report):
    assert [c for c in report.checks if not c.ok] == []
    assert report.ok
    assert [relations.m for relations in report.lattices] == [3, 4]
    assert len({c.name for c in report.checks}) == len(report.checks)


def test_report_for_other_numbers_of_items():
    assert check_theory((2,)).ok
    with pytest.raises(UsageError, match="got 7"):
        check_theory((7,))


def test_table_values(report):
    found = {(t.table, t.notion): (t.largest, t.mean) for t in report.tables}
    sixth = Fraction(1, 6)
    assert found[1, "sub-2:canonical"] == (0, 0)
    assert found[2, "full:rankwise"] == (0, 0)
    assert found[3, "top-1:canonical"] == (0, 0)
    assert all(t.stated == t.largest for t in report.tables)
    assert {t.largest for t in report.tables} == {Fraction(0), sixth}
    # Table 1, top-1: 5/12, 1/6, 5/12 against 1/3.
    assert found[1, "top-1:canonical"] == (sixth, Fraction(1, 9))


def test_render_shows_matrix_tables_and_result(report):
    text = render(report)
    assert "Lattice for 3 items: 20 notions, 380 ordered pairs: 72 proved, 308 refuted, 0 open" in text
    assert "Lattice for 4 items: 32 notions" in text
    assert "Open: none" in text
    assert "FAIL" not in text
    assert text.endswith(f"{len(report.checks)} checks, 0 failed.\n")
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    row = next(line for line in text.splitlines() if "full:canonical" in line and line.strip().startswith("1 "))
    assert row.split("full:canonical")[1].split() == [".PPP", "PPPP", "PPPP", "PPPP", "PPPP"]


def test_corrupted_witness_fails_the_report(monkeypatch):
    good = stored(3)
    population = good[1].population
    truths = [list(row) for row in population.truths]
    truths[0] = list(population.truths[0][::-1])
    broken = Witness(Population(population.weights, population.forecasts, truths), good[1].holds, good[1].fails)
    monkeypatch.setattr("prefcal.notions.lattice.stored", lambda m: (good[0], broken, *good[2:]))
    report = check_theory((3,))
    assert not report.ok
    bad = [c for c in report.checks if not c.ok]
    assert [c.name for c in bad] == ["m = 3: every stored witness verified in exact fractions"]
    assert bad[0].detail in render(report)


def test_missing_witnesses_leave_open_pairs_that_are_listed(monkeypatch):
    monkeypatch.setattr("prefcal.notions.lattice.stored", lambda m: ())
    report = check_theory((3,))
    text = render(report)
    assert "    sub-2:canonical => top-1:rankwise" in text
    assert "?" in text
    assert not report.ok  # the paper's own counterexamples are missing too
    assert "FAIL m = 3: sub-2 does not imply top-1" in text


def test_wrong_table_value_fails(monkeypatch):
    monkeypatch.setitem(theory.PAPER_VALUES, 1, {"sub-2:canonical": Fraction(1, 7)})
    report = check_theory(())
    assert [c.ok for c in report.checks] == [False, True, True]
    assert "stated: 1/7" in render(report)


def test_wrong_rule_is_caught(monkeypatch):
    right = lattice(3)
    proved = right.proved.copy()
    names = [n.name for n in right.notions]
    proved[names.index("sub-2"), names.index("top-1")] = True
    monkeypatch.setattr(theory, "lattice", lambda m: replace(right, proved=proved))
    failed = {c.name for c in check_theory((3,)).checks if not c.ok}
    assert "m = 3: no witness contradicts the rule" in failed


def test_paper_tables_are_three_items_with_uniform_truth():
    for number in (1, 2, 3):
        population = paper_table(number)
        assert population.n_items == 3
        total = [sum(w * t for w, t in zip(population.weights, column)) for column in zip(*population.truths)]
        assert total == [Fraction(1, 6)] * 6
    with pytest.raises(UsageError, match="1, 2 and 3"):
        paper_table(4)
