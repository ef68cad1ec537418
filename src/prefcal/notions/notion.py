"""Notions of calibration, a view and what is given, and the one rule by which one implies another.

A notion is small and exact: a family of members (E, C), where E is an event (a set of the ``m!`` rankings) and C the
partition of the rankings whose block probabilities under the forecast are given. The model satisfies the notion when
``P(E | h(C)) = h(E)`` for every member.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from prefcal.errors import UsageError
from prefcal.notions.exact import in_span
from prefcal.views import IntArray, View

Given = Literal["canonical", "rankwise", "confidence", "full"]
GIVENS: tuple[Given, ...] = get_args(Given)
BoolArray = npt.NDArray[np.bool_]
#: Largest number of items for which families of events over all m! rankings are written out.
MAX_ITEMS = 6


class Member(NamedTuple):
    """One demand of a notion: ``P(event | h of the blocks of partition) = h(event)``.

    ``event`` is boolean, ``partition`` holds block labels 0, 1, ...; both over the ``m!`` rankings in
    lexicographic order.
    """

    event: BoolArray
    partition: IntArray


@dataclass(frozen=True, slots=True)
class Notion:
    """A notion of calibration: which outcome is looked at, and on what one conditions.

    Parameters
    ----------
    view
        The coarser outcome of a ranking.
    given
        ``canonical`` the forecast of all outcomes of the view; ``rankwise`` for each outcome its own probability;
        ``confidence`` the probability of the most probable outcome, the event being that it happens; ``full`` the
        whole forecast over rankings, even where the view is coarser.

    Examples
    --------
    >>> Notion.parse("top-1").given
    'rankwise'
    >>> Notion.parse("top-1:rankwise").name
    'top-1'
    >>> Notion.parse("top-1:canonical").implies("top-1:confidence")
    True
    >>> Notion.parse("top-1").implies("top-1:confidence")
    False

    References
    ----------
    Thies, Bengs, Kaufmann, Vollmer, Hüllermeier: Calibrated Preference Learning: The Case of Label Ranking, ICML 2026
    (full, sub-k, top-k and rankwise calibration; theorems 4.1-4.3 are instances of :meth:`implies`).
    """

    view: View
    given: Given

    def __post_init__(self) -> None:
        if self.given not in GIVENS:
            raise UsageError.unknown("given", str(self.given), GIVENS)

    @classmethod
    def parse(cls, name: str | Notion) -> Notion:
        """Read ``VIEW`` or ``VIEW:GIVEN``; a Notion is returned unchanged.

        Without ``:GIVEN`` sub-2 is canonical (its forecast is one number) and every other view rankwise. Raises
        UsageError for an unknown view or given.
        """
        if isinstance(name, Notion):
            return name
        if not isinstance(name, str):
            raise UsageError(f"a notion is named by text such as 'top-1:confidence', got {name!r}")
        view_name, colon, given = name.partition(":")
        view = View.parse(view_name)
        if not colon:
            return cls(view, default_given(view))
        return cls(view, given)  # type: ignore[arg-type]  # __post_init__ refuses an unknown given

    @property
    def name(self) -> str:
        """The shortest name that :meth:`parse` reads back: the default given is left out."""
        return self.view.name if self.given == default_given(self.view) else f"{self.view.name}:{self.given}"

    def __str__(self) -> str:
        return self.name

    def resolve(self, m: int) -> Notion:
        """The same notion with its view's simplest name for ``m`` items (see :meth:`prefcal.views.View.resolve`)."""
        return Notion(self.view.resolve(m), self.given)

    def is_scalar(self, m: int) -> bool:
        """Whether each member is judged by a forecast that is a single number.

        Always for ``rankwise`` and ``confidence``, for ``canonical`` where the view has two outcomes, never for
        ``full``.
        """
        self.view.check(m)
        if self.given == "canonical":
            return self.view.n_outcomes(m) == 2
        return self.given != "full"

    def members(self, m: int) -> tuple[Member, ...]:
        """The family (E, C): E runs over the blocks of the view's partitions.

        C is the view's own partition (canonical), {E, not E} (rankwise) or the finest partition (full). Raises
        UsageError for ``confidence``, whose event depends on the forecast, and for more than six items.
        """
        if self.given == "confidence":
            raise UsageError(
                f"notion {self.name}: its event, the most probable outcome, depends on the forecast; it has no "
                "fixed family of events (see Population.violation)"
            )
        labels = partitions(self.view, m)
        finest = np.arange(labels.shape[1], dtype=np.intp)
        members = []
        for partition in labels:
            for block in range(int(partition.max()) + 1):
                event = partition == block
                if self.given == "canonical":
                    members.append(Member(event, partition))
                elif self.given == "rankwise":
                    members.append(Member(event, event.astype(np.intp)))
                else:
                    members.append(Member(event, finest))
        return tuple(members)

    def implies(self, other: str | Notion, m: int | None = None) -> bool:
        """Whether this notion implies another one by the rule.

        A family implies (E', C') when the indicator of E' is a linear combination of 1 and the indicators of those
        of its E whose C refines C' (tower property and linearity), and it implies another family when it implies
        each member. This relation is transitive as it stands. ``confidence`` follows from what implies the
        canonical notion of the same view, and implies itself only. All arithmetic is exact.

        Parameters
        ----------
        other
            The notion asked about.
        m
            Number of items, 2 to 6. None asks for the generic case: the smallest ``m`` (at least 3) at which all
            views involved differ and none is another one in disguise; that is m >= k + 1 for sub-k (sub-m is full)
            and m >= k + 2 for top-k and topset-k (top-(m-1) is full, topset-(m-1) the complement of the last item).

        Returns
        -------
        False means that the rule is silent; whether the implication is then refuted, :func:`prefcal.lattice` says.
        """
        target = Notion.parse(other)
        if m is None:
            m = max(_generic_items(self.view), _generic_items(target.view))
        return _implies(self.resolve(m), target.resolve(m), m)


