"""Search for witnesses: small populations in which one notion holds exactly and another fails.

On a fixed set of contexts with positive forecasts h_i, write D_i = w_i (truth_i - h_i). Each notion is then a set of
linear equations in D (:func:`prefcal.notions.population.demands`), so a witness of "a holds, b fails" exists on these
contexts exactly when some equation of b is not a combination of the equations of a: any D that meets the one and not
the other is small enough after scaling. What must be found is a set of contexts that share the given values of a in
the right pattern. A linear program then gives a sparse D, which is solved again exactly on its support and verified
in rational arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.optimize import linprog

from prefcal.data.ragged import FloatArray
from prefcal.notions.exact import Exact, null_basis, solve
from prefcal.notions.notion import Notion, all_notions, partitions
from prefcal.notions.population import Population, demands
from prefcal.notions.witnesses import Witness, save
from prefcal.views import View

#: Populations are kept to this many contexts, so that people can read them.
MAX_CONTEXTS = 6


def find_witness(
    a: str | Notion,
    b: str | Notion,
    m: int,
    *,
    rng: np.random.Generator | int,
    tries: int = 100,
    max_contexts: int = MAX_CONTEXTS,
) -> Population | None:
    """A population of ``m`` items in which ``a`` holds and ``b`` fails, verified exactly; None when none was found.

    Each try draws a set of contexts (one, a line or square of contexts that agree on part of what ``a`` is given,
    or relabelled copies of one) and decides it by linear algebra. A try costs milliseconds for m = 3 and some tens
    of them for m = 4.
    """
    first, second = Notion.parse(a), Notion.parse(b)
    generator = np.random.default_rng(rng)
    for _ in range(tries):
        contexts = _draw_contexts(first, m, generator)
        residual = _separate(first, second, contexts, generator)
        if residual is None:
            continue
        population = _population(contexts, residual)
        if len(population) <= max_contexts and population.holds(first) and not population.holds(second):
            return population
    return None


def regenerate(
    m: int,
    path: Path | None = None,
    *,
    seed: int = 0,
    tries: int = 60,
    candidates: int = 8,
    progress: Callable[[str], None] | None = None,
) -> tuple[Population, ...]:
    """Rebuild the witnesses of one number of items, deterministically.

    Goes through all ordered pairs that the rule does not prove, strongest premise and weakest conclusion first, and
    skips those that a population found earlier refutes. Of several witnesses of a pair the one is kept that refutes
    most other pairs, then the shortest to write. What is superfluous at the end is dropped.

    Parameters
    ----------
    m
        Number of items, 2 to 5; seconds up to m = 4, half a minute for 5.
    path
        JSON file whose entry for ``m`` is replaced; None writes nothing.
    seed, tries, candidates
        Seed of the search; sets of contexts drawn for each witness; witnesses to choose from for each pair.
    progress
        Called with a line of text now and then.
    """
    notions = all_notions(m)
    n = len(notions)
    proved = np.array([[x.implies(y, m) for y in notions] for x in notions])
    refuted = np.zeros((n, n), dtype=bool)
    strength = proved.sum(axis=1)
    pairs = [(int(i), int(j)) for i, j in np.argwhere(~proved)]
    pairs.sort(key=lambda p: (-strength[p[0]], strength[p[1]], p))
    found: list[Population] = []
    tables: list[np.ndarray] = []
    for i, j in pairs:
        if refuted[i, j]:
            continue
        rng = np.random.default_rng([seed, m, i, j])
        choice = []
        for _ in range(candidates):
            population = find_witness(notions[i], notions[j], m, rng=rng, tries=tries)
            if population is None:
                break
            holds = np.array([population.holds(x) for x in notions])
            table = np.outer(holds, ~holds)
            choice.append((-int((table & ~refuted).sum()), len(str(population.to_dict())), population, table))
        if not choice:
            if progress is not None:
                progress(f"m = {m}: {notions[i]} => {notions[j]}: nothing found")
            continue
        _, _, population, table = min(choice, key=lambda c: c[:2])
        found.append(population)
        tables.append(table)
        refuted |= table
        if progress is not None:
            left = int((~proved & ~refuted).sum())
            progress(f"m = {m}: {notions[i]} =/> {notions[j]}: {len(population)} contexts; {left} pairs left")
    kept = [found[i] for i in _cover(tables)]
    if path is not None:
        save(m, [Witness.of(p) for p in kept], path)
    return tuple(kept)


def _cover(tables: Sequence[np.ndarray]) -> list[int]:
    """Indices of few boolean tables whose union is the union of all (greedy), in their order."""
    if not tables:
        return []
    missing = np.logical_or.reduce(tables)
    kept = []
    while missing.any():
        gains = [int((t & missing).sum()) for t in tables]
        best = int(np.argmax(gains))
        kept.append(best)
        missing = missing & ~tables[best]
    return sorted(kept)


def _draw_contexts(a: Notion, m: int, rng: np.random.Generator) -> Exact:
    """(contexts, m!) positive whole numbers with equal row sums, no row twice."""
    n = math.factorial(m)
    recipe = rng.integers(5) if a.given != "full" else 0
    if recipe == 0:
        return _whole(rng.integers(1, 5, (1, n)))
    if recipe == 1 or (a.given == "confidence" and recipe > 2):
        base = rng.integers(1, 5, n)
        copies = [base, *(base[_relabelling(m, rng)] for _ in range(int(rng.integers(1, 4))))]
        return _whole(np.unique(np.array(copies), axis=0))
    directions = _directions(a, m, 1 if recipe == 2 else 2, rng)
    steps = np.array(list(itertools.product((0, 1), repeat=len(directions))))
    offsets = steps @ directions
    base = rng.integers(1, 4, n) - np.minimum(offsets.min(axis=0), 0)
    return _whole(np.unique(base + offsets, axis=0))


def _directions(a: Notion, m: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Directions in which the forecast may move while part of what ``a`` is given stays the same.

    The givens are dealt to the directions at random, some to none.
    """
    labels = partitions(a.view, m)
    if a.given == "rankwise":
        givens = [[(row == block)] for row in labels for block in range(int(row.max()) + 1)]
    else:
        givens = [[row == block for block in range(int(row.max()) + 1)] for row in labels]
    to_none = rng.choice([0.0, 0.2, 0.5])
    owner = rng.choice(count + 1, size=len(givens), p=[to_none, *[(1 - to_none) / count] * count])
    columns = rng.permutation(labels.shape[1])
    out = np.zeros((count, labels.shape[1]), dtype=np.int64)
    for d in range(count):
        fixed = [row for given, o in zip(givens, owner) if o == d + 1 for row in given]
        matrix = np.array([np.ones(labels.shape[1], dtype=bool), *fixed])[:, columns]
        basis = null_basis(matrix.astype(int))
        if len(basis) == 0:
            continue
        size = min(len(basis), int(rng.integers(1, 7)))
        chosen = basis[rng.choice(len(basis), size=size, replace=False)].astype(np.int64)
        out[d, columns] = rng.choice([-1, 1], size=size) @ chosen
    return out


