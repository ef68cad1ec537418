"""What a reader hands over: scores, outcomes, groups, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray, Ragged


@dataclass(frozen=True, slots=True)
class InputInfo:
    """Where a model's scores came from (design 4.4 ``inputs``).

    Parameters
    ----------
    path
        As the caller gave it.
    sha256
        Of the file's bytes.
    format
        Name of the format that was recognised.
    n_instances
        Forecasts read.
    n_items
        Smallest and largest number of items of an instance.
    n_skipped
        Records left out (only with ``on_error="skip"``).
    outcome
        What the truth is made from: ``best``, ``ranks``, ``ratings``, ``chosen/rejected``, ``votes``.
    items
        ``labelled`` or ``exchangeable``.
    model
        The model's name.
    settings
        Choices that change the numbers, e.g. ``{"aggregate": "min"}``; ``{"labels": [...]}`` names labelled items.
    skipped
        The first messages about records that were left out.
    notes
        Warnings of the reader.
    """

    path: str
    sha256: str
    format: str
    n_instances: int
    n_items: tuple[int, int]
    n_skipped: int
    outcome: str
    items: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """The JSON entry."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "format": self.format,
            "model": self.model,
            "n_instances": self.n_instances,
            "n_items": list(self.n_items),
            "n_skipped": self.n_skipped,
            "outcome": self.outcome,
            "items": self.items,
            "settings": dict(self.settings),
            "skipped": list(self.skipped),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """One model's forecasts and the truth about them, read from one file.

    Parameters
    ----------
    scores
        Log-utilities as stored, one row an instance; None for models that state pair probabilities only.
    pair_probs
        (n, m, m), ``[i, a, b]`` = P(a before b) in [0, 1], NaN where the file states none; rows of ``size * size``
        numbers where records with matrices differ in size; None when there are scores.
    outcomes
        The truth; ``outcomes.instance`` counts the rows of ``scores`` or ``pair_probs``.
    fields
        Scalar columns usable as groups, each (n,): numbers, or strings with ``(missing)`` where a record has none.
    ids
        (n,) unique keys of the instances, for joining the files of several models; None when the file has none.
    info
        Where all this came from.
    clusters
        (n,) forecasts that depend on each other share a number; None when each row stands for itself.
    item_fields
        Columns asked for with one number a candidate (length, place shown, ...), of the same sizes as the scores.
    best_probs
        Beside ``pair_probs``: each candidate's probability to be the best; None where the file states none.
    """

    scores: Ragged | None
    pair_probs: FloatArray | Ragged | None
    outcomes: Outcomes
    fields: dict[str, npt.NDArray[Any]]
    ids: npt.NDArray[Any] | None
    info: InputInfo
    clusters: IntArray | None = None
    item_fields: dict[str, Ragged] = field(default_factory=dict)
    best_probs: Ragged | None = None

    def __len__(self) -> int:
        return self.info.n_instances

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """(n,) number of items of each instance."""
        if self.scores is not None:
            return self.scores.sizes
        sizes = np.zeros(len(self), dtype=np.intp)
        sizes[self.outcomes.instance] = self.outcomes.sizes
        return sizes
