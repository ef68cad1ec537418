"""``prefcal demo``: real data, offline, from a fitted ranker to a report."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from prefcal.audited import Audit
from prefcal.auditing import audit
from prefcal.cli.audit import audit_scores, check_target, show
from prefcal.cli.progress import Progress
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray
from prefcal.data.readers import read
from prefcal.data.source import InputInfo
from prefcal.datasets import fetch, find
from prefcal.datasets.reward_models import rewardmath_classifiers

_STORY = """\
Data: scikit-learn's digits (1,797 images, 10 classes). Each image's classes are ranked by the posterior of a
Gaussian naive Bayes classifier, the standard way to make label rankings from classification data.
Model: a linear Plackett-Luce ranker fitted on one half, audited on the other."""


def digit_rankings() -> tuple[FloatArray, FloatArray]:
    """(1797, 64) pixel values and (1797, 10) ranks of the classes by a naive Bayes posterior, 1 = best."""
    from sklearn.datasets import load_digits
    from sklearn.naive_bayes import GaussianNB

    data = load_digits()
    # A variance floor keeps pixels that are always blank in a class from deciding everything.
    model = GaussianNB(var_smoothing=1e-2).fit(data.data, data.target)
    posterior = model.predict_joint_log_proba(data.data)
    ranks = (np.argsort(np.argsort(-posterior, axis=1, kind="stable"), axis=1) + 1).astype(np.float64)
    return np.asarray(data.data, dtype=np.float64), ranks


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    check_target(options.report)
    print(_STORY)
    with Progress() as progress:
        with progress.task("fitting and auditing the ranker"):
            total = _audit_digits(options.seed)
        files = rewardmath_classifiers()
        paths = [fetch(f) if options.download else find(f) for f in files]
        if all(paths):
            print(f"\nRewardMATH: {len(files)} reward models on 483 problems with 10 candidates each.")
            for file, path in zip(files, paths, strict=True):
                name = file.name.removesuffix("_reward.json")
                with progress.task(f"auditing {name}"):
                    total = total.merge(audit_scores(read(str(path), model=name), notions=[]))
        else:
            print(
                "\nRewardMATH is not here: set PREFCAL_DATA to a mirror, or use --download (4 MB), to audit it too."
            )
    sys.stdout.flush()
    show(total)
    total.report(options.report)
    print(f"\nreport: {options.report}")
    return 0


def _audit_digits(seed: int) -> Audit:
    from prefcal.rankers import LinearPlackettLuce

    features, ranks = digit_rankings()
    order = np.random.default_rng(seed).permutation(len(features))
    fit, test = order[: len(order) // 2], order[len(order) // 2 :]
    ranker = LinearPlackettLuce().fit(features[fit], ranks[fit])
    forecast = ranker.predict_distribution(features[test])
    result = audit(
        forecast,
        Outcomes.from_ranks(ranks[test]),
        notions=("sub-2", "top-1:confidence", "top-1:rankwise", "position"),
        items="labelled",
        seed=seed,
        model="linear Plackett-Luce on digits",
    )
    info = InputInfo(
        path="scikit-learn: load_digits",
        sha256="",
        format="features",
        n_instances=len(test),
        n_items=(10, 10),
        n_skipped=0,
        outcome="ranks",
        items="labelled",
        model="linear Plackett-Luce on digits",
        notes=("rankings made from class labels by a naive Bayes posterior: semi-synthetic",),
    )
    return Audit(result.results, [info], result.warnings)
