"""``--fail-if`` gates: one comparison of one number of one notion."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefcal.audited import Audit
from prefcal.errors import UsageError
from prefcal.notions.notion import Notion
from prefcal.result import Result

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_PATTERN = re.compile(
    r"\s*(?P<notion>[a-z0-9:-]+?)\s*(\[(?P<field>[^=\]]+)=(?P<level>[^\]]*)\])?\s*\.\s*(?P<name>\w+)\s*"
    r"(?P<op>>=|<=|==|!=|>|<)\s*(?P<value>\S+)\s*"
)
_OWN = ("value", "null_mean", "debiased", "low", "high", "p_value", "p_adjusted", "n_events", "n_instances")
_VERDICTS = ("calibrated", "miscalibrated", "undetermined")


@dataclass(frozen=True, slots=True)
class Gate:
    """``NOTION[FIELD=LEVEL].NUMBER OP VALUE``; the group part is optional.

    Examples
    --------
    >>> Gate.parse("top-1:confidence.ece > 0.05").name
    'ece'
    """

    text: str
    notion: str
    group: tuple[str, str] | None
    name: str
    op: str
    value: float | str

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read a gate. Raises UsageError for anything else than one comparison."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--fail-if {text!r}: expected NOTION.NUMBER OP VALUE, such as 'sub-2.ece > 0.05', "
                "'sub-2[subset=Math].debiased >= 0.1' or 'top-1:confidence.verdict == miscalibrated'"
            )
        Notion.parse(match["notion"])
        name, value = match["name"], match["value"].strip("'\"")
        group = None if match["field"] is None else (match["field"].strip(), match["level"].strip())
        if name == "verdict":
            if value not in _VERDICTS:
                raise UsageError.unknown("verdict", value, _VERDICTS)
            if match["op"] not in ("==", "!="):
                raise UsageError(f"--fail-if {text!r}: a verdict can only be compared by == or !=")
            return cls(text, match["notion"], group, name, match["op"], value)
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"--fail-if {text!r}: {value!r} is not a number") from None
        if math.isnan(number):
            raise UsageError(f"--fail-if {text!r}: nothing compares with NaN")
        return cls(text, match["notion"], group, name, match["op"], number)

    def failures(self, audit: Audit) -> list[str]:
        """One message for each model for which the gate's condition holds."""
        wanted = Notion.parse(self.notion).name
        results = [r for r in audit.results if Notion.parse(r.notion).name == wanted and self._is_group(r)]
        if not results:
            have = ", ".join(dict.fromkeys(r.notion for r in audit.results))
            raise UsageError(f"--fail-if {self.text!r}: no such result; audited: {have} (add --notion or --group)")
        out = []
        for r in results:
            found = self._lookup(r)
            if _COMPARE[self.op](found, self.value):
                shown = found if isinstance(found, str) else f"{found:.6g}"
                out.append(f"{self.text.strip()} holds for {r.model} ({self.name} = {shown})")
        return out

    def _is_group(self, r: Result) -> bool:
        if self.group is None:
            return r.group is None
        return r.group is not None and self.group in {(k, str(v)) for k, v in r.group.items()}

    def _lookup(self, r: Result) -> float | str:
        if self.name == "verdict":
            return r.verdict
        if self.name in ("low", "high"):
            return r.interval[self.name == "high"]
        if self.name == r.estimator:
            return r.value
        if self.name in _OWN:
            return float(getattr(r, self.name))
        if self.name in r.metrics:
            return r.metrics[self.name].value
        raise UsageError.unknown(f"number of {r.notion}", self.name, (r.estimator, *_OWN, "verdict", *r.metrics))
