"""RMB result files (``my_run_rm.py``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import Ragged
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile


class RMB(Format):
    """Pairs: ``chosen_reward``, ``reject_reward``, ``category_path`` (its parts become ``category_1``, ...)."""

    name = "rmb"
    looks_for = "RMB: 'chosen_reward' and 'reject_reward'"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return {"chosen_reward", "reject_reward"} <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        names = ("chosen_reward", "reject_reward")
        scores = Ragged.from_dense(np.stack([values.numbers(reading, n) for n in names], axis=1), drop_nan=False)
        ids = None
        if reading.has("pair_uid"):
            found = values.keys(reading, "pair_uid")
            reading.drop_duplicates(found, scores, "pair_uid")
            ids = values.as_ids(found)
        keep = reading.kept()
        scores = scores.take(keep)
        fields = values.group_fields(reading, [*names, "is_correct", "pair_uid"])
        if "category_path" in fields:
            parts = [str(path).strip("/").split("/") for path in fields["category_path"]]
            for level in range(max(map(len, parts)) - 1):
                fields[f"category_{level + 1}"] = np.array(
                    [p[level] if level < len(p) - 1 else "(missing)" for p in parts]
                )
        return reading.finish(
            self.name,
            "chosen/rejected",
            scores=scores,
            outcomes=Outcomes.from_best(np.zeros(len(scores), dtype=np.intp), n_items=2),
            items="exchangeable",
            fields={k: v[keep] for k, v in fields.items()},
            ids=None if ids is None else ids[keep],
        )
