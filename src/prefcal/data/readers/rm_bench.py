"""RM-Bench result files (THU-KEG/RM-Bench, ``scripts/run_rm.py``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.readers.wide import record_ids
from prefcal.data.source import ScoreFile


class RMBench(Format):
    """``score_chosen``, ``score_rejected``: three answers each (concise, plain, markdown).

    Each chosen answer is better than each rejected one, whatever the style: 9 known pairs a prompt.
    """

    name = "rm-bench"
    looks_for = "RM-Bench: 'score_chosen' and 'score_rejected' (lists)"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        names = ("score_chosen", "score_rejected")
        return set(names) <= set(content.names) and all(isinstance(content.sample(n), list) for n in names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        chosen, rejected = (
            values.number_lists(reading, n, what="answer") for n in ("score_chosen", "score_rejected")
        )
        values.same_lengths(reading, chosen, "score_chosen", rejected, "score_rejected")
        values.check_candidates(reading, chosen.sizes + rejected.sizes, "score_chosen")
        sizes = chosen.sizes + rejected.sizes
        both = values.ragged_of(np.empty(int(sizes.sum())), sizes)
        is_chosen = both.flat_columns() < np.repeat(chosen.sizes, sizes)
        both.values[is_chosen], both.values[~is_chosen] = chosen.values, rejected.values
        ids = record_ids(reading, both)
        keep = reading.kept()
        scores = both.take(keep)
        ranks = both.with_values(np.where(is_chosen, 1.0, 2.0)).take(keep)
        fields = values.group_fields(
            reading, ["score_chosen", "score_rejected", "chosen", "rejected", "prompt", "id"]
        )
        return reading.finish(
            self.name,
            "best",
            scores=scores,
            outcomes=Outcomes(ranks, "unknown", np.arange(len(scores), dtype=np.intp)),
            items="exchangeable",
            fields={k: v[keep] for k, v in fields.items()},
            ids=None if ids is None else ids[keep],
        )
