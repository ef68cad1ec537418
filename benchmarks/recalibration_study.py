"""What recalibration does out of sample, on public reward models and label-ranking data.

Parts (each writes one JSON line a case to OUT, and what is there is not run again; a table is printed at the end):

splits      RewardMATH, nine classifiers: maps fitted on half of the problems, measured on the other half, 20 splits
one-map     one map for pairs (math-prm) and best of ten (RewardMATH) at once: temperature, context, stage-wise
rewardbench three models on RewardBench 2, cross-fitted, over all and by category
labels      label rankers on the paper's sets: out-of-fold forecasts, recalibrated by cross-fitting

Run: python benchmarks/recalibration_study.py PART OUT.jsonl  (needs PREFCAL_DATA, and torch for ``labels``)
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import prefcal as pc
from prefcal.distributions.base import Distribution
from prefcal.distributions.stacked import stack
from prefcal.estimators.binned import ece_debiased
from prefcal.estimators.cells import contrasts
from prefcal.estimators.events import family_for
from prefcal.estimators.inputs import aligned_ranks
from prefcal.estimators.scalar import look
from prefcal.mending import mend
from prefcal.notions.notion import Notion
from prefcal.recalibration.fitting import unit_folds
from prefcal.recalibration.likelihood import observed_log_prob
from prefcal.studies.reward_models.sources import Scored, math_prm, rewardbench2, rewardmath

SPLITS = 20
METHODS = ("temperature", "context", "monotone", "uniform", "auto")
NOTIONS = ("sub-2", "top-1:confidence")
LABEL_SETS = (
    "iris", "glass", "wine", "vehicle", "vowel", "authorship", "segment", "libras", "yeast", "movies", "pendigits",
)  # fmt: skip


def outcomes(y: pc.Outcomes, rows: Any) -> pc.Outcomes:
    """One record an instance, numbered anew."""
    ranks = y.ranks.take(rows)
    return pc.Outcomes(ranks, y.ties, np.arange(len(ranks), dtype=np.intp))


def splits() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """RewardMATH: the acceptance numbers of each model, method and split."""
    for scored in rewardmath():
        for seed in range(SPLITS):
            half = np.random.default_rng([seed, 17]).permutation(len(scored.h)) < len(scored.h) // 2
            for method in METHODS:

                def run(scored: Scored = scored, half: Any = half, method: str = method) -> dict[str, Any]:
                    fitted = pc.recalibrate(scored.h[half], outcomes(scored.y, half), method)
                    raw, y = scored.h[~half], outcomes(scored.y, ~half)
                    new = fitted(raw)
                    audit = pc.audit(new, y, notions=NOTIONS, items="exchangeable", draws=199)
                    tops = [(h.top_log_probs() >= h.top_log_probs().max(axis=1)[:, None] - 1e-12) for h in (raw, new)]
                    return {
                        "chosen": fitted.method,
                        "sub2": audit["sub-2"].debiased,
                        "top1_excess": audit["top-1:confidence"].value - audit["top-1:confidence"].null_mean,
                        "log_loss": float(-observed_log_prob(new, y).mean()),
                        "log_loss_raw": float(-observed_log_prob(raw, y).mean()),
                        "same_top": float((tops[0] & tops[1]).any(axis=1).mean()),
                    }

                yield f"{scored.model}/{seed}/{method}", run


def residual_sums(h: Distribution, y: pc.Outcomes, notion: str, bins: int = 15) -> np.ndarray:
    """(n, 2, bins) sums of w (y - p) and of w of each instance."""
    family = family_for(Notion.parse(notion), "exchangeable", h, ties_equal=False)
    out = np.zeros((len(h), 2, bins))
    for block in h.blocks():
        rows = np.arange(len(h))[block.rows]
        forecast, happened, weight, cell = look(
            family, block, aligned_ranks(y, block), np.ones(len(rows)), False, bins
        )
        known = ~np.isnan(happened)
        at = np.broadcast_to(rows[:, None], known.shape)[known], cell[known]
        np.add.at(out[:, 0], at, (weight * (happened - forecast.p))[known])
        np.add.at(out[:, 1], at, weight[known])
    return out


def debiased(sums: np.ndarray) -> float:
    """Debiased ECE of instances' sums."""
    total = sums.sum(axis=0)
    n = len(sums)
    scale = np.sqrt(((sums[:, 0] - total[0] / n) ** 2).sum(axis=0) * n / (n - 1))
    weight = np.full(total.shape[1], total[1].sum())
    tilt = contrasts(sums[:, 0], 1)
    return float(ece_debiased(total[0], scale, weight, 1, tilt.T @ tilt))


