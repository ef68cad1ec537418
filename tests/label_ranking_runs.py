"""A toy data set and short runs of the label-ranking study, for its tests."""

from __future__ import annotations

import csv

import numpy as np

import prefcal as pc
from prefcal.cli import main
from prefcal.studies.label_ranking.protocol import Job, Settings
from prefcal.studies.label_ranking.run import plan, run
from prefcal.studies.label_ranking.sets import StudySet
from prefcal.studies.label_ranking.store import Store

QUICK = Settings(folds=3, draws=19, notions=("sub-2", "top-1", "full"))


def toy(n=48, m=4, seed=0, name="toy"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    h = pc.PlackettLuce(x @ rng.normal(size=(2, m)) * 2)
    return StudySet.build(name, x, (np.argsort(h.sample(1, rng)[:, 0], axis=1) + 1).astype(float))


def without_times(rows):
    out = [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in rows]
    return [{k: None if v != v else v for k, v in r.items()} for r in out]


def job(protocol="exact", model="mallows", fold=0, cut="random", dataset="toy"):
    return Job(protocol, dataset, model, fold, cut)


def small_run(folder, path, protocol="exact", models=("mallows", "rpc"), processes=1, ablate=False, listener=None):
    store = Store(folder, QUICK)
    run(store, plan(protocol, [path], models, QUICK, ablate=ablate), processes=processes, listener=listener)
    return store


def command(*words):
    return main(["study", "label-ranking", *map(str, words)])


def table_writer(folder):
    """A function that writes a toy data set into a folder and returns its path."""

    def write(name="toy.csv", **options):
        data = toy(**options)
        path = folder / name
        with path.open("w", newline="") as handle:
            out = csv.writer(handle)
            p = data.features.shape[1]
            out.writerow([f"A{i}" for i in range(p)] + [f"L{i}" for i in range(data.n_items)])
            out.writerows([*map(repr, f), *map(int, r)] for f, r in zip(data.features.tolist(), data.ranks.tolist()))
        return str(path)

    return write
