"""The study in plain text, for a terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from prefcal.report.wording import NBSP, clean, decimal, decimal_range, p_value, significant
from prefcal.studies.reward_models.claims import overall, short

if TYPE_CHECKING:
    from prefcal.studies.reward_models.running import RewardModelStudy

_WIDTH = 100
_ENDS = {
    "holds": "✓ Holds",
    "part": "? Holds in part",
    "fails": "✗ Does not hold",
    "open": "? Cannot tell",
    "note": "· Note",
}


def summarise(s: RewardModelStudy) -> str:
    """Conclusions, then one line for each model, benchmark and notion."""
    out = ["Reward models: calibration against accuracy", ""]
    for c in s.claims:
        out += _wrap(f"{_ENDS[c.holds]}: {c.title}", "", "  ")
        out += _wrap(f"Published: {c.published}", "    ", "      ")
        out += _wrap(f"Properly:  {c.proper}", "    ", "      ")
        out.append("")
    out += [f"Warning: {w}" for w in s.warnings]
    head = f"{'model':<28} {'notion':<16} {'accuracy':>8} {'1-p(ch)':>8} {'ECE':>6} {'null':>6} {'debiased':>8}"
    head += f" {'temp.':>6}  p"
    for rows in (s.best_of_four, s.best_of_ten, s.pairs):
        found = overall(rows)
        out += [f"{found[0].benchmark} ({found[0].n_instances} instances)", head]
        for row in sorted(found, key=lambda r: -r.accuracy):
            for notion, r in row.results.items():
                temperature = r.metrics["temperature"].value
                out.append(
                    f"{short(row.model)[:28]:<28} {notion:<16} {decimal(row.accuracy):>8} "
                    f"{decimal(row.published.value):>8} {decimal(r.value):>6} {decimal(r.null_mean):>6} "
                    f"{decimal(r.debiased):>8} {significant(temperature):>6}  {p_value(r.p_value)}"
                )
        out.append("")
    out.append("Kendall tau over models (95 % interval by prompt, permutation p)")
    for k in s.correlations:
        interval = decimal_range(k.interval, 2)
        out.append(
            f"{k.where[:24]:<24} {k.of:<28} {k.against:<19} {decimal(k.tau, 2):>5} {interval:>16}  "
            f"{p_value(k.p_value)}"
        )
    if s.table is not None:
        out += ["", f"Table of {s.table.n_models} models: tau with the error of each category"]
        for t in s.table.rows:
            out.append(
                f"{t.category:<12} published ECE {decimal(t.published.tau)}   error rate "
                f"{decimal(t.error_rate.tau)}   "
                f"difference {decimal(t.difference.value)} {decimal_range(t.difference.interval)}"
            )
    out += ["", f"prefcal {s.version}, seed {s.settings.seed}"]
    return "\n".join(clean(line.replace(NBSP, " ")) for line in out) + "\n"


def _wrap(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest)
