"""Findings: what an audit means, in plain words, the gravest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prefcal.report.contract import AuditLike
from prefcal.report.power import detectable_text
from prefcal.report.wording import (
    clean,
    clean_result,
    count,
    decimal,
    listing,
    metric,
    p_clause,
    percent,
    percent_pair,
    point_range,
    points,
    significant,
)
from prefcal.result import Result

Severity = Literal["problem", "caution", "good", "note"]

# A model is called honest but uninformative when it explains less than this share of the events' uncertainty.
USELESS_RESOLUTION = 0.01
# Coverage below this share of the instances is a finding of its own.
LOW_COVERAGE = 0.8
# Rooms: what comes first within one severity.
_COMPARISON, _OVERALL, _EXTREME, _GROUPS, _VALUE, _COVERAGE = range(6)


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence that can stand alone, and a paragraph with the evidence.

    Parameters
    ----------
    severity
        ``problem``: shown by the data; ``caution``: the data cannot tell, or are used only in part; ``good``;
        ``note``.
    title, text
        Plain text.
    model, notion
        What it is about; empty for findings about several.
    """

    severity: Severity
    title: str
    text: str
    model: str = ""
    notion: str = ""


def findings(audit: AuditLike) -> list[Finding]:
    """What an audit means, in plain words.

    Parameters
    ----------
    audit
        Anything with ``results``, ``inputs``, ``warnings`` and ``version``.

    Returns
    -------
    Findings, gravest first; comparisons between models before single models, larger errors before smaller
    ones. The same audit gives the same list.
    """
    return findings_of(clean_result(r) for r in audit.results)


def findings_of(results: Iterable[Result]) -> list[Finding]:
    """The findings of results whose names are printable already (see :func:`findings`)."""
    results = list(results)
    overall = [r for r in results if r.group is None]
    found: list[tuple[int, float, Finding]] = []
    by_notion: dict[tuple[str, str], list[Result]] = {}
    for r in overall:
        by_notion.setdefault((r.notion, r.items), []).append(r)
    for same in by_notion.values():
        if len(same) > 1:
            found.append((_COMPARISON, 0.0, _comparison(same)))
    silent = {r.model for r in overall if r.notion.startswith("sub-2") and _shared(r)}  # they order nothing
    for r in overall:
        found.append((_OVERALL, _size(r), _verdict(r)))
        if math.isinf(metric(r, "log_loss")):
            found.append((_EXTREME, _size(r), _ruled_out(r)))
        if _says_little(r, r.model in silent):
            found.append((_VALUE, 0.0, _uninformative(r)))
        if r.n_events and (coverage := _coverage(r)) is not None:
            found.append((_COVERAGE, 0.0, coverage))
    fields: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        if r.group:
            fields.setdefault((r.model, r.notion, " and ".join(map(str, r.group))), []).append(r)
    for (_, _, field), groups in fields.items():
        if (finding := _groups(field, groups)) is not None:
            found.append((_GROUPS, max(_size(g) for g in groups), finding))
    order = {"problem": 0, "caution": 1, "good": 2, "note": 3}
    found.sort(key=lambda f: (f[0] != _COMPARISON, order[f[2].severity], f[0], -f[1]))
    return [finding for _, _, finding in found]


def claim(notion: str, items: str) -> str:
    """What a model claims in an event whose probability is its confidence, as a clause; "" for other events."""
    view, _, given = notion.partition(":")
    kind, _, k = view.partition("-")
    if kind == "sub" and k == "2" and items == "exchangeable":
        return "that the better-scored of two candidates is the better one"
    if given != "confidence":
        return ""
    if kind == "top" and k == "1":
        return "that its first choice is the best"
    return {
        "full": "that its most probable ranking is the true one",
        "sub": f"that its most probable order of {k} items is the true one",
        "top": f"that its most probable first {k} are right and in order",
        "topset": f"that its most probable set of the best {k} is right",
        "position": "that an item has its most probable rank",
    }.get(kind, "")


def _size(r: Result) -> float:
    """What findings are sorted by; a squared kernel error lives on another scale and comes after the others."""
    if not math.isfinite(r.debiased):
        return -math.inf
    return r.debiased if r.estimator == "ece" else r.debiased - 1e6


