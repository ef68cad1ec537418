"""The PandaLM test set (WeOpenML/PandaLM): three human votes on each pair of answers, no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile

VOTES: Final = ("annotator1", "annotator2", "annotator3")


class PandaLM(Format):
    """Humans as forecasters of each other: ``annotator1``..``annotator3``, 1 | 2 = that answer is better, 0 = tie.

    The file has no model scores. Each vote is one row: the forecast P(response 1 better) is the share of the other
    two annotators who say so (a tie counts half), the outcome is the vote (a tie: equally good). The three rows of
    a pair share a number in ``clusters``.
    """

    name = "pandalm"
    looks_for = "PandaLM: votes 'annotator1', 'annotator2', 'annotator3'"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return set(VOTES) <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        votes = np.zeros((len(reading.content), 3), dtype=np.intp)
        for a, name in enumerate(VOTES):
            for i, vote in enumerate(reading.content.column(name)):
                if type(vote) is int and vote in (0, 1, 2):
                    votes[i, a] = vote
                else:
                    problem = (
                        reading.missing_field(name) if vote is MISSING else f"is {shown(vote)}; it must be 0, 1 or 2"
                    )
                    reading.reject(i, name, problem)
        ids = None
        if reading.has("idx"):
            found = values.keys(reading, "idx")
            repeated = values.ragged_of(votes.astype(np.float64).ravel(), np.full(len(votes), 3, dtype=np.intp))
            reading.drop_duplicates(found, repeated, "idx")
            ids = values.as_ids(found)
        keep = reading.kept()
        votes = votes[keep]
        n = len(votes)
        first = np.array([0.5, 1.0, 0.0])[votes]  # credit of response 1
        forecast = ((first.sum(axis=1, keepdims=True) - first) / 2).ravel()
        probs = np.full((3 * n, 2, 2), np.nan)
        probs[:, 0, 1], probs[:, 1, 0] = forecast, 1 - forecast
        ranks = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 1.0]])[votes.ravel()]
        fields = values.group_fields(reading, [*VOTES, "idx", "instruction", "input", "response1", "response2"])
        fields = {k: np.repeat(v[keep], 3) for k, v in fields.items()}
        fields["annotator"] = np.tile(np.array(VOTES), n)
        clusters = np.repeat(np.arange(n, dtype=np.intp), 3)
        reading.notes.append(
            f"no model: each of the {n} x 3 votes is forecast by the share of the other two annotators (a tie counts "
            "half); the three rows of a pair depend on each other (clusters)"
        )
        return reading.finish(
            self.name,
            "votes",
            scores=None,
            pair_probs=probs,
            outcomes=Outcomes.from_ranks(ranks, ties="equal"),
            items="exchangeable",
            fields=fields,
            ids=None if ids is None else np.array([f"{v}/{a}" for v in ids[keep] for a in VOTES]),
            clusters=clusters,
        )
