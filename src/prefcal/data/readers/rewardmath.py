"""Result files of RewardMATH (kimsh0507/RewardMATH_official): one correct solution against wrong ones.

All four kinds are arrays of ``problem``, ``solution_reference`` (who wrote each candidate) and ``score``; what
``score`` holds tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from prefcal.data.outcomes import Outcomes
from prefcal.data.ragged import FloatArray, Ragged
from prefcal.data.readers import values
from prefcal.data.readers.content import Content
from prefcal.data.readers.problems import MISSING, shown
from prefcal.data.readers.reading import Format, Reading
from prefcal.data.source import ScoreFile
from prefcal.errors import UsageError

AGGREGATES: Final = ("min", "max", "prod", "geometric_mean", "mean", "mean_logit", "mean_odd", "last")
CORRECT: Final = frozenset({"human_to_GPT-4", "chosen"})
FIELDS: Final = frozenset({"problem", "solution_reference", "score"})


class RewardMath(Format):
    """Classifier reward models: one score a candidate; candidate 0 is correct, the others are wrong.

    Also holds the ``math-prm`` pairs of RewardBench 1 as that project stores them, and ratings of direct LLM
    judges (whole numbers). ``ids`` are digests of the problem text (files list the problems in different orders).
    """

    name = "rewardmath"
    looks_for = "RewardMATH: 'problem', 'solution_reference' and 'score' (a list)"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return set(content.names) >= FIELDS and "chosen_position" not in content.names and not _has_steps(content)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        scores = values.candidate_scores(reading, "score")
        integers = type(_first_entry(reading.content)) is int and np.array_equal(
            scores.values, np.round(scores.values)
        )
        if integers:
            reading.notes.append(
                "ratings of a judge are taken as log-utilities; upstream also writes the lowest rating when a reply "
                "could not be parsed"
            )
        return finish(reading, self.name, scores, {})


class RewardMathSteps(Format):
    """Process reward models: a list of step probabilities a candidate, made into one score by ``aggregate``.

    ``min``, ``max``, ``prod``, ``geometric_mean``, ``mean``, ``last`` of the steps p; ``mean_logit`` = sigmoid of
    the mean of log(p / (1 - p)); ``mean_odd`` = mean of p / (1 - p), at least 0. Upstream prints all of them and
    fixes none, and accuracy depends on it, so there is no default.
    """

    name = "rewardmath-prm"
    looks_for = "RewardMATH process reward models: the same with lists of step probabilities in 'score'"

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return set(content.names) >= FIELDS and "chosen_position" not in content.names and _has_steps(content)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        how = reading.aggregate
        if how is None:
            raise reading.error(
                "holds a list of step probabilities for each candidate, and no default makes them one score; choose "
                f"aggregate= (--aggregate) one of {', '.join(AGGREGATES)}",
                reading.content.where(0),
                "score",
            )
        sizes = np.zeros(len(reading.content), dtype=np.intp)
        steps: list[list[float]] = []
        for i, value in enumerate(reading.content.column("score")):
            problem = reading.missing_field("score") if value is MISSING else _steps_problem(value)
            if problem is not None:
                reading.reject(i, "score", problem)
                continue
            sizes[i] = len(value)
            steps.extend(value)
        flat = aggregate_steps(Ragged.from_rows(steps), how) if steps else np.zeros(0)
        scores = values.ragged_of(flat, sizes)
        bad = values.any_in_row(scores, ~np.isfinite(flat))
        reading.reject_where(
            bad, "score", lambda i: f"aggregate {how!r} is not finite for its steps (a probability is exactly 0 or 1)"
        )
        values.check_candidates(reading, scores.sizes, "score")
        return finish(reading, self.name, scores, {"aggregate": how})


class RewardMathPairwise(Format):
    """Pairwise LLM judge: verdicts ``"A"``, ``"B"`` or null of the correct solution against each wrong one.

    Candidate 0 is the correct solution (it is not listed in ``solution_reference``), candidate j + 1 the wrong one
    of entry j. A verdict is a forecast of probability 1; null (an unparseable reply) states nothing.
    """

    name = "rewardmath-pairwise"
    looks_for = (
        "RewardMATH pairwise judges: 'problem', 'solution_reference', 'score' of \"A\"|\"B\"|null, 'chosen_position'"
    )

    def sniff(self, content: Content, columns: Mapping[str, str]) -> bool:
        """See :meth:`Format.sniff`."""
        return {"problem", "score", "chosen_position"} <= set(content.names)

    def read(self, reading: Reading) -> ScoreFile:
        """See :meth:`Format.read`."""
        verdicts, places = (reading.content.column(name) for name in ("score", "chosen_position"))
        sizes = np.zeros(len(verdicts), dtype=np.intp)
        flat: list[float] = []
        says_a = parsed = 0
        for i, (given, place) in enumerate(zip(verdicts, places, strict=True)):
            problem = _verdict_problem(given, "score", ("A", "B", None))
            field = "score"
            if problem is None:
                problem, field = _verdict_problem(place, "chosen_position", ("A", "B")), "chosen_position"
            if problem is None and len(given) != len(place):
                problem = f"has {len(place)} entries, but 'score' has {len(given)}"
            if problem is not None:
                reading.reject(i, field, problem)
                continue
            sizes[i] = len(given) + 1
            row = [np.nan if g is None else float(g == p) for g, p in zip(given, place, strict=True)]
            flat.extend([np.nan, *row])
            parsed += sum(g is not None for g in given)
            says_a += given.count("A")
        wins = values.ragged_of(np.array(flat), sizes)
        values.check_candidates(reading, sizes, "score")
        ids = problem_ids(reading, wins.with_values(np.nan_to_num(wins.values, nan=-1.0)))
        keep = reading.kept()
        wins, m = wins.take(keep), int(sizes[keep].max())
        dense = np.full((len(wins), m), np.nan)
        dense[values.rows_of(wins), wins.flat_columns()] = wins.values
        probs = np.full((len(wins), m, m), np.nan)
        probs[:, 0, :], probs[:, :, 0] = dense, 1 - dense
        total = int((sizes[sizes > 0] - 1).sum())
        share = says_a / parsed if parsed else float("nan")
        reading.notes.append(
            f"{total - parsed} of {total} verdicts are null (unparseable) and state nothing; the judge says 'A' in "
            f"{share:.1%} of the others (position bias if far from 50 %)"
        )
        reading.notes.append("a verdict is taken as a forecast of probability 0 or 1")
        return reading.finish(
            self.name,
            "best",
            scores=None,
            pair_probs=probs,
            outcomes=Outcomes.from_best(np.zeros(len(wins), dtype=np.intp), n_items=wins.sizes),
            items="exchangeable",
            ids=ids[keep],
        )


def aggregate_steps(steps: Ragged, how: str) -> FloatArray:
    """One number for each row of step probabilities; see :class:`RewardMathSteps`."""
    p, first, n = steps.values, steps.offsets[:-1], steps.sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        match how:
            case "min":
                return np.minimum.reduceat(p, first)
            case "max":
                return np.maximum.reduceat(p, first)
            case "prod":
                return np.multiply.reduceat(p, first)
            case "geometric_mean":
                return np.exp(np.add.reduceat(np.log(p), first) / n)
            case "mean":
                return np.add.reduceat(p, first) / n
            case "mean_logit":
                return 1 / (1 + np.exp(-np.add.reduceat(np.log(p) - np.log1p(-p), first) / n))
            case "mean_odd":
                return np.maximum(0.0, np.add.reduceat(p / (1 - p), first) / n)
            case "last":
                return p[steps.offsets[1:] - 1]
            case _:
                raise UsageError.unknown("aggregate", how, AGGREGATES)


def finish(reading: Reading, name: str, scores: Ragged, settings: dict[str, Any]) -> ScoreFile:
    """Check who is correct and drop repeated problems."""
    for i, writers in enumerate(reading.content.column("solution_reference")):
        if not reading.ok[i]:
            continue
        if not isinstance(writers, list) or len(writers) != scores.sizes[i]:
            reading.reject(
                i,
                "solution_reference",
                f"is {shown(writers)}; it must name the writer of each of the {scores.sizes[i]} candidates",
            )
        elif not isinstance(writers[0], str) or writers[0] not in CORRECT:
            reading.reject(
                i,
                "solution_reference",
                f"candidate 0 is by {shown(writers[0])}; the correct one must come first and be by one of "
                f"{sorted(CORRECT)} (otherwise give the best candidate yourself: the wide shape with 'best')",
            )
    ids = problem_ids(reading, scores)
    keep = reading.kept()
    scores = scores.take(keep)
    return reading.finish(
        name,
        "best",
        scores=scores,
        outcomes=Outcomes.from_best(np.zeros(len(scores), dtype=np.intp), n_items=scores.sizes),
        items="exchangeable",
        ids=ids[keep],
        settings=settings,
    )


def problem_ids(reading: Reading, scores: Ragged) -> Any:
    """A digest of each problem's text; a problem that comes twice is refused."""
    digests = values.text_keys(reading, "problem")
    reading.drop_duplicates(digests, scores, "problem")
    return values.as_ids(digests)


