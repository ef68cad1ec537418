"""The paper's claims, each with what the published protocol shows, what the exact one shows, and why they differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from prefcal.estimators.families import adjusted
from prefcal.report.wording import count, decimal, listing
from prefcal.result import Verdict
from prefcal.studies.label_ranking.protocol import TRUNCATED
from prefcal.studies.label_ranking.summary import ALPHA, Cell, Effects, effects

#: Error, in total-variation units, that is small enough to call a model calibrated.
TOLERANCE: Final = 0.05
Severity = Literal["problem", "caution", "good", "note"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim and the evidence.

    Parameters
    ----------
    severity
        How the claim fares: ``good`` it stands, ``caution`` in part, ``problem`` not, ``note`` too little was run.
    claim, source
        What is said, and where.
    published, exact, explanation
        What the published protocol shows, what the exact one shows, and which effects make the difference.
    """

    severity: Severity
    claim: str
    source: str
    published: str
    exact: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A cell with its verdict; ``p_adjusted`` is Benjamini-Hochberg's over all cells of its notion."""

    cell: Cell
    p_adjusted: float
    verdict: Verdict


def judge(cells: Sequence[Cell]) -> list[Judged]:
    """Verdicts of cells of one notion and estimator."""
    # Monte-Carlo p-values are at least 1 / (draws + 1): Holm's method could reject none of a hundred such.
    p_values = adjusted([c.p_value for c in cells], "bh").tolist()
    out = []
    for c, p in zip(cells, p_values, strict=True):
        verdict: Verdict = "undetermined"
        if c.high * c.outcomes / 2 < TOLERANCE:
            verdict = "calibrated"
        elif p <= ALPHA:
            verdict = "miscalibrated"
        out.append(Judged(c, p, verdict))
    return out


def main_cells(cells: Sequence[Cell], protocol: str, notion: str, estimator: str = "rankwise_ece") -> list[Cell]:
    """The cells a protocol reports for a notion."""
    return [
        c for c in cells
        if c.protocol == protocol and c.is_main and c.notion == notion and c.estimator == estimator
    ]  # fmt: skip


def claims(cells: Sequence[Cell]) -> list[Claim]:
    """All claims that the results in hand say something about."""
    apart = effects(cells)
    out = [_poorly(cells, apart), _levels(cells), _truncation(apart), _cut(cells, apart), _kernel(cells)]
    return [c for c in out if c is not None]


def _median(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.median(known)) if known else math.nan


def _poorly(cells: Sequence[Cell], apart: Sequence[Effects]) -> Claim | None:
    exact = [j for notion in ("sub-2", "top-1") for j in judge(main_cells(cells, "exact", notion))]
    if not exact:
        return None
    tally = {v: sum(j.verdict == v for j in exact) for v in ("miscalibrated", "calibrated", "undetermined")}
    published = [c for notion in ("sub-2", "top-1") for c in main_cells(cells, "published", notion)]
    pairs = [e for e in apart if e.notion in ("sub-2", "top-1")]
    shares = [e.null_mean / e.exact for e in pairs if e.exact > 0 and not math.isnan(e.null_mean)]
    shown = (
        f"Of {count(len(published), 'mean error')} of sub-2 and top-1 (a data set and a model each), "
        f"{sum(c.value > TOLERANCE for c in published)} pass {TOLERANCE:g}; their median is "
        f"{decimal(_median([c.value for c in published]))}. No null level stands beside them."
        if published
        else "Not run here."
    )
    enough = tally["miscalibrated"] >= len(exact) / 2
    return Claim(
        "good" if enough else "caution",
        "Popular label rankers are often poorly calibrated.",
        "abstract",
        shown,
        f"Of {count(len(exact), 'such number')}, {tally['miscalibrated']} are miscalibrated "
        "(false discovery rate 5 %), "
        f"{tally['calibrated']} are shown to be calibrated to within {TOLERANCE:g} of total variation, and "
        f"{tally['undetermined']} cannot be told: the test folds are too small. The median debiased error is "
        f"{decimal(_median([j.cell.debiased for j in exact]))}.",
        "A calibrated model of the same size would show a median of "
        f"{decimal(_median([j.cell.null_mean for j in exact]))}"
        + (f", {100 * _median(shares):.0f} % of the median exact error." if shares else ".")
        + " The sizes in the published tables also hold truncation and the unshuffled cut, see below.",
    )


