"""Findings say the right thing for each kind of result."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import prefcal as pc
from fabricated_audits import (
    ALL,
    HOSTILE,
    FakeAudit,
    grouped,
    nine_models,
    odd,
    one_model,
    scalar_result,
    vector_result,
)
from prefcal.report.findings import claim, findings
from prefcal.report.wording import (
    NBSP,
    clean,
    count,
    decimal,
    listing,
    p_value,
    percent,
    percent_pair,
    points,
    short_count,
)
from prefcal.result import Estimate, Result


def said(*results: Result) -> list[tuple[str, str, str]]:
    return [
        (f.severity, f.title.replace(NBSP, " "), f.text.replace(NBSP, " "))
        for f in findings(FakeAudit(list(results)))
    ]


def with_metrics(result: Result, **values: float) -> Result:
    return replace(result, metrics=result.metrics | {k: Estimate(v) for k, v in values.items()})


def over_confident(**values: float) -> Result:
    r = scalar_result("skywork_llama3", temperature=16.0, sharpness=0.3)
    left = values.pop("ece_at_temperature", None)
    r = with_metrics(r, **({"mean_forecast": 0.90, "accuracy": 0.22} | values))
    if left is None:
        return r
    return replace(r, metrics=r.metrics | {"ece_at_temperature": Estimate(left, (left - 0.02, left + 0.02))})


def test_the_example_of_the_specification():
    r = replace(over_confident(ece_at_temperature=0.02), debiased=0.68, value=0.68)
    (_, title, text), *_ = said(r)
    assert title == (
        "skywork_llama3 says 90 % that its first choice is the best, and is right 22 % of the time; "
        "dividing its scores by 16 would fix most of it"
    )
    assert "68 points" in text
    assert "over-confident" in text


def test_a_remedy_is_promised_only_where_it_is_known_to_help():
    assert "would fix" not in said(over_confident())[0][1]
    assert "would fix" not in said(over_confident(ece_at_temperature=0.3))[0][1]
    assert "an error of 28 to 32 points would be left" in said(over_confident(ece_at_temperature=0.3))[0][2]


@pytest.mark.parametrize(
    ("temperature", "words"),
    [
        (16.0, "Dividing its scores by 16"),
        (0.5, "Multiplying its scores by 2.0"),
        (1.02, "No factor on its scores would help much"),
        (math.inf, "ignoring the scores"),
        (math.nan, "after removing"),
    ],
)
def test_temperature_in_words(temperature, words):
    text = said(over_confident(temperature=temperature))[0][2]
    assert words in text
    assert ("factor" in text or "scores" in text) == (not math.isnan(temperature))


def test_interval_of_a_multiplier_is_inverted():
    r = over_confident()
    r = replace(r, metrics=r.metrics | {"temperature": Estimate(0.5, (0.4, 0.8))})
    assert "by 2.0 (95 % interval 1.2 to 2.5)" in said(r)[0][2]


def test_under_confidence_and_errors_in_both_directions():
    r = with_metrics(over_confident(), mean_forecast=0.6, accuracy=0.8)
    assert "It is under-confident." in said(replace(r, debiased=0.19))[0][2]
    both = with_metrics(over_confident(), mean_forecast=0.7, accuracy=0.7)
    assert "both directions" in said(replace(both, debiased=0.1))[0][2]


def test_labelled_items_have_no_first_choice_but_a_direction():
    r = scalar_result("ranker", "sub-2", n=4000, temperature=2.5, items="labelled")
    (severity, title, text), *_ = said(r)
    assert severity == "problem"
    assert title.startswith("ranker is over-confident in sub-2")
    assert "right" not in text
    timid = scalar_result("ranker", "sub-2", n=4000, temperature=0.3, items="labelled")
    assert "under-confident" in said(timid)[0][1]


def test_calibrated_says_what_the_data_could_hide():
    r = replace(scalar_result(n=20_000), verdict="calibrated", p_value=0.4, interval=(0.0, 0.012))
    (severity, title, text), *_ = said(r)
    assert severity == "good"
    assert "within 1.2 points of what it says" in title
    assert "could still hide an error of 1.2 points, below the tolerance of 3.0 points" in text
    small = replace(r, p_value=0.001)
    assert "detectable, but small" in said(small)[0][1]


def test_undetermined_says_why():
    r = replace(scalar_result(n=40), verdict="undetermined", interval=(0.0, 0.12), p_value=0.3)
    (severity, title, text), *_ = said(r)
    assert severity == "caution"
    assert "cannot tell" in title
    assert "40 instances" in title
    assert "0 to 12 points" in text
    assert said(replace(r, n_events=0))[0][1].startswith("Nothing can be said")


def test_vector_notions():
    assert said(vector_result())[0][1] == "skywork_llama3 is miscalibrated in top-1:canonical"
    assert "no proof" in said(vector_result(p_value=0.4))[0][2]


def test_ruled_out_useless_and_coverage_are_findings():
    titles = [t for _, t, _ in said(*odd().results)]
    assert "certain gave probability 0 to something that happened (sub-2)" in titles
    assert "coin is honest, but says little in sub-2" in titles
    assert "Only 40 of 500 instances of certain can be used for top-1:confidence" in titles


def test_groups_worst_first_with_adjusted_p():
    titles = [t for _, t, _ in said(*grouped().results)]
    worst = next(t for t in titles if "groups of subset (sub-2)" in t)
    assert "4 of 6 groups" in worst
    assert worst.endswith("worst in Focus")
    unadjusted = [replace(r, p_adjusted=0.5) if r.group else r for r in grouped().results]
    assert not any("worst in" in t for _, t, _ in said(*unadjusted))


def test_models_are_compared_and_small_samples_do_not_win():
    audit = nine_models()
    first = findings(audit)[0]
    assert first.model == ""
    assert "best attested is ArmoRM-Llama3-8B" in first.title  # 20,000 events; Eurus has a smaller error on 60
    assert "not settled" in first.text
    alone = [replace(r, interval=(0.5, 0.6), debiased=0.55) for r in audit.results[2:4]] + audit.results[:2]
    assert "No other model's interval reaches" in findings(FakeAudit(alone))[0].text


def test_order_and_determinism():
    order = {"problem": 0, "caution": 1, "good": 2, "note": 3}
    for make in ALL.values():
        found = findings(make())
        assert found == findings(make())
        ranks = [order[f.severity] for f in found if f.model]
        assert ranks == sorted(ranks)
        assert all(f.title and f.text and "nan" not in f.text and "–" not in f.text for f in found)


def test_one_finding_for_each_overall_result():
    results = one_model().results
    assert [f.severity for f in findings(FakeAudit(results))] == ["problem"] * 3
    assert findings(FakeAudit([])) == []


def test_names_are_printable():
    found = findings(FakeAudit([scalar_result(HOSTILE + "\x1b[2J")]))
    assert "\x1b" not in found[0].title
    assert HOSTILE in found[0].title


@pytest.mark.parametrize(
    ("notion", "items", "words"),
    [
        ("sub-2", "exchangeable", "better-scored"),
        ("sub-2", "labelled", ""),
        ("top-1:confidence", "labelled", "first choice"),
        ("top-1", "exchangeable", ""),
        ("full:confidence", "labelled", "ranking"),
        ("topset-3:confidence", "exchangeable", "best 3"),
    ],
)
def test_claims(notion, items, words):
    assert words in claim(notion, items)
    assert bool(claim(notion, items)) == bool(words)


def test_numbers_in_words():
    plain = lambda text: text.replace(NBSP, " ")  # noqa: E731
    assert [plain(percent(x)) for x in (0, 0.004, 0.5, 0.996, 0.99999, 1)] == [
        "0 %", "0.4 %", "50 %", "99.6 %", "> 99.9 %", "100 %",
    ]  # fmt: skip
    assert tuple(map(plain, percent_pair(0.851, 0.854))) == ("85.1 %", "85.4 %")
    assert points(0.01) == "1.0 point"
    assert points(0.0) == "0.0 points"
    assert plain(p_value(0.0001)) == "< 0.001"
    assert decimal(-0.00001) == "0.000"
    assert decimal(-0.02) == "−0.020"
    assert decimal(math.inf) == "∞"
    assert count(1, "bin") == "1 bin"
    assert [short_count(n) for n in (485, 9999, 20_000, 4_500_000)] == ["485", "9999", "20k", "4.5M"]
    assert listing(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert clean("a\u202eb\ud800") == "a\\u202eb\\ud800"


@pytest.mark.parametrize("sizes", [(2,), (3,), (7,), (2, 3, 5), (2, 12)])
def test_a_model_that_orders_nothing_is_honest_but_says_little_in_every_notion(sizes):
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce([[0.0] * sizes[i % len(sizes)] for i in range(2000)])
    y = pc.Outcomes.from_ratings([rng.random(k).tolist() for k in h.sizes])
    audit = pc.audit(h, y, items="exchangeable", notions=["sub-2", "top-1:confidence", "top-1"], model="coin")
    little = [f for f in findings(audit) if f.title.startswith("coin is honest, but says little")]
    assert {f.notion for f in little} == {"sub-2", "top-1:confidence", "top-1"}
    assert all("Calibration is about honesty, not knowledge" in f.text for f in little)


def test_a_model_that_is_always_right_is_not_said_to_say_little():
    scores = np.tile([50.0, 0.0, -50.0], (200, 1))
    y = pc.Outcomes.from_orders(np.tile([0, 1, 2], (200, 1)))
    audit = pc.audit(pc.PlackettLuce(scores), y, items="exchangeable")
    assert not [f for f in findings(audit) if "says little" in f.title]


def test_a_model_that_is_certain_and_right_of_most_lists_is_not_said_to_say_little():
    lists = [[50.0, 0.0, -50.0] if i % 3 else [0.0, 0.0] for i in range(300)]
    y = pc.Outcomes.from_ratings([[3.0, 2.0, 1.0] if i % 3 else [2.0, 1.0] for i in range(300)])
    audit = pc.audit(pc.PlackettLuce(lists), y, notions="top-1:confidence")
    assert not [f for f in findings(audit) if "says little" in f.title]
