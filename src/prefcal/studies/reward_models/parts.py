"""What is measured: each part of the study as plain data, and how it is computed from the files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefcal.auditing import ALPHA, audit
from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray
from prefcal.distributions.plackett_luce import PlackettLuce
from prefcal.estimators.temperature import cross_fitted, temperature
from prefcal.result import Estimate, Interval, Result
from prefcal.studies.reward_models.measures import (
    Observable,
    keep_wrong,
    kendall,
    observable,
    partial_kendall,
    percentile,
    permutation_p,
    position_conditioned,
    scalar_errors,
)
from prefcal.studies.reward_models.sources import Scored, Table

SUB, TOP = "sub-2", "top-1:confidence"
#: Resamples may take only the draws that an audit needs at least; reported p-values take all.
SPLIT_DRAWS = 499
_VIEWS = ("sub-2", "sub-3", "top-1", "top-2", "top-3", "topset-2", "topset-3", "position", "full")


@dataclass(frozen=True, slots=True)
class Measured:
    """One model on one benchmark, or one category of it.

    Parameters
    ----------
    published
        1 - mean p(chosen), the statistic of the published evaluation.
    results
        By notion, from :func:`prefcal.audit`. Where there are two candidates, top-1 and sub-2 are one notion and
        only ``sub-2`` is there.
    mended
        The same with the scores of each random half divided by the temperature fitted on the other half; empty
        where that was not asked for.
    """

    benchmark: str
    model: str
    category: str | None
    n_instances: int
    published: Estimate
    results: Mapping[str, Result]
    mended: Mapping[str, Result]

    @property
    def top(self) -> Result:
        """The notion that the published statistic is named after."""
        return self.results.get(TOP, self.results[SUB])

    @property
    def accuracy(self) -> float:
        """How often the best-scored candidate is the best."""
        return self.top.metrics["accuracy"].value


@dataclass(frozen=True, slots=True)
class Splits:
    """One temperature fitted on half of the prompts, judged on the other half, in several random splits."""

    model: str
    n_fit: int
    n_test: int
    temperatures: tuple[float, ...]
    raw_p: tuple[float, ...]
    mended_p: tuple[float, ...]
    raw_debiased: tuple[float, ...]
    mended_debiased: tuple[float, ...]

    @property
    def share_undetected(self) -> float:
        """Share of splits in which calibration of the other half is not rejected at 5 % with the temperature."""
        return float(np.mean([p > ALPHA for p in self.mended_p]))

    @property
    def share_undetected_raw(self) -> float:
        """The same for the scores as they are: whether these halves could show an error at all."""
        return float(np.mean([p > ALPHA for p in self.raw_p]))


@dataclass(frozen=True, slots=True)
class Correlation:
    """Kendall's tau-b over models, with a percentile bootstrap interval (None: not asked for) and a permutation
    p-value, exact or by random pairings.
    """

    where: str
    of: str
    against: str
    n_models: int
    tau: float
    interval: Interval | None
    p_value: float
    exact: bool


@dataclass(frozen=True, slots=True)
class TableRow:
    """One category of the table: how the two statistics go with its error, and what the first adds to the second."""

    category: str
    published: Correlation
    error_rate: Correlation
    difference: Estimate
    partial: Estimate


@dataclass(frozen=True, slots=True)
class TablePart:
    """The published table: correlations, and the published number against ours where the scores are here."""

    n_models: int
    rows: tuple[TableRow, ...]
    published_with_error: Correlation
    reproduced: tuple[tuple[str, float, float], ...]
    points: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Debiased error of one model by number of candidates: mean over repeats and standard deviation."""

    model: str
    sizes: tuple[int, ...]
    sub: tuple[float, ...]
    top: tuple[float, ...]
    sub_sd: tuple[float, ...]
    top_sd: tuple[float, ...]
    accuracy: tuple[float, ...]
    mean_forecast: tuple[float, ...]
    repeats: int
    difference: Estimate


# ------------------------------------------------------------------------------------------- calibration by model


