"""Groups that are derived from forecasts or made by a callable."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
import strategies as some
from grouped_samples import sample
from prefcal.estimators.derived import LENGTH_FIELDS, derived_values, levels_of


@settings(deadline=None)
@given(some.ragged_scores())
def test_derived_values_of_plack_luce_are_those_of_the_scores(rows):
    h = pc.PlackettLuce(rows)
    fields = {name: function(h) for name, function in derived_functions().items()}
    for i, row in enumerate(rows):
        assert fields["@candidates"][i] == len(row)
        assert fields["@spread"][i] == pytest.approx(np.std(row), abs=1e-9)
        top = sorted(row)[::-1]
        assert fields["@margin"][i] == pytest.approx(
            top[0] - top[1] if len(row) > 1 else math.nan, abs=1e-9, nan_ok=True
        )


def derived_functions():
    from prefcal.estimators.derived import DERIVED

    return DERIVED


def test_derived_values_of_gaps_and_of_other_distributions():
    scores = np.array([[1.0, np.nan, 3.0], [0.0, 5.0, 1.0]])
    spread, margin = derived_functions()["@spread"], derived_functions()["@margin"]
    assert spread(pc.PlackettLuce(scores)).tolist() == pytest.approx([1.0, np.std([0, 5, 1])])
    assert margin(pc.PlackettLuce(scores)).tolist() == pytest.approx([2.0, 4.0])
    sure = pc.Mallows(np.array([[1, 2, 3]]), 0.0)
    assert spread(sure).tolist() == margin(sure).tolist() == [math.inf]
    loose = pc.Mallows(np.array([[1, 2, 3]]), 0.5)
    assert margin(loose).tolist() == pytest.approx([math.log(2)])  # one place further down: phi times as probable


def test_pairwise_probabilities_have_candidates_but_no_spread():
    h = pc.Pairwise(np.full((2, 3, 3), 0.5))
    assert derived_values("@candidates", h).tolist() == [3, 3]
    with pytest.raises(pc.UsageError, match="@spread needs to know who is best"):
        derived_values("@spread", h)


def test_length_is_a_field():
    h = pc.PlackettLuce(np.zeros((3, 2)))
    for name in LENGTH_FIELDS:
        assert derived_values("@length", h, {"other": [0, 0, 0], name: [4, 5, 6]}).tolist() == [4, 5, 6]
    with pytest.raises(pc.UsageError, match="@length needs a field with the length"):
        derived_values("@length", h, {"other": [0, 0, 0]})
    with pytest.raises(pc.UsageError, match="did you mean '@spread'"):
        derived_values("@spred", h)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 1.0, math.nan, math.inf])), min_size=30))
def test_levels_are_a_cut(values):
    array = np.array(values)
    levels = levels_of(array, "f")
    assert len(levels) == len(array)
    if levels.dtype.kind == "f":
        assert len(np.unique(array)) <= 12 or (array[np.isfinite(array)] % 1 == 0).all()
        return
    assert (np.isnan(array) == (levels == "(missing)")).all()
    known = ~np.isnan(array)
    order = np.argsort(array[known], kind="stable")
    names = levels[known][order]
    assert names.tolist() == sorted(names.tolist())  # the number in front: levels follow the values
    assert 2 <= len(set(names.tolist())) <= 4
    for value in np.unique(array[known]):
        assert len(set(levels[array == value].tolist())) == 1


def test_quarters_are_quarters():
    levels = levels_of(np.arange(4000) / 7, "f")
    assert sorted(np.unique(levels, return_counts=True)[1].tolist()) == [1000] * 4
    assert levels_of(np.arange(100), "ids").dtype.kind == "i"
    with pytest.raises(pc.UsageError, match="101 distinct values"):
        levels_of(np.array([str(i) for i in range(101)]), "ids")


def test_groups_by_callable_by_name_and_by_values_agree():
    h, y = sample(1, 200)
    values = derived_values("@spread", h)
    by = {
        "callable": pc.audit(
            h, y, notions="sub-2", draws=99, groups={"@spread": lambda h, y: h.scores.dense().std(axis=1)}
        ),
        "name": pc.audit(h, y, notions="sub-2", draws=99, groups={"@spread": "@spread"}),
        "list": pc.audit(h, y, notions="sub-2", draws=99, groups=["@spread"]),
        "values": pc.audit(h, y, notions="sub-2", draws=99, groups={"@spread": values}),
    }
    first = [(r.group, r.value, r.p_adjusted) for r in by["values"].results]
    assert len(first) == 5
    for found in by.values():
        assert [(r.group, r.value, r.p_adjusted) for r in found.results] == first


def test_a_callable_sees_one_forecast_for_each_record():
    h = pc.PlackettLuce(np.random.default_rng(0).normal(size=(40, 2)))
    y = pc.Outcomes.from_pairs([(i, *pair) for i in range(40) for pair in ((0, 1), (1, 0))], n_items=2)
    seen = []
    pc.audit(
        h, y, notions="sub-2", draws=99, groups={"f": lambda h, y: (seen.append((len(h), len(y))), y.instance % 2)[1]}
    )
    assert seen == [(80, 80)]
    with pytest.raises(pc.DataError, match="one value for each of 80"):
        pc.audit(h, y, notions="sub-2", groups={"f": lambda h, y: np.zeros(40)})