def _levels(cells: Sequence[Cell]) -> Claim | None:
    def both(protocol: str) -> list[tuple[Cell, Cell]]:
        top = {(c.dataset, c.model): c for c in main_cells(cells, protocol, "top-1")}
        return [
            (c, top[c.dataset, c.model]) for c in main_cells(cells, protocol, "sub-2") if (c.dataset, c.model) in top
        ]

    exact, published = both("exact"), both("published")
    if not exact:
        return None

    def unit(c: Cell) -> float:
        return c.outcomes / 2

    apart = [
        (s, t) for s, t in exact
        if s.low * unit(s) > t.high * unit(t) or t.low * unit(t) > s.high * unit(s)
    ]  # fmt: skip
    gaps = [abs(s.debiased * unit(s) - t.debiased * unit(t)) for s, t in exact]
    raw = [abs(s.value - t.value) for s, t in published]
    correlation = math.nan
    if len(exact) > 2:
        from scipy.stats import spearmanr

        correlation = float(
            spearmanr([s.debiased * unit(s) for s, _ in exact], [t.debiased * unit(t) for _, t in exact]).statistic
        )
    text = (
        f"The median absolute difference between sub-2 and top-1 is {decimal(_median(raw))}. But a mean over tuples "
        "shrinks with their number: of m items, m outcomes of top-1 share one unit of probability, two of sub-2 do."
        if published
        else "Not run here."
    )
    return Claim(
        "good" if len(apart) >= len(exact) / 2 else "caution",
        "Sub-ranking and top-k errors differ substantially.",
        "abstract",
        text,
        f"In one unit (total variation) the median absolute difference of the debiased errors is "
        f"{decimal(_median(gaps))}; the 95 % intervals of the two do not overlap for {len(apart)} of "
        f"{count(len(exact), 'combination')} of data set and model. Their rank correlation is "
        f"{decimal(correlation, 2)}.",
        "Part of the published difference is the number of outcomes that the mean runs over, not calibration.",
    )


def _truncation(apart: Sequence[Effects]) -> Claim | None:
    pairs = [e for e in apart if e.notion == "sub-2" and e.dataset in TRUNCATED]
    rankers = [e for e in pairs if e.model != "rpc"]
    rpc = [e for e in pairs if e.model == "rpc"]
    if not rankers or not rpc:
        return None
    by_set = []
    for name in dict.fromkeys(e.dataset for e in pairs):
        best = min((e for e in rankers if e.dataset == name), key=lambda e: e.debiased)
        own = next((e for e in rpc if e.dataset == name), None)
        if own is not None and not math.isnan(own.debiased):
            by_set.append((name, best, own))
    beaten = [name for name, best, own in by_set if best.debiased <= own.debiased]
    return Claim(
        "problem" if beaten else "caution",
        "Where there are many items, only pairwise comparison (RPC) is anywhere near calibrated on pairs.",
        "result tables of " + listing(list(dict.fromkeys(e.dataset for e in pairs)), 5),
        f"Sub-2 error: median {decimal(_median([e.published for e in rankers]))} for the models that forecast "
        f"rankings, {decimal(_median([e.published for e in rpc]))} for RPC.",
        f"With exact marginals over all tuples, the same fits have a median of "
        f"{decimal(_median([e.untruncated for e in rankers]))}; in the exact protocol "
        f"{decimal(_median([e.exact for e in rankers]))} against {decimal(_median([e.exact for e in rpc]))} for RPC. "
        + (
            f"The best of the other models has a debiased error no larger than RPC's on {listing(beaten, 5)}."
            if beaten
            else "RPC keeps the smallest debiased error on each of these sets."
        ),
        "Truncation: forecasts were cut to the rankings that occur in the data and not renormalised, so nearly all "
        "their probability was dropped (a forecast of 0 for an outcome of frequency 1/2 has an error of .5). "
        f"It alone makes {decimal(_median([e.published - e.untruncated for e in rankers]))} of the median error. RPC "
        "states probabilities of pairs only and was not cut." + _flooded(pairs),
    )


