"""Kendall tau of the label rankers in repeated 10-fold cross-validation, beside reference values.

Reference columns: measured with scikit-lr 0.3.0 (kNN-Mallows at the k shown, kNN-Plackett-Luce k = 10, tree) and with
plain scikit-learn and scipy code (RPC by logistic regression, linear Plackett-Luce), 10-fold, seed 0; "LW forest" is
Table 6.3 of G. Gkrinias, diploma thesis, NTUA 2023 (5 x 10-fold), which read the yeast sets wrongly, so there the
forest is held to the tree.

Results go to a file of JSON lines, one for each set, model and fold; what is there is not fitted again. A table is
printed at the end. Run: python benchmarks/label_ranker_taus.py out/taus.jsonl [--sets ...] (needs PREFCAL_DATA)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import KFold

from prefcal.datasets import load
from prefcal.rankers import RPC, KNNMallows, KNNPlackettLuce, LabelRankingForest, LinearPlackettLuce

# set: (k of kNN-Mallows, kNN-Mallows, kNN-PL10, tree, RPC-LR, Lin-PL, LW forest)
REFERENCE: dict[str, tuple[int, float, float, float, float, float, float | None]] = {
    "kebi/iris": (20, 0.960, 0.942, 0.964, 0.876, 0.804, 0.959),
    "kebi/wine": (20, 0.951, 0.944, 0.929, 0.959, 0.944, 0.925),
    "kebi/wisconsin": (10, 0.497, 0.482, 0.304, 0.633, 0.633, 0.552),
    "kebi/glass": (5, 0.849, 0.825, 0.902, 0.865, 0.827, 0.906),
    "kebi/bodyfat": (20, 0.215, 0.202, 0.117, 0.280, 0.272, 0.191),
    "kebi/vowel": (5, 0.869, 0.807, 0.836, 0.647, 0.585, 0.892),
    "kebi/vehicle": (5, 0.856, 0.852, 0.815, 0.858, 0.852, 0.886),
    "kebi/authorship": (5, 0.936, 0.932, 0.870, 0.944, 0.937, 0.926),
    "kebi/stock": (5, 0.924, 0.920, 0.896, 0.774, 0.703, 0.922),
    "yeast/cold": (20, 0.228, 0.199, 0.104, 0.219, 0.220, None),
    "yeast/dtt": (20, 0.171, 0.151, 0.104, 0.175, 0.176, None),
    "yeast/diau": (20, 0.337, 0.318, 0.211, 0.331, 0.327, None),
    "yeast/spo": (20, 0.132, 0.114, 0.095, 0.140, 0.126, None),
    "kebi/cpu": (20, 0.501, 0.488, 0.360, 0.449, 0.445, 0.513),
    "kebi/pendigits": (5, 0.941, 0.940, 0.939, 0.929, 0.891, 0.976),
    "kebi/elevators": (20, 0.728, 0.720, 0.710, 0.749, 0.728, 0.779),
    "kebi/calhousing": (20, 0.340, 0.325, 0.303, 0.243, 0.220, 0.491),
    "kebi/fried": (20, 0.907, 0.881, 0.876, 0.998, 0.998, 0.985),
}
COLUMNS = ("kNN-Mallows", "kNN-PL", "RPC", "linear PL", "forest")


def rankers(name: str) -> dict[str, object]:
    """The five rankers for one set."""
    return {
        "kNN-Mallows": KNNMallows(n_neighbors=REFERENCE[name][0]),
        "kNN-PL": KNNPlackettLuce(n_neighbors=10),
        "RPC": RPC(),
        "linear PL": LinearPlackettLuce(),
        "forest": LabelRankingForest(model="mallows", n_estimators=50, random_state=0),
    }


def references(name: str) -> dict[str, float]:
    """The value each ranker should reach."""
    _, mallows, plackett_luce, tree, rpc, linear, forest = REFERENCE[name]
    return dict(zip(COLUMNS, (mallows, plackett_luce, rpc, linear, tree if forest is None else forest), strict=True))


def measure(name: str, repeats: int, done: set[tuple[str, str, int, int]], file: Path, deadline: float) -> None:
    """Fit and score what is missing of one set."""
    data = load(name)
    for repeat in range(repeats):
        for fold, (fit, test) in enumerate(KFold(10, shuffle=True, random_state=repeat).split(data.features)):
            for model, ranker in rankers(name).items():
                if (name, model, repeat, fold) in done:
                    continue
                if time.monotonic() > deadline:
                    return
                start = time.perf_counter()
                tau = ranker.fit(data.features[fit], data.ranks[fit]).score(data.features[test], data.ranks[test])
                record = {"set": name, "model": model, "repeat": repeat, "fold": fold, "tau": float(tau)}
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(record | {"seconds": round(time.perf_counter() - start, 2)}) + "\n")
    print(f"{name}: done", file=sys.stderr)


def table(records: list[dict[str, object]]) -> str:
    """Ours (standard error over folds) / reference, and on how many sets each ranker reaches it within two errors."""
    lines = ["| set | folds | " + " | ".join(COLUMNS) + " |", "| --- | ---: |" + " ---: |" * len(COLUMNS)]
    reached = dict.fromkeys(COLUMNS, 0)
    judged = dict.fromkeys(COLUMNS, 0)
    for name in REFERENCE:
        mine = [r for r in records if r["set"] == name]
        if not mine:
            continue
        cells = []
        folds = set()
        for model in COLUMNS:
            tau = np.array([r["tau"] for r in mine if r["model"] == model])
            folds.add(len(tau))
            if len(tau) < 10:
                cells.append("-")
                continue
            # Folds of one repetition share their data with those of another: ten folds' worth of information.
            error = tau.std(ddof=1) / np.sqrt(10)
            goal = references(name)[model]
            good = tau.mean() >= goal - 2 * error
            reached[model] += bool(good)
            judged[model] += 1
            cells.append(f"{tau.mean():.3f} ({error:.3f}) / {goal:.3f}{'' if good else ' *'}")
        lines.append(f"| {name} | {max(folds)} | " + " | ".join(cells) + " |")
    summary = ", ".join(f"{m} {reached[m]} of {judged[m]}" for m in COLUMNS)
    return "\n".join(lines) + f"\n\nReached within two standard errors (* = not): {summary}."


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(REFERENCE), choices=list(REFERENCE), metavar="SET")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further fit after that long")
    options = parser.parse_args()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.touch()
    deadline = time.monotonic() + 60 * options.minutes

    def stored() -> list[dict[str, object]]:
        return [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()]

    done = {(r["set"], r["model"], r["repeat"], r["fold"]) for r in stored()}
    for name in options.sets:
        measure(name, 3 if len(load(name).features) < 1000 else 1, done, options.file, deadline)
    print(table(stored()))


if __name__ == "__main__":
    main()
