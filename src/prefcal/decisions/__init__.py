"""Decisions: what miscalibration costs downstream, before and after mending.

:func:`decisions` computes everything that applies to forecasts and outcomes; each part is a function of its own.
"""

from __future__ import annotations

from prefcal.decisions.abstention import Abstention, Accepted, Promise, abstention
from prefcal.decisions.best_of_n import BestOfN, BestOfSize, best_of_n
from prefcal.decisions.choices import Choice
from prefcal.decisions.filtering import Filtering, Kept, filtering
from prefcal.decisions.kl_weight import KLWeight, kl_weight
from prefcal.decisions.routing import Routed, Routing, routing
from prefcal.decisions.together import Change, Costs, Decisions, compare_decisions, decisions

__all__ = [
    "Abstention",
    "Accepted",
    "BestOfN",
    "BestOfSize",
    "Change",
    "Choice",
    "Costs",
    "Decisions",
    "Filtering",
    "KLWeight",
    "Kept",
    "Promise",
    "Routed",
    "Routing",
    "abstention",
    "best_of_n",
    "compare_decisions",
    "decisions",
    "filtering",
    "kl_weight",
    "routing",
]
