"""Stored witnesses: populations that refute implications, as exact fractions in a data file of the package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from prefcal.errors import DataError
from prefcal.notions.notion import Notion, all_notions
from prefcal.notions.population import Population

FILE_NAME = "witnesses.json"


@dataclass(frozen=True, slots=True)
class Witness:
    """A population and the claim that comes with it: which notions hold in it and which fail.

    Every notion in ``holds`` together with every one in ``fails`` is a refuted implication. The claim is stored so
    that a damaged file is noticed: :meth:`check` evaluates it anew.
    """

    population: Population
    holds: tuple[Notion, ...]
    fails: tuple[Notion, ...]

    @classmethod
    def of(cls, population: Population) -> Witness:
        """Evaluate all notions of the population's number of items in it."""
        holds: list[Notion] = []
        fails: list[Notion] = []
        for notion in all_notions(population.n_items):
            (holds if population.holds(notion) else fails).append(notion)
        return cls(population, tuple(holds), tuple(fails))

    def check(self) -> tuple[str, ...]:
        """What is wrong with the claim, one sentence each; empty when all of it is verified exactly."""
        wrong = [f"{n} is said to hold but fails" for n in self.holds if not self.population.holds(n)]
        return (*wrong, *(f"{n} is said to fail but holds" for n in self.fails if self.population.holds(n)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "holds": " ".join(n.name for n in self.holds),
            "fails": " ".join(n.name for n in self.fails),
            **self.population.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Witness:
        """Read what :meth:`to_dict` wrote; the claim is read, not checked."""
        for field in ("holds", "fails"):
            if field not in data:
                raise DataError(f"missing; found {', '.join(data)}", field=field)
        holds, fails = (tuple(map(Notion.parse, str(data[f]).split())) for f in ("holds", "fails"))
        return cls(Population.from_dict(data), holds, fails)


@lru_cache(maxsize=8)
def stored(m: int) -> tuple[Witness, ...]:
    """The package's witnesses for ``m`` items; empty for an ``m`` that it has none for."""
    text = files("prefcal.notions").joinpath(FILE_NAME).read_text(encoding="utf-8")
    return tuple(map(Witness.from_dict, json.loads(text).get(str(m), [])))


def load(path: Path, m: int) -> tuple[Witness, ...]:
    """Witnesses for ``m`` items from a file that :func:`save` wrote."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as JSON: {error}", file=str(path)) from error
    return tuple(map(Witness.from_dict, data.get(str(m), [])))


def save(m: int, witnesses: Sequence[Witness], path: Path) -> None:
    """Replace the entry for ``m`` items in a JSON file, keeping the others; the file is made when missing."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    data[str(m)] = [w.to_dict() for w in witnesses]
    ordered = {key: data[key] for key in sorted(data, key=int)}
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
