"""What is wrong with a record: stop at the first one, or count them and go on."""

from __future__ import annotations

import math
from typing import Any, Final

from prefcal.errors import DataError

KEPT_MESSAGES: Final = 20
SHOWN_CHARACTERS: Final = 80


class Missing:
    """A field that a record does not have (``null`` is a value)."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = Missing()


class Problems:
    """Collects what is wrong with records under one policy.

    Parameters
    ----------
    file
        Path for the messages.
    on_error
        ``stop``: the first problem raises DataError. ``skip``: problems are counted, the first messages kept.
    """

    def __init__(self, file: str, on_error: str) -> None:
        self.file = printable(file)
        self.skip = on_error == "skip"
        self.count = 0
        self.messages: list[str] = []

    def record(self, where: str, field: str | None, message: str) -> None:
        """One record cannot be used: raise, or count it as skipped."""
        if not self.skip:
            raise self.error(
                f"{message} (on_error=skip, on the command line --on-error skip, leaves such records out)",
                where,
                field,
            )
        self.count += 1
        if len(self.messages) < KEPT_MESSAGES:
            place = where if field is None else f"{where}, field {printable(field)!r}"
            self.messages.append(f"{place}: {message}")

    def error(self, message: str, where: str | None = None, field: str | None = None) -> DataError:
        """The error for a problem that leaving out a record cannot mend."""
        return DataError(message, file=self.file, row=where, field=None if field is None else printable(field))


def printable(text: str) -> str:
    r"""The text with control characters and lone surrogates as escapes, so that a terminal shows them.

    Examples
    --------
    >>> printable("a\x1b[31m.json")
    'a\\x1b[31m.json'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """At most ``limit`` characters, with a mark where the rest was cut."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown(value: Any) -> str:
    r"""A value of the file in the words of a message: escaped, ASCII, short.

    Examples
    --------
    >>> shown(None), shown(True), shown("<b>\n"), shown([1, 2]), shown(float("nan"))
    ('null', 'true', "text '<b>\\n'", 'a list of 2', 'NaN')
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "empty text" if not value else f"text {shorten(ascii(value))}"
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return "an object"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        case _:
            return shorten(ascii(value))
