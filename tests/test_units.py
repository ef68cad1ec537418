"""Sums by instance are those of the pass."""

from __future__ import annotations

import numpy as np
import pytest

import prefcal as pc
from grouped_samples import sample
from prefcal.estimators.binned import binned_error
from prefcal.estimators.events import family_for
from prefcal.estimators.inputs import groupings
from prefcal.estimators.scalar import fill_tables
from prefcal.estimators.units import debiased_error, unit_sums


@pytest.mark.parametrize("notion", ["sub-2", "top-1:confidence", "sub-3"])
@pytest.mark.parametrize("items", ["exchangeable", "labelled"])
@pytest.mark.parametrize("clustered", [False, True])
def test_tables_of_unit_sums_are_the_tables_of_the_pass(notion, items, clustered):
    h, y = sample(2, 120, m=3)
    rng = np.random.default_rng(3)
    weights, units = rng.choice([0.0, 1.0, 2.0], 120), rng.integers(0, 50, 120) if clustered else None
    units = None if units is None else np.unique(units, return_inverse=True)[1]
    by = groupings({"f": rng.choice(2, 120)}, y)
    family = family_for(pc.Notion.parse(notion), items, h, ties_equal=False)
    common = {"bins": 10, "weights": weights, "per_instance": False}
    (tables,) = fill_tables(h, y, [family], groupings=by, clusters=units, seed=0, **common)
    sums = unit_sums(h, y, family, units=units, **common)
    for level, expected in enumerate(tables.groups["f"]):
        found = sums.table(np.flatnonzero(by[0].codes == level), np.random.default_rng(0))
        assert found.n_instances == expected.n_instances
        assert found.moments[:5] == pytest.approx(expected.moments[:5], abs=1e-9)
        assert found.covariance == pytest.approx(expected.covariance, abs=1e-9)
        errors = [binned_error(t, np.random.default_rng(1)) for t in (found, expected)]
        assert errors[0].debiased == pytest.approx(errors[1].debiased)
        assert errors[0].interval == pytest.approx(errors[1].interval, abs=1e-6)


def test_the_standard_error_is_that_of_repetitions():
    """Of data sets drawn again, at an error well above zero; the mean standard error within 25 %."""
    errors = []
    for seed in range(80):
        h, y = sample([4, seed], 300, factor=2.0)
        family = family_for(pc.Notion.parse("sub-2"), "exchangeable", h, ties_equal=False)
        sums = unit_sums(h, y, family, weights=np.ones(300), per_instance=False, units=None, bins=15)
        errors.append(debiased_error(sums.table(np.arange(300), np.random.default_rng(0)), np.random.default_rng(1)))
    found, se = np.array(errors).T
    assert se.mean() == pytest.approx(found.std(), rel=0.25)


def test_too_many_numbers_are_refused_before_they_are_made():
    h = pc.PlackettLuce(np.zeros((40_000, 7)))
    y = pc.Outcomes.from_ranks(np.tile(np.arange(1, 8), (40_000, 1)))
    with pytest.raises(pc.UsageError, match="too many to keep"):
        pc.worst_group(h, y, {"f": np.arange(40_000) % 2}, items="labelled")
