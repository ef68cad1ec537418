"""Rows of unequal length: every operation against plain lists, and every kind of input a user may have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefcal.data.ragged import Ragged, as_array, as_ragged
from prefcal.errors import DataError

number = st.floats(-1e6, 1e6, allow_nan=False)
row_lists = st.lists(st.lists(number, min_size=1, max_size=6), min_size=1, max_size=8)


def as_lists(ragged: Ragged) -> list[list[float]]:
    return [ragged.values[a:b].tolist() for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:])]


@given(row_lists)
def test_from_rows_keeps_every_row(rows):
    ragged = Ragged.from_rows(rows)
    assert as_lists(ragged) == rows
    assert ragged.sizes.tolist() == [len(r) for r in rows]
    assert ragged.n_columns == max(map(len, rows))
    assert ragged.is_dense == (len(set(map(len, rows))) == 1)
    dense = ragged.dense()
    for i, r in enumerate(rows):
        assert dense[i, : len(r)].tolist() == r
        assert np.isnan(dense[i, len(r) :]).all()


@given(row_lists, st.data())
def test_take_is_list_indexing(rows, data):
    ragged = Ragged.from_rows(rows)
    index = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), min_size=1, max_size=10))
    assert as_lists(ragged.take(np.array(index))) == [rows[i] for i in index]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    assert as_lists(ragged.take(mask)) == [r for r, kept in zip(rows, mask) if kept]
    assert as_lists(ragged.take(slice(None, None, 2))) == rows[::2]
    assert as_lists(ragged.take(0)) == [rows[0]]


@given(row_lists, st.integers(1, 12))
def test_blocks_cover_each_row_once_with_its_own_values(rows, elements):
    ragged = Ragged.from_rows(rows)
    seen = []
    for index, size in ragged.blocks(elements):
        block = ragged.block(index, size)
        which = np.arange(len(rows))[index]
        assert block.tolist() == [rows[i] for i in which]
        assert block.size <= max(elements, size)
        seen += which.tolist()
    assert sorted(seen) == list(range(len(rows)))


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_nan_in_a_dense_array_means_that_the_item_is_absent(n, m, data):
    array = np.array(data.draw(st.lists(st.lists(number, min_size=m, max_size=m), min_size=n, max_size=n)))
    absent = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=m, max_size=m), min_size=n, max_size=n)))
    array[absent] = np.nan
    ragged = Ragged.from_dense(array, drop_nan=True)
    assert ragged.sizes.tolist() == (~absent).sum(axis=1).tolist()
    assert np.array_equal(ragged.dense(), array, equal_nan=True)
    assert np.array_equal(ragged.flat_columns(), np.nonzero(~absent)[1])
    for index, size in ragged.blocks():
        columns = ragged.block_columns(index, size)
        for k, i in enumerate(np.arange(n)[index]):
            expected = np.flatnonzero(~absent[i])
            assert (np.arange(m) if columns is None else columns[k]).tolist()[:size] == expected.tolist()
    half = ragged.take(slice(0, None, 2))
    assert np.array_equal(half.dense(), array[::2], equal_nan=True)


def test_with_values_keeps_the_shape():
    ragged = Ragged.from_rows([[1.0, 2.0], [3.0]])
    assert as_lists(ragged.with_values(-ragged.values)) == [[-1.0, -2.0], [-3.0]]


TABLE = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
UNEVEN = [[1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(TABLE, id="nested lists"),
        pytest.param(tuple(map(tuple, TABLE)), id="tuples"),
        pytest.param(np.array(TABLE), id="numpy"),
        pytest.param(np.array(TABLE, dtype=np.float32), id="numpy float32"),
        pytest.param(np.array(TABLE, dtype=np.int16), id="numpy integers"),
        pytest.param(pd.DataFrame(TABLE), id="pandas frame"),
        pytest.param(pd.DataFrame(TABLE, dtype=object), id="pandas object frame"),
        pytest.param(pd.Series(TABLE), id="pandas series of lists"),
        pytest.param(pl.DataFrame(TABLE, orient="row"), id="polars frame"),
        pytest.param(pl.Series(TABLE), id="polars list series"),
        pytest.param(pa.table(dict(zip("abc", zip(*TABLE)))), id="arrow table"),
        pytest.param(pa.array(TABLE), id="arrow list array"),
        pytest.param(pa.chunked_array([[TABLE[0]], [TABLE[1]]]), id="arrow chunked lists"),
    ],
)
def test_every_kind_of_table_reads_the_same(data):
    assert as_ragged(data, "scores", drop_nan=False).dense().tolist() == TABLE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(UNEVEN, id="nested lists"),
        pytest.param([np.array(r) for r in UNEVEN], id="list of arrays"),
        pytest.param(pd.Series(UNEVEN), id="pandas series of lists"),
        pytest.param(pl.Series(UNEVEN), id="polars list series"),
        pytest.param(pa.array(UNEVEN), id="arrow list array"),
    ],
)
def test_every_kind_of_uneven_lists_reads_the_same(data):
    assert as_lists(as_ragged(data, "scores", drop_nan=False)) == UNEVEN


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(None, "NoneType", id="nothing"),
        pytest.param(3.0, "float", id="a scalar"),
        pytest.param([1.0, 2.0], "one row of numbers", id="flat list"),
        pytest.param([], "at least one instance", id="empty list"),
        pytest.param([["a", "b"]], "numbers", id="text"),
        pytest.param(np.array([["a"]]), "dtype", id="text array"),
        pytest.param(np.zeros(3), "two dimensions", id="1-d array"),
        pytest.param(np.zeros((2, 2, 2)), "two dimensions", id="3-d array"),
        pytest.param([[1.0, np.nan], [1.0, 2.0, 3.0]], "NaN in lists of unequal length", id="NaN in uneven lists"),
        pytest.param([[[1.0]], [[2.0], [3.0]]], "instance 0", id="too deep"),
    ],
)
def test_other_things_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        as_ragged(data, "scores", drop_nan=True)


def test_as_array_checks_dimensions_and_types():
    assert as_array([[1, 2, 3]], "pairs", 2).tolist() == [[1.0, 2.0, 3.0]]
    with pytest.raises(DataError, match="2 dimensions"):
        as_array([1, 2], "pairs", 2)
    with pytest.raises(DataError, match="pairs"):
        as_array([["a"]], "pairs", 2)
