"""Rating files of LLMBar (princeton-nlp/LLMBar): a judge's rating of two outputs and the better one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import Ragged
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile


class LLMBar(Format):
    """``label`` (1 or 2) and ``results`` with ``score_1`` and ``score_2``, each ``[digits, finish reason]``.

    The stored winners are not used: for equal ratings they follow the order of presentation. A rating that the
    judge did not give (empty text) makes the record unusable.
    """

    name = "llmbar"
    looks_for = "LLMBar ratings: 'label' (1|2) and 'results' with 'score_1' and 'score_2'"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        if not {"label", "results"} <= set(content.names):
            return False
        results = content.sample("results")
        return (
            isinstance(results, list) and bool(results) and isinstance(results[0], dict) and "score_1" in results[0]
        )

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        results, labels = reading.content.column("results"), reading.content.column("label")
        pairs = np.full((len(results), 2), np.nan)
        best = np.zeros(len(results), dtype=np.intp)
        for i, (result, label) in enumerate(zip(results, labels, strict=True)):
            if type(label) is not int or label not in (1, 2):
                reading.reject(i, "label", f"is {shown(label)}; it must be 1 or 2")
                continue
            if not isinstance(result, list) or len(result) != 1 or not isinstance(result[0], dict):
                reading.reject(i, "results", f"is {shown(result)} where a list of one object is expected")
                continue
            best[i] = label - 1
            for j in (0, 1):
                pairs[i, j], problem = _rating(result[0].get(f"score_{j + 1}", MISSING))
                if problem is not None:
                    reading.reject(i, f"score_{j + 1}", problem)
                    break
        keep = reading.kept()
        reading.notes.append("ratings of a judge are taken as log-utilities")
        return reading.finish(
            self.name,
            "best",
            scores=Ragged.from_dense(pairs[keep], drop_nan=False),
            outcomes=Outcomes.from_best(best[keep], n_items=2),
            items="exchangeable",
        )


def _rating(value: Any) -> tuple[float, str | None]:
    text = value[0] if isinstance(value, list) and value else value
    if not isinstance(text, str):
        return np.nan, f"is {shown(value)} where [rating, finish reason] is expected"
    if not text.strip():
        reason = f" ({shown(value[1]).removeprefix('text ')})" if isinstance(value, list) and len(value) > 1 else ""
        return np.nan, f"the rating is missing{reason}"
    if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text.strip(), re.ASCII) is None:
        return np.nan, f"is {shown(text)} where a rating in digits is expected"
    return float(text), None
