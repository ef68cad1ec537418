"""Ranking sets with finite-sample coverage."""

from prefcal.conformal.sets import ConformalSets, RankingSets, conformal_sets

__all__ = ["ConformalSets", "RankingSets", "conformal_sets"]
