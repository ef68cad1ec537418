"""The generic wide shape: one record an instance, scores in a list, the truth beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes, best_problems, rank_problems
from prefcal.data.ragged import FloatArray, IntArray, Ragged
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.readers.stated import best_lists, pair_matrices
from prefcal.data.roles import ROLES
from prefcal.data.source import ScoreFile

OUTCOMES = ("ranks", "ratings", "best", "chosen/rejected")


class Wide(Format):
    """``scores`` or ``pair_probs``, and one of ``ranks``, ``ratings``, ``best``, ``chosen`` and ``rejected``.

    ``pair_probs`` is a matrix a record, entry [a][b] the probability that candidate a is better than b (null = not
    stated), or for two candidates one number, that the first is better; ``best_probs`` beside it is each candidate's
    probability to be the best. Where a file has scores too, the probabilities are read only if their role is mapped.
    With either, ``chosen`` and ``rejected`` are indices (or lists of them): all chosen candidates are better than all
    rejected ones. Without, they are the scores of the two answers of one pair. ``ties`` applies to ranks
    and ratings.
    """

    name = "wide"
    looks_for = (
        "'scores' (a list) or 'pair_probs' (a matrix) with one of 'ranks', 'ratings', 'best', 'chosen' and "
        "'rejected'; or two scores 'chosen' and 'rejected'"
    )
    roles = frozenset({"scores", "ranks", "ratings", "best", "chosen", "rejected", "id", "pair_probs", "best_probs"})

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        name = {role: columns.get(role, role) for role in ROLES}
        if {name["scores"], name["pair_probs"]} & set(content.names):
            return True
        return {name["chosen"], name["rejected"]} <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        stated = _states_pairs(reading)
        if not stated and not reading.has(reading.name_of("scores")):
            return self._pairs(reading)
        kind = choose_outcome(reading, OUTCOMES)
        field = reading.name_of("pair_probs" if stated else "scores")
        pairs, best = None, None
        if stated:
            pairs, sizes = pair_matrices(reading, field)
            scores = values.ragged_of(np.zeros(int(sizes.sum())), sizes)  # their place: how many candidates there are
            if reading.has(reading.name_of("best_probs")):
                best = best_lists(reading, reading.name_of("best_probs"), scores, field)
        else:
            scores = values.candidate_scores(reading, field)
        outcomes = {
            "ranks": self._ranks,
            "ratings": self._ratings,
            "best": self._best,
            "chosen/rejected": self._chosen,
            "none": self._none,
        }[kind](reading, scores, field)
        item_fields = {}
        for name in reading.item_columns:
            item_fields[name] = values.number_lists(reading, name)
            values.same_lengths(reading, scores, field, item_fields[name], name)
        labels = {}
        if reading.items == "labelled":
            first = int(scores.sizes[reading.ok][0]) if reading.ok.any() else 0
            reading.reject_where(
                scores.sizes != first,
                field,
                lambda i: (
                    f"has {scores.sizes[i]} candidates, the first record has {first}; labelled items must all be "
                    "there in each record (the long shape allows instances without some items)"
                ),
            )
            labels = {"labels": list(range(first))}
        ids = record_ids(reading, scores if pairs is None else pairs)
        keep = reading.kept()
        taken = [*(reading.name_of(role) for role in ROLES if role in self.roles), *item_fields]
        return reading.finish(
            self.name,
            kind,
            scores=scores.take(keep) if pairs is None else None,
            pair_probs=None if pairs is None else _matrices(pairs.take(keep), scores.sizes[keep]),
            best_probs=None if best is None else best.take(keep),
            outcomes=outcomes(keep),
            items=reading.items or "exchangeable",
            fields={k: v[keep] for k, v in values.group_fields(reading, taken).items()},
            ids=None if ids is None else ids[keep],
            settings=labels,
            item_fields={name: column.take(keep) for name, column in item_fields.items()},
        )

    @staticmethod
    def _none(reading: Reading, scores: Ragged, field: str) -> Any:
        unknown = scores.with_values(np.full(len(scores.values), np.nan))
        return lambda keep: no_outcomes(unknown.take(keep))

    def _ranks(self, reading: Reading, scores: Ragged, field: str) -> Any:
        name = reading.name_of("ranks")
        ranks = values.number_lists(reading, name, nulls=True)
        values.same_lengths(reading, scores, field, ranks, name)
        for wrong, why in rank_problems(ranks):
            reading.reject_where(wrong, name, why)
        return lambda keep: Outcomes.from_ranks(ranks.take(keep), ties=reading.ties)

    def _ratings(self, reading: Reading, scores: Ragged, field: str) -> Any:
        name = reading.name_of("ratings")
        ratings = values.number_lists(reading, name, nulls=True)
        values.same_lengths(reading, scores, field, ratings, name)
        rated = values.any_in_row(ratings, ~np.isnan(ratings.values))
        reading.reject_where(~rated, name, lambda i: "no candidate is rated")
        return lambda keep: Outcomes.from_ratings(ratings.take(keep), ties=reading.ties)

    def _best(self, reading: Reading, scores: Ragged, field: str) -> Any:
        best = index_sets(reading, reading.name_of("best"), scores.sizes)
        return lambda keep: Outcomes.from_best(best.take(keep), n_items=scores.sizes[keep])

    def _chosen(self, reading: Reading, scores: Ragged, field: str) -> Any:
        names = [reading.name_of("chosen"), reading.name_of("rejected")]
        chosen, rejected = (index_sets(reading, name, scores.sizes) for name in names)
        ranks = np.full(len(scores.values), np.nan)
        for sets, rank in ((chosen, 1.0), (rejected, 2.0)):
            rows = values.rows_of(sets)
            usable = reading.ok[rows]
            flat = scores.offsets[rows[usable]] + sets.values[usable].astype(np.intp)
            both = np.zeros(len(scores), dtype=np.bool_)
            both[rows[usable][~np.isnan(ranks[flat])]] = True
            reading.reject_where(both, names[1], lambda i: "names a candidate that is chosen as well")
            ranks[flat] = rank
        return lambda keep: Outcomes.from_ranks(scores.with_values(ranks).take(keep))

    def _pairs(self, reading: Reading) -> ScoreFile:
        if reading.item_columns:
            raise reading.error("has no lists of candidates, so no column with a number for each candidate")
        names = [reading.name_of("chosen"), reading.name_of("rejected")]
        for name in names:
            value = reading.content.sample(name)
            if not isinstance(value, bool | int | float | list):
                raise reading.error(
                    f"is {shown(value)}: without 'scores', 'chosen' and 'rejected' must be two answers' scores; "
                    "name the columns that hold them (roles chosen and rejected)",
                    reading.content.where(0),
                    name,
                )
        return read_pairs(
            reading, self.name, names[0], names[1], [reading.name_of(r) for r in ROLES if r in self.roles]
        )


def _states_pairs(reading: Reading) -> bool:
    """Whether the forecasts are probabilities of pairs; scores beside them win unless the role was mapped."""
    if not reading.has(reading.name_of("pair_probs")):
        return False
    if "pair_probs" in reading.columns or not reading.has(reading.name_of("scores")):
        return True
    reading.notes.append(
        "holds scores and probabilities of pairs: the scores are taken (map pair_probs for the others)"
    )
    return False


def _matrices(pairs: Ragged, sizes: IntArray) -> FloatArray | Ragged:
    """(n, m, m) where all records have m candidates, else rows of m * m numbers."""
    m = int(sizes[0])
    return pairs.values.reshape(-1, m, m) if (sizes == m).all() else pairs


def choose_outcome(reading: Reading, kinds: tuple[str, ...]) -> str:
    """The one outcome among ``kinds`` that the file has, or that the caller mapped; DataError if none or several.

    ``none`` where there is none and none is needed.
    """
    here = [k for k in kinds if all(reading.has(reading.name_of(role)) for role in k.split("/"))]
    mapped = [k for k in here if any(role in reading.columns for role in k.split("/"))]
    here = mapped or here
    if len(here) == 1:
        return here[0]
    if not here and not reading.needs_outcome:
        return "none"
    if not here:
        found = ", ".join(ascii(n) for n in reading.content.names[:20])
        raise reading.error(
            f"has scores but no outcome: nothing says which candidate is better; looked for {', '.join(kinds)}, "
            f"found {found}; name the column (e.g. columns={{'{kinds[0]}': 'NAME'}})"
        )
    raise reading.error(
        f"holds several outcomes ({', '.join(here)}); say which one is the truth by mapping its role, e.g. "
        f"columns={{'{here[0].split('/')[0]}': {reading.name_of(here[0].split('/')[0])!r}}}"
    )


def no_outcomes(unknown: Ragged) -> Outcomes:
    """One record an instance of which nothing is known."""
    return Outcomes(unknown, "unknown", np.arange(len(unknown), dtype=np.intp))


def index_sets(reading: Reading, name: str, sizes: IntArray) -> Ragged:
    """Candidates named by an index or a list of indices, counted from 0, each checked."""
    plain = values.arrow_numbers(reading.content.arrow(name))
    column = [] if plain is not None else reading.content.column(name)
    wrapped = []
    for i, value in enumerate(column):
        wrapped.append(value if isinstance(value, list) else [value])
        entries = wrapped[-1]
        problem = None
        if value is MISSING:
            problem = reading.missing_field(name)
        elif not entries:
            problem = "is an empty list: at least one candidate must be named"
        elif not all(type(x) is int or (type(x) is float and x.is_integer()) for x in entries):
            odd = next(x for x in entries if not (type(x) is int or (type(x) is float and x.is_integer())))
            problem = f"is {shown(odd)} where an index of a candidate (counted from 0) is expected"
        elif max(map(abs, entries)) > values.EXACT_INTEGER:
            problem = f"is {shown(max(entries, key=abs))}, which is no candidate"
        if problem is not None:
            reading.reject(i, name, problem)
            wrapped[-1] = []
    sets = Ragged.from_rows(wrapped) if plain is None else Ragged.from_dense(plain[:, None], drop_nan=False)
    for wrong, why in best_problems(sets, sizes):
        reading.reject_where(wrong, name, lambda i, why=why: f"{_brief(sets, i)} {why(i)}")  # type: ignore[misc]
    return sets


def _brief(sets: Ragged, i: int) -> str:
    row = [f"{x:.12g}" for x in sets.values[sets.offsets[i] : sets.offsets[i + 1]][:12]]
    return f"= {', '.join(row)}"


def read_pairs(reading: Reading, fmt: str, chosen: str, rejected: str, taken: list[str]) -> ScoreFile:
    """One pair a record: two score columns, the first one of the better answer."""
    pairs = np.stack([values.numbers(reading, chosen), values.numbers(reading, rejected)], axis=1)
    scores = Ragged.from_dense(pairs, drop_nan=False)
    ids = record_ids(reading, scores)
    keep = reading.kept()
    scores = scores.take(keep)
    return reading.finish(
        fmt,
        "chosen/rejected",
        scores=scores,
        outcomes=Outcomes.from_best(np.zeros(len(scores), dtype=np.intp), n_items=2),
        items=reading.items or "exchangeable",
        fields={k: v[keep] for k, v in values.group_fields(reading, [chosen, rejected, *taken]).items()},
        ids=None if ids is None else ids[keep],
    )


def record_ids(reading: Reading, scores: Ragged) -> Any:
    """The ``id`` column, each id once (repeats are rejected); None when there is no such column."""
    name = reading.name_of("id")
    if not reading.has(name):
        return None
    found = values.keys(reading, name)
    reading.drop_duplicates(found, scores, name)
    return values.as_ids(found)
