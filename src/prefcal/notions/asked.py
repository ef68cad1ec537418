"""The notions that are judged: those a caller names, or the default ones as far as they can be judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prefcal.errors import PrefcalError
from prefcal.notions.notion import Notion

DEFAULT_NOTIONS = ("sub-2", "top-1:confidence")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks for.

    Parameters
    ----------
    names
        Each notion with its name as it was given, in order.
    default
        Whether nobody named them: those that cannot be judged are then left out.
    left_out
        Why each of them was left out.
    """

    names: dict[Notion, str]
    default: bool
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, notions: Iterable[str | Notion] | None) -> Asked:
        """Parse names; None stands for ``DEFAULT_NOTIONS``. A notion that is named again counts once.

        Raises UsageError for names that are none.

        Examples
        --------
        >>> list(Asked.of(["sub-2", "top-1"]).names.values())
        ['sub-2', 'top-1']
        """
        named = [notions] if isinstance(notions, str | Notion) else DEFAULT_NOTIONS if notions is None else notions
        names = {Notion.parse(n): n if isinstance(n, str) else n.name for n in named}
        return cls(names, notions is None)

    def leave_out(self, error: PrefcalError) -> None:
        """Note why a default notion is not judged; raise ``error`` if it was named, or if no other one is left."""
        if not self.default or len(self.left_out) + 1 == len(self.names):
            raise error
        self.left_out.append(f"left out of the default notions: {error}")
