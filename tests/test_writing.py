"""Files without outcomes, columns with a number for each candidate, and files written and read again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prefcal.data.readers import read
from prefcal.data.writing import records, render
from prefcal.errors import DataError, UsageError

WIDE = [
    {"id": "a", "scores": [0.5, 1.0, -2.0], "ranks": [2, 1, None], "subset": "math", "length": [10, 20, 30]},
    {"id": "b", "scores": [3.0, 1.0], "ranks": [1, 1], "subset": "chat", "length": [5, 1]},
]
LONG = [
    {"instance": r["id"], "score": s, "rank": k, "subset": r["subset"], "length": n}
    for r in WIDE
    for s, k, n in zip(r["scores"], r["ranks"], r["length"])
]


def written(path, rows, drop=()):
    path.write_text("".join(json.dumps({k: v for k, v in r.items() if k not in drop}) + "\n" for r in rows))
    return path


@pytest.mark.parametrize(("rows", "outcome"), [(WIDE, "ranks"), (LONG, "rank")])
def test_scores_alone_are_read_where_no_outcome_is_needed(tmp_path, rows, outcome):
    path = written(tmp_path / "new.jsonl", rows, drop={outcome})
    with pytest.raises(DataError, match="no outcome"):
        read(path)
    file = read(path, outcomes="optional")
    assert file.info.outcome == "none"
    assert file.scores.values.tolist() == [0.5, 1.0, -2.0, 3.0, 1.0]
    assert np.isnan(file.outcomes.ranks.values).all()
    assert file.outcomes.sizes.tolist() == [3, 2]
    whole = read(written(tmp_path / "old.jsonl", rows), outcomes="optional")
    assert whole.info.outcome == outcome


@pytest.mark.parametrize("rows", [WIDE, LONG])
def test_columns_of_the_candidates(tmp_path, rows):
    file = read(written(tmp_path / "f.jsonl", rows), item_columns=["length"])
    assert file.item_fields["length"].values.tolist() == [10, 20, 30, 5, 1]
    assert np.array_equal(file.item_fields["length"].sizes, file.sizes)
    assert "length" not in file.fields
    assert file.fields["subset"].tolist() == ["math", "chat"]
    with pytest.raises(UsageError, match="lenght"):
        read(tmp_path / "f.jsonl", item_columns=["lenght"])


def test_wrong_columns_of_the_candidates(tmp_path):
    bad = [{**WIDE[0], "length": [1, 2]}, WIDE[1]]
    with pytest.raises(DataError, match=r"length.*2 entries.*scores.*3"):
        read(written(tmp_path / "f.jsonl", bad), item_columns=["length"])
    pairs = [{"chosen": 1.0, "rejected": 0.5, "length": [1, 2]}]
    with pytest.raises(DataError, match="no lists of candidates"):
        read(written(tmp_path / "p.jsonl", pairs), item_columns=["length"])
    with pytest.raises(UsageError, match="outcomes"):
        read(tmp_path / "f.jsonl", outcomes="none")


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_what_is_written_reads_as_it_was(tmp_path, ending):
    file = read(written(tmp_path / "f.jsonl", WIDE), item_columns=["length"])
    target = tmp_path / f"out{ending}"
    target.write_bytes(render(str(target), records(file, {"scores": file.scores})))
    again = read(target, item_columns=["length"])
    assert again.scores.values.tolist() == file.scores.values.tolist()
    assert np.array_equal(again.outcomes.ranks.values, file.outcomes.ranks.values, equal_nan=True)
    assert again.ids.tolist() == ["a", "b"]
    assert again.fields["subset"].tolist() == ["math", "chat"]
    assert again.item_fields["length"].values.tolist() == file.item_fields["length"].values.tolist()


def test_what_cannot_be_written_is_refused(tmp_path):
    file = read(written(tmp_path / "f.jsonl", WIDE))
    with pytest.raises(UsageError, match=r"out\.csv"):
        render("out.csv", records(file, {"scores": file.scores}))
    with pytest.raises(UsageError, match="'subset' already"):
        list(records(file, {"subset": file.scores}))
