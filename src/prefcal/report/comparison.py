"""A comparison of models as one self-contained page: findings, standings with ranges of ranks, all differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from prefcal.comparing import ESTIMATORS, Comparison, Difference, Standing
from prefcal.notions.notion import Notion
from prefcal.report.findings import Finding
from prefcal.report.html import environment
from prefcal.report.summary import InputRow, input_row
from prefcal.report.svg import Scale, element, picture
from prefcal.report.wording import clean, count, decimal, decimal_range, listing, p_clause
from prefcal.result import Interval

#: Estimator -> (heading, "X is ... than Y", "the ... model", definition).
WORDS = {
    "debiased": (
        "Calibration error",
        "better calibrated",
        "best calibrated",
        "Debiased ECE: events are put into equal-width bins of the stated probability; the mean distance between "
        "what is said and what happens, without the bias that chance adds. Smaller is better.",
    ),
    "brier": (
        "Brier score",
        "better by the Brier score",
        "best by the Brier score",
        "Mean squared distance between the stated probability and what happened: honesty and knowledge in one "
        "number. Smaller is better.",
    ),
    "log_loss": (
        "Log loss",
        "better by the log loss",
        "best by the log loss",
        "Mean of −ln(probability given to what happened), in nats. Smaller is better.",
    ),
    "accuracy": (
        "Accuracy",
        "more accurate",
        "most accurate",
        "How often the model's choice is right. Larger is better.",
    ),
}
# Up to so many models every difference stands open; more of them fold behind the matrix.
OPEN_MODELS = 3
_OWN_EVENTS = (
    "Each model is asked about its own choice. Brier score and log loss therefore say how well a model knows "
    "whether it is right, not how good its choices are: a model that is seldom right and says so does well. "
    "Read them with the accuracy."
)
_STATES = {"good": ("calibrated", "Shown"), "caution": ("undetermined", "Open"), "note": ("unaudited", "Note")}
_WIDTH, _HEIGHT, _PAD = 240.0, 26.0, 16.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A difference in the matrix, the row's model minus the column's; ``sign`` says which is shown to be better."""

    text: str
    sign: str
    told: str


@dataclass(frozen=True, slots=True)
class Block:
    """One estimator of one notion: standings, best first, and the differences between all pairs."""

    estimator: str
    heading: str
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    scale: Scale | None
    gaps: Scale | None
    matrix: tuple[tuple[Cell | None, ...], ...]

    @property
    def n_shown(self) -> int:
        """How many pairs are shown to differ."""
        return sum(d.better is not None for d in self.differences)


@dataclass(frozen=True, slots=True)
class Section:
    """One notion."""

    notion: str
    n: str
    blocks: tuple[Block, ...]
    note: str


@dataclass(frozen=True, slots=True)
class ComparisonSummary:
    """Everything the page says; all strings are printable plain text."""

    title: str
    subtitle: str
    models: tuple[str, ...]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]
    inputs: tuple[InputRow, ...]
    settings: tuple[tuple[str, str], ...]
    definitions: tuple[tuple[str, str], ...]
    version: str


def render_comparison(found: Comparison) -> str:
    """The page of a comparison: it loads nothing and has no script; every text from the data is escaped."""
    env = environment()
    env.globals |= {"value_cell": value_cell, "rank_cell": rank_cell, "gap_cell": gap_cell, "rank_text": rank_text}
    page: str = env.get_template("comparison.html.j2").render(
        s=summarize_comparison(found), states=_STATES, open_models=OPEN_MODELS
    )
    return page


def summarize_comparison(found: Comparison) -> ComparisonSummary:
    """What the page and the terminal say about a comparison."""
    standings = [replace(s, notion=clean(s.notion), model=clean(s.model)) for s in found.standings]
    differences = [
        replace(d, notion=clean(d.notion), first=clean(d.first), second=clean(d.second)) for d in found.differences
    ]
    models = tuple(clean(m) for m in found.models)
    unit = "cluster" if found.settings.get("clusters") else "instance"
    sections = []
    for notion, n in found.n_instances.items():
        name = clean(notion)
        blocks = []
        for estimator in ESTIMATORS:
            mine = tuple(s for s in standings if (s.notion, s.estimator) == (name, estimator))
            pairs = tuple(d for d in differences if (d.notion, d.estimator) == (name, estimator))
            if mine:
                blocks.append(_block(estimator, mine, pairs))
        note = _OWN_EVENTS if Notion.parse(notion).given == "confidence" else ""
        sections.append(Section(name, count(n, unit), tuple(blocks), note))
    counts = listing([f"{s.n} in {s.notion}" for s in sections])
    return ComparisonSummary(
        title=" against ".join(models) if len(models) == 2 else f"{len(models)} models compared",
        subtitle=f"On the same data: {counts} count for every model.",
        models=models,
        findings=tuple(f for s in sections for f in _findings(s)),
        sections=tuple(sections),
        warnings=tuple(clean(w) for w in found.warnings),
        inputs=tuple(input_row(i) for i in found.inputs),
        settings=tuple((clean(k), clean(v)) for k, v in found.settings.items()),
        definitions=_definitions(sections),
        version=clean(found.version),
    )