def one_map() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """One map fitted on best-of-ten instances and pairs together, cross-fitted over halves of the problems."""
    pairs = {s.model: s for s in math_prm()}
    for tens in rewardmath():

        def run(tens: Scored = tens) -> dict[str, Any]:
            twos = pairs[tens.model]
            n, k = len(tens.h), len(twos.h)
            h = stack([(np.arange(n), tens.h), (np.arange(n, n + k), twos.h)])
            ranks = [tens.y.dense()[i].tolist() for i in range(n)] + [twos.y.dense()[i].tolist() for i in range(k)]
            y = pc.Outcomes.from_ranks(ranks)
            sums: dict[str, dict[str, np.ndarray]] = {}
            for method in ("none", "temperature", "context", "stage-wise"):
                parts = []
                fold = np.random.default_rng(5).permutation(n + k) % 4
                for f in range(4):
                    train, held = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
                    parts.append((held, pc.recalibrate(h[train], outcomes(y, train), method)(h[held])))
                new = stack(parts)
                sums[method] = {
                    "pairs": residual_sums(new[n:], outcomes(y, slice(n, None)), "sub-2"),
                    "top": residual_sums(new[:n], outcomes(y, slice(0, n)), "top-1:confidence"),
                }
            found: dict[str, Any] = {}
            for method, parts_of in sums.items():
                found[method] = {name: debiased(s) for name, s in parts_of.items()}
            rng = np.random.default_rng(6)
            draws = [(rng.integers(0, n, n), rng.integers(0, k, k)) for _ in range(400)]
            for method in ("context", "stage-wise"):
                differences = [
                    sum(
                        debiased(sums[method][name][rows]) - debiased(sums["temperature"][name][rows])
                        for name, rows in (("top", a), ("pairs", b))
                    )
                    for a, b in draws
                ]
                found[method]["difference"] = sum(
                    found[method][x] - found["temperature"][x] for x in ("pairs", "top")
                )
                found[method]["interval"] = np.quantile(differences, [0.025, 0.975]).tolist()
            return found

        yield tens.model, run


def rewardbench() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """RewardBench 2, mended by ``auto`` and by a map for each category, cross-fitted."""
    for scored in rewardbench2():
        for method in ("auto", "group-wise"):

            def run(scored: Scored = scored, method: str = method) -> dict[str, Any]:
                found = mend(
                    scored.h, scored.y, method, notions=NOTIONS, items="exchangeable", groups=scored.category, folds=5
                )
                out: dict[str, Any] = {"map": found.fitted_map.describe(), "chosen": list(found.chosen)}
                mended = cross_fitted(scored, method)
                for name, h in (("before", scored.h), ("after", mended)):
                    audit = pc.audit(
                        h, scored.y, notions=NOTIONS, items="exchangeable", groups={"category": scored.category}
                    )
                    for notion in NOTIONS:
                        r = audit[notion]
                        out[f"{notion} {name}"] = [r.debiased, *r.interval, r.p_value, r.verdict]
                        for r in audit.results:
                            if r.notion == notion and r.group:
                                key = f"{notion} {name} {r.group['category']}"
                                out[key] = [r.debiased, *r.interval, r.p_adjusted]
                loss = found.log_loss["difference"]
                return out | {"log_loss_difference": [loss.value, *(loss.interval or ())]}

            yield f"{scored.model}/{method}", run


def cross_fitted(scored: Scored, method: str) -> Distribution:
    """Each fifth forecast by the map of the others."""
    fold = np.random.default_rng(3).permutation(len(scored.h)) % 5
    parts = []
    for f in range(5):
        train, held = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        assert scored.category is not None
        fitted = pc.recalibrate(scored.h[train], outcomes(scored.y, train), method, groups=scored.category[train])
        parts.append((held, fitted(scored.h[held], groups=scored.category[held])))
    return stack(parts)


