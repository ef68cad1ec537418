"""Forecasts of published models, with the values that the authors' estimators returned on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc
from prefcal.errors import DataError
from prefcal.views import View

RANKWISE = {"calculate_sub_k_calibration": "sub", "calculate_top_k_calibration": "top"}


def mean_binary_ece(p: np.ndarray, y: np.ndarray) -> float:
    """Mean over outcomes of the expected calibration error with 10 bins; p and y are (n, outcomes)."""
    errors = []
    for forecast, outcome in zip(p.T, y.T, strict=True):
        cell = np.minimum((forecast * 10).astype(int), 9)
        gaps = np.bincount(cell, outcome - forecast, minlength=10)
        errors.append(np.abs(gaps).sum() / len(forecast))
    return float(np.mean(errors))


@pytest.mark.parametrize("name", ["iris", "vehicle"])
def test_marginals_reproduce_the_published_errors(data_dir: Path, name: str) -> None:
    golden = np.load(data_dir / "paper" / "golden" / f"{name}.npz")
    expected = json.loads((data_dir / "paper" / "golden" / f"{name}.json").read_text())
    checked = 0
    for row in expected:
        ranks, support, probs = (golden[f"{what}_{row['case']}"] for what in ("y", "rankings", "prob"))
        if row["fn"] not in RANKWISE or row["value"] == -1:
            continue
        if support.shape[1] < ranks.shape[1]:  # pairwise forecasts, written as a list of pairs
            with pytest.raises(DataError):
                pc.Categorical(support - 1, probs.T)
            if row["fn"] != "calculate_sub_k_calibration" or row["k"] != 2:
                continue
            h: pc.Pairwise | pc.Categorical = pc.Pairwise(pair_array(support - 1, probs, ranks.shape[1]))
        else:
            h = pc.Categorical(support - 1, probs.T)
        view = View(RANKWISE[row["fn"]], row["k"])  # type: ignore[arg-type]
        marginal = h.marginal(view)
        happened = np.zeros_like(marginal.probs)
        outcome = view.classify(np.argsort(ranks, axis=1))
        np.put_along_axis(happened, outcome[..., None], 1.0, axis=2)
        n = len(ranks)
        value = mean_binary_ece(marginal.probs.reshape(n, -1), happened.reshape(n, -1))
        assert value == pytest.approx(row["value"], abs=2e-7), row
        checked += 1
    assert checked > 20


def pair_array(pairs: np.ndarray, probs: np.ndarray, m: int) -> np.ndarray:
    array = np.full((probs.shape[1], m, m), np.nan)
    array[:, pairs[:, 0], pairs[:, 1]] = probs.T
    return array
