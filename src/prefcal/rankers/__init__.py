"""Label rankers: scikit-learn estimators that predict distributions over rankings.

Names load on first use, since they need scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "LabelRanker": "base",
    "kendall_tau": "base",
    "KNNMallows": "neighbors",
    "KNNPlackettLuce": "neighbors",
    "LabelRankingForest": "tree",
    "LabelRankingTree": "tree",
    "LinearPlackettLuce": "linear_pl",
    "MallowsModel": "mallows_model",
    "NeuralPlackettLuce": "neural_pl",
    "PLRPC": "pairwise_ranker",
    "RPC": "pairwise_ranker",
    "RankClassifier": "rank_classifier",
    "pairs_to_babington_smith": "coupling",
    "pairs_to_maximum_entropy": "coupling",
    "pairs_to_plackett_luce": "coupling",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'prefcal.rankers' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"prefcal.rankers.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
