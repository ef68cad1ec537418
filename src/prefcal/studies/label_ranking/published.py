"""The values that were published, from the authors' result tables."""

from __future__ import annotations

import csv
from functools import lru_cache
from typing import Final

from prefcal.datasets import find, paper_files
from prefcal.errors import DataError

#: Their names of the models.
NAMES: Final = {
    "PlackettLuce": "pl",
    "MallowsModel": "mallows",
    "PreferenceModel": "rc",
    "PlackettLuceRPC": "pl-rpc",
    "RPC": "rpc",
}
_TABLES: Final = {
    "subk_ece_results": ("sub", "rankwise_ece"),
    "topk_ece_results": ("top", "rankwise_ece"),
    "subk_full_rank_ece_results": ("sub", "dirichlet_kernel"),
    "topk_full_rank_ece_results": ("top", "dirichlet_kernel"),
}
#: (model, view, estimator, filtered) -> fold -> value.
Values = dict[tuple[str, str, str, bool], dict[int, float]]


@lru_cache(maxsize=32)
def published_values(dataset: str) -> Values:
    """Published values of a set by (model, view, estimator, filtered); empty where none were published.

    Looked for in the mirror and the cache; nothing is downloaded here. ``filtered``: their "95 % mass" filter. Views
    have their names (sub-3 and top-2 of three items are both the full ranking). Values of -1, their mark of "not
    defined", are left out.

    Raises
    ------
    DataError
        When there are tables but they are not on this machine.
    """
    values: Values = {}
    for path in sorted(paper_files()):
        if not path.startswith(f"results/{dataset}/"):
            continue
        name = path.rsplit("/", 1)[1]
        table = next((t for t in _TABLES if name.startswith(f"{t}_{dataset}_")), None)
        weighting = next((w for w in ("uniform", "95_prob_mass") if name.endswith(f"_{w}_abs_linear.csv")), None)
        if table is None or weighting is None:
            continue
        kind, estimator = _TABLES[table]
        local = find(paper_files()[path])
        if local is None:
            raise DataError(f"{path} is not on this machine; fetch it with prefcal.datasets.paper_file({path!r})")
        with local.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                value = float(row["ece"])
                if value < 0 or row["model"] not in NAMES:
                    continue
                key = (NAMES[row["model"]], f"{kind}-{int(row['k'])}", estimator, weighting != "uniform")
                values.setdefault(key, {})[int(row["fold"])] = value
    return values