def _tilt(r: Result) -> float:
    """Mean p minus mean y, counted away from indifference: above 0 = too extreme, below 0 = too timid."""
    if claim(r.notion, r.items):
        return metric(r, "mean_forecast") - metric(r, "accuracy")
    total = sum(c.weight for c in r.curve)
    if not total:
        return 0.0
    centre = 0.5 if r.notion.startswith("sub-2") else sum(c.weight * c.mean_outcome for c in r.curve if c.n) / total
    away = (
        math.copysign(c.weight, c.mean_forecast - centre) * (c.mean_forecast - c.mean_outcome) for c in r.curve if c.n
    )
    return sum(away) / total


def _verdict(r: Result) -> Finding:
    return {"miscalibrated": _miscalibrated, "calibrated": _calibrated, "undetermined": _undetermined}[r.verdict](r)


def _evidence(r: Result) -> str:
    if r.estimator != "ece":
        return (
            f"Its {r.estimator.upper()} is {decimal(r.value)}; a calibrated model of this size would show "
            f"{decimal(r.null_mean)} ({p_clause(r.p_value)}, {count(r.n_instances, 'instance')})."
        )
    return (
        f"Its error is {points(max(r.debiased, 0.0))} after removing what chance alone would show "
        f"(95 % interval {point_range(r.interval)}, {p_clause(r.p_value)}, {count(r.n_events, 'event')} from "
        f"{count(r.n_instances, 'instance')})."
    )


def _says_and_is(r: Result) -> str:
    clause = claim(r.notion, r.items)
    said, right = metric(r, "mean_forecast"), metric(r, "accuracy")
    if not clause or not (math.isfinite(said) and math.isfinite(right)):
        return ""
    p, y = percent_pair(said, right)
    return f"On average it says {p} {clause}, and is right {y} of the time. "


def _miscalibrated(r: Result) -> Finding:
    clause, tilt = claim(r.notion, r.items), _tilt(r)
    mostly_one_way = r.estimator == "ece" and abs(tilt) > 0.5 * max(r.debiased, 0.0)
    said, right = metric(r, "mean_forecast"), metric(r, "accuracy")
    word = "over-confident" if tilt > 0 else "under-confident"
    if clause and mostly_one_way and math.isfinite(said) and math.isfinite(right):
        p, y = percent_pair(said, right)
        title = f"{r.model} says {p} {clause}, and is right {y} of the time"
        text = f"It is {word}. "
    elif mostly_one_way:
        title = f"{r.model} is {word} in {r.notion}: its probabilities are off by {points(r.debiased)}"
        how = "further from indifference" if tilt > 0 else "nearer to indifference"
        text = f"Its probabilities lie {how} than what happens. "
    elif r.estimator == "ece":
        title = f"{r.model} is miscalibrated in {r.notion}: its probabilities are off by {points(r.debiased)}"
        text = _says_and_is(r) + "The errors go in both directions: too high in some places, too low in others. "
    else:
        title = f"{r.model} is miscalibrated in {r.notion}"
        text = "Its forecasts as a whole do not match what happens. "
    remedy, short = _remedy(r)
    if short:
        title += f"; {short}"
    return Finding("problem", title, (text + _evidence(r) + remedy).strip(), r.model, r.notion)


def _remedy(r: Result) -> tuple[str, str]:
    """What one factor on the scores would do: a sentence, and a clause for the title where it is known to help."""
    t = metric(r, "temperature")
    if math.isnan(t):
        return "", ""
    if math.isinf(t) or t <= 0:
        return " No factor on its scores helps: these outcomes are fitted best by ignoring the scores.", ""
    interval = r.metrics["temperature"].interval
    low, high = interval if interval is not None else (math.nan, math.nan)
    factor, verb = (t, "Dividing") if t >= 1 else (1 / t, "Multiplying")
    if t < 1 and low > 0:
        low, high = 1 / high, 1 / low
    spread = f" (95 % interval {significant(low)} to {significant(high)})" if math.isfinite(low + high) else ""
    if factor < 1.1:
        return f" No factor on its scores would help much: the best one is {significant(t)}.", ""
    how = f"{verb.lower()} its scores by {significant(factor)}"
    left = r.metrics.get("ece_at_temperature")
    text = f" {verb} its scores by {significant(factor)}{spread} is the one factor that fits these outcomes best."
    if left is not None and left.interval is not None:
        text += f" With it, an error of {point_range(left.interval)} would be left (95 % interval)."
        if left.value <= 0.5 * r.value:
            return text, f"{how} would fix most of it"
    return text, ""