def measure(
    files: Sequence[Scored], *, seed: int, draws: int, bins: int, by_category: bool = False, mend: bool = False
) -> list[Measured]:
    """Audit every model, over all instances and, if asked for, each category (p-values adjusted over them)."""
    out = []
    for f in files:
        notions = (SUB,) if f.h.n_items == 2 else (SUB, TOP)
        groups = {"category": f.category} if by_category and f.category is not None else None
        mended = None
        if mend:
            units = np.arange(len(f.y))
            best = TOP in notions
            mended = cross_fitted(f.h, f.y, np.ones(len(f.y)), best=best, per_instance=False, units=units, seed=seed)
        found: list[dict[tuple[str, str | None], Result]] = []
        for h in (f.h, mended):
            if h is None:
                found.append({})
                continue
            audited = audit(
                h, f.y, notions=notions, items="exchangeable", groups=groups, seed=seed, draws=draws, bins=bins,
                model=f"{f.benchmark}: {f.model}",
            )  # fmt: skip
            found.append({(r.notion, None if r.group is None else r.group["category"]): r for r in audited.results})
        for level in dict.fromkeys(level for _, level in found[0]):
            rows = slice(None) if level is None else f.category == level
            h = f.h[rows]
            out.append(
                Measured(
                    f.benchmark, f.model, level, len(h), position_conditioned(h),
                    {n: found[0][n, level] for n in notions if (n, level) in found[0]},
                    {n: found[1][n, level] for n in notions if (n, level) in found[1]},
                )
            )  # fmt: skip
    return out


