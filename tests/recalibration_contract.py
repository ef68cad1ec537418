"""What every recalibration map promises, as functions that the maps' tests call."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError
from prefcal.recalibration.base import Data, Recalibrator
from prefcal.recalibration.persistence import load_recalibrator, rebuild_method

BAD = [
    None,
    "x",
    "",
    True,
    [],
    {},
    [[]],
    -1,
    -1.0,
    0,
    0.5,
    1e308,
    -1e308,
    1e-320,
    float("nan"),
    float("inf"),
    10**400,
]


def data_of(h: Distribution, y: pc.Outcomes, **parts) -> Data:
    """Material of a fit with equal weights and independent records."""
    return Data(h, y, np.ones(len(y)), np.arange(len(y)), **parts)


def weighted_and_repeated(cls: type[Recalibrator], data: Data) -> tuple[Recalibrator, Recalibrator]:
    """The map of records with whole-number weights, and of each as often as it weighs, copies being one unit."""
    n = len(data)
    weights = np.random.default_rng(0).integers(1, 3, n)
    rows = np.repeat(np.arange(n), weights)
    once = dataclasses.replace(data, weights=weights.astype(float), units=np.arange(n))
    twice = dataclasses.replace(data.take(rows), weights=np.ones(len(rows)), units=rows)
    return cls.fit(once), cls.fit(twice)


def check_saved(fit: Recalibrator, folder: Path) -> None:
    """Plain JSON there and back, exactly; and any damage is a DataError or an equally usable map."""
    values = json.loads(json.dumps(fit.parameters(), allow_nan=False))
    again = type(fit).from_parameters(values)
    assert again == fit
    assert again.describe() == fit.describe()
    assert again.warnings == fit.warnings
    assert again.estimates == fit.estimates
    fit.save(folder / "map.json")
    loaded = load_recalibrator(folder / "map.json")
    assert loaded == fit
    assert loaded.document() == fit.document()
    outcomes = [_usable(fit.method, damaged) for damaged in _damaged(values)]
    assert not all(outcomes)
    for name in (name for name in values if values[name] is not None):
        with pytest.raises(DataError):
            rebuild_method(fit.method, {k: v for k, v in values.items() if k != name})


def _usable(method: str, values: dict) -> bool:
    """Whether a damaged map still loads; what it says must then be sayable."""
    try:
        odd = rebuild_method(method, values)
    except DataError:
        return False
    assert odd.describe()
    assert isinstance(odd.warnings, tuple)
    return isinstance(odd.estimates, dict)


def _damaged(values: dict):
    for name, value in values.items():
        for bad in BAD:
            yield values | {name: bad}
        if isinstance(value, list) and value:
            yield values | {name: value[:-1]}
            yield values | {name: [*value, value[-1]]}
            for bad in BAD:
                yield values | {name: [bad, *value[1:]]}
                yield values | {name: [*value[:-1], bad]}
        if isinstance(value, dict):
            for inner in value:
                for bad in BAD:
                    changed = copy.deepcopy(value)
                    changed[inner] = bad
                    yield values | {name: changed}
    yield values | {"surplus": 1}


def check_marginals(h: Distribution) -> None:
    """Every marginal of a distribution of all m items equals the sum over all m! orders."""
    m = h.n_items
    orders = np.array(list(itertools.permutations(range(m))))
    with np.errstate(divide="ignore"):
        p = np.stack([np.exp(h.log_prob(o)) for o in orders], axis=1)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)
    place = np.argsort(orders, axis=1)
    first, second = np.triu_indices(m, 1)
    before = p @ (place[:, first] < place[:, second])
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(1 / (1 + np.exp(-h.pair_log_odds(first, second))), before, atol=1e-9)
    top = np.stack([p[:, orders[:, 0] == j].sum(axis=1) for j in range(m)], axis=1)
    np.testing.assert_allclose(np.exp(h.top_log_probs()), top, atol=1e-9)
    for name in ("full", "sub-2", "top-1", "topset-1", "position", *(["sub-3", "top-2"] if m > 2 else [])):
        view = pc.View.parse(name)
        marginal = h.marginal(name)
        index = view.resolve(m).classify(orders[None])[0]  # (orders, members)
        for member in range(marginal.probs.shape[1]):
            for outcome in range(marginal.probs.shape[2]):
                np.testing.assert_allclose(
                    marginal.probs[:, member, outcome], p[:, index[:, member] == outcome].sum(axis=1), atol=1e-9
                )


def check_order_kept(before: Distribution, after: Distribution) -> None:
    """No pair changes sides, ties stay ties and others stay apart; the most probable ranking is the same."""
    first, second = np.triu_indices(before.n_items, 1)
    a, b = before.pair_log_odds(first, second), after.pair_log_odds(first, second)
    np.testing.assert_array_equal(np.sign(a), np.sign(b))
    np.testing.assert_array_equal(before.mode(), after.mode())