def _calibrated(r: Result) -> Finding:
    if r.estimator != "ece":
        return Finding("good", f"{r.model} is calibrated in {r.notion}", _evidence(r), r.model, r.notion)
    limit = points(r.interval[1])
    tolerance = r.settings.get("tolerance")
    bound = f", below the tolerance of {points(float(tolerance))}" if isinstance(tolerance, int | float) else ""
    text = _says_and_is(r)
    if r.p_value < 0.05:
        title = f"{r.model} is within {limit} of what it says in {r.notion}: an error is detectable, but small"
        text += f"A test does detect an error ({p_clause(r.p_value)}), but it is at most {limit}{bound}. "
    else:
        title = f"{r.model} is within {limit} of what it says in {r.notion}"
        text += f"The data could still hide an error of {limit}{bound}. "
    return Finding("good", title, text + _evidence(r), r.model, r.notion)


def _undetermined(r: Result) -> Finding:
    if not r.n_events:
        title = f"Nothing can be said about {r.model} in {r.notion}: no instance can be used"
        return Finding("caution", title, "Coverage says why.", r.model, r.notion)
    title = f"The data cannot tell whether {r.model} is calibrated in {r.notion}: {count(r.n_instances, 'instance')}"
    text = _says_and_is(r)
    if r.estimator == "ece":
        text += (
            f"The 95 % interval of its error is {point_range(r.interval)}; the raw error of {points(r.value)} says "
            f"little, since a calibrated model would show {points(r.null_mean)} here by chance alone "
            f"({p_clause(r.p_value)}). More instances would settle it."
        )
        shown = detectable_text(
            r.metrics.get("detectable_temperature_above"), r.metrics.get("detectable_temperature_below")
        )
        text += f" With a power of 80 %, {shown}." if shown else ""
    else:
        text += _evidence(r) + " The test does not reject calibration, and that is no proof of it."
    return Finding("caution", title, text, r.model, r.notion)


def _ruled_out(r: Result) -> Finding:
    return Finding(
        "problem",
        f"{r.model} gave probability 0 to something that happened ({r.notion})",
        "Its log loss is infinite: at least one event that it ruled out took place. No recalibration that keeps a "
        "probability of 0 can mend that.",
        r.model,
        r.notion,
    )


def _share_explained(r: Result) -> float:
    resolution, uncertainty = metric(r, "brier_resolution"), metric(r, "brier_uncertainty")
    return resolution / uncertainty if uncertainty > 0 else math.nan


def _says_little(r: Result, silent: bool) -> bool:
    if r.verdict == "miscalibrated" or r.estimator != "ece":
        return False
    near_half = r.notion.startswith("sub-2") and r.items == "exchangeable" and metric(r, "mean_forecast") < 0.55
    return _share_explained(r) < USELESS_RESOLUTION or near_half or silent or _shared(r)


def _shared(r: Result) -> bool:
    """Whether equals share (nearly) every event: it happens by the fraction that was forecast, whatever happens.

    The fractions are 1/2 at most, and one of them where lists are equally long.
    """
    mean, uncertainty = metric(r, "accuracy"), metric(r, "brier_uncertainty")
    if not 1e-12 < mean < 1 - 1e-12:
        return False
    halves = uncertainty + mean**2 <= mean / 2 + 1e-12  # mean of y^2, and y^2 <= y / 2 up to 1/2
    return uncertainty <= 1e-12 or (halves and metric(r, "brier") <= 1e-12)


def _uninformative(r: Result) -> Finding:
    share = _share_explained(r)
    nothing = math.isnan(share) or _shared(r)  # is uncertain
    knows = "" if nothing else f"It explains {percent(max(share, 0.0))} of what is uncertain about the events"
    said = f"its mean forecast is {percent(metric(r, 'mean_forecast'))}"
    how = "is honest, but says" if r.verdict == "calibrated" else "says"
    return Finding(
        "note",
        f"{r.model} {how} little in {r.notion}",
        (f"{knows}; {said}. " if knows else f"{said[0].upper()}{said[1:]}. ")
        + "Calibration is about honesty, not knowledge: to say one half about every fair coin is calibrated.",
        r.model,
        r.notion,
    )


