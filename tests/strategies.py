"""Hypothesis strategies that all tests share, named after what they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefcal.views import View

#: Seeds for numpy generators.
seeds = st.integers(0, 2**32 - 1)

#: Mallows dispersions, with the ends and their neighbourhoods.
dispersions = st.one_of(
    st.sampled_from([0.0, 1e-300, 1e-12, 0.5, 1.0 - 1e-12, 1.0]), st.floats(0.0, 1.0, allow_subnormal=False)
)


def score_rows(n: int, m: int, *, largest: float = 10.0) -> st.SearchStrategy[np.ndarray]:
    """(n, m) finite scores up to ``largest`` in size; equal scores are common."""
    values = st.one_of(st.floats(-largest, largest, allow_subnormal=False), st.sampled_from([-1.0, 0.0, 1.0]))
    return hnp.arrays(np.float64, (n, m), elements=values)


@st.composite
def scores(
    draw: st.DrawFn, *, max_instances: int = 4, min_items: int = 2, max_items: int = 5, largest: float = 10.0
) -> np.ndarray:
    """(n, m) finite scores."""
    n, m = draw(st.integers(1, max_instances)), draw(st.integers(min_items, max_items))
    return draw(score_rows(n, m, largest=largest))


@st.composite
def scores_with_holes(draw: st.DrawFn, *, max_instances: int = 4, max_items: int = 5) -> np.ndarray:
    """(n, m) scores where NaN marks items that an instance lacks; every instance keeps one item at least."""
    array = draw(scores(max_instances=max_instances, max_items=max_items))
    holes = draw(hnp.arrays(np.bool_, array.shape))
    holes[
        np.arange(len(array)), draw(hnp.arrays(np.intp, len(array), elements=st.integers(0, array.shape[1] - 1)))
    ] = 0
    return np.where(holes, np.nan, array)


def ragged_scores(*, max_instances: int = 5, max_items: int = 5) -> st.SearchStrategy[list[list[float]]]:
    """Score lists of unequal length, without labels."""
    return st.lists(
        st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=max_items),
        min_size=1,
        max_size=max_instances,
    )


@st.composite
def orders(draw: st.DrawFn, n: int, m: int) -> np.ndarray:
    """(n, m) orderings, best..worst, 0-based."""
    return np.array([draw(st.permutations(range(m))) for _ in range(n)], dtype=np.intp).reshape(n, m)


@st.composite
def ranks(draw: st.DrawFn, n: int, m: int) -> np.ndarray:
    """(n, m) ranks without ties, 1 = best."""
    return draw(orders(n, m)) + 1


@st.composite
def pair_probs(draw: st.DrawFn, n: int, m: int, *, low: float = 0.01) -> np.ndarray:
    """(n, m, m) complementary pairwise probabilities in [low, 1 - low]."""
    upper = draw(hnp.arrays(np.float64, (n, m, m), elements=st.floats(low, 1.0 - low)))
    upper = np.triu(upper, 1)
    return upper + np.tril(1.0 - upper.transpose(0, 2, 1), -1) + 0.5 * np.eye(m)


@st.composite
def distribution_rows(draw: st.DrawFn, n: int, r: int) -> np.ndarray:
    """(n, r) probabilities that sum to 1; exact zeros are common."""
    weights = draw(hnp.arrays(np.float64, (n, r), elements=st.floats(0.0, 1.0, allow_subnormal=False)))
    weights = np.where(weights < 1e-6, 0.0, weights)
    weights[np.arange(n), draw(hnp.arrays(np.intp, n, elements=st.integers(0, r - 1)))] += 0.5
    return weights / weights.sum(axis=1, keepdims=True)


def all_views(m: int) -> list[View]:
    """Every view that has a meaning for ``m`` items."""
    views = [View("full"), View("position")]
    views += [View("sub", k) for k in range(2, m + 1)]
    views += [View("top", k) for k in range(1, m + 1)]
    views += [View("topset", k) for k in range(1, m)]
    return views


@st.composite
def items_and_view(draw: st.DrawFn, *, max_items: int = 5) -> tuple[int, Any]:
    """A number of items and a view of them."""
    m = draw(st.integers(2, max_items))
    return m, draw(st.sampled_from(all_views(m)))


@st.composite
def events_in_few_cells(draw: st.DrawFn, *, max_events: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) forecasts, outcomes and weights of events that crowd into a few cells of width 1/5040, ends included."""
    cells = draw(
        st.lists(st.sampled_from([0, 1, 2, 3, 1200, 2519, 2520, 2521, 4000, 5038, 5039]), min_size=1, max_size=5)
    )
    n = draw(st.integers(2, max_events))
    which = np.array(draw(st.lists(st.sampled_from(cells), min_size=n, max_size=n)), dtype=np.float64)
    inside = np.array(draw(st.lists(st.sampled_from([0.01, 0.25, 0.5, 0.6, 0.99]), min_size=n, max_size=n)))
    y = np.array(draw(st.lists(st.sampled_from([0.0, 1.0, 1.0, 0.0, 0.5]), min_size=n, max_size=n)))
    w = np.array(draw(st.lists(st.sampled_from([1.0, 1.0, 0.1, 7.0]), min_size=n, max_size=n)))
    return (which + inside) / 5040, y, w