def _first_entry(content: Content) -> Any:
    value = content.sample("score")
    return value[0] if isinstance(value, list) and value else None


def _has_steps(content: Content) -> bool:
    """Nested lists with more than the one entry that a logit of shape (n, 1) has, in any record."""
    column = content.column("score")
    return any(
        isinstance(v, list) and any(isinstance(entry, list) and len(entry) != 1 for entry in v) for v in column
    )


def _steps_problem(value: Any) -> str | None:
    if not isinstance(value, list):
        return f"is {shown(value)} where a list of lists of step probabilities is expected"
    for j, steps in enumerate(value):
        if not isinstance(steps, list) or not steps:
            return f"candidate {j} is {shown(steps)} where a list of step probabilities is expected"
        for t, p in enumerate(steps):
            x, problem = values.number(p)
            if problem is not None:
                return f"candidate {j}, step {t} {problem}"
            if not 0 <= x <= 1:
                return f"candidate {j}, step {t} is {x:g}; a step probability lies in 0..1"
    return None if value else "is an empty list"


def _verdict_problem(value: Any, name: str, allowed: tuple[Any, ...]) -> str | None:
    words = " or ".join("null" if a is None else f'"{a}"' for a in allowed)
    if not isinstance(value, list) or not value:
        return f"is {shown(value)} where a list of {words} is expected"
    for j, entry in enumerate(value):
        if not (entry is None or isinstance(entry, str)) or entry not in allowed:
            return f"entry {j} is {shown(entry)}; it must be {words}"
    return None
