"""Conclusions in plain words: what the published evaluation says, what the proper statistic says, the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from prefcal.auditing import ALPHA
from prefcal.report.wording import count, decimal, decimal_range, listing, p_clause, percent, significant
from prefcal.studies.reward_models.measures import kendall
from prefcal.studies.reward_models.parts import SUB, TOP, Correlation, Measured

if TYPE_CHECKING:
    from prefcal.studies.reward_models.running import RewardModelStudy

Holds = Literal["holds", "part", "fails", "open", "note"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One conclusion.

    Parameters
    ----------
    title
        The statement under test.
    holds
        ``holds`` or ``fails`` by the data here, ``part`` where for some models only, ``open`` where the data cannot
        tell, ``note`` where nothing is at stake.
    published, proper
        What the published evaluation says; what a proper statistic says.
    evidence
        Numbers, one sentence each.
    """

    title: str
    holds: Holds
    published: str
    proper: str
    evidence: tuple[str, ...]


def conclude(s: RewardModelStudy) -> list[Claim]:
    """All claims that the study's parts speak to."""
    claims = [_what_it_is(s), _order(s), _accuracy(s)]
    if s.table is not None:
        claims.append(_categories_of_the_table(s))
    claims += [_where(s), _temperature(s), _views(s)]
    return claims


def overall(rows: Sequence[Measured]) -> list[Measured]:
    """The rows that are not one category."""
    return [r for r in rows if r.category is None]


def short(model: str) -> str:
    """A model's name without its organisation."""
    return model.rpartition("/")[2]


def _what_it_is(s: RewardModelStudy) -> Claim:
    rows = overall(s.best_of_four)
    evidence = [
        "The published code pairs p(candidate 0 is best) with the outcome 1 in every row, because the right answer "
        "is stored first. Then each bin adds its weight times 1 - mean p, and the sum is 1 - mean p(chosen), "
        "whatever the bins."
    ]
    if s.table is not None and s.table.reproduced:
        largest = max(abs(a - b) for _, a, b in s.table.reproduced)
        evidence.append(
            "Recomputed as 1 - mean p(candidate 0) from the per-prompt scores, the published number comes out within "
            f"{largest:.1g} for {len(s.table.reproduced)} of {len(s.table.reproduced)} models whose scores are here."
        )
    worst = max(rows, key=lambda r: r.published.value - r.top.value)
    evidence.append(
        f"The two are different quantities: {short(worst.model)} has "
        f"{decimal(worst.published.value)}, while its "
        f"top-1:confidence ECE is {decimal(worst.top.value)} (a calibrated model of this size: "
        f"{decimal(worst.top.null_mean)})."
    )
    if s.ties:
        values, right = [r.published.value for r in s.ties], [r.accuracy for r in s.ties]
        evidence.append(
            f"On {count(s.ties[0].n_instances, 'prompt')} several answers may be right; probability of the "
            "other right "
            f"ones counts as error there ({decimal(min(values))} to {decimal(max(values))}, where the models' first "
            f"choice is right {percent(min(right))} to {percent(max(right))} of the time if one answer is)."
        )
    return Claim(
        "The published top-1 ECE of reward models measures calibration",
        "fails",
        "Reports it as the expected calibration error of the probability of the chosen answer.",
        "The number is 1 - mean p(chosen), the mean probability of a wrong choice. It is conditioned on where the "
        "answer is stored, so there is no event that could fail to happen, and it falls as a model grows "
        "over-confident.",
        tuple(evidence),
    )


