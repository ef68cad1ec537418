"""Score files: what a model said about each candidate, and which candidates are better.

Formats are recognised by content, never by file name. To add one, write a module with a
:class:`~prefcal.data.readers.reading.Format` and put it in ``FORMATS`` before the generic shapes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, Literal

from prefcal.data.outcomes import Ties
from prefcal.data.readers.containers import file_sha256, load
from prefcal.data.readers.content import Content
from prefcal.data.readers.hanna import Hanna
from prefcal.data.readers.llmbar import LLMBar
from prefcal.data.readers.long import Long
from prefcal.data.readers.pandalm import PandaLM
from prefcal.data.readers.problems import Problems, printable, shorten
from prefcal.data.readers.reading import Format, Reading, model_name
from prefcal.data.readers.refused import Aggregate, Instructions, OpenRLHF, SelfChosen, VerdictsOnly
from prefcal.data.readers.rewardbench import RewardBench1, RewardBench2
from prefcal.data.readers.rewardmath import AGGREGATES, RewardMath, RewardMathPairwise, RewardMathSteps
from prefcal.data.readers.rm_bench import RMBench
from prefcal.data.readers.rmb import RMB
from prefcal.data.readers.wide import Wide
from prefcal.data.roles import ROLES
from prefcal.data.source import ScoreFile
from prefcal.errors import DataError, UsageError

#: All formats by name, in the order in which they are tried.
FORMATS: Final[dict[str, Format]] = {
    f.name: f
    for f in (
        RewardMathPairwise(),
        RewardMathSteps(),
        RewardMath(),
        RewardBench2(),
        RewardBench1(),
        RMBench(),
        RMB(),
        LLMBar(),
        PandaLM(),
        Hanna(),
        Aggregate(),
        VerdictsOnly(),
        Instructions(),
        OpenRLHF(),
        SelfChosen(),
        Long(),
        Wide(),
    )
}

__all__ = ["AGGREGATES", "FORMATS", "ROLES", "read"]


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    aggregate: str | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    model: str | None = None,
    ties: Ties = "unknown",
    items: Literal["labelled", "exchangeable"] | None = None,
    max_candidates: int = 4096,
    outcomes: Literal["required", "optional"] = "required",
    item_columns: Sequence[str] = (),
    progress: Callable[[int, int | None], None] | None = None,
) -> ScoreFile:
    """Read a score file.

    Parameters
    ----------
    path
        JSON (array, columns, single or concatenated objects), JSON lines, CSV or Parquet; gzip around text when the
        name ends in ``.gz``.
    format
        Name of a format of ``FORMATS``; default: recognise it.
    columns
        Role -> column name, where a file uses other names than the generic shapes (``ROLES``).
    aggregate
        How to make one score of step probabilities (process reward models), one of ``AGGREGATES``.
    on_error
        ``stop``: the first unusable record raises. ``skip``: unusable records are left out and counted in ``info``.
    model
        The model's name; default: the file's stem.
    ties
        What equal ranks or ratings mean, see :class:`prefcal.Outcomes`; formats that state it themselves win.
    items
        ``labelled`` when item j (in the long shape: the item named by ``id``) is the same thing in each instance;
        for the generic shapes only. Default: ``exchangeable``.
    max_candidates
        Largest number of candidates of an instance; a longer list is more likely a broken file.
    outcomes
        ``optional``: a file of the generic shapes may hold scores alone (``info.outcome`` is then ``none`` and every
        rank unknown), as when a recalibration is applied to new prompts.
    item_columns
        Further columns of the generic shapes with a number for each candidate; see ``ScoreFile.item_fields``.
    progress
        Called now and then with bytes read and bytes in all.

    Raises
    ------
    DataError
        For a file that cannot be read or recognised, and for unusable records: with file, record and field.
    UsageError
        For an unknown option, role or column.

    Notes
    -----
    Time and memory are linear in the file. Texts (prompts, answers) are not kept. Parquet list columns go from
    Arrow's buffers into arrays without a Python object for each number.
    """
    name = os.fsdecode(path)
    _check_options(format, columns, aggregate, on_error, ties, items, max_candidates, outcomes)
    mapped = dict(columns or {})
    sha256 = file_sha256(name)
    problems = Problems(name, on_error)
    lists = frozenset(
        [mapped[r] for r in ("scores", "ranks", "ratings", "best_probs") if r in mapped] + list(item_columns)
    )
    content = load(name, problems, progress, lists)
    _check_columns(content, {**mapped, **{f"{column} (item column)": column for column in item_columns}})
    chosen = _recognise(content, format, mapped, problems)
    if aggregate is not None and not isinstance(chosen, RewardMathSteps):
        raise UsageError(f"aggregate={aggregate!r} is for step probabilities; {printable(name)} is {chosen.name!r}")
    if items is not None and not isinstance(chosen, Wide | Long):
        raise UsageError(
            f"items={items!r} is for the generic shapes; format {chosen.name!r} says itself what items are"
        )
    if item_columns and not isinstance(chosen, Wide | Long):
        raise UsageError(f"item columns are for the generic shapes; {printable(name)} is {chosen.name!r}")
    reading = Reading(
        path=name,
        sha256=sha256,
        content=content,
        problems=problems,
        columns=mapped,
        aggregate=aggregate,
        model=model_name(name) if model is None else model,
        ties=ties,
        items=items,
        max_candidates=max_candidates,
        needs_outcome=outcomes == "required",
        item_columns=tuple(item_columns),
    )
    if not isinstance(chosen, Long):  # it must first learn which rows belong together
        reading.reject_broken()
    return chosen.read(reading)


def _check_options(
    format: str | None,
    columns: Mapping[str, str] | None,
    aggregate: str | None,
    on_error: str,
    ties: str,
    items: str | None,
    max_candidates: int,
    outcomes: str,
) -> None:
    if format is not None and format not in FORMATS:
        raise UsageError.unknown("format", str(format), FORMATS)
    for role in columns or {}:
        if role not in ROLES:
            raise UsageError.unknown("column role", str(role), ROLES)
    if aggregate is not None and aggregate not in AGGREGATES:
        raise UsageError.unknown("aggregate", str(aggregate), AGGREGATES)
    for what, value, allowed in (
        ("on_error", on_error, ("stop", "skip")),
        ("meaning of ties", ties, ("unknown", "equal")),
        ("kind of items", items or "exchangeable", ("labelled", "exchangeable")),
        ("outcomes", outcomes, ("required", "optional")),
    ):
        if value not in allowed:
            raise UsageError.unknown(what, str(value), allowed)
    if max_candidates < 2:
        raise UsageError(f"max_candidates must be at least 2, got {max_candidates}")


def _check_columns(content: Content, columns: Mapping[str, str]) -> None:
    for role, name in columns.items():
        if name not in content.names:
            near = get_close_matches(name, content.names, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UsageError(f"no column {name!r} for role {role!r}; the file has {_listed(content)}{hint}")


def _recognise(content: Content, format: str | None, columns: Mapping[str, str], problems: Problems) -> Format:
    if format is not None:
        chosen = FORMATS[format]
        if set(columns) - chosen.roles:
            raise UsageError(
                f"format {format!r} takes no column for {', '.join(sorted(set(columns) - chosen.roles))}"
            )
        if not chosen.sniff(content, columns):
            raise problems.error(
                f"is not of format {format!r}: looked for {chosen.looks_for}; found {_listed(content)}"
            )
        return chosen
    for candidate in FORMATS.values():
        if not set(columns) - candidate.roles and candidate.sniff(content, columns):
            return candidate
    raise _unknown(content, problems)


def _unknown(content: Content, problems: Problems) -> DataError:
    near = []
    for role in ROLES:
        if role not in content.names:
            match = get_close_matches(role, content.names, n=1, cutoff=0.7)
            if match and match[0] not in ROLES:
                near.append(f"{printable(match[0])!r} for {role!r}")
    hint = f" Did you mean to map {', '.join(near)}? (columns={{ROLE: NAME}})" if near else ""
    looked = "; ".join(f.looks_for for f in FORMATS.values() if "(refused)" not in f.looks_for)
    return problems.error(
        f"content of no known kind ({content.container}). Found fields: {_listed(content)}. "
        f"Looked for: {looked}.{hint}"
    )


def _listed(content: Content) -> str:
    found = [*content.names, *content.meta]
    names = [shorten(ascii(n), 40) for n in found[:25]]
    return ", ".join(names) + (f" and {len(found) - 25} more" if len(found) > 25 else "")
