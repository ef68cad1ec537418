"""Saved maps: what is written is read back; whatever else a file holds is refused in words."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefcal as pc
from prefcal.recalibration.base import MAX_BYTES, Recalibrator
from prefcal.recalibration.persistence import load_recalibrator, rebuild


def example(method: str) -> tuple[Recalibrator, pc.PlackettLuce, dict[str, Any]]:
    """A map of the method, forecasts to apply it to, and the inputs it needs."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 4))
    y = pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])
    h = pc.PlackettLuce(1.7 * scores)
    inputs: dict[str, Any] = {}
    if method in ("context", "auto"):
        inputs["features"] = {"length": rng.normal(size=60)}
    if method in ("group-wise", "auto"):
        inputs["groups"] = [f"g{i % 3}" for i in range(60)]
    options = {"folds": 2} if method == "auto" else {}
    return pc.recalibrate(h, y, method, **inputs, **options), h, inputs


MAPS = {m: example(m) for m in ("none", "temperature", "context", "stage-wise", "group-wise", "auto")}


@pytest.mark.parametrize("method", sorted(MAPS))
def test_a_saved_map_comes_back_and_does_the_same(method, tmp_path):
    fit, h, inputs = MAPS[method]
    path = tmp_path / "map.json"
    fit.save(path)
    back = load_recalibrator(path)
    assert back == fit
    assert back.record == fit.record
    assert (back.keeps_order, back.accepts) == (fit.keeps_order, fit.accepts)
    assert back.describe() == fit.describe()
    assert back.warnings == fit.warnings
    assert back.estimates == fit.estimates
    np.testing.assert_array_equal(back(h, **inputs).top_log_probs(), fit(h, **inputs).top_log_probs())
    first = path.read_bytes()
    back.save(path)
    assert path.read_bytes() == first
    assert json.loads(first)["description"] == fit.describe()


def test_an_infinite_temperature_is_saved_too(tmp_path):
    y = pc.Outcomes.from_ratings(np.random.default_rng(0).normal(size=(30, 3)))
    fit = pc.recalibrate(pc.PlackettLuce(-y.dense() * -1.0), y, "temperature")
    assert math.isinf(fit.temperature)
    assert fit.slope == -math.inf
    fit.save(tmp_path / "map.json")
    assert load_recalibrator(tmp_path / "map.json") == fit


def read_text(tmp_path, raw: bytes) -> Recalibrator:
    path = tmp_path / "map.json"
    path.write_bytes(raw)
    return load_recalibrator(path)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not JSON"),
        (b"\x80\x04\x95\x00cposix\nsystem\n", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 200_000, "nested too deeply|not JSON"),
        (b'{"a":' * 100_000, "nested too deeply|not JSON"),
        (b"null", "not a saved recalibration map"),
        (b'{"kind": "prefcal-recalibration", "kind": "prefcal-recalibration"}', "occurs twice"),
        (b'{"kind": "prefcal-recalibration", "schema": NaN}', "holds NaN"),
        (b'{"kind": "prefcal-recalibration", "schema": 1e999}', "schema.*must be 1"),
        (b'{"kind": "prefcal-recalibration", "schema": true}', "schema.*must be 1"),
        (b'{"kind": "prefcal-recalibration", "schema": ' + b"9" * 6000 + b"}", "schema.*must be 1"),
        (b'{"kind": "prefcal-recalibration", "schema": 1}', "method.*must be one of"),
        (b'{"kind": "prefcal-recalibration", "schema": 1, "method": "__init__"}', "method.*must be one of"),
        (b'{"kind": "prefcal-recalibration", "schema": 1, "method": ["a"]}', "method.*must be one of"),
        (b'{"kind": "prefcal-recalibration", "schema": 1, "method": "temperature"}', "parameters.*object"),
        (b" " * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_map_is_refused_by_name(tmp_path, raw, words):
    with pytest.raises(pc.DataError, match=words) as caught:
        read_text(tmp_path, raw)
    assert "map.json" in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(tmp_path))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(pc.DataError, match="cannot be read"):
        load_recalibrator(tmp_path / "absent.json")
    with pytest.raises(pc.DataError, match="cannot be read"):
        load_recalibrator(tmp_path)
    with pytest.raises(pc.DataError, match="cannot be read"):
        load_recalibrator("a\0b")


def test_the_field_is_named(tmp_path):
    document = MAPS["temperature"][0].document()
    for change, words in [
        ({"temperature": "2"}, r"parameters.temperature.*finite number"),
        ({"temperature": -1.0}, r"parameters.temperature.*between"),
        ({"temperature": True}, r"parameters.temperature"),
        ({"temperature": 1e999}, r"parameters.temperature|holds"),
        ({"interval": [2.0, 1.0]}, r"parameters.interval.*above"),
        ({"interval": [1.0]}, r"parameters.interval"),
        ({"n_impossible": -1}, r"parameters.n_impossible"),
        ({"surprise": 1}, r"parameters.surprise.*not a parameter"),
    ]:
        bad = copy.deepcopy(document)
        bad["parameters"].update(change)
        with pytest.raises(pc.DataError, match=words):
            rebuild(bad)
    for name, value in [("accepts", ["Mallows"]), ("accepts", None), ("record", 3), ("record", {"n_records": 0})]:
        with pytest.raises(pc.DataError, match=name):
            rebuild(copy.deepcopy(document) | {name: value})


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 0, 2**63])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for k, v in inner for p in ((*path, k), *places(v, (*path, k)))]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(MAPS)), st.data())
def test_a_changed_map_is_read_or_refused_and_nothing_else(method, data):
    """Any part replaced by anything, removed, or wrapped: DataError, or a map that says what it does and works."""
    fit, h, inputs = MAPS[method]
    document = copy.deepcopy(fit.document())
    where = data.draw(st.sampled_from(places(document)))
    at = document
    for key in where[:-1]:
        at = at[key]
    what = data.draw(st.sampled_from(["replace", "remove", "wrap"]))
    if what == "remove":
        del at[where[-1]]
    else:
        at[where[-1]] = data.draw(junk) if what == "replace" else [at[where[-1]]]
    try:
        back = rebuild(document)
    except pc.DataError:
        return
    assert isinstance(back.describe(), str)
    assert back.document()["method"] == document["method"]
    try:
        top = back(h, **inputs).top_log_probs()
    except pc.PrefcalError:  # a group or feature of another name, or scores that the scale makes infinite
        return
    np.testing.assert_allclose(np.exp(top).sum(axis=1), 1.0)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | junk.map(lambda v: json.dumps(v).encode()), st.integers(0, 2000))
def test_any_bytes_are_read_or_refused(tmp_path_factory, raw, cut):
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    whole = json.dumps(MAPS["auto"][0].document()).encode()
    for content in (raw, whole[:cut] + raw + whole[cut:], whole[:cut]):
        path.write_bytes(content)
        with contextlib.suppress(pc.DataError):
            assert isinstance(load_recalibrator(path), Recalibrator)