def _order(s: RewardModelStudy) -> Claim:
    rows = sorted(overall(s.best_of_four), key=lambda r: r.published.value)
    published = np.array([r.published.value for r in rows])
    proper = np.array([r.top.value for r in rows])
    tau = float(kendall(published, proper))
    holds: Holds = "holds" if tau == 1 else "fails" if tau < 0 else "open"
    told = "the other way round" if tau == -1 else "in the same order" if tau == 1 else "in another order"
    by_proper = [f"{short(r.model)} ({decimal(r.top.value)})" for r in sorted(rows, key=lambda r: r.top.value)]
    return Claim(
        "A lower published ECE means a better calibrated model",
        holds,
        f"Best to worst: {', '.join(f'{short(r.model)} ({decimal(r.published.value)})' for r in rows)}.",
        f"By top-1:confidence the models stand {told}: {', '.join(by_proper)}.",
        (
            *(
                f"{short(r.model)}: published statistic {decimal(r.published.value)}; top-1:confidence ECE "
                f"{decimal(r.top.value)} (calibrated: {decimal(r.top.null_mean)}), debiased "
                f"{decimal(r.top.debiased)} {decimal_range(r.top.interval)}, {p_clause(r.top.p_value)}; it says "
                f"{percent(r.top.metrics['mean_forecast'].value, 1)} and is right {percent(r.accuracy, 1)} of the "
                "time."
                for r in rows
            ),
            f"All on the same {count(rows[0].n_instances, 'prompt')} with one right answer of four.",
        ),
    )


def _accuracy(s: RewardModelStudy) -> Claim:
    main, side, few = (rows[0].benchmark for rows in (s.best_of_ten, s.pairs, s.best_of_four))
    ten = find(s, main, f"{TOP}, debiased")
    holds: Holds = "open" if ten.p_value > ALPHA else "holds" if ten.tau < 0 else "fails"
    published = find(s, main, "1 - mean p(chosen)")
    lines = [told(find(s, main, of)) for of in (f"{TOP}, debiased", f"{SUB}, debiased")]
    lines += [told(find(s, side, f"{SUB}, debiased")), told(find(s, few, f"{TOP}, debiased"))]
    carried = next(c for c in s.correlations if c.against == "the same elsewhere")
    lines.append(
        f"The order of the models by sub-2 error on {carried.where} has tau {decimal(carried.tau, 2)} "
        f"({p_clause(carried.p_value)}): calibration on one set "
        f"{'is not shown to say anything' if carried.p_value > ALPHA else 'says something'} about the other."
    )
    lines.append(
        f"{ten.n_models} models are few, {find(s, few, '1 - mean p(chosen)').n_models} next to nothing: "
        "intervals are "
        "for these models on other prompts, not for other models."
    )
    return Claim(
        "More accurate reward models are better calibrated",
        holds,
        f"The statistic falls with accuracy: on {main} tau {decimal(published.tau, 2)} "
        f"({p_clause(published.p_value)}). It must: p(chosen) is large where the model is right.",
        f"The proper error goes with accuracy {'less' if abs(ten.tau) < abs(published.tau) else 'no less'}: "
        f"top-1:confidence {decimal(ten.tau, 2)} ({p_clause(ten.p_value)}).",
        tuple(lines),
    )


def find(s: RewardModelStudy, where: str, of: str) -> Correlation:
    """The correlation of a statistic with accuracy on a benchmark."""
    return next(c for c in s.correlations if c.where == where and c.of == of)


def told(c: Correlation) -> str:
    """A correlation as a sentence."""
    kind = "exact " if c.exact else ""
    return (
        f"{c.where}, {c.n_models} models: tau of {c.of} with {c.against} {decimal(c.tau, 2)} "
        f"{decimal_range(c.interval, 2)}, {kind}permutation {p_clause(c.p_value)}."
    )


