"""The reward-model files of the study: found, read, joined by problem."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, IntArray
from prefcal.data.readers import read
from prefcal.data.source import InputInfo
from prefcal.datasets import fetch, paper_file
from prefcal.datasets.reward_models import FILES, rewardmath_classifiers
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.errors import DataError

#: File stem -> public model, for the nine classifiers that RewardMATH's authors scored on both of their sets.
MODELS: Final = {
    "ArmoRM": "ArmoRM-Llama3-8B-v0.1",
    "Eurus-RM": "Eurus-RM-7b",
    "beaver": "beaver-7b-v2.0-reward",
    "grm_gemma": "GRM-Gemma-2B",
    "GRM_Gemma_2B": "GRM-Gemma-2B",
    "grm_llama3": "GRM-Llama3-8B",
    "GRM-Llama3-8B": "GRM-Llama3-8B",
    "internlm2": "internlm2-7b-reward",
    "internlm2_20b": "internlm2-20b-reward",
    "internlm2-20b": "internlm2-20b-reward",
    "oasst-rm": "oasst-rm-2.1-pythia-1.4b",
    "skywork_llama3": "Skywork-Reward-Llama-3.1-8B",
    "Skywork-Llama-3.1-8B": "Skywork-Reward-Llama-3.1-8B",
}

#: Columns of the table of 48 models: what is compared with the two statistics, and how it is called.
CATEGORIES: Final = {
    "leaderboard_score": "Leaderboard",
    "focus": "Focus",
    "safety": "Safety",
    "factuality": "Factuality",
    "precise_if": "Precise IF",
    "math": "Math",
}


@dataclass(frozen=True, slots=True)
class Scored:
    """One model on one benchmark; candidate 0 of every instance is (one of) the best.

    ``category`` (n,) names the subset of each instance, None where the benchmark has none; ``ids`` (n,) are keys.
    """

    benchmark: str
    model: str
    h: PlackettLuce
    y: Outcomes
    category: npt.NDArray[Any] | None
    ids: npt.NDArray[Any]
    info: InputInfo

    def take(self, rows: IntArray | npt.NDArray[np.bool_]) -> Scored:
        """Some instances."""
        category = None if self.category is None else self.category[rows]
        return Scored(
            self.benchmark, self.model, self.h[rows], self.y[rows], category, self.ids[rows], self.info
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """The published table, one row a model: accuracies and scores in 0..1."""

    models: tuple[str, ...]
    published: FloatArray
    error_rate: FloatArray
    scores: Mapping[str, FloatArray]
    n_examples: IntArray

    def __len__(self) -> int:
        return len(self.models)


def load_scores(benchmark: str, model: str, path: Path) -> Scored:
    """Read one score file.

    Raises
    ------
    DataError
        When the file states no scores or no ids, or candidate 0 is not (one of) the best of every instance.
    """
    file = read(path, model=model)
    if file.scores is None or file.ids is None:
        raise DataError("states no score for each candidate, or no key for each prompt", file=str(path))
    ranks = file.outcomes.ranks
    wrong = np.flatnonzero(ranks.values[ranks.offsets[:-1]] != 1)
    if len(wrong):
        raise DataError(
            "candidate 0 must be the chosen one, as in RewardMATH and RewardBench files; here it is not",
            file=str(path),
            row=f"instance {wrong[0]}",
        )
    category = file.fields.get("subset")
    return Scored(benchmark, model, PlackettLuce(file.scores), file.outcomes, category, file.ids, file.info)


def joined(files: Sequence[Scored]) -> list[Scored]:
    """The same instances in the same order for every model: those that all have, in the order of the first.

    Raises
    ------
    DataError
        When no instance is common to all.
    """
    common = set(files[0].ids.tolist()).intersection(*(f.ids.tolist() for f in files[1:]))
    order = [i for i in files[0].ids.tolist() if i in common]
    if not order:
        raise DataError(f"{files[0].benchmark}: the files of the models have no problem in common")
    out = []
    for f in files:
        place = {key: row for row, key in enumerate(f.ids.tolist())}
        out.append(f.take(np.array([place[key] for key in order], dtype=np.intp)))
    return out


def rewardmath() -> list[Scored]:
    """The nine classifiers on 483 problems: one right solution against nine wrong ones.

    Raises DataError where a file is neither in the mirror (PREFCAL_DATA) nor in the cache nor can be downloaded.
    """
    return _all("RewardMATH", rewardmath_classifiers(), lambda name: MODELS[name.removesuffix("_reward.json")])


def math_prm() -> list[Scored]:
    """The same nine on the 447 pairs of RewardBench's math-prm subset; raises as :func:`rewardmath`."""
    files = [f for f in FILES if f.path.startswith("results/Rewardbench/")]
    return _all("math-prm", files, lambda name: MODELS[name.removeprefix("rewardbench_").removesuffix(".json")])


def rewardbench2() -> list[Scored]:
    """Three models on the 1,865 prompts of RewardBench 2; raises as :func:`rewardmath`."""
    files = [f for f in FILES if f.path.startswith("results/gate/")]
    return _all("RewardBench 2", files, lambda name: name.removesuffix(".jsonl").replace("__", "/"))


def _all(benchmark: str, files: Sequence[Any], name: Callable[[str], str]) -> list[Scored]:
    return joined([load_scores(benchmark, name(f.name), fetch(f)) for f in files])


def load_table(path: Path | None = None) -> Table:
    """The table of 48 models: published statistic, accuracy, scores of each category.

    Parameters
    ----------
    path
        A CSV with the columns ``model``, ``ece_score``, ``model_accuracy`` (both 0..1), ``n_examples`` and the
        scores in percent of ``CATEGORIES``; default: the paper's, through :func:`prefcal.datasets.paper_file`.

    Raises
    ------
    DataError
        When it cannot be had (upstream does not publish it in this form), lacks a column or holds no number.
    """
    path = paper_file("rb2_models.csv") if path is None else path
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    needed = ("model", "ece_score", "model_accuracy", "n_examples", *CATEGORIES)
    lacking = [name for name in needed if not rows or name not in rows[0]]
    if lacking:
        raise DataError(f"has no column {', '.join(lacking)}; needed: {', '.join(needed)}", file=str(path))
    numbers = {}
    for name in needed[1:]:
        values = []
        for i, row in enumerate(rows):
            try:
                values.append(float(row[name] or "nan"))
            except ValueError:
                values.append(float("nan"))
            if not np.isfinite(values[-1]):
                raise DataError(f"{row[name]!r} is not a number", file=str(path), row=f"row {i + 2}", field=name)
        numbers[name] = np.array(values)
    return Table(
        tuple(row["model"] for row in rows),
        numbers["ece_score"],
        1 - numbers["model_accuracy"],
        {name: numbers[column] / 100 for column, name in CATEGORIES.items()},
        numbers["n_examples"].astype(np.intp),
    )
