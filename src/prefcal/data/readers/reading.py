"""One file being read: what a format sees and what it must hand back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes, Ties
from prefcal.data.ragged import FloatArray, IntArray, Ragged
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING, Problems, printable
from prefcal.data.source import InputInfo, ScoreFile
from prefcal.errors import DataError

BoolArray = npt.NDArray[np.bool_]


@dataclass
class Reading:
    """Options, content and problems of one call of :func:`prefcal.data.readers.read`.

    ``ok`` says for each unit (a record, or an instance of several rows once :meth:`group_rows` was called) whether
    it can still be used.
    """

    path: str
    sha256: str
    content: Content
    problems: Problems
    columns: Mapping[str, str]
    aggregate: str | None
    model: str
    ties: Ties
    items: str | None
    max_candidates: int
    needs_outcome: bool = True
    item_columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    unit: IntArray | None = None
    ok: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        self.ok = np.ones(len(self.content), dtype=np.bool_)

    def group_rows(self, unit: IntArray, n_units: int) -> None:
        """From now on row i belongs to unit ``unit[i]``, and a bad row makes its whole unit unusable."""
        self.unit, self.ok = unit, np.ones(n_units, dtype=np.bool_)

    def reject(self, i: int, name: str | None, message: str) -> None:
        """Record (row) i cannot be used; only a unit's first problem is told and counted."""
        u = i if self.unit is None else self.unit[i]
        if self.ok[u]:
            self.ok[u] = False
            self.problems.record(self.content.where(i), name, message)

    def reject_where(self, bad: BoolArray, name: str | None, message: Callable[[int], str]) -> None:
        """Reject the records where ``bad`` holds, in order."""
        for i in np.flatnonzero(bad).tolist():
            u = i if self.unit is None else self.unit[i]
            if self.ok[u]:
                self.reject(i, name, message(i))

    def reject_broken(self) -> None:
        """Reject the records that the container already knows to be bad."""
        for i, name, message in sorted(self.content.broken, key=lambda b: b[0]):
            self.reject(i, name, message)

    def kept(self) -> slice | IntArray:
        """Index of the usable units; DataError when there is none."""
        if self.ok.all() and len(self.ok):
            return slice(None)
        if not self.ok.any():
            first = f"; the first problem: {self.problems.messages[0]}" if self.problems.messages else ""
            raise self.problems.error(f"none of its {len(self.ok)} records can be used{first}")
        return np.flatnonzero(self.ok)

    def name_of(self, role: str) -> str:
        """The column that plays a role: the mapped one, or the role's own name."""
        return self.columns.get(role, role)

    def has(self, name: str) -> bool:
        """Whether the file has a column."""
        return name in self.content.names

    def missing_field(self, name: str) -> str:
        """Message for a record without a field."""
        near = get_close_matches(name, self.content.names, n=1)
        hint = f" (did you mean {printable(near[0])!r}?)" if near and near[0] != name else ""
        return f"is missing from the record{hint}"

    def drop_duplicates(
        self, keys: Sequence[Hashable], scores: Ragged, name: str, *, conflicts: str = "reject"
    ) -> BoolArray | None:
        """Refuse records whose key was seen before.

        A repeat with the same scores is an exact repeat and rejected. For one with other scores, ``conflicts``
        decides: ``reject`` it as well, or ``tell``: return the mask of keys that occur with different scores and
        reject nothing (ids that are not unique).
        """
        if len(set(keys)) == len(keys):
            return None
        first: dict[Hashable, int] = {}
        repeats: list[tuple[int, int, bool]] = []
        for i, key in enumerate(keys):
            j = first.setdefault(key, i)
            if j != i and self.ok[i] and self.ok[j] and key is not MISSING and key is not None:
                a, b = (scores.values[scores.offsets[r] : scores.offsets[r + 1]] for r in (i, j))
                repeats.append((i, j, np.array_equal(a, b)))
        if conflicts == "tell" and any(not same for _, _, same in repeats):
            mask = np.zeros(len(keys), dtype=np.bool_)
            mask[[i for i, _, same in repeats if not same]] = True
            return mask
        for i, j, same in repeats:
            earlier = self.content.where(j)
            if same:
                self.reject(i, name, f"repeats {earlier}: same key, same scores; a record must not count twice")
            else:
                self.reject(
                    i, name, f"has the key of {earlier} but other scores; keys must be unique (the first one is kept)"
                )
        return None

    def finish(
        self,
        fmt: str,
        outcome: str,
        *,
        scores: Ragged | None,
        outcomes: Outcomes,
        items: str,
        pair_probs: FloatArray | Ragged | None = None,
        best_probs: Ragged | None = None,
        fields: dict[str, npt.NDArray[Any]] | None = None,
        ids: npt.NDArray[Any] | None = None,
        clusters: IntArray | None = None,
        settings: dict[str, Any] | None = None,
        item_fields: dict[str, Ragged] | None = None,
    ) -> ScoreFile:
        """Put the result together; everything given is of the kept units, in their order."""
        outcomes = replace(outcomes, ranks=_tight(outcomes.ranks))
        if scores is not None:
            scores = _tight(scores)
            n, sizes = len(scores), scores.sizes
            self._refuse_constant(scores)
        else:
            assert pair_probs is not None
            n, sizes = len(pair_probs), outcomes.sizes
        info = InputInfo(
            path=self.path,
            sha256=self.sha256,
            format=fmt,
            n_instances=n,
            n_items=(int(sizes.min()), int(sizes.max())),
            n_skipped=self.problems.count,
            outcome=outcome,
            items=items,
            model=self.model,
            settings=settings or {},
            skipped=tuple(self.problems.messages),
            notes=tuple(self.notes),
        )
        item_fields = {name: _tight(values) for name, values in (item_fields or {}).items()}
        return ScoreFile(scores, pair_probs, outcomes, fields or {}, ids, info, clusters, item_fields, best_probs)

    def _refuse_constant(self, scores: Ragged) -> None:
        first = np.repeat(scores.values[scores.offsets[:-1]], scores.sizes)
        if np.array_equal(first, scores.values):
            raise self.problems.error(
                f"in each of its {len(scores)} records all scores are equal: the model states no preference, so "
                "there is nothing to audit; check that the right column was written"
            )

    def error(self, message: str, where: str | None = None, name: str | None = None) -> DataError:
        """An error about the whole file."""
        return self.problems.error(message, where, name)


class Format(ABC):
    """A kind of score file.

    To add one: a module with a subclass, and its line in ``prefcal.data.readers.FORMATS``.
    """

    #: Name in results and for ``format=``.
    name: ClassVar[str]
    #: What it looks for, for the message about unknown content.
    looks_for: ClassVar[str]
    #: Column roles that the caller may map; any other mapping rules the format out.
    roles: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """Whether the content is of this kind; looks at field names and first values only."""

    @abstractmethod
    def read(self, reading: Reading) -> ScoreFile:
        """Check every record and build the result."""


def _tight(ragged: Ragged) -> Ragged:
    """As wide as the longest row that is left, where items carry no labels."""
    if ragged.columns is not None:
        return ragged
    return Ragged(ragged.values, ragged.offsets, None, int(ragged.sizes.max(initial=0)))


def model_name(path: str) -> str:
    """The stem of a path: ``a/b.jsonl.gz`` is model ``b``."""
    name = PurePath(path).name
    for ending in (".gz", ".gzip"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return PurePath(name).stem or name or "model"
