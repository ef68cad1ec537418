"""prefcal: is your preference model honest, what does its dishonesty cost, and how is it mended?

Public names load on first use, so that ``import prefcal`` brings numpy only.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Outcomes": "prefcal.data.outcomes",
    "PlackettLuce": "prefcal.distributions.plackett_luce",
    "Mallows": "prefcal.distributions.mallows",
    "BabingtonSmith": "prefcal.distributions.babington_smith",
    "Categorical": "prefcal.distributions.categorical",
    "Pairwise": "prefcal.distributions.pairwise",
    "Samples": "prefcal.distributions.samples",
    "StagedPlackettLuce": "prefcal.distributions.staged",
    "Mixture": "prefcal.distributions.mixture",
    "Marginal": "prefcal.distributions.base",
    "View": "prefcal.views",
    "Notion": "prefcal.notions.notion",
    "lattice": "prefcal.notions.lattice",
    "Population": "prefcal.notions.population",
    "audit": "prefcal.auditing",
    "Audit": "prefcal.audited",
    "compare": "prefcal.comparing",
    "Comparison": "prefcal.comparing",
    "worst_group": "prefcal.grouping",
    "worst_conjunction": "prefcal.grouping",
    "power": "prefcal.planning",
    "Plan": "prefcal.planning",
    "Result": "prefcal.result",
    "decisions": "prefcal.decisions",
    "mend": "prefcal.mending",
    "conformal_sets": "prefcal.conformal",
    "recalibrate": "prefcal.recalibration.fitting",
    "load_recalibrator": "prefcal.recalibration.persistence",
    "Recalibrator": "prefcal.recalibration.base",
    "dirichlet_kernel_error": "prefcal.estimators.dirichlet",
    "member_errors": "prefcal.estimators.families",
    "hpd_coverage": "prefcal.estimators.hpd",
    "isotonic_curve": "prefcal.estimators.isotonic",
    "rank_histogram": "prefcal.estimators.rank_histogram",
    "rankwise_errors": "prefcal.estimators.rankwise",
    "read": "prefcal.data.readers",
    "datasets": "prefcal.datasets",
    "PrefcalError": "prefcal.errors",
    "DataError": "prefcal.errors",
    "UsageError": "prefcal.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'prefcal' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    value = module if _PUBLIC[name] == f"prefcal.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