def splits_of(f: Scored, *, splits: int, seed: int, bins: int) -> Splits:
    """Fit one temperature (best item) on a random half, audit top-1:confidence on the other; ``splits`` times."""
    n = len(f.y)
    half = n // 2
    columns: dict[str, list[float]] = {k: [] for k in ("t", "raw_p", "p", "raw", "left")}
    for s in range(splits):
        order = np.random.default_rng([seed, 11, s]).permutation(n)
        fit, test = np.sort(order[:half]), np.sort(order[half:])
        t = temperature(f.h[fit], f.y[fit], np.ones(half), best=True).value
        h, y = f.h[test], f.y[test]
        # Scores without information fit best when divided by infinity: all candidates equal.
        scaled = PlackettLuce(h.scores.with_values(h.scores.values / t)) if t > 0 else h
        columns["t"].append(t)
        for name, dist in (("raw", h), ("left", scaled)):
            r = audit(dist, y, notions=(TOP,), items="exchangeable", seed=s, draws=SPLIT_DRAWS, bins=bins)[TOP]
            columns[name].append(r.debiased)
            columns["raw_p" if name == "raw" else "p"].append(r.p_value)
    return Splits(
        f.model, half, n - half, tuple(columns["t"]), tuple(columns["raw_p"]), tuple(columns["p"]),
        tuple(columns["raw"]), tuple(columns["left"]),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- rank correlations


def correlations(
    files: Sequence[Scored], rows: Sequence[Measured], *, resamples: int, seed: int, bins: int
) -> tuple[list[Correlation], dict[str, Interval]]:
    """Tau of accuracy with the published statistic and the debiased errors, intervals by resampling prompts.

    Every resample takes the same prompts for all models (files are joined). The models stay: the interval is about
    these models, not about a population of models. Also returns, by model, the interval of top-1 minus sub-2.
    """
    overall = {r.model: r for r in rows if r.category is None}
    models = [f.model for f in files]
    notions = [n for n in (SUB, TOP) if n in overall[models[0]].results]
    accuracy = np.array([overall[m].accuracy for m in models])
    values = {"1 - mean p(chosen)": np.array([overall[m].published.value for m in models])}
    for n in notions:
        values[f"{n}, debiased"] = np.array([overall[m].results[n].debiased for m in models])
    drawn = {k: np.empty((resamples, len(models))) for k in (*values, "accuracy")}
    rng = np.random.default_rng([seed, 12])
    chosen = [np.exp(f.h.top_log_probs()[:, 0]) for f in files]
    for b in range(resamples):
        pick = rng.integers(len(files[0].y), size=len(files[0].y))
        for j, f in enumerate(files):
            errors = scalar_errors(f.h[pick], f.y[pick], notions, bins=bins)
            drawn["1 - mean p(chosen)"][b, j] = 1 - chosen[j][pick].mean()
            for n in notions:
                drawn[f"{n}, debiased"][b, j] = errors[n].debiased
            drawn["accuracy"][b, j] = errors[notions[-1]].accuracy
    out = []
    for name, x in values.items():
        p, exact = permutation_p(x, accuracy, rng)
        interval = percentile(kendall(drawn[name], drawn["accuracy"]))
        out.append(
            Correlation(
                files[0].benchmark, name, "accuracy", len(models), float(kendall(x, accuracy)), interval, p, exact
            )
        )
    differences: dict[str, Interval] = {}
    if len(notions) == 2:
        gap = drawn[f"{TOP}, debiased"] - drawn[f"{SUB}, debiased"]
        differences = {m: percentile(gap[:, j]) for j, m in enumerate(models)}
    return out, differences


def transfer(first: Sequence[Measured], second: Sequence[Measured], seed: int) -> Correlation:
    """Whether models keep their order of sub-2 error from one benchmark to another (no interval: models only)."""
    a = {r.model: r.results[SUB].debiased for r in first if r.category is None}
    b = {r.model: r.results[SUB].debiased for r in second if r.category is None}
    both = [m for m in a if m in b]
    x, y = np.array([a[m] for m in both]), np.array([b[m] for m in both])
    p, exact = permutation_p(x, y, np.random.default_rng([seed, 13]))
    where = f"{first[0].benchmark} and {second[0].benchmark}"
    return Correlation(
        where, "sub-2, debiased", "the same elsewhere", len(both), float(kendall(x, y)), None, p, exact
    )


def table_part(table: Table, files: Sequence[Scored], *, resamples: int, seed: int) -> TablePart:
    """The published statistic and the plain error rate against the error of each category; models resampled."""
    rng = np.random.default_rng([seed, 14])
    n = len(table)
    pick = rng.integers(n, size=(resamples, n))
    columns = {"published": table.published, "error": table.error_rate}

    def correlation(x: FloatArray, y: FloatArray, of: str, against: str) -> tuple[Correlation, FloatArray]:
        p, exact = permutation_p(x, y, rng)
        draws = kendall(x[pick], y[pick])
        where = f"table of {n} models"
        return Correlation(where, of, against, n, float(kendall(x, y)), percentile(draws), p, exact), draws

    between, between_draws = correlation(columns["published"], columns["error"], "published ECE", "error rate")
    rows = []
    for name, score in table.scores.items():
        ece, ece_draws = correlation(columns["published"], 1 - score, "published ECE", f"{name} error")
        plain, plain_draws = correlation(columns["error"], 1 - score, "error rate", f"{name} error")
        part = [
            partial_kendall(float(a), float(b), float(c))
            for a, b, c in zip(ece_draws, between_draws, plain_draws, strict=True)
        ]
        rows.append(
            TableRow(
                name, ece, plain,
                Estimate(plain.tau - ece.tau, percentile(plain_draws - ece_draws)),
                Estimate(partial_kendall(ece.tau, between.tau, plain.tau), percentile(np.array(part))),
            )
        )  # fmt: skip
    ours = {f.model: position_conditioned(f.h).value for f in files}
    reproduced = tuple(
        (m, float(v), ours[m]) for m, v in zip(table.models, table.published, strict=True) if m in ours
    )
    points = tuple(
        (m, float(e), float(v)) for m, e, v in zip(table.models, table.error_rate, table.published, strict=True)
    )
    return TablePart(n, tuple(rows), between, reproduced, points)


# -------------------------------------------------------------------------------------- sub-k, top-k and candidates


def views_known(files: Mapping[str, Outcomes]) -> dict[str, list[Observable]]:
    """Which views the outcomes of each benchmark determine."""
    return {name: observable(y, _VIEWS) for name, y in files.items()}


def scaling(
    f: Scored, rows: Sequence[Measured], interval: Interval, *, repeats: int, seed: int, bins: int
) -> Scaling:
    """Errors with 2..m candidates: the right one and a random part of the wrong ones, ``repeats`` times.

    With only the best known, a pair event is (best, one wrong candidate), and which one is dropped is random: the
    population value of sub-2 is the same for every number of candidates. That of top-1 is not.
    """
    scores = f.h.scores.dense()
    m = scores.shape[1]
    sizes = tuple(range(2, m + 1))
    columns: dict[str, list[float]] = {k: [] for k in ("sub", "top", "sub_sd", "top_sd", "accuracy", "forecast")}
    for size in sizes:
        found = []
        for r in range(repeats if size < m else 1):
            kept = keep_wrong(scores, size, np.random.default_rng([seed, 15, size, r]))
            h = PlackettLuce(kept)
            y = Outcomes.from_best(np.zeros(len(kept), dtype=np.intp), n_items=size)
            errors = scalar_errors(h, y, bins=bins)
            says = float(np.exp(h.top_log_probs().max(axis=1)).mean())
            found.append((errors[SUB].debiased, errors[TOP].debiased, errors[TOP].accuracy, says))
        values = np.array(found)
        mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(4)
        for key, value in zip(columns, (mean[0], mean[1], sd[0], sd[1], mean[2], mean[3]), strict=True):
            columns[key].append(float(value))
    whole = next(r for r in rows if r.model == f.model and r.category is None)
    gap = Estimate(whole.results[TOP].debiased - whole.results[SUB].debiased, interval)
    return Scaling(
        f.model, sizes, tuple(columns["sub"]), tuple(columns["top"]), tuple(columns["sub_sd"]),
        tuple(columns["top_sd"]), tuple(columns["accuracy"]), tuple(columns["forecast"]), repeats, gap,
    )  # fmt: skip


def plain(value: object) -> object:
    """Dataclasses, arrays and mappings as JSON values; what is not finite becomes null."""
    if isinstance(value, Result):
        return value.records()[0]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