def _relabelling(m: int, rng: np.random.Generator) -> np.ndarray:
    """Where each ranking goes when the items are renamed at random and, half of the time, the order reversed."""
    orders = rng.permutation(m)[View("full").outcomes(m)[0]]
    if rng.random() < 0.5:
        orders = orders[:, ::-1]
    where: np.ndarray = View("full").classify(orders)[:, 0]
    return where


def _whole(rows: np.ndarray) -> Exact:
    return np.array([[int(x) for x in row] for row in rows], dtype=object)


def _equations(notion: Notion, contexts: Exact) -> Exact:
    """All equations of a notion on these contexts, (equations, contexts * m!)."""
    rows = []
    for member in demands(notion, contexts):
        for group, coefficients in member:
            row = np.zeros(contexts.shape, dtype=object)
            row[list(group)] = coefficients
            rows.append(row.ravel())
    return np.array(rows, dtype=object)


def _separate(a: Notion, b: Notion, contexts: Exact, rng: np.random.Generator) -> Exact | None:
    """D (contexts, m!) that meets all equations of ``a``, not all of ``b``, and sums to zero in each context."""
    c, n = contexts.shape
    total = np.kron(np.eye(c, dtype=int), np.ones((1, n), dtype=int)).astype(object)
    premise = np.vstack([total, _equations(a, contexts)])
    goals = _equations(b, contexts)
    outside = _outside(premise.astype(float), goals.astype(float))
    if outside.size == 0:
        return None
    goal = goals[rng.choice(outside)]
    matrix = np.vstack([premise, goal[None]])
    right = np.zeros(len(matrix))
    right[-1] = 1.0
    # Least sum of |D|, split into positive and negative parts: a vertex is sparse.
    dense = matrix.astype(float)
    answer = linprog(
        np.ones(2 * c * n),
        A_eq=np.hstack([dense, -dense]),
        b_eq=right,
        bounds=(0, None),
        method="highs-ds",
    )
    if answer.status != 0 or answer.x is None:
        return None
    support = np.flatnonzero(np.abs(answer.x[: c * n] - answer.x[c * n :]) > 1e-7)
    exact = solve(matrix[:, support], [0] * len(premise) + [1])
    if exact is None:
        return None
    residual = np.zeros(c * n, dtype=object)
    residual[support] = exact
    return residual.reshape(c, n)


def _outside(rows: FloatArray, goals: FloatArray) -> np.ndarray:
    """Indices of the goals that are not in the span of the rows; a screen in floats, decided exactly later."""
    _, s, vt = np.linalg.svd(rows, full_matrices=False)
    basis = vt[s > 1e-9 * s[0]]
    rest = goals - goals @ basis.T @ basis
    return np.flatnonzero(np.linalg.norm(rest, axis=1) > 1e-6)


def _population(contexts: Exact, residual: Exact) -> Population:
    """Equal weights, contexts with a residual only, the residual scaled until a true probability reaches 0."""
    used = [i for i, row in enumerate(residual) if any(row)]
    total = int(contexts[0].sum())
    forecasts = [[Fraction(int(x), total) for x in contexts[i]] for i in used]
    scale = min(h / -d for i, row in zip(used, forecasts) for h, d in zip(row, residual[i]) if d < 0)
    truths = [[h + scale * d for h, d in zip(row, residual[i])] for i, row in zip(used, forecasts)]
    return Population([Fraction(1, len(used))] * len(used), forecasts, truths)
