"""Views: coarser outcomes of a full ranking (design: a notion is a view and a given).

A view maps each full ranking of ``m`` items to one outcome in each of its *members*: ``sub-k`` has one member
for every subset of ``k`` items, ``position`` one for every item, the others have one. Within a member the
outcomes partition the ``m!`` rankings.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefcal.errors import UsageError

IntArray = npt.NDArray[np.intp]
Kind = Literal["full", "sub", "top", "topset", "position"]
NAMES = ("full", "sub-K", "top-K", "topset-K", "position")


@dataclass(frozen=True, slots=True)
class View:
    """A coarser outcome of a ranking.

    Parameters
    ----------
    kind
        ``full`` the whole order; ``sub`` the order of the items of each k-subset; ``top`` the ordered first k;
        ``topset`` the set of the first k; ``position`` the rank of each single item.
    k
        The size, for ``sub`` (at least 2), ``top`` and ``topset`` (at least 1); 0 for the others.

    Examples
    --------
    >>> View.parse("sub-2").members(3).tolist()
    [[0, 1], [0, 2], [1, 2]]
    >>> View.parse("top-1").outcomes(3).tolist()
    [[[0], [1], [2]]]
    """

    kind: Kind
    k: int = 0

    def __post_init__(self) -> None:
        least = {"sub": 2, "top": 1, "topset": 1}.get(self.kind)
        if least is not None and self.k < least:
            raise UsageError(f"view {self.kind}-{self.k}: k must be at least {least}")

    @classmethod
    def parse(cls, name: str | View) -> View:
        """Read a view's name; a View is returned unchanged. Raises UsageError for an unknown name."""
        if isinstance(name, View):
            return name
        if name in ("full", "position"):
            return cls(name)  # type: ignore[arg-type]
        match = re.fullmatch(r"(sub|top|topset)-(\d{1,4})", name) if isinstance(name, str) else None
        if match is None:
            raise UsageError.unknown("view", name, NAMES)
        return cls(match[1], int(match[2]))  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The canonical name, e.g. ``sub-2``."""
        return f"{self.kind}-{self.k}" if self.k else self.kind

    def __str__(self) -> str:
        return self.name

    def check(self, m: int) -> None:
        """Raise UsageError when the view has no meaning for ``m`` items."""
        if m < 2:
            raise UsageError(f"view {self.name}: needs at least 2 items, got {m}")
        most = {"sub": m, "top": m, "topset": m - 1}.get(self.kind)
        if most is not None and self.k > most:
            raise UsageError(f"view {self.name}: k may be at most {most} for {m} items")

    def resolve(self, m: int) -> View:
        """The same view under its simplest name for ``m`` items: sub-m, top-m and top-(m-1) are ``full``."""
        self.check(m)
        if (self.kind == "sub" and self.k == m) or (self.kind == "top" and self.k >= m - 1):
            return View("full")
        if self.kind == "topset" and self.k == 1:
            return View("full") if m == 2 else View("top", 1)
        return self

    def n_members(self, m: int) -> int:
        """Number of members for ``m`` items."""
        return {"sub": math.comb(m, self.k), "position": m}.get(self.kind, 1)

    def n_outcomes(self, m: int) -> int:
        """Number of outcomes of each member for ``m`` items."""
        match self.kind:
            case "full":
                return math.factorial(m)
            case "sub":
                return math.factorial(self.k)
            case "top":
                return math.perm(m, self.k)
            case "topset":
                return math.comb(m, self.k)
            case _:
                return m

    def members(self, m: int) -> IntArray:
        """Items that each member looks at, shape (members, items per member), sorted."""
        self.check(m)
        if self.kind == "sub":
            return np.array(list(itertools.combinations(range(m), self.k)), dtype=np.intp)
        if self.kind == "position":
            return np.arange(m, dtype=np.intp)[:, None]
        return np.arange(m, dtype=np.intp)[None, :]

    def outcomes(self, m: int) -> IntArray:
        """What the outcomes are, shape (members, outcomes, length).

        Rows are orderings of items (``full``, ``sub``, ``top``), sorted item sets (``topset``) or
        ``(item, rank)`` with rank 1 = best (``position``); in lexicographic order within a member.
        """
        self.check(m)
        if self.kind == "position":
            ranks = np.arange(1, m + 1)
            return np.stack([np.stack([np.full(m, a), ranks], axis=1) for a in range(m)]).astype(np.intp)
        if self.kind == "sub":
            patterns = _permutations(self.k, self.k)
            return self.members(m)[:, patterns]
        if self.kind == "topset":
            return np.array([list(itertools.combinations(range(m), self.k))], dtype=np.intp)
        orders: IntArray = _permutations(m, m if self.kind == "full" else self.k)
        return orders[None]

    def classify(self, orders: npt.ArrayLike) -> IntArray:
        """Outcome index of full orderings in each member.

        Parameters
        ----------
        orders
            (..., m) orderings best..worst, items 0-based, each a permutation of 0..m-1.

        Returns
        -------
        (..., members) indices into the second axis of :meth:`outcomes`.
        """
        o = np.asarray(orders, dtype=np.intp)
        m = o.shape[-1]
        self.check(m)
        if self.kind in ("full", "top"):
            k = m if self.kind == "full" else self.k
            return permutation_index(o[..., :k], m)[..., None]
        if self.kind == "topset":
            return combination_index(np.sort(o[..., : self.k], axis=-1), m)[..., None]
        place = np.argsort(o, axis=-1)  # place[a] = 0-based rank of item a
        if self.kind == "position":
            return place
        within = place[..., self.members(m)]  # (..., G, k)
        return permutation_index(np.argsort(within, axis=-1), self.k)


def permutation_index(prefix: IntArray, m: int) -> IntArray:
    """Lexicographic index of ordered k-prefixes of 0..m-1 among all m!/(m-k)! of them, shape (...,)."""
    k = prefix.shape[-1]
    index = np.zeros(prefix.shape[:-1], dtype=np.intp)
    for t in range(k):
        smaller = (prefix[..., :t] < prefix[..., t : t + 1]).sum(axis=-1)
        index += (prefix[..., t] - smaller) * math.perm(m - t - 1, k - t - 1)
    return index


def combination_index(sets: IntArray, m: int) -> IntArray:
    """Lexicographic index of sorted k-subsets of 0..m-1 among all of them, shape (...,)."""
    k = sets.shape[-1]
    index = np.full(sets.shape[:-1], math.comb(m, k) - 1, dtype=np.intp)
    binomials = np.array([[math.comb(a, t) for t in range(k + 1)] for a in range(m + 1)], dtype=np.intp)
    for t in range(k):
        index -= binomials[m - 1 - sets[..., t], k - t]
    return index


@lru_cache(maxsize=64)
def _permutations(m: int, k: int) -> Any:
    array = np.array(list(itertools.permutations(range(m), k)), dtype=np.intp).reshape(-1, k)
    array.setflags(write=False)
    return array
