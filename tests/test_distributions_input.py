"""What distributions accept and refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import prefcal as pc
from distribution_samples import build
from prefcal.distributions.mixture import Mixture
from prefcal.errors import DataError, UsageError

ROWS = [[0.5, 1.0, -1.0], [2.0, 0.0, 0.25]]


@pytest.mark.parametrize(
    "given_scores",
    [
        ROWS,
        np.array(ROWS, dtype=np.float32),
        pd.DataFrame(ROWS),
        pl.DataFrame(ROWS, orient="row"),
        pl.Series(ROWS),
        pd.Series(ROWS),
        pa.array(ROWS),
        pa.table({"a": [0.5, 2.0], "b": [1.0, 0.0], "c": [-1.0, 0.25]}),
    ],
    ids=["lists", "float32", "pandas", "polars", "polars-lists", "pandas-lists", "arrow-lists", "arrow-table"],
)
def test_scores_come_in_any_container(given_scores: Any) -> None:
    h = pc.PlackettLuce(given_scores)
    np.testing.assert_array_equal(h.scores.dense(), ROWS)


def test_other_inputs_come_in_any_container() -> None:
    rank = [[2, 1, 3], [1, 2, 3]]
    expected = pc.Mallows(rank, [0.5, 0.2]).marginal("full").probs
    for data in (pd.DataFrame(rank), pl.DataFrame(rank, orient="row"), np.array(rank, dtype=np.int32)):
        np.testing.assert_array_equal(pc.Mallows(data, pd.Series([0.5, 0.2])).marginal("full").probs, expected)
    probs = pd.DataFrame([[0.5, 0.5]])
    np.testing.assert_array_equal(pc.Categorical(pd.DataFrame(rank) - 1, probs).mode(), [[0, 1, 2]])


NAN, INF = math.nan, math.inf


HALF = [[0.5, 0.5], [0.5, 0.5]]


CYCLE = [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]


BAD_DATA: dict[str, tuple[Callable[[], Any], str]] = {
    "pl-infinite": (lambda: pc.PlackettLuce([[0.0, 1.0], [0.0, INF]]), r"instance 1.*inf is not a finite"),
    "pl-minus-infinite": (lambda: pc.PlackettLuce([[-INF, 1.0]]), "instance 0.*-inf"),
    "pl-empty-instance": (lambda: pc.PlackettLuce([[1.0], []]), "instance 1.*no item"),
    "pl-all-holes": (lambda: pc.PlackettLuce([[1.0, 2.0], [NAN, NAN]]), "instance 1.*no item"),
    "pl-no-instance": (lambda: pc.PlackettLuce(np.empty((0, 3))), "empty"),
    "pl-flat": (lambda: pc.PlackettLuce([1.0, 2.0]), "one row of numbers"),
    "pl-text": (lambda: pc.PlackettLuce([["a", "b"]]), "must hold numbers.*|instance 0"),
    "pl-nan-in-ragged": (lambda: pc.PlackettLuce([[1.0, NAN], [1.0]]), "NaN"),
    "mallows-zero-based": (
        lambda: pc.Mallows([[1, 2, 3], [0, 1, 2]], 0.5),
        r"instance 1.*permutation of the ranks 1\.\.3",
    ),
    "mallows-tie": (lambda: pc.Mallows([[1, 1, 3]], 0.5), "no ties"),
    "mallows-nan": (lambda: pc.Mallows([[1, NAN, 3]], 0.5), "permutation"),
    "mallows-phi": (lambda: pc.Mallows([[1, 2]], [1.5]), "1.5 is not in"),
    "mallows-phi-nan": (lambda: pc.Mallows([[1, 2]], NAN), "nan is not in"),
    "mallows-lengths": (lambda: pc.Mallows([[1, 2], [2, 1]], [0.1, 0.2, 0.3]), "2 centers and 3 dispersions"),
    "mallows-ragged": (lambda: pc.Mallows([[1, 2], [1]], 0.5), "equal length"),
    "categorical-truncated": (
        lambda: pc.Categorical([[0, 1], [1, 0]], [[0.5, 0.5], [0.5, 0.4]]),
        "instance 1.*sum to 0.9.*truncated",
    ),
    "categorical-negative": (lambda: pc.Categorical([[0, 1], [1, 0]], [[1.5, -0.5]]), "-0.5 of order 1"),
    "categorical-nan": (lambda: pc.Categorical([[0, 1], [1, 0]], [[NAN, 1.0]]), "nan of order 0"),
    "categorical-partial": (lambda: pc.Categorical([[0, 1], [2, 0]], [[0.5, 0.5]]), "order 1.*partial rankings"),
    "categorical-one-based": (lambda: pc.Categorical([[1, 2], [2, 1]], [[0.5, 0.5]]), "0-based"),
    "categorical-columns": (lambda: pc.Categorical([[0, 1], [1, 0]], [[1.0]]), "one column for each of the 2 orders"),
    "pairwise-shape": (lambda: pc.Pairwise(np.zeros((2, 3, 2))), r"\(n, m, m\)"),
    "pairwise-flat": (lambda: pc.Pairwise(HALF), "3 dimensions"),
    "pairwise-range": (lambda: pc.Pairwise([[[0.5, 1.2], [-0.2, 0.5]]]), r"P\(0 before 1\) = 1.2"),
    "pairwise-sum": (lambda: pc.Pairwise([HALF, [[0, 0.6], [0.6, 0]]]), "instance 1.*do not sum to 1"),
    "bs-not-stated": (lambda: pc.BabingtonSmith([[[0, NAN], [NAN, 0]]]), "not stated"),
    "bs-cycle": (lambda: pc.BabingtonSmith([CYCLE]), "cycle"),
    "samples-shape": (lambda: pc.Samples([[0, 1], [1, 0]]), "3 dimensions"),
    "samples-partial": (lambda: pc.Samples([[[0, 1], [0, 0]]]), "instance 0.*draw 1"),
    "samples-empty": (lambda: pc.Samples(np.empty((2, 0, 3))), "must hold"),
    "mixture-weights": (lambda: Mixture([build("mallows")], [0.9]), "sum to 1"),
    "mixture-negative": (lambda: Mixture([build("mallows")] * 2, [1.5, -0.5]), "numbers >= 0"),
    "mixture-shape": (lambda: Mixture([build("mallows")], [0.5, 0.5]), "weights must have shape"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data(name: str) -> None:
    call, message = BAD_DATA[name]
    with pytest.raises(DataError, match=message):
        call()


RAGGED = pc.PlackettLuce([[1.0, 2.0, 0.0], [1.0, 2.0]])


BAD_USE: dict[str, tuple[Callable[[], Any], str]] = {
    "view-name": (lambda: build("mallows").marginal("sub2"), "did you mean"),
    "k-too-large": (lambda: build("mallows").marginal("sub-5"), "at most 4"),
    "one-item": (lambda: pc.PlackettLuce([[1.0]]).marginal("position"), "at least 2 items"),
    "too-many-numbers": (lambda: pc.PlackettLuce(np.zeros((2, 13))).marginal("full"), "more than"),
    "holes-full": (lambda: RAGGED.marginal("full"), "instance 1 has 2 of 3 items.*blocks"),
    "holes-top": (lambda: RAGGED.marginal("top-1"), "blocks"),
    "holes-topset": (lambda: RAGGED.marginal("topset-2"), "blocks"),
    "order-twice": (lambda: build("mallows").log_prob([0, 1, 1, 2]), "row 0"),
    "order-range": (lambda: build("categorical").log_prob([0, 1, 2, 4]), "row 0"),
    "order-length": (lambda: build("samples").log_prob([0, 1, 2]), "shape"),
    "order-rows": (lambda: build("samples").log_prob([[0, 1, 2, 3]] * 2), "2 rows for 5"),
    "order-float": (lambda: build("samples").log_prob([0.0, 1.0, 2.0, 3.0]), "whole numbers"),
    "order-padded": (lambda: build("mallows").log_prob([0, 1, 2, -1]), "row 0"),
    "order-of-absent-item": (lambda: RAGGED.log_prob([[0, 1, 2], [0, 2, -1]]), r"row 1.*items \[0, 1\]"),
    "order-not-padded": (lambda: RAGGED.log_prob([0, 1, 2]), "row 1"),
    "pair-same": (lambda: build("mallows").pair_log_odds([0], [0]), "two different items"),
    "pair-range": (lambda: build("pairwise").pair_log_odds([0], [4]), "two different items"),
    "pair-lengths": (lambda: build("samples").pair_log_odds([0, 1], [2]), "equally long"),
    "size-zero": (lambda: build("mallows").sample(0, 0), "size"),
    "no-rng": (lambda: build("mallows").sample(1, None), "rng"),  # type: ignore[arg-type]
    "bs-too-large": (lambda: pc.BabingtonSmith(np.full((1, 25, 25), 0.5)), "at most 18 items, got 25.*3.12 GiB"),
    "mixture-empty": (lambda: Mixture([], []), "at least one"),
    "mixture-pairwise": (lambda: Mixture([build("pairwise")], [1.0]), "no full rankings"),
    "mixture-lengths": (lambda: Mixture([build("mallows"), build("mallows")[:2]], [0.5, 0.5]), "component 1"),
    "mixture-holes": (lambda: Mixture([RAGGED], [1.0]), "lack items"),
    "mixture-type": (lambda: Mixture([build("mallows"), 3], [0.5, 0.5]), "not a distribution"),  # type: ignore[list-item]
    "mixture-mode": (lambda: Mixture([pc.Mallows(np.arange(1, 15), 0.5)], [1.0]).mode(), "14 items"),
}


@pytest.mark.parametrize("name", BAD_USE)
def test_bad_use(name: str) -> None:
    call, message = BAD_USE[name]
    with pytest.raises(UsageError, match=message):
        call()


def test_pairs_of_at_most_two_items():
    """sub-2 of two items is the full ranking, which an instance of one item does not have."""
    h = pc.PlackettLuce([[1.0, 0.0], [2.0]])
    probs = h.marginal("sub-2").probs
    assert probs[0, 0] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])
    assert np.isnan(probs[1]).all()
