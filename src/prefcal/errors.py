"""The exceptions that prefcal raises on purpose; each says what came, what is allowed, and what to do."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any


class PrefcalError(Exception):
    """Base of all errors that prefcal raises on purpose; the command line prints them without a traceback."""


class DataError(PrefcalError, ValueError):
    """Input that cannot be read as scores, forecasts or outcomes.

    Parameters
    ----------
    message
        What was found, what is allowed, and what to do.
    file, row, field
        Where: the file's path, the record (as the message should name it: a line or a record number counted
        from 1, or an instance index), and the field or column.
    """

    def __init__(
        self, message: str, *, file: str | None = None, row: int | str | None = None, field: str | None = None
    ) -> None:
        self.message, self.file, self.row, self.field = message, file, row, field
        where = [] if file is None else [str(file)]
        if row is not None:
            where.append(row if isinstance(row, str) else f"record {row}")
        if field is not None:
            where.append(f"field {field!r}")
        super().__init__(f"{', '.join(where)}: {message}" if where else message)


class UsageError(PrefcalError, ValueError):
    """A question that cannot be asked this way: an unknown name or a combination that has no meaning."""

    @classmethod
    def unknown(cls, what: str, given: str, allowed: Iterable[str]) -> UsageError:
        """Build the error for an unknown name, with the nearest allowed one as a suggestion.

        Examples
        --------
        >>> str(UsageError.unknown("view", "sub2", ["sub-2", "top-1"]))
        "unknown view 'sub2'; allowed: sub-2, top-1 (did you mean 'sub-2'?)"
        """
        names = list(allowed)
        near = difflib.get_close_matches(str(given), names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return cls(f"unknown {what} {given!r}; allowed: {', '.join(names)}{hint}")


def require_whole(what: str, number: Any, least: int) -> None:
    """Raise UsageError unless ``number`` is a whole number of at least ``least``."""
    try:
        fine = not isinstance(number, bool) and operator.index(number) >= least
    except TypeError:
        fine = False
    if not fine:
        raise UsageError(f"{what} must be a whole number, at least {least}, got {number!r}")


def require_number(what: str, number: Any) -> None:
    """Raise UsageError unless ``number`` is one finite number (of Python or NumPy)."""
    if isinstance(number, bool) or not isinstance(number, numbers.Real) or not math.isfinite(number):
        raise UsageError(f"{what} must be a finite number, got {number!r}")


def require_numbers(what: str, given: Any) -> None:
    """Raise UsageError unless ``given`` is a list (tuple, array) of finite numbers."""
    try:
        found = None if isinstance(given, str | bytes) else list(given)
    except TypeError:
        found = None
    if found is None:
        raise UsageError(f"{what} must be a list of numbers, got {given!r}")
    for number in found:
        require_number(f"each of {what}", number)


class MissingExtraError(PrefcalError, ImportError):
    """A feature whose optional dependency is not installed."""

    def __init__(self, caller: str, package: str, extra: str) -> None:
        super().__init__(f"{caller} needs {package}; install it with: pip install 'prefcal[{extra}]'")
