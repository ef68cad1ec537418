"""The grammar of --fail-if gates, and what they look at."""

from __future__ import annotations

import dataclasses
import math

import pytest

import prefcal as pc
from prefcal.cli.gates import Gate
from prefcal.result import Estimate


def result(**changes) -> pc.Result:
    base = pc.Result(
        model="a", notion="sub-2", items="exchangeable", group=None, estimator="ece", value=0.10, null_mean=0.02,
        debiased=0.08, interval=(0.05, 0.11), p_value=0.001, p_adjusted=0.004, verdict="miscalibrated", n_events=500,
        n_instances=100, coverage={"used": 100}, metrics={"accuracy": Estimate(0.75, (0.7, 0.8)),
        "log_loss": Estimate(math.inf, note="infinite")},
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize(
    ("text", "notion", "group", "name", "op", "value"),
    [
        ("sub-2.ece > 0.05", "sub-2", None, "ece", ">", 0.05),
        ("sub-2.ece>0.05", "sub-2", None, "ece", ">", 0.05),
        ("  sub-2 . ece  >=  .05 ", "sub-2", None, "ece", ">=", 0.05),
        ("top-1:confidence.p_value < 1e-3", "top-1:confidence", None, "p_value", "<", 1e-3),
        ("top-1:confidence.debiased <= -0.5", "top-1:confidence", None, "debiased", "<=", -0.5),
        ("full.n_events == 12", "full", None, "n_events", "==", 12.0),
        ("sub-3:rankwise.accuracy != 1", "sub-3:rankwise", None, "accuracy", "!=", 1.0),
        ("sub-2.verdict == miscalibrated", "sub-2", None, "verdict", "==", "miscalibrated"),
        ("sub-2.verdict != 'calibrated'", "sub-2", None, "verdict", "!=", "calibrated"),
        ('sub-2.verdict != "calibrated"', "sub-2", None, "verdict", "!=", "calibrated"),
        ("sub-2[subset=Math].ece > 0.1", "sub-2", ("subset", "Math"), "ece", ">", 0.1),
        ("sub-2[subset=Precise IF].ece > 0.1", "sub-2", ("subset", "Precise IF"), "ece", ">", 0.1),
        ("sub-2[level=a=b].ece > 0.1", "sub-2", ("level", "a=b"), "ece", ">", 0.1),
        ("sub-2[path=x.y > 3].ece > 0.1", "sub-2", ("path", "x.y > 3"), "ece", ">", 0.1),
        ("sub-2[year=2024].ece > inf", "sub-2", ("year", "2024"), "ece", ">", math.inf),
    ],
)
def test_what_a_gate_says(text, notion, group, name, op, value):
    gate = Gate.parse(text)
    assert (gate.notion, gate.group, gate.name, gate.op, gate.value) == (notion, group, name, op, value)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "ece > 0.05", "sub-2 > 0.05", "sub-2.ece", "sub-2.ece >", "sub-2.ece > 0.05 0.06",
        "sub-2.ece = 0.05",
        "sub-2.ece => 0.05", "sub-2.ece > x", "sub-2.ece > nan", "sub-2.ece > 0,05", "sub-2.ece > 0.05 or 1",
        "sub-1.ece > 0.05", "sub2.ece > 0.05", "top-1:nothing.ece > 0.05", "sub-2[subset].ece > 0.05",
        "sub-2[=Math.ece > 0.05", "sub-2.verdict > calibrated", "sub-2.verdict == good", "sub-2.verdict == 0.05",
        "0.05 < sub-2.ece", "sub-2..ece > 1", "sub-2.ece > 1; sub-2.ece > 2",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(pc.UsageError):
        Gate.parse(text)


@pytest.mark.parametrize("op", [">", ">=", "<", "<=", "==", "!="])
@pytest.mark.parametrize("value", [0.05, 0.10, 0.15])
def test_comparisons_at_and_around_the_value(op, value):
    holds = {
        ">": value < 0.10, ">=": value <= 0.10, "<": value > 0.10, "<=": value >= 0.10,
        "==": value == 0.10, "!=": value != 0.10,
    }[op]  # fmt: skip
    assert bool(Gate.parse(f"sub-2.ece {op} {value}").failures(pc.Audit([result()]))) == holds


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ece", 0.10), ("value", 0.10), ("null_mean", 0.02), ("debiased", 0.08), ("low", 0.05), ("high", 0.11),
        ("p_value", 0.001), ("p_adjusted", 0.004), ("n_events", 500), ("n_instances", 100), ("accuracy", 0.75),
    ],
)  # fmt: skip
def test_numbers_that_a_gate_can_look_at(name, value):
    audit = pc.Audit([result()])
    messages = Gate.parse(f"sub-2.{name} == {value}").failures(audit)
    assert len(messages) == 1
    assert f"{name} = " in messages[0]
    assert Gate.parse(f"sub-2.{name} != {value}").failures(audit) == []


def test_infinite_numbers_compare():
    assert Gate.parse("sub-2.log_loss > 5").failures(pc.Audit([result()]))
    assert not Gate.parse("sub-2.log_loss < 5").failures(pc.Audit([result()]))


def test_kernel_values_go_by_their_own_name_not_by_ece():
    audit = pc.Audit([result(estimator="skce", notion="full:canonical")])
    assert Gate.parse("full:canonical.skce > 0.05").failures(audit)
    with pytest.raises(pc.UsageError, match="skce"):
        Gate.parse("full:canonical.ece > 0.05").failures(audit)


@pytest.mark.parametrize("name", ["accuraxy", "ECE", "smece", "model", "curve", "settings", "interval"])
def test_unknown_numbers_are_named_with_what_is_allowed(name):
    with pytest.raises(pc.UsageError, match=r"accuracy"):
        Gate.parse(f"sub-2.{name} > 0").failures(pc.Audit([result()]))


def test_other_names_of_the_same_notion_are_the_same_gate():
    audit = pc.Audit([result(notion="top-1:rankwise"), result(notion="sub-2:canonical")])
    assert Gate.parse("top-1.ece > 0.05").failures(audit)
    assert Gate.parse("sub-2.ece > 0.05").failures(audit)


def test_each_model_for_which_it_holds_is_named():
    audit = pc.Audit([result(model="bad"), result(model="good", value=0.01), result(model="worse", value=0.5)])
    messages = Gate.parse("sub-2.ece > 0.05").failures(audit)
    assert len(messages) == 2
    assert "bad" in messages[0]
    assert "worse" in messages[1]


def test_groups_are_looked_at_only_when_named():
    audit = pc.Audit(
        [result(value=0.01), result(group={"subset": "Math"}, value=0.5), result(group={"year": 2024}, value=0.5)]
    )
    assert Gate.parse("sub-2.ece > 0.05").failures(audit) == []
    assert len(Gate.parse("sub-2[subset=Math].ece > 0.05").failures(audit)) == 1
    assert len(Gate.parse("sub-2[year=2024].ece > 0.05").failures(audit)) == 1


@pytest.mark.parametrize(
    "text", ["full.ece > 0", "sub-2[subset=Safety].ece > 0", "sub-2[subject=Math].ece > 0", "sub-2:rankwise.ece > 0"]
)
def test_a_gate_that_finds_no_result_is_an_error_not_a_pass(text):
    audit = pc.Audit([result(), result(group={"subset": "Math"})])
    with pytest.raises(pc.UsageError, match="no such result"):
        Gate.parse(text).failures(audit)
