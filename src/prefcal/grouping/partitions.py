"""Partitions of the instances that a search looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefcal.data.ragged import IntArray
from prefcal.estimators.events import BoolArray
from prefcal.estimators.inputs import Grouping


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition to search: ``codes`` (n,) index into ``levels``; -1 = in no group that is looked at.

    ``coarser`` are the codes of the fields that a conjunction is made of.
    """

    fields: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    codes: IntArray
    coarser: tuple[IntArray, ...] = ()

    @classmethod
    def single(cls, g: Grouping) -> Partition:
        """By one field."""
        return cls((g.field,), tuple((level,) for level in g.levels), g.codes)

    @classmethod
    def crossed(cls, a: Grouping, b: Grouping) -> Partition:
        """By the values of two fields together."""
        levels = tuple((x, z) for x in a.levels for z in b.levels)
        return cls((a.field, b.field), levels, a.codes * len(b.levels) + b.codes, (a.codes, b.codes))

    def eligible(self, used: BoolArray, least: int) -> tuple[Partition, int, int]:
        """Only the levels worth a look; how many (not empty) are too small, and how many are a coarser group."""
        counts = np.bincount(self.codes[used], minlength=len(self.levels))
        large = counts >= least
        nested = np.zeros(len(large), dtype=bool)
        for codes in self.coarser:
            whole = np.zeros(len(large), dtype=np.intp)  # size of the coarser group of each level
            whole[self.codes[used]] = np.bincount(codes[used])[codes[used]]
            nested |= large & (whole == counts)
        kept = large & ~nested
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        levels = tuple(level for level, chosen in zip(self.levels, kept, strict=True) if chosen)
        part = Partition(self.fields, levels, np.where(used, place[self.codes], -1))
        return part, int(((counts > 0) & ~large).sum()), int(nested.sum())

    def label(self, level: int) -> dict[str, Any]:
        """Field -> value of one level."""
        return dict(zip(self.fields, self.levels[level], strict=True))


def varies(codes: IntArray, units: IntArray) -> bool:
    """Whether instances of one unit have different codes."""
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    return bool((codes != codes[first][unit]).any())
