"""The lattice of notions: which implies which, proved by the rule, refuted by a witness, or open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prefcal.errors import UsageError
from prefcal.notions.notion import BoolArray, Notion, all_notions
from prefcal.notions.population import Population
from prefcal.notions.witnesses import Witness, stored
from prefcal.views import View

Relation = Literal["proved", "refuted", "open"]
#: Largest number of items for which the whole lattice is worked out.
MAX_LATTICE_ITEMS = 5


@dataclass(frozen=True, eq=False)
class Lattice:
    """All implications among notions for ``m`` items.

    Parameters
    ----------
    m
        Number of items.
    notions
        The notions, in the order of rows and columns.
    proved, refuted
        (n, n) boolean: row implies column by the rule; some witness has the row's notion and not the column's.
        Neither: open.
    witnesses
        The stored populations that ``refuted`` comes from.
    """

    m: int
    notions: tuple[Notion, ...]
    proved: BoolArray
    refuted: BoolArray
    witnesses: tuple[Witness, ...]

    def relation(self, a: str | Notion, b: str | Notion) -> Relation:
        """Whether ``a`` implies ``b``: proved, refuted or open. UsageError for a notion not in the lattice."""
        i, j = self._index(a), self._index(b)
        return "proved" if self.proved[i, j] else "refuted" if self.refuted[i, j] else "open"

    def witness(self, a: str | Notion, b: str | Notion) -> Population | None:
        """The smallest stored population in which ``a`` holds and ``b`` fails; None unless refuted."""
        first, second = self.notions[self._index(a)], self.notions[self._index(b)]
        found = [w.population for w in self.witnesses if first in w.holds and second in w.fails]
        return min(found, key=len, default=None)

    def open(self) -> tuple[tuple[Notion, Notion], ...]:
        """Ordered pairs for which neither a proof nor a witness is known."""
        return tuple((self.notions[i], self.notions[j]) for i, j in np.argwhere(~self.proved & ~self.refuted))

    @property
    def contradictions(self) -> tuple[tuple[Notion, Notion], ...]:
        """Pairs both proved and refuted; anything here is a bug in the rule or the arithmetic."""
        return tuple((self.notions[i], self.notions[j]) for i, j in np.argwhere(self.proved & self.refuted))

    @property
    def classes(self) -> tuple[tuple[Notion, ...], ...]:
        """Notions grouped by equivalence (each proves the other), in order of first appearance."""
        groups: dict[int, list[Notion]] = {}
        for i, first in enumerate(np.argmax(self.proved & self.proved.T, axis=1)):
            groups.setdefault(int(first), []).append(self.notions[i])
        return tuple(map(tuple, groups.values()))

    def covers(self) -> tuple[tuple[int, int], ...]:
        """Edges (stronger, weaker) between :attr:`classes` for drawing: the transitive reduction of ``proved``."""
        first = [self._index(c[0]) for c in self.classes]
        above = self.proved[np.ix_(first, first)] & ~np.eye(len(first), dtype=bool)
        between = (above.astype(int) @ above.astype(int)) > 0
        return tuple((int(i), int(j)) for i, j in np.argwhere(above & ~between))

    def _index(self, notion: str | Notion) -> int:
        resolved = Notion.parse(notion).resolve(self.m)
        if resolved not in self.notions:
            raise UsageError.unknown(f"notion for {self.m} items", resolved.name, [n.name for n in self.notions])
        return self.notions.index(resolved)


def lattice(m: int = 3, views: Sequence[str | View] | None = None) -> Lattice:
    """Work out which notion implies which.

    Parameters
    ----------
    m
        Number of items, 2 to 5; 5 takes seconds, fewer well under one.
    views
        Names of the views to include, each with all four givens; all that differ for ``m`` items by default.

    Returns
    -------
    A relation that is closed: the rule is transitive, and a witness counts for every pair of notions of which
    the first holds in it and the second fails. What the witnesses claim is exact and is checked anew by
    :func:`prefcal.notions.theory.check_theory`.

    Raises
    ------
    UsageError
        For an unknown view, one without meaning for ``m`` items, or ``m`` outside 2 to 5.

    Examples
    --------
    >>> relations = lattice(3)
    >>> relations.relation("full:canonical", "sub-2"), relations.relation("full", "sub-2")
    ('proved', 'refuted')
    """
    if not 2 <= m <= MAX_LATTICE_ITEMS:
        raise UsageError(f"the lattice is worked out for 2 to {MAX_LATTICE_ITEMS} items, got {m}")
    notions = all_notions(m, views)
    proved = np.array([[a.implies(b, m) for b in notions] for a in notions])
    refuted = np.zeros_like(proved)
    witnesses = stored(m)
    for witness in witnesses:
        holds, fails = set(witness.holds), set(witness.fails)
        refuted |= np.outer([n in holds for n in notions], [n in fails for n in notions])
    return Lattice(m, notions, proved, refuted, witnesses)
