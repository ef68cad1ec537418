"""The generic long shape: one row a candidate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes, rank_problems
from prefcal.data.ragged import IntArray, Ragged
from prefcal.data.readers import values
from prefcal.data.readers.content import Content, LongText
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import BoolArray, Format, Reading
from prefcal.data.readers.wide import choose_outcome, no_outcomes
from prefcal.data.roles import ROLES
from prefcal.data.source import ScoreFile

OUTCOMES = ("rank", "rating", "best")


class Long(Format):
    """``instance``, ``score`` and one of ``rank``, ``rating``, ``best`` (true or 1 for the best candidates).

    Rows of an instance need not be adjacent. ``id`` names the candidate: the same one twice in an instance is an
    error, and with labelled items it says which item a row is about. A bad row makes its whole instance unusable,
    since a candidate that silently goes missing changes every probability of the others.
    """

    name = "long"
    looks_for = "'instance', 'score' and one of 'rank', 'rating', 'best' in one row a candidate"
    roles = frozenset({"instance", "score", "rank", "rating", "best", "id"})

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return {columns.get("instance", "instance"), columns.get("score", "score")} <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        if reading.content.n_lost:
            raise reading.error(
                f"cannot be read in part: it is unknown to which instance the lost rows belong "
                f"({reading.problems.messages[0]}); mend or delete them"
            )
        kind = choose_outcome(reading, OUTCOMES)
        n_rows = len(reading.content)
        code, names = self._instances(reading)
        reading.group_rows(code, len(names))
        reading.reject_broken()
        self._check_keys(reading, names)
        repeated = self._candidates(reading, code)
        score = values.numbers(reading, reading.name_of("score"))
        items = {name: values.numbers(reading, name) for name in reading.item_columns}
        outcome_name = reading.name_of(kind)
        if kind == "best":
            truth = self._flags(reading, outcome_name)
        elif kind == "none":
            truth = np.full(n_rows, np.nan)
        else:
            truth = values.numbers(reading, outcome_name, nulls=True)

        rows = np.flatnonzero(~repeated)
        rows = rows[np.argsort(code[rows], kind="stable")]
        sizes = np.bincount(code[rows], minlength=len(names))
        first_row = rows[np.cumsum(sizes) - sizes]
        unit_of = reading.unit
        # From here on problems are of instances: name them by their first row.

        def reject(mask: BoolArray, name: str, why: Any) -> None:
            flags = np.zeros(n_rows, dtype=np.bool_)
            flags[first_row[mask]] = True
            assert unit_of is not None
            reading.reject_where(
                flags, name, lambda i: f"instance {_shown_key(names[unit_of[i]])}: {why(int(unit_of[i]))}"
            )

        limit = reading.max_candidates
        score_name = reading.name_of("score")
        reject(
            sizes > limit,
            score_name,
            lambda u: f"{sizes[u]} candidates; at most {limit} are read (raise max_candidates)",
        )
        reject(sizes == 1, score_name, lambda u: "only one candidate: there is nothing to compare it with")
        scores = values.ragged_of(score[rows], sizes)
        keys = scores.with_values(truth[rows])
        if kind == "best":
            marked = values.any_in_row(keys, keys.values == 1)
            reject(~marked, outcome_name, lambda u: "no candidate is marked best")
        elif kind == "rank":
            for wrong, why in rank_problems(keys):
                reject(wrong, outcome_name, why)
        elif kind == "rating":
            rated = values.any_in_row(keys, ~np.isnan(keys.values))
            reject(~rated, outcome_name, lambda u: "no candidate is rated")

        lists = [keys, *(keys.with_values(column[rows]) for column in items.values())]
        labels: dict[str, Any] = {}
        if reading.items == "labelled":
            scores, lists, labels = self._label(reading, rows, sizes, scores, lists)
        keep = reading.kept()
        keys = lists[0]
        scores, keys = scores.take(keep), keys.take(keep)
        if kind == "best":
            outcomes = Outcomes.from_ranks(keys.with_values(2.0 - keys.values))
        elif kind == "rank":
            outcomes = Outcomes.from_ranks(keys, ties=reading.ties)
        elif kind == "none":
            outcomes = no_outcomes(keys)
        else:
            outcomes = Outcomes.from_ratings(keys, ties=reading.ties)
        taken = [*(reading.name_of(role) for role in ROLES if role in self.roles), *items]
        fields = {}
        for name, column in values.group_fields(reading, taken).items():
            per_unit = column[first_row]
            same = column[rows] == np.repeat(per_unit, sizes)
            if column.dtype.kind == "f":
                same |= np.isnan(column[rows]) & np.isnan(np.repeat(per_unit, sizes))
            if same.all():
                fields[name] = per_unit[keep]
        return reading.finish(
            self.name,
            kind,
            scores=scores,
            outcomes=outcomes,
            items=reading.items or "exchangeable",
            fields=fields,
            ids=values.as_ids(names)[keep],
            settings=labels,
            item_fields={name: column.take(keep) for name, column in zip(items, lists[1:], strict=True)},
        )

    @staticmethod
    def _instances(reading: Reading) -> tuple[IntArray, list[Hashable]]:
        """Instance of each row, numbered by first appearance, and their keys."""
        name = reading.name_of("instance")
        column = reading.content.arrow(name)
        if column is not None and column.type.num_fields == 0:  # not a list or struct
            if hasattr(column.type, "index_type"):  # a dictionary of each chunk's own
                column = column.cast(column.type.value_type)
            encoded = column.dictionary_encode(null_encoding="encode").combine_chunks()
            encoded = encoded if hasattr(encoded, "indices") else encoded.chunk(0)
            return encoded.indices.to_numpy(zero_copy_only=False).astype(np.intp), encoded.dictionary.to_pylist()
        found: dict[Any, int] = {}
        names: list[Any] = []
        code = np.zeros(len(reading.content), dtype=np.intp)
        for i, value in enumerate(reading.content.column(name)):
            code[i] = found.setdefault(_tagged(value), len(names))
            if code[i] == len(names):
                names.append(value.digest if isinstance(value, LongText) else value)
        return code, names

    @staticmethod
    def _check_keys(reading: Reading, names: list[Hashable]) -> None:
        name = reading.name_of("instance")
        assert reading.unit is not None
        first = np.zeros(len(names), dtype=np.intp)
        first[reading.unit[::-1]] = np.arange(len(reading.unit))[::-1]
        kind: type | None = None
        for u, key in enumerate(names):
            if key is MISSING or key is None:
                reading.reject(int(first[u]), name, f"is {shown(key)}: each row must name its instance")
            elif not isinstance(key, int | float | str) or isinstance(key, bool) or key != key:
                reading.reject(int(first[u]), name, f"is {shown(key)}; an instance must be text or a number")
            else:
                this = str if isinstance(key, str) else int
                kind = kind or this
                if this is not kind:
                    raise reading.error(
                        f"is {shown(key)}, but the instances before it are {'text' if kind is str else 'numbers'}; "
                        "use one type, or rows of one instance may be told apart",
                        reading.content.where(int(first[u])),
                        name,
                    )

    @staticmethod
    def _candidates(reading: Reading, code: IntArray) -> BoolArray:
        """Rows that repeat an earlier row exactly (skipped); a conflicting repeat makes the instance unusable."""
        repeated = np.zeros(len(code), dtype=np.bool_)
        name = reading.name_of("id")
        if not reading.has(name):
            return repeated
        column = [_hashable(v) for v in reading.content.column(name)]
        pairs = list(zip(code.tolist(), column))
        if len(set(pairs)) == len(pairs):
            return repeated
        others = [reading.name_of(r) for r in ("score", *OUTCOMES) if reading.has(reading.name_of(r))]
        contents = list(zip(*(map(_hashable, reading.content.column(c)) for c in others)))
        first: dict[Any, int] = {}
        for i, pair in enumerate(pairs):
            j = first.setdefault(pair, i)
            if j == i or pair[1] is None or pair[1] is MISSING:
                continue
            if contents[i] == contents[j]:
                reading.problems.record(
                    reading.content.where(i), name, f"repeats {reading.content.where(j)}: the same candidate again"
                )
                repeated[i] = True
            else:
                reading.reject(
                    i, name, f"the candidate of {reading.content.where(j)} again, with another score or outcome"
                )
        return repeated

    @staticmethod
    def _flags(reading: Reading, name: str) -> npt.NDArray[np.float64]:
        column = reading.content.column(name)
        out = np.zeros(len(column))
        for i, value in enumerate(column):
            if value is MISSING:
                reading.reject(i, name, reading.missing_field(name))
            elif value is None or isinstance(value, str | list | dict) or value not in (0, 1):
                reading.reject(
                    i, name, f"is {shown(value)}; it must be true or 1 for a best candidate, else false or 0"
                )
            else:
                out[i] = float(value)
        return out

    @staticmethod
    def _label(
        reading: Reading, rows: IntArray, sizes: IntArray, scores: Ragged, lists: list[Ragged]
    ) -> tuple[Ragged, list[Ragged], dict[str, Any]]:
        """Put each instance's candidates in the order of their labels."""
        name = reading.name_of("id")
        if not reading.has(name):
            raise reading.error(
                f"labelled items need a column that names each row's item ({name!r} is not there); map the role id"
            )
        labels = values.as_ids(values.keys(reading, name))
        universe, item = np.unique(labels, return_inverse=True)
        column = item[rows]
        order = np.lexsort((column, np.repeat(np.arange(len(sizes)), sizes)))
        offsets = scores.offsets
        placed = [Ragged(r.values[order], offsets, column[order], len(universe)) for r in (scores, *lists)]
        return placed[0], placed[1:], {"labels": universe.tolist()}


def _hashable(value: Any) -> Any:
    if isinstance(value, LongText):
        return value.digest
    return str(value) if isinstance(value, list | dict) else value


def _tagged(value: Any) -> tuple[int, Any]:
    """What tells instances apart: 1 and 1.0 are one, but true, "1" and [1] are others."""
    kind = 1 if isinstance(value, str | LongText) else 2 if isinstance(value, bool) else 0
    return (3, str(value)) if isinstance(value, list | dict) else (kind, _hashable(value))


def _shown_key(key: Any) -> str:
    return shown(key).removeprefix("text ")
