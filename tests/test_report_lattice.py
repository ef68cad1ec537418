"""The lattice in the report: states follow from verdicts by implications that hold, and by no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fabricated_audits import scalar_result, vector_result
from prefcal.report.lattice import GIVENS, Picture, full_name, pictures
from prefcal.report.lattice_svg import lattice_label, lattice_svg


def picture(*results, items=10, implies=None) -> Picture:
    (p,) = pictures(results, {"m": items}, implies)
    return p


def result(notion: str, verdict: str, items: str = "labelled"):
    return replace(scalar_result("m", notion, n=50), verdict=verdict, items=items)


def states(p: Picture) -> dict[str, str]:
    return {name: node.state for node in p.nodes for name in node.names}


def test_failing_refutes_what_is_stronger_and_nothing_else():
    found = states(picture(result("sub-2", "miscalibrated")))
    assert found["sub-2:canonical"] == "miscalibrated"
    assert {n for n, s in found.items() if s == "refuted"} == {"full:full", "full:canonical", "sub-2:full"}
    assert found["sub-2:confidence"] == "unaudited"  # weaker: nothing follows
    assert found["position:full"] == "unaudited"  # position marginals do not fix the order of two items


def test_confidence_refutes_canonical_but_not_rankwise():
    found = states(picture(result("top-1:confidence", "miscalibrated")))
    assert found["top-1:canonical"] == found["top-1:full"] == found["position:full"] == "refuted"
    assert found["top-1:rankwise"] == "unaudited"


def test_unlabelled_items_refute_only_within_a_view_and_full_calibration():
    found = states(picture(result("top-1", "miscalibrated", "exchangeable")))
    assert found["top-1:canonical"] == found["full:full"] == "refuted"
    assert found["position:rankwise"] == "unaudited"
    assert states(picture(result("top-1", "miscalibrated", "labelled")))["position:rankwise"] == "refuted"


@pytest.mark.parametrize("verdict", ["calibrated", "undetermined"])
def test_only_failures_have_consequences(verdict):
    found = states(picture(result("sub-2", verdict)))
    assert set(found.values()) == {"unaudited", verdict}


def test_an_audited_verdict_is_never_overruled():
    p = picture(result("sub-2", "miscalibrated"), result("full:canonical", "undetermined"))
    assert states(p)["full:full"] == "undetermined"


def test_audited_views_beyond_the_usual_get_a_column():
    p = picture(result("sub-4", "miscalibrated"), vector_result("m", "top-2:canonical"))
    assert p.columns == ("full", "sub-4", "sub-2", "top-2", "top-1", "position", "topset-2")
    assert states(p)["sub-4:canonical"] == "refuted"
    huge = picture(result("sub-9", "miscalibrated"))  # past what the exact rule can decide
    assert {n for n, s in states(huge).items() if s == "refuted"} == {
        "full:full", "full:canonical", "sub-9:full", "sub-9:canonical",
    }  # fmt: skip


def test_two_items_show_no_views_of_three():
    assert picture(result("sub-2", "calibrated"), items=2).columns == ("full", "sub-2")


def test_edges_are_the_transitive_reduction():
    order = {"a": 3, "b": 2, "c": 1}

    def chain(x: str, y: str) -> bool:
        return GIVENS.index(x.split(":")[1]) < GIVENS.index(y.split(":")[1]) and x.split(":")[0] == y.split(":")[0]

    (p,) = pictures([result("sub-2", "calibrated")], {"m": 2}, chain)
    names = [(p.nodes[a].name, p.nodes[b].name) for a, b in p.edges]
    assert len(order) == len([1 for a, _ in names if a.startswith("sub-2")])
    assert ("sub-2:full", "sub-2:rankwise") not in names
    assert ("sub-2:full", "sub-2:canonical") in names


def test_every_edge_is_an_implication():
    from prefcal.notions.notion import Notion

    p = picture(result("sub-2", "calibrated"))
    assert len(p.nodes) == 18  # 20 names; full:full = full:canonical and sub-2:canonical = sub-2:rankwise
    for a, b in p.edges:
        for m in (4, 5):
            assert Notion.parse(p.nodes[a].names[0]).implies(p.nodes[b].names[0], m=m)


def test_picture_tells_its_content_in_words():
    p = picture(result("sub-2", "miscalibrated"))
    assert lattice_label(p) == (
        "Lattice of 18 notions for m. Audited: sub-2 miscalibrated. Refuted through these: full, sub-2:full."
    )
    drawn = str(lattice_svg(p))
    assert drawn.count("<title>") == 18
    assert "refuted through sub-2" in drawn
    assert drawn.count('class="outline-bad"') == 2


def test_names():
    assert [full_name(n) for n in ("sub-2", "sub-3", "full", "top-1:full")] == [
        "sub-2:canonical", "sub-3:rankwise", "full:rankwise", "top-1:full",
    ]  # fmt: skip