def _coverage(r: Result) -> Finding | None:
    total, used = sum(r.coverage.values()), r.coverage.get("used", 0)
    if not total or used >= LOW_COVERAGE * total:
        return None
    why = [f"{clean(k)} ({count(v)})" for k, v in r.coverage.items() if k != "used" and v]
    return Finding(
        "caution",
        f"Only {count(used)} of {count(total, 'instance')} of {r.model} can be used for {r.notion}",
        f"Left out: {listing(why, 5)}. What is said about {r.notion} holds for the instances used; they may "
        "differ from the rest.",
        r.model,
        r.notion,
    )


def _groups(field: str, groups: Sequence[Result]) -> Finding | None:
    model, notion = groups[0].model, groups[0].notion
    bad = sorted((g for g in groups if g.verdict == "miscalibrated" and g.p_adjusted < 0.05), key=_size, reverse=True)
    silent = [g for g in groups if g.verdict == "undetermined"]
    few = f" In {len(silent)} of {len(groups)} groups the data cannot tell." if silent else ""
    if bad:
        worst = [f"{group_name(g)} ({_error(g)}, {p_clause(g.p_adjusted)})" for g in bad]
        title = (
            f"{model} is miscalibrated in {len(bad)} of {count(len(groups), 'group')} of {clean(field)} ({notion}), "
            f"worst in {group_name(bad[0])}"
        )
        text = f"Largest errors: {listing(worst, 5)}; p-values are adjusted for looking at {len(groups)} groups.{few}"
        return Finding("problem", title, text, model, notion)
    if silent:
        return Finding(
            "caution",
            f"No group of {clean(field)} is shown to be miscalibrated, {len(silent)} of {len(groups)} are too "
            f"small to tell ({model}, {notion})",
            f"Too small: {listing([f'{group_name(g)} ({count(g.n_instances)})' for g in silent], 6)}.",
            model,
            notion,
        )
    return Finding(
        "good",
        f"{model} is calibrated in all {count(len(groups), 'group')} of {clean(field)} ({notion})",
        "The interval of each group's error lies below the tolerance.",
        model,
        notion,
    )


def group_name(r: Result) -> str:
    """The values of a result's group: ``Math``, or ``Math, hard`` for two fields."""
    return ", ".join(clean(v) for v in (r.group or {}).values())


def _error(r: Result) -> str:
    return points(max(r.debiased, 0.0)) if r.estimator == "ece" else decimal(r.debiased)


def _comparison(same: Sequence[Result]) -> Finding:
    """Best is the model whose error is shown to be smallest: a small sample alone cannot win."""
    ranked = sorted(same, key=lambda r: r.interval[1] if math.isfinite(r.interval[1]) else math.inf)
    best, notion = ranked[0], same[0].notion
    worst = max(same, key=_size)
    bad = [r for r in same if r.verdict == "miscalibrated"]
    fine = [r for r in same if r.verdict == "calibrated"]
    close = [r for r in ranked[1:] if r.interval[0] <= best.interval[1]]
    scale = points if best.estimator == "ece" else decimal
    limit = scale(best.interval[1])
    which = f"all {len(same)}" if len(bad) == len(same) else f"{len(bad) or 'none'} of {len(same)}"
    counts = f"{which} models {'is' if len(bad) < 2 else 'are'} shown to be miscalibrated"
    title = f"In {notion}, {counts}; best attested is {best.model} (error at most {limit})"
    text = f"The largest error is that of {worst.model} ({_error(worst)}). "
    if len(close) == len(same) - 1:
        text += (
            "The intervals of all models overlap with the best one: these data do not say which is best calibrated. "
        )
    elif close:
        text += (
            f"The interval of {best.model} overlaps with {'that' if len(close) == 1 else 'those'} of "
            f"{listing([r.model for r in close])}: which of them is best calibrated is not settled. "
        )
    else:
        text += f"No other model's interval reaches that of {best.model}. "
    text += f"Calibrated within the tolerance: {listing([r.model for r in fine], 6) if fine else 'none'}."
    sharp = max(same, key=lambda r: metric(r, "accuracy") if math.isfinite(metric(r, "accuracy")) else -math.inf)
    if claim(notion, best.items) and math.isfinite(metric(sharp, "accuracy")) and sharp.model != best.model:
        text += f" Right most often is another one: {sharp.model} ({percent(metric(sharp, 'accuracy'))})."
    severity: Severity = "problem" if bad else "good" if len(fine) == len(same) else "caution"
    return Finding(severity, title, text, "", notion)
