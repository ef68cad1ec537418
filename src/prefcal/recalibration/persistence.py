"""Reading saved maps: plain JSON, checked field by field; nothing in a file is ever executed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from prefcal.errors import DataError
from prefcal.recalibration.base import MAX_BYTES, METHODS, SCHEMA, Recalibrator, Record, number

KIND = "prefcal-recalibration"


def load_recalibrator(path: str | os.PathLike[str]) -> Recalibrator:
    """Read a map that :meth:`~prefcal.recalibration.base.Recalibrator.save` wrote.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DataError
        For a file that cannot be read, is too large, is not JSON, is of another kind or schema, or holds a parameter
        of the wrong type, length or range; the message names the file and the field.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", file=name) from None
    if len(raw) > MAX_BYTES:
        raise DataError(f"is larger than {MAX_BYTES} bytes: not a saved recalibration map", file=name)
    try:
        return rebuild(_parse(raw))
    except DataError as error:
        raise DataError(error.message, file=name, field=error.field) from None


def rebuild(document: Any) -> Recalibrator:
    """The map of a parsed document; DataError, naming the field, for anything that is not one."""
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise DataError(f'is not a saved recalibration map (no "kind": "{KIND}")')
    if document.get("schema") != SCHEMA or isinstance(document["schema"], bool):
        raise DataError(
            f"must be {SCHEMA}, got {_shown(document.get('schema'))}; was it saved by a newer prefcal?",
            field="schema",
        )
    fit = rebuild_method(document.get("method"), document.get("parameters"))
    accepts = document.get("accepts")
    if accepts != list(fit.accepts):
        raise DataError(f"must be {list(fit.accepts)} for this method, got {_shown(accepts)}", field="accepts")
    object.__setattr__(fit, "record", _record(document.get("record")))
    return fit


def rebuild_method(method: Any, parameters: Any) -> Recalibrator:
    """The map of a method's name and its parameters."""
    if not isinstance(method, str) or method not in METHODS:
        raise DataError(f"must be one of {', '.join(sorted(METHODS))}, got {_shown(method)}", field="method")
    if not isinstance(parameters, dict):
        raise DataError(f"must be an object, got {_shown(parameters)}", field="parameters")
    try:
        fit = METHODS[method].from_parameters(parameters)
        extra = sorted(set(parameters) - set(fit.parameters()))
    except DataError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise DataError(
            f"do not describe a {method} map ({type(error).__name__}: {error})", field="parameters"
        ) from None
    if extra:
        raise DataError(f"is not a parameter of a {method} map", field=f"parameters.{extra[0][:40]}")
    return fit


def _record(stored: Any) -> Record | None:
    if stored is None:
        return None
    if not isinstance(stored, dict):
        raise DataError(f"must be an object or null, got {_shown(stored)}", field="record")
    counts = [number(stored, name, low=1, prefix="record") for name in ("n_records", "n_units")]
    losses = [
        math.inf if stored.get(name, 0) is None else number(stored, name, prefix="record")
        for name in ("before", "after")
    ]
    return Record(int(counts[0]), int(counts[1]), losses[0], losses[1])


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_int=_integer
        )
    except DataError:
        raise
    except RecursionError:
        raise DataError("is nested too deeply: not a saved recalibration map") from None
    except ValueError as error:  # not UTF-8, not JSON
        raise DataError(f"is not JSON text ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [k for k, _ in pairs]
        raise DataError("occurs twice", field=next(k for k in names if names.count(k) > 1)[:40])
    return out


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def _refuse_constant(word: str) -> NoReturn:
    raise DataError(f"holds {word}, which no saved map does")


def _shown(value: Any) -> str:
    return repr(value)[:60]
