"""Per-prompt result files of RewardBench 1 and 2 (allenai/reward-bench)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import Ragged
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING, printable
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile

TEXTS: Final = ("text", "prompt", "text_chosen", "text_rejected")


class RewardBench1(Format):
    """Pairs: ``eval-set-scores`` files (columns) and ``_outputs.jsonl`` (records) of RewardBench 1.

    ``scores_chosen`` and ``scores_rejected`` are numbers or one-element lists. ``subset`` and other scalar columns
    are groups; texts are not kept.
    """

    name = "rewardbench-1"
    looks_for = "RewardBench 1: 'scores_chosen' and 'scores_rejected'"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return {"scores_chosen", "scores_rejected"} <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        names = ("scores_chosen", "scores_rejected")
        pairs = np.stack([values.numbers(reading, name) for name in names], axis=1)
        scores = Ragged.from_dense(pairs, drop_nan=False)
        ids = subset_ids(reading, scores)
        if reading.has("results"):
            _compare_results(reading, pairs)
        keep = reading.kept()
        fields = values.group_fields(reading, [*names, *TEXTS, "results", "id"])
        scores = scores.take(keep)
        return reading.finish(
            self.name,
            "chosen/rejected",
            scores=scores,
            outcomes=Outcomes.from_best(np.zeros(len(scores), dtype=np.intp), n_items=2),
            items="exchangeable",
            fields={k: v[keep] for k, v in fields.items()},
            ids=None if ids is None else ids[keep],
        )


class RewardBench2(Format):
    """Best-of-k: ``scores``, ``num_correct`` for each prompt, as columns or records.

    The first ``num_correct`` candidates are right, the others wrong; neither are ordered among themselves. The
    stored ``results`` are not used (those of Ties rows do not mean what their name says). ``id`` is unique only
    within a ``subset``, so ``ids`` are ``subset/id``; where even that key repeats with different scores (a fault
    of many published files), rows are told apart by their order.
    """

    name = "rewardbench-2"
    looks_for = "RewardBench 2: 'scores' (a list) and 'num_correct'"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return {"scores", "num_correct"} <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        scores = values.candidate_scores(reading, "scores")
        correct = values.numbers(reading, "num_correct")
        values.whole_numbers(reading, correct, "num_correct", 1, np.maximum(scores.sizes, 1))
        self._check_count(reading)
        ids = subset_ids(reading, scores)
        keep = reading.kept()
        fields = values.group_fields(reading, ["scores", "results", "id", *TEXTS])
        scores, count = scores.take(keep), correct[keep]
        is_best = scores.flat_columns() < np.repeat(count, scores.sizes)
        ranks = scores.with_values(np.where(is_best, 1.0, 2.0))
        return reading.finish(
            self.name,
            "best",
            scores=scores,
            outcomes=Outcomes(ranks, "unknown", np.arange(len(scores), dtype=np.intp)),
            items="exchangeable",
            fields={k: v[keep] for k, v in fields.items()},
            ids=None if ids is None else ids[keep],
        )

    @staticmethod
    def _check_count(reading: Reading) -> None:
        stated = reading.content.meta.get("n_items")
        found = len(reading.content) + reading.content.n_lost
        if type(stated) is int and stated != found:
            message = f"its metadata announces {stated} records, but it holds {found}: it was cut off or edited"
            if not reading.problems.skip:
                raise reading.error(message, None, "n_items")
            reading.notes.append(message)


def subset_ids(reading: Reading, scores: Ragged) -> Any:
    """Keys ``subset/id`` (``id`` alone without subsets); row numbers when even they repeat; None without ids."""
    if not reading.has("id"):
        return None
    column = reading.content.column("id")
    for i, value in enumerate(column):
        if value is None or value is MISSING or isinstance(value, list | dict | bool):
            problem = reading.missing_field("id") if value is MISSING else "must be text or a number"
            reading.reject(i, "id", problem)
    subsets = reading.content.column("subset") if reading.has("subset") else None
    found = (
        [str(v) for v in column] if subsets is None else [f"{s}/{v}" for s, v in zip(subsets, column, strict=True)]
    )
    clashes = reading.drop_duplicates(found, scores, "id", conflicts="tell")
    if clashes is None:
        return np.array(found)
    at = int(np.flatnonzero(clashes)[0])
    reading.notes.append(
        f"{int(clashes.sum())} records repeat the key of an earlier one with other scores (first: "
        f"{reading.content.where(at)}, {printable(found[at])!r}); records are told apart by their order"
    )
    return np.array([f"#{i + 1}" for i in range(len(found))])


def _compare_results(reading: Reading, pairs: Any) -> None:
    stored = reading.content.column("results")
    if not all(type(v) in (int, float) for v in stored):
        return
    with np.errstate(invalid="ignore"):
        wins = np.array([v == 1 for v in stored])
        differs = reading.ok & (wins != (pairs[:, 0] > pairs[:, 1]))
    if differs.any():
        first = reading.content.where(int(np.flatnonzero(differs)[0]))
        reading.notes.append(
            f"'results' of {int(differs.sum())} of {int(reading.ok.sum())} records is not 1 exactly where "
            f"scores_chosen > scores_rejected (first: {first}); only the scores are used"
        )
