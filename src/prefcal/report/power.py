"""A plan as text: how many instances, how sure, and for what."""

from __future__ import annotations

import math
import textwrap

from prefcal.planning import OBSERVED, Plan
from prefcal.report.wording import clean, count, decimal, percent, significant
from prefcal.result import Estimate

_SEEN = dict(zip(OBSERVED, ("the whole ranking", "the best item", "the order of two items"), strict=True))


def render_power(plan: Plan) -> str:
    """The plan in a few lines and one table, for people.

    Examples
    --------
    >>> from prefcal.planning import power
    >>> print(render_power(power(m=2, temperature=2.0)).splitlines()[0])
    To reject calibration at 5 % with power 80 %, when the scores should be divided by 2.00
    """
    s = plan.settings
    kind = "over-confident" if plan.temperature > 1 else "under-confident"
    intro = (
        f"To reject calibration at {_percent(s['alpha'])} with power {_percent(s['target'])}, when {s['divided']} "
        f"should be divided by {plan.temperature:.2f} ({kind}), a binned error of {decimal(plan.ece.value)} in "
        f"{clean(s['notion'])}, it takes"
    )
    lines = [
        *_wrapped(intro),
        "",
        f"    {instances(plan.n)}",
        "",
        "instances     power        95 % interval",
    ]
    for p in plan.points:
        assert p.power.interval is not None
        low, high = (_percent(x, 1) for x in p.power.interval)
        lines.append(f"{count(p.n):>9}   {_percent(p.power.value, 1):>7}   {low:>8} to {high:>7}")
    m = s["m"]
    items = f"{m[0]}" if m[0] == m[1] else f"{m[0]} to {m[1]}"
    number = f"{s['events_per_instance']:.3g}"
    events = f"{number} event{'' if number == '1' else 's'} of {clean(s['notion'])}"
    lines.append("")
    notes = [
        f"Population: {s['population']}; {items} items. Each instance shows "
        f"{_SEEN.get(s['observed'], 'what the given outcomes show')}: {events}.",
        f"Test: {s['test']}; {s['bins']} bins. Intervals are of the simulation ({s['replicates']} repetitions, "
        f"seed {s['seed']}).",
    ]
    for note in notes + [f"Note: {clean(w)}" for w in plan.warnings]:
        lines += _wrapped(note)
    return "\n".join(lines) + "\n"


def instances(n: Estimate) -> str:
    """A number of instances with its interval.

    Examples
    --------
    >>> instances(Estimate(423.3, (417.6, 429.1)))
    '424 instances [417, 430]'
    """
    if not math.isfinite(n.value) or n.interval is None:
        return n.note
    low, high = n.interval
    return f"{math.ceil(n.value):,} instances [{math.floor(low):,}, {math.ceil(high):,}]"


def detectable_text(above: Estimate | None, below: Estimate | None) -> str:
    """What a data set could have shown, as half a sentence; empty where nothing is known (NaN too).

    Examples
    --------
    >>> detectable_text(Estimate(1.41), Estimate(0.7))
    'this data could only have shown a temperature above 1.4 or below 0.7'
    >>> detectable_text(Estimate(math.inf), Estimate(0.0))
    'this data could not have shown any temperature error reliably'
    """
    if above is None or below is None or math.isnan(above.value):
        return ""
    parts = []
    if math.isfinite(above.value):
        parts.append(f"above {significant(above.value)}")
    if below.value > 0:
        parts.append(f"below {significant(below.value)}")
    if not parts:
        return "this data could not have shown any temperature error reliably"
    return f"this data could only have shown a temperature {' or '.join(parts)}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _percent(x: float, digits: int = 0) -> str:
    return percent(x, digits).replace("\u00a0", " ")
