"""Files that cannot be read, are cut off, or lose records."""

from __future__ import annotations

import gzip
import json
import os

import pytest

from prefcal import DataError
from prefcal.data.readers import read
from score_records import GOOD, lines, long, parquet


@pytest.mark.parametrize(
    ("data", "part"),
    [(b"\x1f\x8b" + b"garbage" * 10, "gzip"), (gzip.compress(lines(GOOD) * 50)[:-12], "gzip"), (b"\x1f\x8b", "gzip")],
    ids=["garbage", "cut off", "two bytes"],
)
def test_damaged_gzip(tmp_path, data, part):
    path = tmp_path / "input.json.gz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"input\.json\.gz: .*{part}"):
        read(path)


def test_missing_file_with_a_suggestion(tmp_path):
    (tmp_path / "scores.jsonl").write_bytes(lines(GOOD))
    with pytest.raises(DataError, match=r"scores\.json: no such file \(did you mean 'scores\.jsonl'\?\)"):
        read(tmp_path / "scores.json")
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "no/such/folder/scores.json")


def test_directory(tmp_path):
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path)


def test_impossible_path(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read(str(tmp_path / "a\0b"))
    with pytest.raises(DataError, match="cannot be read"):
        read(str(tmp_path / ("x" * 5000)))


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "secret.json"
    path.write_bytes(lines(GOOD))
    path.chmod(0)
    if os.access(path, os.R_OK):  # a superuser reads everything: let the system call fail instead
        opened = type(path).open

        def refuse(self, *args, **options):
            if self.name == path.name:
                raise PermissionError(13, "Permission denied")
            return opened(self, *args, **options)

        monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(DataError, match=r"secret\.json: cannot be read: Permission denied"):
        read(path)


def test_control_characters_and_markup_show_escaped(tmp_path):
    path = tmp_path / "we\x1b[31mird\n.json"
    path.write_bytes(lines({"scores": [1, "<script>\x1b[2J\u202e"], "best": 0, "\x07field": 1}))
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert r"we\x1b[31mird\n.json" in message
    assert r"<script>\x1b[2J\u202e" in message
    path.write_bytes(lines({"\x1b[2J": 1}))
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_long_values_are_cut_in_messages(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(lines({"scores": [1, "x" * 10_000], "best": 0}))
    with pytest.raises(DataError) as caught:
        read(path)
    assert len(str(caught.value)) < 400


def test_skipping_everything_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(*[{"scores": [1, None], "best": 0}] * 3))
    with pytest.raises(DataError, match=r"none of its 3 records can be used; the first problem: line 1.*null"):
        read(path, on_error="skip")
    path.write_bytes(lines("{bad", "{worse"))
    with pytest.raises(DataError, match=r"a\.jsonl"):
        read(path, on_error="skip")


def test_skipped_records_are_counted_and_twenty_are_told(tmp_path):
    rows = [{"scores": [1, 2, None] if i % 3 == 0 else [1, 2, i], "best": 0, "k": i} for i in range(90)]
    rows.insert(5, '{"scores": [1')
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(*rows))
    info = (got := read(path, on_error="skip")).info
    assert (info.n_instances, info.n_skipped, len(info.skipped)) == (60, 31, 20)
    assert got.fields["k"].tolist() == [i for i in range(90) if i % 3]
    assert info.record()["n_skipped"] == 31


def test_a_record_with_two_faults_is_counted_once(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(GOOD, {"scores": [None], "best": "x", "id": None}, GOOD))
    with pytest.raises(DataError, match=r"line 1, field 'id'|line 2"):
        read(path)
    path.write_bytes(lines(GOOD, {"scores": [None], "best": "x"}, GOOD))
    assert read(path, on_error="skip").info.n_skipped == 1


def test_a_lost_row_of_a_long_file_cannot_be_skipped(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(long((1, 0.5, 1), (1, 1.5, 2), (2, 1), (2, 2, 2)))
    for on_error in ("stop", "skip"):
        with pytest.raises(DataError, match="line 4"):
            read(path, on_error=on_error)


def test_a_bad_row_takes_its_whole_instance_along(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(long((1, 0.5, 1), (2, 1, 1), (1, 1.5, 2), (2, "x", 2), (2, 3, 3), (3, 1, 2), (3, 2, 1)))
    got = read(path, on_error="skip")
    assert got.ids.tolist() == [1, 3]
    assert got.scores.dense().tolist() == [[0.5, 1.5], [1.0, 2.0]]
    assert got.info.n_skipped == 1


def test_one_tied_record_among_others_is_fine(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines({"scores": [1, 1], "best": 0}, GOOD))
    assert len(read(path)) == 2


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(json.dumps([GOOD, GOOD | {"best": 2}], indent=1).encode(), id="array"),
        pytest.param(b'{"scores": [[1.5, 2], [3, 4]], "best": [0, 1], "model": "m"}', id="columns"),
        pytest.param(json.dumps(GOOD).encode(), id="one line"),
        pytest.param(parquet(scores=[[1.0, 2.0], [3.0, 1.0]], best=[0, 1]), id="parquet"),
        pytest.param(gzip.compress(lines(GOOD, GOOD)), id="gzip"),
    ],
)
def test_a_file_cut_anywhere_is_refused(tmp_path, data):
    path = tmp_path / "input.json.gz"
    path.write_bytes(data)
    assert len(read(path)) >= 1
    for end in range(len(data)):
        path.write_bytes(data[:end])
        for on_error in ("stop", "skip"):
            with pytest.raises(DataError):
                read(path, on_error=on_error)


def test_json_lines_cut_anywhere_give_whole_records_or_an_error(tmp_path):
    data = lines(*[GOOD | {"k": i} for i in range(3)])
    path = tmp_path / "input.jsonl"
    ends = {i + 1 for i, byte in enumerate(data) if byte == 10} | {i for i, byte in enumerate(data) if byte == 10}
    for end in range(len(data)):
        path.write_bytes(data[:end])
        if end in ends:
            assert read(path).fields["k"].tolist() == list(range(data[: end + 1].count(b"}")))
        else:
            with pytest.raises(DataError):
                read(path)
