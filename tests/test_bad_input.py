"""Every kind of bad record and bad file is refused with its place, or skipped and counted."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest

from prefcal import DataError
from prefcal.data.readers import read
from score_records import GOOD, lines, long, parquet

PAIR = "scores_chosen,scores_rejected\n1.5,0.5\n"


def bad_record(row, where="line 2", field="scores"):
    return lines(GOOD, row, GOOD), [where, f"'{field}'"]


# Each case: what the file holds, what the message must say (besides the file), and options of read.
RECORDS = {
    "NaN score": bad_record('{"scores": [1, NaN, 2], "best": 0}'),
    "Infinity score": bad_record('{"scores": [1, -Infinity, 2], "best": 0}'),
    "score too large for float": bad_record('{"scores": [1, 1e400, 2], "best": 0}'),
    "integer too large for float": bad_record('{"scores": [1, 1' + "0" * 400 + '], "best": 0}'),
    "integer with too many digits": (lines(GOOD, '{"scores": [1' + "0" * 5000 + ', 1], "best": 0}'), ["line 2"]),
    "score as text": bad_record({"scores": [1, "2.5", 2], "best": 0}),
    "score as flag": bad_record({"scores": [1, True, 2], "best": 0}),
    "null score": bad_record({"scores": [1, None, 2], "best": 0}),
    "score as object": bad_record({"scores": [1, {"x": 1}, 2], "best": 0}),
    "score nested too far": bad_record({"scores": [[1, 2], [3, 4]], "best": 0}),
    "scores not a list": bad_record({"scores": 1.5, "best": 0}),
    "scores as text": bad_record({"scores": "[1, 2]", "best": 0}),
    "scores null": bad_record({"scores": None, "best": 0}),
    "scores missing": bad_record({"score": [1, 2], "best": 0}),
    "empty scores": bad_record({"scores": [], "best": 0}),
    "one candidate": bad_record({"scores": [1.0], "best": 0}),
    "too many candidates": bad_record({"scores": [0.5] * 4097, "best": 0}),
    "best out of range": bad_record({"scores": [1, 2, 3], "best": 3}, field="best"),
    "best negative": bad_record({"scores": [1, 2, 3], "best": -1}, field="best"),
    "best a fraction": bad_record({"scores": [1, 2, 3], "best": 0.5}, field="best"),
    "best as text": bad_record({"scores": [1, 2, 3], "best": "0"}, field="best"),
    "best as flags": bad_record({"scores": [1, 2, 3], "best": [True, False, False]}, field="best"),
    "best empty": bad_record({"scores": [1, 2, 3], "best": []}, field="best"),
    "best repeated": bad_record({"scores": [1, 2, 3], "best": [1, 1]}, field="best"),
    "best huge": bad_record({"scores": [1, 2, 3], "best": 10**400}, field="best"),
    "best missing": bad_record({"scores": [1, 2, 3]}, field="best"),
    "JSON cut off in a line": (lines(GOOD, '{"scores": [1, 2', GOOD), ["line 2", "cut-off JSON", "column"]),
    "last line cut off": (lines(GOOD, GOOD)[:-8], ["line 2", "cut-off JSON"]),
    "line not an object": (lines(GOOD, "[1, 2]", GOOD), ["line 2", "a list of 2"]),
    "line of prose": (lines(GOOD, "hello", GOOD), ["line 2"]),
    "two objects on a line": (lines(GOOD, '{"scores": [1, 2], "best": 0} {"scores"', GOOD), ["line 2", "more text"]),
    "key twice": (lines(GOOD, '{"scores": [1, 2], "best": 0, "best": 1}', GOOD), ["line 2", "'best' occurs twice"]),
    "nested too deeply in a line": (
        lines(GOOD, '{"scores": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        ["line 2", "nested too deeply"],
    ),
    "invalid UTF-8 in a line": (lines(GOOD) + b'{"scores": [1, 2], "best": 0, "x": "\xff"}\n', ["line 2", "UTF-8"]),
    "record not an object": (json.dumps([GOOD, 7, GOOD]).encode(), ["record 2"]),
    "NaN in a group field": (lines(GOOD, '{"scores": [1, 2], "best": 0, "g": NaN}', GOOD), ["line 2", "'g'"]),
    "NaN in an array": (
        b'[{"scores": [1, 2], "best": 0}, {"scores": [NaN, 2], "best": 0}]',
        ["record 2", "'scores'"],
    ),
    "NaN in columns": (b'{"scores": [[1, 2], [3, NaN]], "best": [0, 1]}', ["record 2", "'scores'"]),
    "ranks of another length": (
        lines({"scores": [1, 2], "ranks": [1, 2]}, {"scores": [1, 2, 3], "ranks": [1, 2]}),
        ["line 2", "'ranks'", "has 2 entries"],
    ),
    "rank gap": (
        lines({"scores": [1, 2, 3], "ranks": [1, 2, 3]}, {"scores": [1, 2, 3], "ranks": [1, 2, 5]}),
        ["line 2", "'ranks'", "gap"],
    ),
    "rank zero": (
        lines({"scores": [1, 2, 3], "ranks": [1, 2, 3]}, {"scores": [1, 2, 3], "ranks": [0, 1, 2]}),
        ["line 2", "'ranks'", "1 = best"],
    ),
    "nothing ranked": (
        lines({"scores": [1, 2], "ranks": [1, 2]}, {"scores": [1, 2], "ranks": [None, None]}),
        ["line 2", "'ranks'", "no item is ranked"],
    ),
    "rating as text": (
        lines({"scores": [1, 2], "ratings": [1, 2]}, {"scores": [1, 2], "ratings": ["good", "bad"]}),
        ["line 2", "'ratings'", "text 'good'"],
    ),
    "infinite rating": (
        lines({"scores": [1, 2], "ratings": [1, 2]}, '{"scores": [1, 2], "ratings": [1, 1e999]}'),
        ["line 2", "'ratings'", "Infinity"],
    ),
    "nothing rated": (
        lines({"scores": [1, 2], "ratings": [1, 2]}, {"scores": [1, 2], "ratings": [None, None]}),
        ["line 2", "'ratings'"],
    ),
    "chosen and rejected the same": (
        lines({"scores": [1, 2], "chosen": 0, "rejected": 1}, {"scores": [1, 2], "chosen": 1, "rejected": 1}),
        ["line 2", "'rejected'"],
    ),
    "chosen score missing": (
        lines({"chosen": 1.5, "rejected": 0.5}, {"rejected": 0.5}),
        ["line 2", "'chosen'", "missing"],
    ),
    "pair score null": (
        lines({"chosen": 1.5, "rejected": 0.5}, {"chosen": 1, "rejected": None}),
        ["line 2", "'rejected'", "null"],
    ),
    "pair score a long list": (
        lines({"chosen": [1.5], "rejected": [0.5]}, {"chosen": [1, 2], "rejected": [0.5]}),
        ["line 2", "'chosen'", "a list of 2"],
    ),
    "duplicate record": (lines(GOOD | {"id": 1}, GOOD | {"id": 1}), ["line 2", "'id'", "repeats line 1"]),
    "duplicate id, other scores": (
        lines(GOOD | {"id": "<b>"}, GOOD | {"id": "<b>", "scores": [9, 8, 7]}),
        ["line 2", "'id'", "other scores"],
    ),
    "ids of mixed types": (lines(GOOD | {"id": 1}, GOOD | {"id": "1"}), ["line 2", "'id'", "one type"]),
    "id null": (lines(GOOD | {"id": 1}, GOOD | {"id": None}), ["line 2", "'id'", "null"]),
    "ragged CSV row": ((PAIR + "1.5\n").encode(), ["line 3", "1 cells where the header has 2"]),
    "CSV text score": ((PAIR + "1.5,high\n").encode(), ["line 3", "'scores_rejected'", "text 'high'"]),
    "CSV nan": ((PAIR + "nan,2\n").encode(), ["line 3", "'scores_chosen'", "NaN"]),
    "CSV empty score": ((PAIR + ",2\n").encode(), ["line 3", "'scores_chosen'", "null"]),
    "CSV broken list": (b'scores,best\n"[1, 2]",0\n"[1, 2",0\n', ["line 3", "'scores'"]),
    "Parquet NaN": (parquet(scores=[[1.0, 2.0], [np.nan, 1.0]], best=[0, 1]), ["row 2", "'scores'", "NaN"]),
    "Parquet null score": (parquet(scores=[[1.0, 2.0], [None, 1.0]], best=[0, 1]), ["row 2", "'scores'", "null"]),
    "Parquet null list": (parquet(scores=[[1.0, 2.0], None], best=[0, 1]), ["row 2", "'scores'", "null"]),
    "Parquet one candidate": (parquet(scores=[[1.0], [2.0, 3.0]], best=[0, 1]), ["row 1", "only one candidate"]),
    "Parquet best": (parquet(scores=[[1.0, 2.0]] * 2, best=[0, 2]), ["row 2", "'best'", "0..1"]),
    "long: one candidate": (long((1, 0.5, 1), (1, 1.5, 2), (2, 0.5, 1)), ["line 4", "only one candidate"]),
    "long: score missing": (long((1, 0.5, 1), (1, 1.5, 2), (2, "", 1), (2, 1, 2)), ["line 4", "'score'", "null"]),
    "long: instance missing": (long((1, 0.5, 1), (1, 1.5, 2), ("", 2, 1)), ["line 4", "'instance'", "null"]),
    "long: rank gap": (long((1, 0.5, 1), (1, 1.5, 2), (2, 1, 1), (2, 2, 3)), ["line 4", "'rank'", "gap"]),
    "long: no best": (
        long((1, 0.5, 1), (1, 1.5, 0), (2, 1, 0), (2, 2, 0), names=("instance", "score", "best")),
        ["line 4", "'best'", "no candidate is marked"],
    ),
    "long: best not a flag": (
        long((1, 0.5, 1), (1, 1.5, 0), (2, 1, 2), (2, 2, 0), names=("instance", "score", "best")),
        ["line 4", "'best'"],
    ),
    "long: candidate twice": (
        long((1, 0.5, 1, "a"), (1, 1.5, 2, "b"), (1, 1.5, 2, "b"), names=("instance", "score", "rank", "id")),
        ["line 4", "'id'", "repeats line 3"],
    ),
    "long: candidate twice, other score": (
        long(
            (1, 1, 1, "a"), (1, 2, 2, "b"), (2, 1, 1, "a"), (2, 2, 2, "a"), names=("instance", "score", "rank", "id")
        ),
        ["line 5", "'id'", "another score"],
    ),
    "num_correct zero": (
        lines(
            {"scores": [1, 2], "num_correct": 1, "id": "0", "subset": "s"},
            {"scores": [1, 2], "num_correct": 0, "id": "1", "subset": "s"},
        ),
        ["line 2", "'num_correct'", "1..2"],
    ),
    "num_correct too large": (
        lines({"scores": [1, 2], "num_correct": 1}, {"scores": [1, 2], "num_correct": 3}),
        ["line 2", "'num_correct'"],
    ),
    "RewardBench score error": (
        lines({"scores": [1, 2], "num_correct": 1}, {"scores": "error", "num_correct": 1}),
        ["line 2", "'scores'", "text 'error'"],
    ),
    "RewardBench score null": (
        json.dumps({"scores_chosen": [1.5, None], "scores_rejected": [1, 2], "model": "m"}).encode(),
        ["record 2", "'scores_chosen'", "null"],
    ),
}


FILES = {
    "empty": (b"", ["is empty"]),
    "white space": (b" \n\t\n" * 5000, ["white space"]),
    "only a BOM": (b"\xef\xbb\xbf", ["white space"]),
    "metadata only": (lines({"_record": "metadata", "model": "m", "n_items": 3}), ["only metadata"]),
    "CSV header only": (b"scores,best\n", ["only a header"]),
    "empty array": (b"[]", ["no records"]),
    "empty lists for columns": (b'{"scores": [], "num_correct": []}', ["empty list"]),
    "empty columns": (b'{"scores_chosen": [], "scores_rejected": []}', ["no records"]),
    "empty object": (b"{}", ["no known kind"]),
    "array cut off": (json.dumps([GOOD] * 5, indent=1).encode()[:-30], ["line ", "cut-off JSON"]),
    "array cut inside a number": (b'[{"scores": [1, 2], "best": 0}, {"scores": [1, 0.', ["line 1", "cut-off JSON"]),
    "columns cut off": (b'{"scores": [[1, 2], [3, 4]], "be', ["line 1", "cut-off JSON"]),
    "columns of unequal length": (b'{"scores": [[1, 2], [3, 4]], "best": [0]}', ["unequal length", "'best'"]),
    "concatenated objects cut off": (
        (json.dumps(GOOD, indent=4) + "\n" + json.dumps(GOOD, indent=4)[:-5]).encode(),
        ["line ", "cut-off JSON"],
    ),
    "key twice in an array": (b'[{"scores": [1, 2],\n "best": 0, "best": 1}]', ["line 1", "'best' occurs twice"]),
    "nested too deeply": (b"[" * 200_000, ["nested too deeply|cut-off"]),
    "gzip named .json": (gzip.compress(lines(GOOD)), ["gzip", "rename or decompress"]),
    "binary": (bytes(range(256)) * 10, ["binary"]),
    "UTF-16": (json.dumps([GOOD]).encode("utf-16"), ["UTF-16", "UTF-8"]),
    "UTF-16 without BOM": (json.dumps([GOOD]).encode("utf-16-le"), ["UTF-16"]),
    "Latin-1": (b'[{"scores": [1, 2],\n "best": 0, "name": "caf\xe9"}]', ["line 2", "UTF-8"]),
    "Latin-1 CSV": (b"chosen,rejected,name\n1,2,caf\xe9\n", ["line 2", "UTF-8"]),
    "zip": (b"PK\x03\x04" + bytes(50), ["zip archive"]),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(50), ["zstd"]),
    "web page": (b"<!DOCTYPE html><html>404</html>", ["HTML"]),
    "prose": (b"these are my scores\n1 2 3\n", ["line 1", "neither JSON"]),
    "semicolons": (b"chosen;rejected\n1;2\n", ["semicolons"]),
    "unknown fields": (lines({"a": 1, "b": [1, 2]}), ["no known kind", "'b', 'a'", "Looked for"]),
    "nearly known fields": (lines({"scoers": [1, 2], "bests": 0}), ["'scoers' for 'scores'"]),
    "scores without outcome": (lines({"scores": [1, 2], "rankk": 0}), ["no outcome", "'rankk'"]),
    "several outcomes": (lines(GOOD | {"ranks": [1, 2, 3]}), ["several outcomes"]),
    "chosen and rejected texts": (lines({"chosen": "good", "rejected": "bad"}), ["'chosen'", "text 'good'"]),
    "header names a column twice": (b"chosen,rejected,chosen\n1,2,3\n", ["line 1", "'chosen'"]),
    "quote never closed": (b'chosen,rejected\n1,2\n"1,2\n', ["line 3", "CSV"]),
    "Parquet cut off": (parquet(scores=[[1.0, 2.0]], best=[0])[:-20], ["Parquet"]),
    "Parquet header only": (b"PAR1", ["Parquet"]),
    "Parquet without rows": (
        parquet(scores=pa.array([], pa.list_(pa.float64())), best=pa.array([], pa.int64())),
        ["no records"],
    ),
    "Parquet text": (parquet(scores=[["1", "x"], ["1", "2"]], best=[0, 1]), ["row 1", "'scores'", "text"]),
    "all scores tied": (lines(*[{"scores": [2.5, 2.5], "best": 0}] * 3), ["all scores are equal"]),
    "long: instances of mixed types": (
        b'[{"instance": 1, "score": 1, "rank": 1}, {"instance": "1", "score": 2, "rank": 2}]',
        ["record 2", "'instance'", "one type"],
    ),
    "a million candidates": (lines({"scores": [0.5] * 1_000_000, "best": 0}), ["line 1", "1000000 candidates"]),
}


def check(caught, path, parts):
    message = str(caught.value)
    assert path.name in message
    for part in parts:
        assert any(option in message for option in part.split("|")), f"{part!r} not in {message!r}"
    assert message.isprintable()
    assert len(message) < 2500


@pytest.mark.parametrize(("data", "parts"), RECORDS.values(), ids=RECORDS)
def test_a_bad_record_stops_with_its_place_or_is_skipped_and_counted(tmp_path, data, parts):
    path = tmp_path / "input.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path)
    check(caught, path, parts)
    got = read(path, on_error="skip")
    assert got.info.n_skipped == 1
    assert len(got.info.skipped) == 1
    assert parts[0] in got.info.skipped[0]
    assert len(got) >= 1
    assert np.isfinite(got.scores.values).all()


@pytest.mark.parametrize(("data", "parts"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_bad_file_is_refused_even_when_records_may_be_skipped(tmp_path, data, parts, on_error):
    path = tmp_path / "input.json"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(path, on_error=on_error)
    check(caught, path, parts)


def test_there_are_enough_kinds():
    assert len(RECORDS) + len(FILES) >= 45
