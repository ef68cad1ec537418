"""Groups that nobody had to write down: values derived from the forecasts, and numbers cut at their quartiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray, unwrap
from prefcal.distributions.base import Distribution
from prefcal.errors import DataError, UsageError

#: Levels of one grouping field: more are numbers to be cut, or ids.
MAX_LEVELS: Final = 100
#: Fractions with more distinct values than this are cut.
MAX_FRACTIONS: Final = 12
#: Where ``@length`` looks for the length of an answer, in this order.
LENGTH_FIELDS: Final = (
    "length", "answer_length", "response_length", "chosen_length", "n_tokens", "num_tokens", "n_words", "n_chars",
)  # fmt: skip


def spread(h: Distribution) -> FloatArray:
    """(n,) standard deviation, over an instance's items, of their log probabilities to be best.

    For Plackett-Luce that is the standard deviation of the scores (divided by m, not m - 1). Infinite where an item
    cannot be best, 0 for one item.
    """
    logs = _logs(h, "@spread")
    present = _present(h)
    sizes = present.sum(axis=1)
    impossible = np.asarray((np.isneginf(logs) & present).any(axis=1))
    safe = np.where(present & ~impossible[:, None], logs, 0.0)
    _, exponent = np.frexp(np.abs(safe).max(axis=1, initial=0.0, keepdims=True))
    safe = np.ldexp(safe, -exponent)  # exact, and squares stay finite
    centred = np.where(present, safe - (safe.sum(axis=1) / np.maximum(sizes, 1))[:, None], 0.0)
    out = np.ldexp(np.sqrt((centred**2).sum(axis=1) / np.maximum(sizes, 1)), exponent[:, 0])
    return np.where(impossible, np.inf, out)


def margin(h: Distribution) -> FloatArray:
    """(n,) log of the odds between the two items most probable to be best; for Plackett-Luce the top two's gap.

    Infinite where only one item can be best; NaN for one item.
    """
    logs = np.where(_present(h), _logs(h, "@margin"), np.nan)
    if logs.shape[1] < 2:
        return np.full(len(logs), np.nan)
    ordered = -np.sort(-logs, axis=1)  # NaN last
    with np.errstate(invalid="ignore"):
        gap: FloatArray = ordered[:, 0] - ordered[:, 1]
    return gap


def candidates(h: Distribution) -> IntArray:
    """(n,) number of items of each instance."""
    return h.sizes


#: Name -> function of the forecasts. ``@length`` needs a field of the file and is resolved where fields are known.
DERIVED: Final[dict[str, Callable[[Distribution], FloatArray | IntArray]]] = {
    "@spread": spread,
    "@margin": margin,
    "@candidates": candidates,
}
NAMES: Final = (*DERIVED, "@length")


def derived_values(name: str, h: Distribution, fields: Mapping[str, npt.ArrayLike] | None = None) -> npt.NDArray[Any]:
    """Values of a derived group, cut into levels where they are many.

    Parameters
    ----------
    name
        ``@spread``, ``@margin``, ``@candidates`` (functions of the forecasts), or ``@length``.
    h
        Forecasts for n instances.
    fields
        Field -> n values; ``@length`` is the first of ``LENGTH_FIELDS`` that is among them.

    Raises
    ------
    UsageError
        For an unknown name, a distribution that does not state what is needed, or no field with a length.

    Examples
    --------
    >>> import prefcal as pc
    >>> derived_values("@candidates", pc.PlackettLuce([[1, 2], [3, 1, 2]])).tolist()
    [2, 3]
    """
    if name in DERIVED:
        return levels_of(DERIVED[name](h), name, MAX_FRACTIONS)
    if name != "@length":
        raise UsageError.unknown("derived group", name, NAMES)
    for field in LENGTH_FIELDS:
        if field in (fields or {}):
            return levels_of(np.asarray((fields or {})[field]), field, MAX_FRACTIONS)
    raise UsageError(
        f"@length needs a field with the length of the answers ({', '.join(LENGTH_FIELDS)}); there is: "
        f"{', '.join(sorted(fields or {})) or 'none'}"
    )


def called_values(function: Callable[[Distribution, Outcomes], Any], h: Distribution, y: Outcomes, name: str) -> Any:
    """What a callable ``f(h, y)`` gives for each record, cut into levels where its numbers are many.

    ``h`` and ``y`` have the same length: several records of one instance repeat its forecast.
    """
    values = np.asarray(unwrap(function(h, y)))
    if values.shape != (len(y),):
        raise DataError(f"groups[{name!r}] must return one value for each of {len(y)} instances, got {values.shape}")
    return levels_of(values, name)


def levels_of(values: npt.NDArray[Any], name: str, most: int = MAX_LEVELS) -> npt.NDArray[Any]:
    """Values as they are when they are few, else numbers cut at their quartiles.

    Whole numbers and strings are few up to ``most`` distinct values, fractions up to ``MAX_FRACTIONS``. Levels
    of a cut are named ``1: below 0.5``, ``2: 0.5 to 1.2``, ...; a value at a cut belongs to the upper level; NaN is
    ``(missing)``. Equal quartiles make fewer than four levels.

    Raises UsageError for more than ``MAX_LEVELS`` distinct values that are no numbers.
    """
    whole = values.dtype.kind != "f" or bool((values[np.isfinite(values)] % 1 == 0).all())
    distinct = len(set(values.tolist())) if values.dtype.kind != "f" else len(np.unique(values))
    if distinct <= (most if whole else MAX_FRACTIONS):
        return values
    if values.dtype.kind not in "iuf":
        raise UsageError(f"field {name!r} has {distinct} distinct values, at most {MAX_LEVELS} can be groups")
    numbers = values.astype(np.float64)
    known = ~np.isnan(numbers)
    # A rank, not a mean of two neighbours: infinite values (one item cannot win) have no mean.
    cuts = np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75], method="higher"))
    above = numbers[known][numbers[known] > numbers[known].min()]
    cuts = cuts[cuts > numbers[known].min()] if cuts[-1] > numbers[known].min() else above.min()[None]
    edges = _edges(cuts)
    names = [f"1: below {edges[0]}", *(f"{i + 2}: {a} to {b}" for i, (a, b) in enumerate(pairwise(edges)))]
    names.append(f"{len(names) + 1}: {edges[-1]} or more")
    labels = np.array([*names, "(missing)"], dtype=object)
    return labels[np.where(known, np.searchsorted(cuts, numbers, side="right"), len(names))]


def _edges(cuts: FloatArray) -> list[str]:
    """Cuts as text, with as many digits as it takes to tell them apart."""
    for digits in range(4, 18):
        edges = [f"{c:.{digits}g}" for c in cuts]
        if len(set(edges)) == len(edges):
            break
    return edges


def _logs(h: Distribution, name: str) -> FloatArray:
    if not h.has_best:
        raise UsageError(
            f"{name} needs to know who is best, which pairwise probabilities do not say; group by a field, by "
            "@candidates, or by a callable f(h, y)"
        )
    return h.top_log_probs()


def _present(h: Distribution) -> npt.NDArray[np.bool_]:
    """(n, m) which items each instance has."""
    out = np.zeros((len(h), h.n_items), dtype=bool)
    for block in h.blocks():
        rows = np.arange(len(h))[block.rows]
        columns = np.arange(block.dist.n_items)[None] if block.columns is None else block.columns
        out[rows[:, None], columns] = True
    return out