def _categories_of_the_table(s: RewardModelStudy) -> Claim:
    assert s.table is not None
    rows = s.table.rows
    larger = [r for r in rows if r.difference.value > 0]
    beyond = [r.category for r in rows if _positive(r.difference.interval)]
    left = [r for r in rows if _positive(r.partial.interval)]
    taus = [r.published.tau for r in rows]
    evidence = [
        f"{r.category}: published ECE {decimal(r.published.tau)} {decimal_range(r.published.interval)}, plain error "
        f"rate {decimal(r.error_rate.tau)} {decimal_range(r.error_rate.interval)}, difference "
        f"{decimal(r.difference.value)} {decimal_range(r.difference.interval)}."
        for r in rows
    ]
    evidence.append(
        f"Between the two: tau {decimal(s.table.published_with_error.tau)} "
        f"{decimal_range(s.table.published_with_error.interval)}. With the error rate held fixed, partial tau is "
        f"{decimal(min(r.partial.value for r in rows), 2)} to {decimal(max(r.partial.value for r in rows), 2)}"
        + (
            f"; its interval excludes 0 for {listing([r.category for r in left], 6)}: there the size of the "
            "probabilities tells something that the error rate does not (not calibration, by the first conclusion)."
            if left
            else "; no interval excludes 0."
        )
    )
    return Claim(
        "Calibration error explains how models do in the categories of RewardBench 2",
        "fails" if len(larger) * 2 > len(rows) else "open",
        f"Kendall correlations of the ECE with the error of each category of {decimal(min(taus), 2)} to "
        f"{decimal(max(taus), 2)} over {s.table.n_models} models.",
        f"The plain error rate of the same models goes with {len(larger)} of {len(rows)} categories more "
        "than the ECE "
        f"does; the difference is beyond the noise of {s.table.n_models} models for "
        f"{listing(beyond, 6) if beyond else 'none'}. The correlations show that the statistic is a "
        "blurred accuracy, "
        "and the categories are parts of that accuracy.",
        tuple(evidence),
    )


def _positive(interval: tuple[float, float] | None) -> bool:
    return interval is not None and interval[0] > 0


def _where(s: RewardModelStudy) -> Claim:
    rows = [r for r in s.best_of_four if r.category is not None]
    names = list(dict.fromkeys(str(r.category) for r in rows))
    models = len(overall(s.best_of_four))
    over = {
        n: [r for r in rows if r.category == n and r.top.verdict == "miscalibrated" and _says_more(r)] for n in names
    }
    mean = {n: float(np.mean([r.top.value for r in rows if r.category == n])) for n in names}
    worst = sorted(names, key=lambda n: -mean[n])
    lines = []
    for n in worst:
        values = [r.top.value for r in rows if r.category == n]
        nulls = [r.top.null_mean for r in rows if r.category == n]
        lines.append(
            f"{n}: top-1:confidence ECE {decimal(min(values))} to {decimal(max(values))} (calibrated: "
            f"{decimal(min(nulls))} to {decimal(max(nulls))}); shown over-confident for {len(over[n])} of "
            f"{models} models."
        )
    top = [n for n in worst if mean[n] >= 0.75 * mean[worst[0]]]
    return Claim(
        "Where the errors of the models of RewardBench 2 are",
        "note",
        "Gives one number a model, none a category.",
        f"The errors are largest in {listing(top)}"
        + (
            f"; over-confidence is shown (adjusted over categories) in {listing([n for n in worst if over[n]], 6)}."
            if any(over.values())
            else "; over-confidence is shown in no category."
        ),
        tuple(lines),
    )


def _says_more(r: Measured) -> bool:
    return r.top.metrics["mean_forecast"].value > r.accuracy


