"""The metric table of HANNA (dig-team/hanna-benchmark-asg): story systems rated by humans and by metrics."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Final

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, Ragged
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import shown
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile

CRITERIA: Final = ("Relevance", "Coherence", "Empathy", "Surprise", "Engagement", "Complexity")


class Hanna(Format):
    """One row a system, one column a criterion or metric, each cell a list with one number a prompt.

    ``columns={"scores": METRIC, "ratings": CRITERION}`` chooses the metric to audit and the human criterion that is
    the truth. Items are the systems (labelled); instances are the prompts. A metric enters as it is: for a
    distance, higher is not better, and the audit will say so.
    """

    name = "hanna"
    looks_for = "HANNA: a column 'Model' and criteria such as 'Relevance' whose cells are lists"
    roles = frozenset({"scores", "ratings"})

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        present = [c for c in CRITERIA if c in content.names]
        return "Model" in content.names and bool(present) and isinstance(content.sample(present[0]), list)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        names = reading.content.names
        metrics = [c for c in names if c not in CRITERIA and c != "Model"]
        criteria = [c for c in names if c in CRITERIA]
        if {"scores", "ratings"} - reading.columns.keys():
            raise reading.error(
                "holds many metrics; choose columns={'scores': METRIC, 'ratings': CRITERION}; criteria: "
                f"{', '.join(criteria)}; metrics: {', '.join(metrics)}"
            )
        systems = values.keys(reading, "Model")
        scores, ratings = (_table(reading, reading.columns[role]) for role in ("scores", "ratings"))
        if scores.shape != ratings.shape:
            raise reading.error(
                f"has {ratings.shape[1]} numbers a system, {reading.columns['scores']!r} has {scores.shape[1]}",
                None,
                reading.columns["ratings"],
            )
        if len(set(systems)) < len(systems):
            raise reading.error("names a system twice", None, "Model")
        if len(systems) < 2:
            raise reading.error("has a single system: there is nothing to compare it with", None, "Model")
        reading.notes.append("the metric's values are taken as log-utilities; for a distance, higher is not better")
        return reading.finish(
            self.name,
            "ratings",
            scores=Ragged.from_dense(np.ascontiguousarray(scores.T), drop_nan=False),
            outcomes=Outcomes.from_ratings(np.ascontiguousarray(ratings.T), ties=reading.ties),
            items="labelled",
            ids=np.arange(scores.shape[1]),
            settings={
                "scores": reading.columns["scores"],
                "ratings": reading.columns["ratings"],
                "labels": [str(s) for s in systems],
            },
        )


def _table(reading: Reading, name: str) -> FloatArray:
    """(systems, prompts) numbers of a column. A bad cell is a system's: leaving it out is no way to go on."""
    rows: list[list[float]] = []
    for i, cell in enumerate(reading.content.column(name)):
        value = cell
        if isinstance(cell, str):
            try:
                value = ast.literal_eval(cell)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                value = cell
        where = reading.content.where(i)
        if not isinstance(value, list) or not value:
            raise reading.error(f"is {shown(value)} where a list of numbers is expected", where, name)
        row = []
        for j, entry in enumerate(value):
            x, problem = values.number(entry)
            if problem is not None:
                raise reading.error(f"prompt {j} {problem}", where, name)
            row.append(x)
        if rows and len(row) != len(rows[0]):
            raise reading.error(f"has {len(row)} numbers, the row before has {len(rows[0])}", where, name)
        rows.append(row)
    return np.array(rows)
