"""Outcomes: every constructor gives the weak order that brute force gives, and refuses what is none."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefcal import DataError, Outcomes, UsageError
from prefcal.data.ragged import Ragged


def weak_orders(m: int) -> list[tuple[int, ...]]:
    """All weak orders of m items as dense ranks: every surjection onto 1..k."""
    return [r for r in itertools.product(range(1, m + 1), repeat=m) if set(r) == set(range(1, max(r) + 1))]


def rank_systems(dense: tuple[int, ...]) -> dict[str, list[float]]:
    """The usual ways to write the weak order, each from its definition."""
    below = [sum(o < r for o in dense) for r in dense]
    tied = [sum(o == r for o in dense) for r in dense]
    return {
        "dense": [float(r) for r in dense],
        "standard": [b + 1.0 for b in below],
        "modified": [float(b + t) for b, t in zip(below, tied)],
        "mid": [b + (t + 1) / 2 for b, t in zip(below, tied)],
    }


def test_number_of_weak_orders():
    assert [len(weak_orders(m)) for m in range(1, 6)] == [1, 3, 13, 75, 541]  # Fubini numbers


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("system", ["dense", "standard", "modified", "mid"])
def test_every_weak_order_in_every_rank_system(m, system):
    orders = weak_orders(m)
    y = Outcomes.from_ranks(np.array([rank_systems(o)[system] for o in orders]))
    assert y.dense().tolist() == [list(map(float, o)) for o in orders]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_exactly_the_rank_systems_are_accepted(m):
    allowed = {tuple(r) for o in weak_orders(m) for r in rank_systems(o).values()}
    for ranks in itertools.product(np.arange(1, m + 2, 0.5).tolist(), repeat=m):
        if ranks in allowed:
            Outcomes.from_ranks([ranks])
        else:
            with pytest.raises(DataError, match="instance 0"):
                Outcomes.from_ranks([ranks])


@pytest.mark.parametrize("m", [2, 3, 4])
def test_ratings_give_the_reversed_weak_order(m):
    orders = weak_orders(m)
    y = Outcomes.from_ratings([[-1.5 * r + 7 for r in o] for o in orders], ties="equal")
    assert y.dense().tolist() == [list(map(float, o)) for o in orders]
    assert y.ties == "equal"


@pytest.mark.parametrize("m", [2, 3, 4])
def test_every_ordering_and_every_prefix(m):
    for k in range(1, m + 1):
        prefixes = list(itertools.permutations(range(m), k))
        last = Outcomes.from_orders(prefixes, n_items=m).dense()
        unknown = Outcomes.from_orders(prefixes, n_items=m, rest="unknown").dense()
        for row, (bottom, nothing) in zip(prefixes, zip(last, unknown)):
            for item in range(m):
                place = row.index(item) + 1 if item in row else None
                assert bottom[item] == (place or k + 1)
                assert nothing[item] == place if place else np.isnan(nothing[item])


@pytest.mark.parametrize("m", [2, 3, 4])
def test_every_set_of_best_items(m):
    sets = [s for k in range(1, m + 1) for s in itertools.combinations(range(m), k)]
    expected = [[1.0 if a in s or len(s) == m else 2.0 for a in range(m)] for s in sets]
    for form in (sets, [list(s) for s in sets], [set(s) for s in sets], [np.array(s) for s in sets]):
        assert Outcomes.from_best(form, n_items=m).dense().tolist() == expected


@st.composite
def ragged_ratings(draw):
    row = st.lists(st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.just(np.nan)), min_size=1, max_size=5)
    rows = draw(st.lists(row, min_size=1, max_size=6))
    return [r if not all(np.isnan(r)) else [1.0, *r[1:]] for r in rows]


@given(ragged_ratings())
def test_partial_and_ragged_ratings_by_brute_force(rows):
    y = Outcomes.from_ratings(Ragged.from_rows(rows))
    for i, row in enumerate(rows):
        got = y.ranks.values[y.ranks.offsets[i] : y.ranks.offsets[i + 1]]
        levels = sorted({v for v in row if not np.isnan(v)}, reverse=True)
        expected = [np.nan if np.isnan(v) else levels.index(v) + 1.0 for v in row]
        assert np.array_equal(got, expected, equal_nan=True)


@given(ragged_ratings(), st.randoms(use_true_random=False))
def test_ratings_follow_the_rows_wherever_they_go(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    direct = Outcomes.from_ratings(Ragged.from_rows([rows[i] for i in order]))
    moved = Outcomes.from_ratings(Ragged.from_rows(rows))[np.array(order)]
    assert np.array_equal(direct.ranks.values, moved.ranks.values, equal_nan=True)
    assert moved.instance.tolist() == list(range(len(rows)))


@given(st.integers(2, 5).flatmap(lambda m: st.tuples(st.sampled_from(weak_orders(m)), st.permutations(range(m)))))
def test_relabelling_items_relabels_ranks(case):
    ranks, permutation = np.array(case[0], dtype=float), list(case[1])
    direct = Outcomes.from_ranks([ranks]).dense()[0][permutation]
    assert np.array_equal(Outcomes.from_ranks([ranks[permutation]]).dense()[0], direct)


@given(ragged_ratings())
def test_increasing_maps_do_not_change_ratings(rows):
    flat = Ragged.from_rows(rows)
    a, b = Outcomes.from_ratings(flat), Outcomes.from_ratings(flat.with_values(np.exp(flat.values) - 100))
    assert np.array_equal(a.ranks.values, b.ranks.values, equal_nan=True)


@given(ragged_ratings())
def test_ranks_of_outcomes_are_outcomes_again(rows):
    once = Outcomes.from_ratings(Ragged.from_rows(rows))
    again = Outcomes.from_ranks(once.ranks)
    assert np.array_equal(once.ranks.values, again.ranks.values, equal_nan=True)


def test_best_with_different_numbers_of_items():
    y = Outcomes.from_best([2, [0, 1], 0], n_items=[3, 4, 2])
    assert y.sizes.tolist() == [3, 4, 2]
    assert y.ranks.values.tolist() == [2, 2, 1, 1, 1, 2, 2, 1, 2]
    assert y.n_items == 4


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_best_index_agrees_in_every_integer_container(best):
    expected = [[1.0 if a == b else 2.0 for a in range(4)] for b in best]
    forms = [best, np.array(best, dtype=np.int8), np.array(best)[:, None], [[b] for b in best], pd.Series(best)]
    forms += [pl.Series(best), pa.array(best), pd.Series(best, dtype=object)]
    for form in forms:
        assert Outcomes.from_best(form, n_items=4).dense().tolist() == expected


def test_pairs_are_one_record_each():
    y = Outcomes.from_pairs([[0, 2, 1], [0, 1, 0], [5, 0, 2]], n_items=3)
    assert y.instance.tolist() == [0, 0, 5]
    assert y[1:].instance.tolist() == [0, 5]
    assert np.array_equal(y.dense(), [[np.nan, 2, 1], [2, 1, np.nan], [1, np.nan, 2]], equal_nan=True)


def test_unranked_items_last_or_unknown():
    ranks = [[1, None, None], [2, 1, None]]
    assert np.array_equal(Outcomes.from_ranks(ranks).dense(), [[1, np.nan, np.nan], [2, 1, np.nan]], equal_nan=True)
    assert Outcomes.from_ranks(ranks, unranked="last").dense().tolist() == [[1, 2, 2], [2, 1, 3]]


def test_padding_and_order_of_short_rows():
    y = Outcomes.from_orders([[1, -1, -1], [0, 2, 1]], n_items=3)
    assert y.dense().tolist() == [[2, 1, 2], [1, 3, 2]]


RANKS = [[1.0, 2.0, 2.0], [3.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(np.array(RANKS), id="numpy"),
        pytest.param(np.array(RANKS, dtype=np.int8), id="integers"),
        pytest.param(pd.DataFrame(RANKS), id="pandas"),
        pytest.param(pl.DataFrame(RANKS, orient="row"), id="polars"),
        pytest.param(pl.Series(RANKS), id="polars lists"),
        pytest.param(pa.array(RANKS), id="arrow lists"),
        pytest.param(pa.table(dict(zip("abc", zip(*RANKS)))), id="arrow table"),
    ],
)
def test_frames_and_columns(data):
    assert Outcomes.from_ranks(data).dense().tolist() == RANKS


@pytest.mark.parametrize(
    ("build", "where"),
    [
        pytest.param(lambda: Outcomes.from_ranks([[1, 2], [0, 1]]), "instance 1", id="rank 0"),
        pytest.param(lambda: Outcomes.from_ranks([[1, 2], [1.2, 2]]), "instance 1", id="rank 1.2"),
        pytest.param(lambda: Outcomes.from_ranks([[1, np.inf]]), "instance 0", id="infinite rank"),
        pytest.param(lambda: Outcomes.from_ranks([[1, 2, 4]]), "gap", id="gap"),
        pytest.param(lambda: Outcomes.from_ranks([[2, 3, 3]]), "gap", id="no first"),
        pytest.param(lambda: Outcomes.from_ranks([[1, 2], [None, None]]), "instance 1", id="nothing ranked"),
        pytest.param(lambda: Outcomes.from_ranks([["1", "2"]]), "numbers", id="text"),
        pytest.param(lambda: Outcomes.from_orders([[0, 1], [1, 1]]), "instance 1", id="item twice"),
        pytest.param(lambda: Outcomes.from_orders([[0, 3]], n_items=3), "outside 0..2", id="item outside"),
        pytest.param(lambda: Outcomes.from_orders([[0, -2]], n_items=3), "outside", id="negative item"),
        pytest.param(lambda: Outcomes.from_orders([[0, 1], [-1, -1]]), "empty", id="empty ordering"),
        pytest.param(lambda: Outcomes.from_orders([[0.5, 1]]), "whole", id="half an item"),
        pytest.param(lambda: Outcomes.from_best([0, 3], n_items=3), "instance 1", id="best outside"),
        pytest.param(lambda: Outcomes.from_best([-1], n_items=3), r"0\.\.2", id="best negative"),
        pytest.param(lambda: Outcomes.from_best([[0], []], n_items=3), "instance 1", id="empty set"),
        pytest.param(lambda: Outcomes.from_best([[0, 0]], n_items=3), "twice", id="index twice"),
        pytest.param(lambda: Outcomes.from_best([0.5], n_items=3), "index", id="half an index"),
        pytest.param(lambda: Outcomes.from_best([True], n_items=3), "index", id="a flag"),
        pytest.param(lambda: Outcomes.from_best(["a"], n_items=3), "index", id="a letter"),
        pytest.param(lambda: Outcomes.from_best("012", n_items=3), "index", id="a word"),
        pytest.param(lambda: Outcomes.from_best([0, 1], n_items=[3]), "2 instances", id="sizes of another length"),
        pytest.param(lambda: Outcomes.from_best([0], n_items=2.5), "whole", id="half a size"),
        pytest.param(lambda: Outcomes.from_pairs([[0, 1, 1]], n_items=3), "pair 0", id="item against itself"),
        pytest.param(lambda: Outcomes.from_pairs([[0, 1, 3]], n_items=3), "pair 0", id="pair outside"),
        pytest.param(lambda: Outcomes.from_pairs([[0, 1]], n_items=3), "three", id="two columns"),
        pytest.param(lambda: Outcomes.from_ratings([[1, np.inf]]), "finite", id="infinite rating"),
        pytest.param(lambda: Outcomes.from_ratings([[1, 2], [None, None]]), "instance 1", id="nothing rated"),
    ],
)
def test_bad_outcomes_are_refused_with_their_place(build, where):
    with pytest.raises(DataError, match=where):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Outcomes.from_ranks([[1, 2]], ties="maybe"),
        lambda: Outcomes.from_ranks([[1, 2]], unranked="first"),
    ],
)
def test_unknown_options_are_usage_errors(build):
    with pytest.raises(UsageError, match="allowed"):
        build()