def _block(estimator: str, standings: tuple[Standing, ...], pairs: tuple[Difference, ...]) -> Block:
    place = {s.model: i for i, s in enumerate(standings)}
    matrix: list[list[Cell | None]] = [[None] * len(place) for _ in place]
    for d in pairs:
        for row, column, value in ((d.first, d.second, d.difference), (d.second, d.first, -d.difference)):
            sign = "" if d.better is None else "better" if d.better == row else "worse"
            low, high = d.interval if row == d.first else (-d.interval[1], -d.interval[0])
            told = f"{row} minus {column}: {signed(value)} {decimal_range((low, high))}, {_p(d.p_adjusted)} adjusted"
            matrix[place[row]][place[column]] = Cell(signed(value), sign, told)
    values = [v for s in standings for v in (s.value, *s.interval)]
    gaps = [v for d in pairs for v in (0.0, d.difference, *d.interval)]
    return Block(
        estimator, WORDS[estimator][0], standings, pairs, _scale(values), _scale(gaps),
        tuple(tuple(row) for row in matrix),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- findings


def _findings(section: Section) -> Iterable[Finding]:
    blocks = {b.estimator: b for b in section.blocks}
    if len(blocks["debiased"].standings) == 2:
        yield _two(section, blocks)
        return
    for estimator in ("debiased", "accuracy"):
        yield _leaders(section, blocks[estimator])
    conflict = _conflict(section, blocks)
    if conflict is not None:
        yield conflict


def _two(section: Section, blocks: dict[str, Block]) -> Finding:
    calibration, accuracy = (blocks[e].differences[0] for e in ("debiased", "accuracy"))
    names = f"{calibration.first} and {calibration.second}"
    title = f"In {section.notion}, {_sentence(calibration, names)}; {_sentence(accuracy, 'they')}."
    rest = "; ".join(
        f"{WORDS[e][0].lower()} {signed(d.difference)} {decimal_range(d.interval)}, {_p(d.p_adjusted)}"
        for e, b in blocks.items()
        for d in b.differences
    )
    text = f"{calibration.first} minus {calibration.second}, with 95 % intervals of the difference: {rest}."
    return Finding("caution" if calibration.better is None else "good", title, text, notion=section.notion)


def _sentence(d: Difference, both: str) -> str:
    if not math.isfinite(d.difference):
        return f"the {WORDS[d.estimator][0].lower()} of one of the two is infinite"
    if d.better is None:
        noun = {"debiased": "calibration error", "accuracy": "accuracy"}[d.estimator]
        return f"{both} do not differ detectably in {noun}"
    low, high = d.interval if d.difference >= 0 else (-d.interval[1], -d.interval[0])
    other = d.second if d.better == d.first else d.first
    size = f"{decimal(abs(d.difference))} {decimal_range((low, high))}"
    return f"{d.better} is {WORDS[d.estimator][1]} than {other} by {size}"


def _leaders(section: Section, block: Block) -> Finding:
    best = [s.model for s in block.standings if s.ranks[0] == 1]
    n, superlative = len(block.standings), WORDS[block.estimator][2]
    text = (
        f"{block.n_shown} of {count(len(block.differences), 'pair')} of models are shown to differ at 5 %, all pairs "
        "considered (Holm)."
    )
    last = [s.model for s in block.standings if s.ranks[1] == n]
    if len(last) < n:
        text += f" {listing(last, 6)} may be last." if len(last) > 1 else f" {last[0]} is last."
    if len(best) == 1:
        return Finding("good", f"In {section.notion}, {best[0]} is the {superlative}.", text, notion=section.notion)
    if len(best) == n:
        title = f"In {section.notion}, any of the {n} models may be the {superlative}."
    else:
        title = f"In {section.notion}, {len(best)} of {n} models may be the {superlative}: {listing(best, 6)}."
    return Finding("caution", title, text, notion=section.notion)


def _conflict(section: Section, blocks: dict[str, Block]) -> Finding | None:
    """Pairs where the more accurate model is the worse calibrated one, both shown."""
    accuracy = {(d.first, d.second): d for d in blocks["accuracy"].differences}
    found = [
        (d, a)
        for d in blocks["debiased"].differences
        if d.better is not None and (a := accuracy[d.first, d.second]).better not in (None, d.better)
    ]
    if not found:
        return None
    d, a = max(found, key=lambda pair: abs(pair[0].difference))
    other = d.second if d.better == d.first else d.first
    title = f"In {section.notion}, more accurate is not better calibrated: {a.better} against {d.better}."
    text = (
        f"{other} is more accurate by {decimal(abs(a.difference))} and worse calibrated by "
        f"{decimal(abs(d.difference))}, both shown at 5 %; so it is in {count(len(found), 'pair')} of models."
    )
    return Finding("note", title, text, notion=section.notion)


def _definitions(sections: Sequence[Section]) -> tuple[tuple[str, str], ...]:
    used = list(dict.fromkeys(b.estimator for s in sections for b in s.blocks))
    return (
        *((WORDS[e][0], WORDS[e][3]) for e in used),
        (
            "interval",
            "95 %, by instance (or cluster). Differences are paired: the same instances, so what makes an instance "
            "hard for both models cancels. Intervals of differences are for one pair, not for all pairs at once.",
        ),
        (
            "p, adjusted",
            "Probability of a difference at least this large between equally good models, adjusted for looking at "
            "all pairs of models (Holm). A pair is shown to differ where it is at most 0.05.",
        ),
        (
            "rank",
            "From 1 + the number of models shown to be better to the number of models − those shown to be worse. All "
            "true ranks lie in their ranges together in at least 95 % of data sets, as far as the tests of the pairs "
            "keep their size.",
        ),
    )


# ----------------------------------------------------------------------------------------------------- small pictures


def _scale(values: Iterable[float]) -> Scale | None:
    """A scale that holds all finite values, with about four round ticks; None without any."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if high - low < 1e-9:
        low, high = low - 0.005, high + 0.005
    exponent = math.floor(math.log10((high - low) / 4))
    step = next(
        s for s in (m * 10.0**e for e in (exponent, exponent + 1) for m in (1, 2, 5)) if (high - low) / s <= 4
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks, None)


def value_cell(s: Standing, scale: Scale) -> Markup:
    """A value with its interval on the scale of its column; a filled dot may be the best."""
    dot = "fill-good" if s.ranks[0] == 1 else "dot-in"
    return _dotted(s.value, s.interval, scale, dot, False)


def gap_cell(d: Difference, scale: Scale) -> Markup:
    """A difference with its interval; 0 is marked, a filled dot is shown to differ."""
    return _dotted(d.difference, d.interval, scale, "dot-in" if d.better is None else "fill-good", True)


def _dotted(value: float, interval: Interval, scale: Scale, dot: str, zero: bool) -> Markup:
    middle = _HEIGHT / 2
    out = [element("line", x1=scale.at(t), x2=scale.at(t), y1=0, y2=_HEIGHT, class_="grid") for t in scale.ticks]
    if zero and scale.low <= 0 <= scale.high:
        out.append(element("line", x1=scale.at(0), x2=scale.at(0), y1=0, y2=_HEIGHT, class_="axis"))
    if all(math.isfinite(v) for v in interval):
        x0, x1 = (scale.at(v) for v in interval)
        out.append(element("line", x1=x0, x2=x1, y1=middle, y2=middle, class_="whisker"))
        out += [element("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, class_="whisker") for x in (x0, x1)]
    if math.isfinite(value):
        out.append(element("circle", cx=scale.at(value), cy=middle, r=4.2, class_=dot))
    return picture(_WIDTH, _HEIGHT, f"{decimal(value)}, interval {decimal_range(interval)}", out, "cell-plot")


def rank_cell(s: Standing, place: int, n: int) -> Markup:
    """The range of ranks as a bar from 1 (left) to n, and a dot where the model stands."""
    width = 120.0

    def at(rank: float) -> float:
        return 10 + (width - 20) * (rank - 1) / max(n - 1, 1)

    low, high = s.ranks
    out = [element("line", x1=at(1), x2=at(n), y1=10, y2=10, class_="grid")]
    out += [element("line", x1=at(r), x2=at(r), y1=7, y2=13, class_="grid") for r in range(1, n + 1)]
    out.append(element("rect", x=at(low) - 4, y=6, width=at(high) - at(low) + 8, height=8, rx=4, class_="rank-range"))
    out.append(element("circle", cx=at(place), cy=10, r=2.6, class_="rank-dot"))
    return picture(width, 20, f"stands {place}, may be {rank_text(s)} of {n}", out, "rank-plot")


def rank_text(s: Standing) -> str:
    """``2`` or ``1 to 4``."""
    low, high = s.ranks
    return str(low) if low == high else f"{low} to {high}"


def signed(x: float) -> str:
    """A difference with its sign, three decimals."""
    text = decimal(x)
    return f"+{text}" if math.isfinite(x) and x > 0 and text.strip("0.") else text


def _p(p: float) -> str:
    return p_clause(p) if math.isfinite(p) else "no test"