def _flooded(pairs: Sequence[Effects]) -> str:
    """What the published rank classifier loses to rankings without a class, told where it is much."""
    worst = max((e for e in pairs if e.model == "rc"), key=lambda e: e.untruncated - e.exact, default=None)
    if worst is None or not worst.untruncated - worst.exact > TOLERANCE:
        return ""
    return (
        f" RC keeps an error of {decimal(worst.untruncated)} on {worst.dataset} even so ({decimal(worst.exact)} in "
        "the exact protocol): rankings without a class have a logit of -20, and all m! of them outweigh the classes."
    )


def _cut(cells: Sequence[Cell], apart: Sequence[Effects]) -> Claim | None:
    pairs = [e for e in apart if e.notion in ("sub-2", "top-1") and not math.isnan(e.shuffled + e.untruncated)]
    pairs = [e for e in pairs if e.model in ("pl", "rc", "mallows", "pl-rpc", "rpc")]
    if not pairs:
        return None
    falls: dict[str, list[float]] = {}
    for e in pairs:
        falls.setdefault(e.dataset, []).append(e.untruncated - e.shuffled)
    worst = sorted(falls, key=lambda name: -_median(falls[name]))
    named = ", ".join(f"{name} {decimal(_median(falls[name]))}" for name in worst[:3])
    return Claim(
        "caution" if _median(falls[worst[0]]) > 0.01 else "good",
        "The errors are those of the models.",
        "implied by the result tables",
        "Training rows are sorted by fold indices and cut unshuffled: the last 20 % of a file sorted by class "
        "calibrate. Median error of these fits, with exact marginals: "
        f"{decimal(_median([e.untruncated for e in pairs]))}.",
        f"The same models with a random cut: {decimal(_median([e.shuffled for e in pairs]))}.",
        f"The cut. Where it costs most (median over models of the error that a random cut removes): {named}."
        + _unseen(cells, worst),
    )


def _unseen(cells: Sequence[Cell], sets: Sequence[str]) -> str:
    """How many calibration rows carry rankings that were never fitted, under either cut."""
    share = {
        (c.dataset, c.cut): c.value
        for c in cells
        if c.protocol == "published" and c.estimator == "unseen_calibration"
    }  # fmt: skip
    both = [name for name in sets if (name, "tail") in share and (name, "random") in share]
    both = sorted(both, key=lambda name: share[name, "random"] - share[name, "tail"])[:3]
    if not both:
        return ""
    told = ", ".join(f"{name} {100 * share[name, 'tail']:.0f} ({100 * share[name, 'random']:.0f})" for name in both)
    return (
        f" Percent of calibration rows whose ranking no fitting row shows (in parentheses with a random cut): {told}."
    )


def _kernel(cells: Sequence[Cell]) -> Claim | None:
    exact = [
        c for notion in ("sub-2", "top-1", "full")
        for c in main_cells(cells, "exact", notion, "dirichlet_kernel")
        if not math.isnan(c.p_value)
    ]  # fmt: skip
    if not exact:
        return None
    below = sum(c.value <= c.null_mean for c in exact)
    rejected = sum(c.p_value <= ALPHA for c in exact)
    published = [
        c for notion in ("sub-2", "top-1", "full") for c in main_cells(cells, "published", notion, "dirichlet_kernel")
    ]
    return Claim(
        "caution" if below else "good",
        "Canonical (full-vector) errors are large.",
        "result tables, Dirichlet-kernel estimator",
        f"Median {decimal(_median([c.value for c in published]))}." if published else "Not run here.",
        f"Median {decimal(_median([c.value for c in exact]))}, but a calibrated model would show "
        f"{decimal(_median([c.null_mean for c in exact]))}. For {below} of {len(exact)} the error is no larger than "
        f"that null level; a test at 5 % rejects calibration for {rejected} ({len(exact) / 20:.0f} by chance).",
        "The null level: a leave-one-out regression with bandwidth 1 smooths strongly and is biased for every "
        "model. The test is valid, but the value alone says little.",
    )
