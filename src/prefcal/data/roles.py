"""Roles of columns in the generic file shapes; apart, so that the command line's options stay light."""

from __future__ import annotations

from typing import Final

#: A column's default name is its role's.
ROLES: Final = (
    "scores",
    "ranks",
    "ratings",
    "best",
    "chosen",
    "rejected",
    "instance",
    "score",
    "rank",
    "rating",
    "id",
    "pair_probs",
    "best_probs",
)
