"""Numbers, seeds and names that are none are bad usage everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import prefcal as pc
from fabricated_forecasts import forecasts, noise, some_pairs


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None])
def test_a_seed_is_a_whole_number_everywhere(seed):
    h, y = forecasts("PlackettLuce"), noise()
    for ask in (
        lambda: pc.recalibrate(h, y, seed=seed), lambda: pc.mend(h, y, seed=seed),
        lambda: pc.conformal_sets(h, y, seed=seed), lambda: pc.compare({"a": h, "b": h}, y, seed=seed),
        lambda: pc.decisions.decisions(h, y, seed=seed),
    ):  # fmt: skip
        with pytest.raises(pc.UsageError, match="seed must be a whole number"):
            ask()


NO_NUMBERS = ["x", "", None, [0.3], {}, float("nan"), object(), np.array([0.1, 0.2]), b"1"]


NO_SEEDS = ["x", None, [1], -1, 2.5, float("nan"), True, object()]


def one_number() -> dict:
    """Every call with a number, or a list of one, as its argument."""
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    d = pc.decisions
    return {
        "conformal level": lambda v: pc.conformal_sets(h, y, level=v),
        "promises": lambda v: d.abstention(h, y, promises=[v], draws=9),
        "costs": lambda v: d.routing(h, y, costs=[v]),
        "thresholds": lambda v: d.filtering(h, y, thresholds=[v]),
        "fractions": lambda v: d.filtering(h, y, fractions=[v]),
        "sizes": lambda v: d.best_of_n(h, y, sizes=[v]),
        "beta": lambda v: d.kl_weight(h, y, beta=v),
        "tolerance": lambda v: pc.audit(h, y, tolerance=v),
        "tolerance of mend": lambda v: pc.mend(h, y, "temperature", tolerance=v),
        "alpha": lambda v: pc.power(alpha=v),
        "target": lambda v: pc.power(target=v),
        "spread": lambda v: pc.power(spread=v),
        "temperature": lambda v: pc.power(temperature="none" if v is None else v),
        "ece": lambda v: pc.power(ece="none" if v is None else v),
    }


@pytest.mark.parametrize("what", one_number())
def test_what_is_no_number_is_bad_usage(what):
    for value in NO_NUMBERS:
        with pytest.raises(pc.UsageError):
            one_number()[what](value)


@pytest.mark.parametrize("value", ["x", "", None, 0.5, float("nan"), True, object(), [["x"]], [None]])
@pytest.mark.parametrize("name", ["promises", "costs", "thresholds", "fractions"])
def test_what_is_no_list_of_numbers_is_bad_usage(name, value):
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(30, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    with pytest.raises(pc.UsageError, match=name):
        pc.decisions.decisions(h, y, draws=9, **{name: value})


@pytest.mark.parametrize("value", NO_SEEDS)
def test_what_is_no_seed_is_bad_usage(value):
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    calls = (
        pc.audit, pc.conformal_sets, pc.decisions.decisions, pc.decisions.abstention, pc.decisions.routing,
        pc.hpd_coverage, pc.rank_histogram, lambda h, y, seed: pc.mend(h, y, "temperature", seed=seed),
        lambda h, y, seed: pc.worst_group(h, y, {"a": np.arange(60) % 2}, seed=seed),
        lambda h, y, seed: pc.compare({"a": h, "b": h}, y, seed=seed),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(pc.UsageError, match="seed must be a whole number"):
            call(h, y, seed=value)


@pytest.mark.parametrize("value", [None, 3, ["top-1"], True, "x"])
def test_names_that_are_none_are_bad_usage(value):
    h, y = some_pairs(3)
    for more in ({"event": value}, {"score": value}, {"method": value}, {"method": "cross", "recalibration": value}):
        with pytest.raises(pc.UsageError, match="unknown"):
            pc.conformal_sets(h, y, **more)
    with pytest.raises(pc.UsageError, match="unknown view"):
        pc.View.parse(value)


def test_numbers_of_numpy_are_numbers():
    rng = np.random.default_rng(0)
    h = pc.PlackettLuce(rng.normal(size=(60, 3)))
    y = pc.Outcomes.from_orders(h.sample(1, rng)[:, 0])
    assert pc.conformal_sets(h, y, level=np.float32(0.75)).level == 0.75
    assert pc.decisions.filtering(h, y, thresholds=np.array([0.5, 0.75])).at(0.75)
    assert len(pc.decisions.best_of_n(h, y, sizes=np.array([2])).sizes) == 1