def labels() -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Out-of-fold forecasts of the exact protocol, recalibrated by ``auto``, cross-fitted.

    The log loss of a row is that of its ranking; of pairwise forecasts, the sum over its pairs.
    """
    from prefcal.studies.label_ranking.models import Task, builder
    from prefcal.studies.label_ranking.protocol import Job, Settings, split
    from prefcal.studies.label_ranking.sets import load_set

    settings = Settings()
    for name in LABEL_SETS:
        for model in ("pl", "rc", "rpc"):

            def run(name: str = name, model: str = model) -> dict[str, Any]:
                data = load_set(name)
                parts = []
                for fold in range(settings.folds):
                    job = Job("exact", name, model, fold, "random")
                    rows = split(data, job, settings)
                    parts.append((rows.test, builder(model, "exact")(Task(data, rows, job, settings))))
                return mended_labels(stack(parts), pc.Outcomes.from_ranks(data.ranks))

            yield f"{name}/{model}", run


def mended_labels(h: Distribution, y: pc.Outcomes, folds: int = 5) -> dict[str, Any]:
    """Log loss before and after ``auto``, and what of the difference is due to rankings that had probability 0."""
    n, m = len(h), h.n_items
    chosen, parts = [], []
    smoothed = np.empty(n)
    raw = observed_log_prob(h, y)
    for train, held in unit_folds(np.arange(n), folds, 0):
        fitted = pc.recalibrate(h[train], outcomes(y, train), "auto")
        parts.append((held, fitted(h[held])))
        chosen.append(fitted.chosen.method)
        floor = 1.0 / (len(train) + 1.0)  # what one would do without fitting anything
        smoothed[held] = np.logaddexp(np.log1p(-floor) + raw[held], np.log(floor) - math.lgamma(m + 1))
    new = stack(parts)
    mended = observed_log_prob(new, y)
    possible = np.isfinite(raw)
    with np.errstate(invalid="ignore"):
        difference = raw - mended
    out: dict[str, Any] = {
        "n": n, "n_items": m, "chosen": chosen, "before": mean(-raw), "after": mean(-mended),
        "difference": mean(difference), "impossible": [int((~np.isfinite(x)).sum()) for x in (raw, mended)],
    }  # fmt: skip
    if not possible.all():
        out["possible"] = {
            "before": mean(-raw[possible]), "after": mean(-mended[possible]),
            "difference": mean(difference[possible]),
        }  # fmt: skip
        assert isinstance(h, pc.Categorical)
        listed = np.zeros(n)  # probability that the mended forecast leaves to what the raw one lists
        for column, order in enumerate(h.orders):
            listed += np.exp(new.log_prob(order)) * (h.probs[:, column] > 0)
        out["possible"]["given"] = mean((difference + np.log(listed))[possible])
        out["smoothed"] = mean(smoothed - mended)
        parts = []
        for train, held in unit_folds(np.arange(n), folds, 0):
            parts.append((held, pc.recalibrate(h[train], outcomes(y, train), "uniform")(h[held])))
        flat = stack(parts)
        out["uniform"] = {"after": mean(-observed_log_prob(flat, y)), "sub2": pair_error(flat, y)}
    return out | {"sub2": [pair_error(h, y), pair_error(new, y)]}


def pair_error(h: Distribution, y: pc.Outcomes) -> float | None:
    """Debiased sub-2 error."""
    return pc.audit(h, y, notions="sub-2", items="labelled")["sub-2"].debiased


def mean(values: np.ndarray) -> list[float] | None:
    """Mean and 95 % interval; None where it is infinite."""
    if not np.isfinite(values).all():
        return None
    value, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return [value, value - half, value + half]


PARTS = {"splits": splits, "one-map": one_map, "rewardbench": rewardbench, "labels": labels}


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="cases whose key holds this text")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if options.out.exists():
        done = {r["key"]: r for r in map(json.loads, options.out.read_text().splitlines())}
    with options.out.open("a") as file:
        for key, run in PARTS[options.part]():
            if key in done or options.only not in key:
                continue
            start = time.perf_counter()
            try:
                found = run()
            except pc.PrefcalError as error:
                found = {"error": str(error)}
            done[key] = {"key": key, "seconds": round(time.perf_counter() - start, 2)} | found
            file.write(json.dumps(done[key]) + "\n")
            file.flush()
            print(key, f"{done[key]['seconds']} s", found.get("error", ""), file=sys.stderr)
    table(options.part, list(done.values()))


def table(part: str, rows: list[dict[str, Any]]) -> None:
    """Print what the part found."""
    if part == "splits":
        models = list(dict.fromkeys(r["key"].split("/")[0] for r in rows))
        print(
            "model | method | median sub-2 debiased | median top-1 excess | splits with log loss above raw | same top"
        )
        for model in models:
            for method in METHODS:
                here = [r for r in rows if r["key"].split("/")[::2] == [model, method] and "error" not in r]
                if here:
                    sub2, top = (np.median([r[k] for r in here]) for k in ("sub2", "top1_excess"))
                    worse = sum(r["log_loss"] > r["log_loss_raw"] for r in here)
                    same = min(r["same_top"] for r in here)
                    print(f"{model} | {method} | {sub2:.4f} | {top:.4f} | {worse}/{len(here)} | {same:.3f}")
        return
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