def default_given(view: View) -> Given:
    """What a notion named by its view alone is given."""
    return "canonical" if (view.kind, view.k) == ("sub", 2) else "rankwise"


def all_views(m: int) -> tuple[View, ...]:
    """Every view that is different for ``m`` items: full, sub-k, top-k, topset-k, position."""
    named = [View("full")]
    named += [View("sub", k) for k in range(2, m + 1)]
    named += [View("top", k) for k in range(1, m + 1)]
    named += [View("topset", k) for k in range(1, m)]
    named.append(View("position"))
    return tuple(dict.fromkeys(view.resolve(m) for view in named))


def all_notions(m: int, views: Iterable[str | View] | None = None) -> tuple[Notion, ...]:
    """Every given of every view, in the order of a lattice's rows."""
    chosen = all_views(m) if views is None else [View.parse(v).resolve(m) for v in views]
    return tuple(Notion(view, given) for view in dict.fromkeys(chosen) for given in GIVENS)


@lru_cache(maxsize=64)
def partitions(view: View, m: int) -> IntArray:
    """Block label of each ranking in each member of a view, (members, m!); read-only, lexicographic rankings."""
    view.check(m)
    if m > MAX_ITEMS:
        raise UsageError(f"exact families run over all m! rankings: at most {MAX_ITEMS} items, got {m}")
    labels = np.ascontiguousarray(view.classify(View("full").outcomes(m)[0]).T)
    labels.setflags(write=False)
    return labels


def _generic_items(view: View) -> int:
    least = max(3, {"sub": view.k + 1, "top": view.k + 2, "topset": view.k + 2}.get(view.kind, 3))
    if least > MAX_ITEMS:
        raise UsageError(
            f"view {view.name}: the rule runs over all m! rankings of at most {MAX_ITEMS} items, and this view "
            f"differs from simpler ones only from {least} items on; ask about sub-5, top-4, topset-4 or smaller"
        )
    return least


@lru_cache(maxsize=8192)
def _implies(a: Notion, b: Notion, m: int) -> bool:
    """The rule, for resolved notions."""
    if a == b:
        return True
    if b.given == "confidence":
        if a.given != "confidence":
            return _implies(a, Notion(b.view, "canonical"), m)
        known = {_canonical_labels(p) for p in partitions(a.view, m)}
        return all(_canonical_labels(p) in known for p in partitions(b.view, m))
    if a.given == "confidence":
        return False
    families = _events_by_partition(a, m)
    return all(_member_follows(families, member) for member in _representatives(b, m))


def _member_follows(families: list[tuple[IntArray, BoolArray]], member: Member) -> bool:
    usable = [events for partition, events in families if _refines(partition, member.partition)]
    for events in usable:  # cheap and frequent: the events inside E' are disjoint and make it up
        inside = ~(events & ~member.event).any(axis=1)
        if np.array_equal(events[inside].sum(axis=0), member.event.astype(np.intp)):
            return True
    one = np.ones((1, len(member.event)), dtype=bool)
    return in_span(np.vstack([one, *usable]), member.event)


def _events_by_partition(notion: Notion, m: int) -> list[tuple[IntArray, BoolArray]]:
    groups: dict[bytes, tuple[IntArray, list[BoolArray]]] = {}
    for event, partition in notion.members(m):
        groups.setdefault(partition.tobytes(), (partition, []))[1].append(event)
    return [(partition, np.array(events)) for partition, events in groups.values()]


def _representatives(notion: Notion, m: int) -> list[Member]:
    """One member for each orbit under relabelling of the items.

    Every family is closed under relabelling, so a family implies all of an orbit or nothing of it. The events of a
    view form one orbit, those of ``position`` one for each rank.
    """
    members = notion.members(m)
    return list(members[:m]) if notion.view.kind == "position" else [members[0]]


def _refines(fine: IntArray, coarse: IntArray) -> bool:
    """Whether each block of ``fine`` lies inside a block of ``coarse``."""
    pairs = np.unique(np.stack([fine, coarse]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(fine)))


def _canonical_labels(partition: IntArray) -> tuple[int, ...]:
    """Labels numbered by first appearance, so that equal partitions are equal tuples."""
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(int(label), len(numbers)) for label in partition)
