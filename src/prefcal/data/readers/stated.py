"""Probabilities as a file states them: a matrix for the pairs of each record, a list for the best candidate."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray, Ragged
from prefcal.data.readers import values
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import Reading

#: How far P(a before b) + P(b before a), and the sum of the probabilities to be best, may be from 1.
TOLERANCE: Final = 1e-6
_ENTRIES: Final = frozenset({int, float, type(None)})


def pair_matrices(reading: Reading, name: str) -> tuple[Ragged, IntArray]:
    """Rows of m * m probabilities, entry a * m + b that a is better than b (NaN = not stated), and each record's m.

    A record holds m lists of m numbers or nulls, of which the diagonal is ignored; or one number, the probability
    that the first of two candidates is the better one. Rejected records have an empty row.
    """
    column = reading.content.column(name)
    sizes = np.zeros(len(column), dtype=np.intp)
    flat: list[FloatArray] = []
    for i, value in enumerate(column):
        matrix, problem = _matrix(value)
        if value is MISSING:
            problem = reading.missing_field(name)
        if problem is not None:
            reading.reject(i, name, problem)
        else:
            sizes[i] = len(matrix)
            flat.append(matrix.ravel())
    values.check_candidates(reading, sizes, name)
    return values.ragged_of(np.concatenate([np.empty(0), *flat]), sizes**2), sizes


def best_lists(reading: Reading, name: str, like: Ragged, like_name: str) -> Ragged:
    """Each candidate's probability to be the best, checked: of the lengths of ``like``, and summing to 1."""
    best = values.number_lists(reading, name)
    values.same_lengths(reading, like, like_name, best, name)
    outside = values.any_in_row(best, (best.values < 0) | (best.values > 1))
    reading.reject_where(outside, name, lambda i: "holds a number that is no probability (0 to 1)")
    total = np.bincount(values.rows_of(best), best.values, minlength=len(best))
    reading.reject_where(
        np.abs(total - 1.0) > TOLERANCE, name, lambda i: f"sums to {total[i]:.6g}; probabilities to be best sum to 1"
    )
    return best


def _matrix(value: Any) -> tuple[FloatArray, str | None]:
    none = np.empty((0, 0))
    if type(value) in (int, float):
        if not 0 <= value <= 1:
            return none, f"is {shown(value)}; a probability is expected (0 to 1)"
        return np.array([[np.nan, value], [np.nan, np.nan]]), None
    if not isinstance(value, list) or not value:
        return none, f"is {shown(value)} where a list of lists of probabilities, or one probability, is expected"
    m = len(value)
    if any(not isinstance(row, list) or len(row) != m for row in value):
        return none, f"is no square: {m} lists of {m} probabilities are expected"
    kinds = set(map(type, chain.from_iterable(value)))
    if not kinds <= _ENTRIES:
        odd = next(x for row in value for x in row if type(x) not in _ENTRIES)
        return none, f"holds {shown(odd)} where a probability or null is expected"
    try:
        p = np.array(value, dtype=np.float64)
    except OverflowError:
        return none, "holds a number too large for float64"
    p[np.arange(m), np.arange(m)] = np.nan
    stated = (
        np.array([[x is not None for x in row] for row in value]) if type(None) in kinds else np.ones((m, m), bool)
    )
    wrong = stated & ~((p >= 0) & (p <= 1)) & ~np.eye(m, dtype=bool)
    if wrong.any():
        a, b = (int(x) for x in np.argwhere(wrong)[0])
        return none, f"entry [{a}][{b}] is {shown(value[a][b])}; a probability is expected (0 to 1), or null"
    clash = np.abs(p + p.T - 1.0) > TOLERANCE
    if clash.any():
        a, b = (int(x) for x in np.argwhere(clash)[0])
        return none, f"entries [{a}][{b}] = {p[a, b]:.6g} and [{b}][{a}] = {p[b, a]:.6g} do not sum to 1"
    return p, None