def _temperature(s: RewardModelStudy) -> Claim:
    good = [x for x in s.splits if x.share_undetected >= 0.95]
    lines = [
        f"{short(x.model)}: temperature {significant(float(np.mean(x.temperatures)))} (from {x.n_fit} prompts; "
        f"{significant(min(x.temperatures))} to {significant(max(x.temperatures))} over "
        f"{len(x.temperatures)} splits); "
        f"on the other {x.n_test} no error is detected in {percent(x.share_undetected)} of the splits, without it in "
        f"{percent(x.share_undetected_raw)}; mean debiased error {decimal(float(np.mean(x.raw_debiased)))} before, "
        f"{decimal(float(np.mean(x.mended_debiased)))} after."
        for x in s.splits
    ]
    rest = [
        f"{short(r.model)} in {r.category}, {n} ({p_clause(q.p_adjusted)}, debiased {decimal(q.debiased)})"
        for r in s.best_of_four
        if r.category is not None
        for n, q in r.mended.items()
        if q.p_adjusted <= ALPHA
    ]
    if rest:
        lines.append(
            "Left in single categories after one temperature for all, in one split: " + "; ".join(rest) + "."
        )
    both = [name for name, cold, warm in _directions(s) if cold and warm]
    for name in both:
        lines.append(
            f"{short(name)} says too little in some categories and too much in others (95 % intervals of their own "
            "temperatures lie on both sides of 1): one number cannot mend both."
        )
    lines.append(
        "A calibrated model would pass in about 95 % of splits; splits share prompts and are not independent."
    )
    return Claim(
        "One temperature, fitted on half of the prompts, mends the rest",
        "holds" if len(good) == len(s.splits) else "part" if good else "fails",
        "Does not ask.",
        f"It does for {listing([short(x.model) for x in good])}"
        + ("" if len(good) == len(s.splits) else f", not always for {listing(_others(s, good))}")
        + ". So most of the error is one factor on the scores, which the published statistic cannot see."
        if good
        else f"Not reliably for any of {listing([short(x.model) for x in s.splits])}.",
        tuple(lines),
    )


def _directions(s: RewardModelStudy) -> list[tuple[str, bool, bool]]:
    """Model, whether some category's own temperature is shown to be below 1, and whether some is above."""
    out = []
    for name in dict.fromkeys(r.model for r in s.best_of_four):
        own = [r.top.metrics["temperature"].interval for r in s.best_of_four if r.model == name and r.category]
        known = [i for i in own if i is not None]
        out.append((name, any(i[1] < 1 for i in known), any(i[0] > 1 for i in known)))
    return out


def _others(s: RewardModelStudy, good: Sequence[object]) -> list[str]:
    return [short(x.model) for x in s.splits if x not in good]


def _views(s: RewardModelStudy) -> Claim:
    ten = next(iter(s.known.values()))
    seen = [o for o in ten if o.members]
    unseen = [o.view for o in ten if not o.members]
    above = [short(x.model) for x in s.scaling if _positive(x.difference.interval)]
    below = [short(x.model) for x in s.scaling if x.difference.interval is not None and x.difference.interval[1] < 0]
    moved = max(s.scaling, key=lambda x: max(x.top) - min(x.top))
    still = max(max(x.sub) - min(x.sub) for x in s.scaling)
    m = s.scaling[0].sizes[-1]
    return Claim(
        "Sub-k and top-k errors say different things about a reward model",
        "holds" if above or below else "open",
        "Looks at top-1 alone.",
        f"With {m} candidates the debiased top-1:confidence error is above the sub-2 error for {len(above)} of "
        f"{len(s.scaling)} models and below it for {len(below)} (95 % intervals by prompt); for the others the data "
        "cannot tell.",
        (
            f"Where only the best of {m} is known, these views have known outcomes: "
            + ", ".join(f"{o.view} ({percent(o.members / o.n_members)} of its members)" for o in seen)
            + f"; none for {', '.join(unseen)}. So k = 2 is the end for sub-k, k = 1 for top-k.",
            "With two candidates the two notions are one. With more, sub-2 stays what it is (pairs of the "
            "best with a "
            f"random wrong candidate; over 2 to {m} candidates it moves by at most {decimal(still)}), and top-1 "
            f"changes: {short(moved.model)} goes from {decimal(moved.top[0])} with 2 candidates to "
            f"{decimal(moved.top[-1])} with {m}.",
            f"A pair-wise audit therefore does not tell what best-of-{m} will do: audit the choice that is made.",
        ),
    )
