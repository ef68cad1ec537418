"""How the report says numbers and names: one place, so that the terminal and the page agree to the digit."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from typing import Any

from prefcal.result import Estimate, Interval, Result, Verdict

NBSP = "\u00a0"
MISSING = "–"

#: Verdict -> (symbol, words). The symbol never stands alone.
VERDICTS: dict[Verdict, tuple[str, str]] = {
    "calibrated": ("✓", "calibrated"),
    "miscalibrated": ("✗", "miscalibrated"),
    "undetermined": ("?", "cannot tell"),
}

# Category Cc (controls), Cf (bidirectional overrides, zero width), Cs (lone surrogates), line separators.
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def clean(text: Any) -> str:
    r"""A name from data as printable text: what cannot be seen is written as an escape.

    Examples
    --------
    >>> clean("reset\x1b[0m")
    'reset\\x1b[0m'
    """
    out = []
    for c in str(text):
        if unicodedata.category(c) not in _INVISIBLE:
            out.append(c)
        elif ord(c) < 0x100:
            out.append(f"\\x{ord(c):02x}")
        else:
            out.append(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}")
    return "".join(out)


def clean_result(r: Result) -> Result:
    """A result whose names and labels are printable."""
    group = None if r.group is None else {clean(k): clean(v) for k, v in r.group.items()}
    return replace(
        r,
        model=clean(r.model),
        notion=clean(r.notion),
        group=group,
        coverage={clean(k): v for k, v in r.coverage.items()},
        metrics={clean(k): replace(v, note=clean(v.note)) for k, v in r.metrics.items()},
    )


def percent(x: float, digits: int = 0) -> str:
    """A probability as a percentage; never rounded to 0 or 100 % unless it is exactly that.

    Examples
    --------
    >>> percent(0.9).replace(NBSP, " "), percent(0.9996).replace(NBSP, " "), percent(1.0).replace(NBSP, " ")
    ('90 %', '> 99.9 %', '100 %')
    """
    if not math.isfinite(x):
        return MISSING
    if 0 < x < 1:
        for d in range(digits, 2):
            if 0 < float(f"{100 * x:.{d}f}") < 100:
                return f"{100 * x:.{d}f}{NBSP}%"
        return f">{NBSP}99.9{NBSP}%" if x > 0.5 else f"<{NBSP}0.1{NBSP}%"
    return f"{100 * x:.{digits}f}{NBSP}%"


def percent_pair(x: float, y: float) -> tuple[str, str]:
    """Two percentages with as many digits as it takes to tell them apart (at most one)."""
    a, b = percent(x), percent(y)
    return (a, b) if a != b else (percent(x, 1), percent(y, 1))


def points(x: float) -> str:
    """A difference of probabilities in percentage points.

    Examples
    --------
    >>> points(0.0624), points(0.68), points(0.0004)
    ('6.2 points', '68 points', 'less than 0.1 points')
    """
    if not math.isfinite(x):
        return MISSING
    size = 100 * abs(x)
    if 0 < size < 0.05:
        return "less than 0.1 points"
    number = f"{size:.1f}" if size < 9.95 else f"{size:.0f}"
    return f"{number} point{'' if number == '1.0' else 's'}"


def point_range(interval: Interval) -> str:
    """An interval in percentage points, e.g. ``0.4 to 3.1 points``."""
    low, high = interval
    if not (math.isfinite(low) and math.isfinite(high)):
        return "unknown"
    digits = 1 if 100 * high < 9.95 else 0
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} points"


def decimal(x: float | None, digits: int = 3) -> str:
    """A fixed number of decimals; infinity as a sign, a missing value as a dash."""
    if x is None or math.isnan(x):
        return MISSING
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    text = f"{x:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", "−")


def decimal_range(interval: Interval | None, digits: int = 3) -> str:
    """An interval in brackets, or a dash."""
    if interval is None:
        return MISSING
    return f"[{decimal(interval[0], digits)}, {decimal(interval[1], digits)}]"


def significant(x: float) -> str:
    """A positive factor with two to three significant digits: ``16``, ``2.4``, ``0.71``."""
    if not math.isfinite(x):
        return decimal(x)
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.0f}" if x >= 10 else f"{x:.1f}" if x >= 1 else f"{x:.2g}"


def p_value(p: float) -> str:
    """A p-value: ``< 0.001`` or two significant digits."""
    if not math.isfinite(p):
        return MISSING
    if p < 0.001:
        return f"<{NBSP}0.001"
    return f"{p:.3f}" if p < 0.01 else f"{p:.2f}"


def p_clause(p: float) -> str:
    """The same within a sentence: ``p < 0.001`` or ``p = 0.42``."""
    text = p_value(p)
    return f"p{NBSP}{text}" if text.startswith("<") else f"p{NBSP}={NBSP}{text}"


def count(n: int, what: str = "") -> str:
    """A whole number with thousands separators, and what is counted in the right number."""
    number = f"{n:,}"
    if not what:
        return number
    return f"{number} {what}{'' if n == 1 else 's'}"


def short_count(n: int) -> str:
    """A whole number in at most five characters: ``485``, ``20k``, ``4.5M``."""
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if n >= size and n >= 10_000:
            return f"{n / size:.3g}{unit}"
    return f"{n}"


def listing(names: list[str] | tuple[str, ...], most: int = 4) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and 3 more``."""
    shown = list(names[:most]) if len(names) <= most else list(names[: most - 1])
    rest = len(names) - len(shown)
    if rest:
        return f"{', '.join(shown)} and {rest} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def metric(result: Result, name: str) -> float:
    """The value of a metric, NaN when the result has none of this name."""
    estimate = result.metrics.get(name)
    return math.nan if estimate is None else estimate.value


def metric_text(name: str, estimate: Estimate) -> tuple[str, str]:
    """Value and interval of any metric as text."""
    if "temperature" in name and not name.startswith("ece"):
        interval = estimate.interval
        shown = MISSING if interval is None else f"[{significant(interval[0])}, {significant(interval[1])}]"
        return significant(estimate.value) if not math.isnan(estimate.value) else MISSING, shown
    return decimal(estimate.value), decimal_range(estimate.interval)
