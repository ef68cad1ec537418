"""Linear algebra over the rationals, by fraction-free elimination on Python integers: no rounding anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

#: Array of Python integers (dtype object), which cannot overflow.
Exact = npt.NDArray[np.object_]


def integers(values: Any) -> Exact:
    """Copy a 2-D array of rationals to Python integers, each row scaled to be whole (its direction is kept)."""
    array = np.array(values, dtype=object)
    out = np.empty(array.shape, dtype=object)
    for i, row in enumerate(array):
        fractions = [Fraction(int(x)) if isinstance(x, (int, np.integer, bool)) else Fraction(x) for x in row]
        scale = math.lcm(*(f.denominator for f in fractions)) if fractions else 1
        out[i] = [int(f * scale) for f in fractions]
    return out


def row_reduce(matrix: Any) -> tuple[Exact, list[int]]:
    """Gauss-Jordan elimination.

    Parameters
    ----------
    matrix
        (r, c) rationals (whole numbers or Fractions).

    Returns
    -------
    The non-zero rows, whole numbers without a common factor, and the pivot column of each; a pivot column is zero
    outside its row, the pivots themselves are positive, not 1. Cost O(r c rank) integer operations.
    """
    a = integers(matrix)
    pivots: list[int] = []
    for column in range(a.shape[1]):
        at = len(pivots)
        below = np.flatnonzero(a[at:, column] != 0)
        if below.size == 0:
            continue
        pick = at + int(below[0])
        if pick != at:
            a[[at, pick]] = a[[pick, at]]
        if a[at, column] < 0:
            a[at] = -a[at]
        others = np.flatnonzero(a[:, column] != 0)
        others = others[others != at]
        if others.size:
            block = a[others] * a[at, column] - np.outer(a[others, column], a[at])
            divisor = np.array([math.gcd(*row) or 1 for row in block], dtype=object)
            a[others] = block // divisor[:, None]
        pivots.append(column)
        if len(pivots) == len(a):
            break
    return a[: len(pivots)], pivots


def in_span(rows: Any, target: Any) -> bool:
    """Whether the vector ``target`` (c,) is a rational linear combination of ``rows`` (r, c)."""
    goal = np.array(target, dtype=object)
    stack = np.array(rows, dtype=object).reshape(-1, len(goal))
    # Identical columns say the same thing once; identical in the rows but not in the target: impossible.
    _, first = np.unique(np.vstack([stack, goal[None]]).astype(np.int64), axis=1, return_index=True)
    stack, goal = stack[:, first], goal[first]
    if stack.size == 0:
        return not goal.any()
    if np.unique(stack.astype(np.int64), axis=1).shape[1] < len(goal):
        return False
    _, pivots = row_reduce(np.vstack([stack, goal[None]]).T)
    return len(stack) not in pivots


def null_basis(matrix: Any) -> Exact:
    """Whole-number basis of the vectors x with matrix x = 0, shape (c - rank, c)."""
    reduced, pivots = row_reduce(matrix)
    n = np.asarray(matrix, dtype=object).shape[1]
    free = [j for j in range(n) if j not in set(pivots)]
    basis = np.zeros((len(free), n), dtype=object)
    for i, j in enumerate(free):
        scale = math.lcm(1, *(int(row[p]) for row, p in zip(reduced, pivots)))
        basis[i, j] = scale
        for row, p in zip(reduced, pivots):
            basis[i, p] = -row[j] * scale // row[p]
        basis[i] //= math.gcd(*basis[i])
    return basis


def solve(matrix: Any, right: Sequence[int | Fraction]) -> list[Fraction] | None:
    """The one x with matrix x = right, as Fractions; None when there is none or more than one."""
    a = np.array(matrix, dtype=object)
    reduced, pivots = row_reduce(np.column_stack([a, np.array(right, dtype=object)]))
    n = a.shape[1]
    if pivots != list(range(n)):
        return None
    return [Fraction(int(row[n]), int(row[p])) for row, p in zip(reduced, pivots)]
