"""Finite populations in rational arithmetic: exactly how far a model is from any notion of calibration."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from prefcal.data.ragged import FloatArray, IntArray
from prefcal.errors import DataError, UsageError
from prefcal.notions.exact import Exact
from prefcal.notions.notion import MAX_ITEMS, Notion, partitions
from prefcal.views import View

Row = tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """How far a population is from a notion, as exact probabilities; both are 0 iff the notion holds.

    Parameters
    ----------
    largest
        The largest ``|P(E | G) - E[h(E) | G]|`` over all members and groups.
    mean
        The mean of the same over groups (by their weight) and then over members.
    """

    largest: Fraction
    mean: Fraction


class Demand(NamedTuple):
    """One equation of a notion: ``coefficients . (truth - forecast)``, averaged over the group, is zero.

    ``contexts`` are the indices of the contexts that share the given value; ``coefficients`` (len(contexts), m!) is
    the event's indicator, or its share of tied outcomes for ``confidence``.
    """

    contexts: tuple[int, ...]
    coefficients: Exact


def demands(notion: Notion, forecasts: Exact) -> Iterator[list[Demand]]:
    """For each member of a notion, its equations on a finite set of contexts, one for each group.

    Parameters
    ----------
    notion
        Any notion whose view has a meaning for ``m`` items.
    forecasts
        (contexts, m!) exact numbers, each row proportional to a forecast with one common factor.
    """
    m = _items(forecasts.shape[1])
    whole = [tuple(row) for row in forecasts]
    for labels in partitions(notion.view, m):
        blocks = (labels[None, :] == np.arange(labels.max() + 1)[:, None]).astype(int).astype(object)
        marginal = forecasts @ blocks.T
        if notion.given == "confidence":
            best = marginal.max(axis=1)
            tied = marginal == best[:, None]
            share = np.array([Fraction(1, int(row.sum())) for row in tied], dtype=object)
            events = (tied.astype(int).astype(object) @ blocks) * share[:, None]
            yield [Demand(group, events[list(group)]) for group in _groups(best)]
            continue
        shared = {"canonical": [tuple(row) for row in marginal], "full": whole}.get(notion.given)
        groups = None if shared is None else _groups(shared)
        for j, block in enumerate(blocks):
            here = _groups(marginal[:, j]) if groups is None else groups
            yield [Demand(group, np.broadcast_to(block, (len(group), len(block)))) for group in here]


def _groups(keys: Iterable[Hashable]) -> list[tuple[int, ...]]:
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return [tuple(group) for group in found.values()]


@dataclass(frozen=True, slots=True)
class Population:
    """A finite population of contexts (kinds of instance), each with its forecast and its true distribution.

    Parameters
    ----------
    weights
        Share of each context, positive, summing to 1.
    forecasts, truths
        (contexts, m!) probabilities of the rankings in lexicographic order of orderings best..worst, each row
        summing to 1. Whole numbers, Fractions or text such as ``"1/3"``; floats are refused, since 0.1 is not 1/10.

    Raises
    ------
    DataError
        When shapes do not fit, the number of rankings is not m! for m = 2..6, or rows are not distributions.

    Examples
    --------
    >>> half = Population(["1"], [["3/4", "1/4"]], [["1/2", "1/2"]])
    >>> half.violation("full:confidence").largest
    Fraction(1, 4)
    """

    weights: Row
    forecasts: tuple[Row, ...]
    truths: tuple[Row, ...]

    def __init__(self, weights: Sequence[Any], forecasts: Sequence[Sequence[Any]], truths: Sequence[Sequence[Any]]):
        object.__setattr__(self, "weights", _distribution(weights, "weights", None))
        for name, rows in (("forecasts", forecasts), ("truths", truths)):
            if len(rows) != len(self.weights):
                raise DataError(f"{len(rows)} rows for {len(self.weights)} weights", field=name)
            object.__setattr__(self, name, tuple(_distribution(row, name, i) for i, row in enumerate(rows)))
        if min(self.weights) == 0:
            raise DataError("a context has weight 0; leave it out", field="weights")
        lengths = {len(row) for row in (*self.forecasts, *self.truths)}
        if len(lengths) != 1:
            raise DataError(f"rows of different lengths {sorted(lengths)}; each needs one number a ranking")
        _items(lengths.pop())

    @property
    def n_items(self) -> int:
        """Number of items ``m``."""
        return _items(len(self.forecasts[0]))

    def __len__(self) -> int:
        return len(self.weights)

    def violation(self, notion: str | Notion) -> Violation:
        """Exact distance from a notion.

        For a member (E, C) a group G is the set of all contexts whose forecasts give the blocks of C the same
        probabilities; its gap is ``|P(E | G) - E[h(E) | G]|``. ``largest`` is the largest gap over members and
        groups; ``mean`` weighs the gaps of a member by P(G) and averages over members with equal weight.

        For ``confidence`` there is one member for each member of the view: the given is the largest probability of
        the view's outcomes and the event that the most probable outcome happens. Of w outcomes tied for it one is
        meant, uniformly at random: each counts 1/w.

        Raises UsageError when the view has no meaning for the population's number of items. Cost O(members x
        contexts x m!) rational operations.
        """
        target = Notion.parse(notion)
        target.view.check(self.n_items)
        scale = math.lcm(*(x.denominator for row in (*self.forecasts, *self.truths) for x in row))
        weight_scale = math.lcm(*(w.denominator for w in self.weights))
        weights = [int(w * weight_scale) for w in self.weights]
        forecast = np.array([[int(x * scale) for x in row] for row in self.forecasts], dtype=object)
        truth = np.array([[int(x * scale) for x in row] for row in self.truths], dtype=object)
        residual = (truth - forecast) * np.array(weights, dtype=object)[:, None]
        largest, total, members = Fraction(0), Fraction(0), 0
        for groups in demands(target, forecast):
            members += 1
            for contexts, coefficients in groups:
                gap = abs(Fraction((coefficients * residual[list(contexts)]).sum()))
                total += gap
                largest = max(largest, gap / sum(weights[i] for i in contexts))
        return Violation(largest / scale, total / (members * scale * weight_scale))

    def holds(self, notion: str | Notion) -> bool:
        """Whether the notion holds exactly."""
        return self.violation(notion).largest == 0

    def sample(self, n: int, rng: np.random.Generator | int) -> tuple[IntArray, FloatArray, IntArray]:
        """Draw instances, for tests of estimators.

        Returns
        -------
        (n,) context index, (n, m!) forecast probabilities over the rankings in lexicographic order, and (n, m)
        observed orderings best..worst, items 0-based.
        """
        if n < 0:
            raise UsageError(f"the number of instances must be at least 0, got {n}")
        generator = np.random.default_rng(rng)
        context = generator.choice(len(self), size=n, p=np.array(self.weights, dtype=float))
        levels = np.cumsum(np.array(self.truths, dtype=float), axis=1)
        # The last step with positive probability closes at 1, so that rounding cannot pick an impossible ranking.
        levels[levels >= levels[:, -1:]] = 1.0
        index = (generator.random(n)[:, None] >= levels[context]).sum(axis=1)
        orders = View("full").outcomes(self.n_items)[0][index]
        return context.astype(np.intp), np.array(self.forecasts, dtype=float)[context], orders

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: fractions as text, a row in one string."""
        return {
            "weights": _text(self.weights),
            "forecasts": [_text(row) for row in self.forecasts],
            "truths": [_text(row) for row in self.truths],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Population:
        """Read what :meth:`to_dict` wrote; DataError says which field is missing or wrong."""
        for field in ("weights", "forecasts", "truths"):
            if field not in data:
                raise DataError(f"missing; found {', '.join(map(str, data))}", field=field)
        return cls(
            str(data["weights"]).split(),
            [str(row).split() for row in data["forecasts"]],
            [str(row).split() for row in data["truths"]],
        )


def paper_table(number: int) -> Population:
    """Populations with three items from the paper's counterexamples, with uniform overall truth.

    Table 1: sub-2 holds, top-1, rankwise and full do not. Table 2: rankwise (of the full ranking) holds, sub-2,
    top-1 and full do not; this is a population of that kind, not the paper's own numbers. Table 3: top-1 holds,
    sub-2, rankwise and full do not. Source: Thies et al., ICML 2026.
    """
    sixth = ["1/6"] * 6
    if number == 1:
        return Population([1], [["1/3", "1/12", "1/12", "1/12", "1/12", "1/3"]], [sixth])
    if number == 2:
        return Population.from_dict(
            {
                "weights": "1/2 1/2",
                "forecasts": ["1/6 1/6 1/6 1/3 0 1/6", "1/6 1/6 1/6 0 1/3 1/6"],
                "truths": ["1/3 1/6 0 1/3 0 1/6", "0 1/6 1/3 0 1/3 1/6"],
            }
        )
    if number == 3:
        return Population([1], [["1/3", 0, "1/3", 0, "1/3", 0]], [sixth])
    raise UsageError(f"the paper has tables 1, 2 and 3 of populations, got {number!r}")


def _items(n_rankings: int) -> int:
    for m in range(2, MAX_ITEMS + 1):
        if math.factorial(m) == n_rankings:
            return m
    raise DataError(f"{n_rankings} rankings a row; a row needs all m! rankings of m = 2 to {MAX_ITEMS} items")


def _distribution(values: Sequence[Any], field: str, row: int | None) -> Row:
    where = None if row is None else f"context {row}"
    fractions = []
    for value in values:
        if isinstance(value, (float, np.floating)):
            raise DataError(f"{value!r} is a float; give a Fraction or text such as '1/3'", row=where, field=field)
        try:
            fractions.append(Fraction(int(value) if isinstance(value, np.integer) else value))
        except (ValueError, TypeError, ZeroDivisionError):
            raise DataError(f"{value!r} is not a fraction such as '1/3'", row=where, field=field) from None
    if not fractions or min(fractions) < 0 or sum(fractions) != 1:
        total = sum(fractions, Fraction(0))
        raise DataError(f"must be probabilities that sum to 1; the sum is {total}", row=where, field=field)
    return tuple(fractions)


def _text(row: Row) -> str:
    return " ".join(map(str, row))
