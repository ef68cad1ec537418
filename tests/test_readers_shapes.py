"""The generic shapes in every container: the same records must give the same arrays."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefcal import DataError, UsageError
from prefcal.data.readers import read

finite = st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)


def as_json_lines(rows):
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def as_array(rows):
    return json.dumps(rows).encode()


def as_pretty_array(rows):
    return json.dumps(rows, indent=2).encode()


def as_concatenated(rows):
    return "".join(json.dumps(r, indent=4) + "\n" for r in rows).encode()


def as_columns(rows):
    return json.dumps({k: [r[k] for r in rows] for k in rows[0]} | {"model": "m"}).encode()


def as_csv(rows):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(rows[0])
    for r in rows:
        cells = [json.dumps(v) if isinstance(v, list) else "" if v is None else v for v in r.values()]
        writer.writerow(cells)
    return out.getvalue().encode()


def as_parquet(rows):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def as_small_row_groups(rows):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=1)
    return out.getvalue()


def as_bom_crlf_and_blank_lines(rows):
    return b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(r).encode() for r in rows) + b"\r\n"


CONTAINERS = {
    f.__name__.removeprefix("as_").replace("_", " "): f
    for f in (
        as_json_lines,
        as_array,
        as_pretty_array,
        as_concatenated,
        as_columns,
        as_csv,
        as_parquet,
        as_small_row_groups,
        as_bom_crlf_and_blank_lines,
    )
}
containers = pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)

ROWS = [
    {"scores": [1.5, -2.0, 0.25], "best": 0, "lang": "en", "level": 3, "id": "a"},
    {"scores": [0.5, 1.0], "best": 1, "lang": "de", "level": 1, "id": "b"},
    {"scores": [4.0, 5.0, 6.0, 7.0], "best": 3, "lang": "en", "level": 2, "id": "c"},
]


def save(folder, data, name="file"):
    path = folder / name
    path.write_bytes(data)
    return path


@containers
def test_wide_records_in_every_container(tmp_path, write):
    path = save(tmp_path, write(ROWS))
    got = read(path)
    assert got.scores.values.tolist() == [1.5, -2.0, 0.25, 0.5, 1.0, 4.0, 5.0, 6.0, 7.0]
    assert got.scores.sizes.tolist() == [3, 2, 4]
    assert got.outcomes.ranks.values.tolist() == [1, 2, 2, 2, 1, 2, 2, 2, 1]
    assert got.fields["lang"].tolist() == ["en", "de", "en"]
    assert got.fields["level"].tolist() == [3, 1, 2]
    assert got.fields["level"].dtype.kind == "i"
    assert set(got.fields) == {"lang", "level"}
    assert got.ids.tolist() == ["a", "b", "c"]
    assert got.info.format == "wide"
    assert got.info.n_items == (2, 4)
    assert got.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@containers
def test_partial_ranks_in_every_container(tmp_path, write):
    rows = [{"scores": [1, 2, 3], "ranks": [None, 1, 2]}, {"scores": [3, 2, 1], "ranks": [1, 2, 2]}]
    got = read(save(tmp_path, write(rows)), ties="equal")
    assert np.array_equal(got.outcomes.dense(), [[np.nan, 1, 2], [1, 2, 2]], equal_nan=True)
    assert (got.info.outcome, got.outcomes.ties) == ("ranks", "equal")


@containers
def test_ratings_and_sets_and_pairs_in_every_container(tmp_path, write):
    rated = [{"scores": [1, 2, 3], "ratings": [0.5, 2.5, None]}, {"scores": [3, 2], "ratings": [1, 1]}]
    got = read(save(tmp_path, write(rated)))
    assert np.array_equal(got.outcomes.dense(), [[2, 1, np.nan], [1, 1, np.nan]], equal_nan=True)
    sets = [{"scores": [1, 2, 3], "best": [0, 2]}, {"scores": [3, 2], "best": [1]}]
    got = read(save(tmp_path, write(sets)))
    assert got.outcomes.ranks.values.tolist() == [1, 2, 1, 2, 1]
    pairs = [{"chosen": 1.5, "rejected": 2.0}, {"chosen": 3, "rejected": -1}]
    got = read(save(tmp_path, write(pairs)))
    assert got.scores.dense().tolist() == [[1.5, 2.0], [3.0, -1.0]]
    assert got.outcomes.dense().tolist() == [[1, 2], [1, 2]]


@containers
@pytest.mark.parametrize("outcome", ["rank", "rating", "best"])
def test_long_rows_in_every_container(tmp_path, write, outcome):
    truth = {"rank": [2, 1, 1, 3, 2], "rating": [1, 5, 9, 2, 3.5], "best": [False, True, True, False, False]}[outcome]
    rows = [
        {"instance": i, "score": s, outcome: t, "lang": "en" if i == "x" else "de", "who": w}
        for i, s, t, w in zip("yxyyx", [0.5, 1.5, 2.5, 3.5, 4.5], truth, "abcde")
    ]
    if outcome != "best":
        rows[4][outcome] = 2
    got = read(save(tmp_path, write(rows)))
    assert got.info.format == "long"
    assert got.ids.tolist() == ["y", "x"]
    assert got.scores.values.tolist() == [0.5, 2.5, 3.5, 1.5, 4.5]
    expected = {"rank": [2, 1, 3, 1, 2], "rating": [3, 1, 2, 1, 2], "best": [2, 1, 2, 1, 2]}[outcome]
    assert got.outcomes.ranks.values.tolist() == expected
    assert {k: v.tolist() for k, v in got.fields.items()} == {"lang": ["de", "en"]}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(finite, min_size=2, max_size=5), min_size=1, max_size=5), data=st.data())
def test_any_scores_survive_any_container(tmp_path, rows, data):
    if all(len(set(r)) == 1 for r in rows):
        rows[0] = [0.0, 1.0]
    best = [data.draw(st.integers(0, len(r) - 1)) for r in rows]
    records = [{"scores": r, "best": b} for r, b in zip(rows, best)]
    for write in CONTAINERS.values():
        got = read(save(tmp_path, write(records)))
        assert got.scores.values.tolist() == [x for r in rows for x in r]
        assert got.outcomes.ranks.values.tolist() == [
            float(2 - (j == b)) for r, b in zip(rows, best) for j in range(len(r))
        ]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(2, 4), min_size=1, max_size=4), random=st.randoms(use_true_random=False))
def test_long_and_wide_agree_whatever_the_order_of_the_instances(tmp_path, sizes, random):
    wide = [
        {
            "scores": [random.randint(0, 9) + j / 10 for j in range(m)],
            "ratings": [random.randint(0, 2) for _ in range(m)],
        }
        for m in sizes
    ]
    long = [
        {"instance": i, "score": s, "rating": r}
        for i, w in enumerate(wide)
        for s, r in zip(w["scores"], w["ratings"])
    ]
    queues = [[r for r in long if r["instance"] == i] for i in range(len(sizes))]
    mixed = []
    while any(queues):  # interleave the instances, each keeping its own order
        mixed.append(random.choice([q for q in queues if q]).pop(0))
    a, b = read(save(tmp_path, as_array(wide), "w")), read(save(tmp_path, as_csv(mixed), "l"))
    for row, key in enumerate(b.ids):
        for x, y in ((a.scores, b.scores), (a.outcomes.ranks, b.outcomes.ranks)):
            assert x.take(int(key)).values.tolist() == y.take(row).values.tolist()


def test_gzip_is_read_when_its_name_says_so(tmp_path):
    path = save(tmp_path, gzip.compress(as_json_lines(ROWS)), "model.v2.jsonl.gz")
    got = read(path)
    assert len(got) == 3
    assert got.info.model == "model.v2"
    assert got.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(read(save(tmp_path, as_json_lines(ROWS), "plain.gz"))) == 3
    assert len(read(save(tmp_path, gzip.compress(as_csv(ROWS)), "x.csv.gz"))) == 3


def test_names_say_nothing_about_the_content(tmp_path):
    for name, write in (("a.csv", as_json_lines), ("a.json", as_parquet), ("a.parquet", as_csv), ("a.txt", as_array)):
        assert len(read(save(tmp_path, write(ROWS), name))) == 3


def test_tabs_separate_too(tmp_path):
    path = save(tmp_path, b"chosen\trejected\n1.5\t2\n3\t-1e-3\n")
    assert read(path).scores.dense().tolist() == [[1.5, 2.0], [3.0, -0.001]]


def test_one_record_is_a_file(tmp_path):
    for data in (b'{"scores": [1, 2, 3], "ranks": [1, 2, 3]}', b'{\n "scores": [1, 2, 3],\n "ranks": [1, 2, 3]\n}'):
        assert read(save(tmp_path, data)).scores.dense().tolist() == [[1, 2, 3]]


def test_chosen_and_rejected_beside_scores_are_indices(tmp_path):
    rows = [
        {"scores": [1, 2, 3], "chosen": 2, "rejected": 0},
        {"scores": [1, 2, 3, 4], "chosen": [0, 1], "rejected": [3]},
    ]
    got = read(save(tmp_path, as_array(rows)))
    nan = np.nan
    assert np.array_equal(got.outcomes.dense(), [[2, nan, 1, nan], [1, 1, nan, 2]], equal_nan=True)


def test_columns_can_have_any_name(tmp_path):
    rows = [{"rm": [1, 2], "gold": [2, 1], "best": [0]}, {"rm": [4, 3], "gold": [1, 2], "best": [0]}]
    got = read(save(tmp_path, as_array(rows)), columns={"scores": "rm", "ranks": "gold"})
    assert got.scores.dense().tolist() == [[1, 2], [4, 3]]
    assert got.outcomes.dense().tolist() == [[2, 1], [1, 2]]
    single = save(tmp_path, b'{"rm": [1, 2], "gold": [2, 1]}')
    assert len(read(single, columns={"scores": "rm", "ranks": "gold"})) == 1


def test_several_outcomes_need_a_choice(tmp_path):
    path = save(tmp_path, as_array([{"scores": [1, 2], "best": 0, "ranks": [2, 1]}]))
    with pytest.raises(DataError, match=r"several outcomes \(ranks, best\).*columns="):
        read(path)
    assert read(path, columns={"best": "best"}).outcomes.dense().tolist() == [[1, 2]]
    assert read(path, columns={"ranks": "ranks"}).outcomes.dense().tolist() == [[2, 1]]


def test_labelled_items_wide(tmp_path):
    rows = [{"scores": [1, 2, 3], "ranks": [1, 2, 3]}, {"scores": [2, 1, 3], "ranks": [3, 2, 1]}]
    got = read(save(tmp_path, as_array(rows)), items="labelled")
    assert got.info.items == "labelled"
    assert got.info.settings == {"labels": [0, 1, 2]}
    rows.append({"scores": [1, 2], "ranks": [1, 2]})
    with pytest.raises(DataError, match=r"record 3, field 'scores': has 2 candidates, the first record has 3"):
        read(save(tmp_path, as_array(rows)), items="labelled")


def test_labelled_items_long(tmp_path):
    rows = [(1, "b", 5, 1), (1, "a", 4, 2), (2, "c", 3, 1), (2, "a", 2, 2), (3, "b", 1, 1), (3, "c", 0, 2)]
    records = [dict(zip(("instance", "id", "score", "rank"), r)) for r in rows]
    for write in (as_array, as_parquet):
        got = read(save(tmp_path, write(records)), items="labelled")
        nan = np.nan
        assert np.array_equal(got.scores.dense(), [[4, 5, nan], [2, nan, 3], [nan, 1, 0]], equal_nan=True)
        assert np.array_equal(got.outcomes.dense(), [[2, 1, nan], [2, nan, 1], [nan, 1, 2]], equal_nan=True)
        assert got.info.settings == {"labels": ["a", "b", "c"]}
    with pytest.raises(DataError, match="map the role id"):
        read(save(tmp_path, as_array([{k: v for k, v in r.items() if k != "id"} for r in records])), items="labelled")


def test_groups_are_numbers_or_text_and_long_texts_are_left_out(tmp_path):
    values = {
        "number": [1.5, None, 2],
        "flag": [True, False, None],
        "mixed": ["x", 3, None],
        "markup": ["<script>alert(1)</script>", "\x1b[31m", "ü"],
        "prompt": ["word " * 100, "short", "short"],
        "list": [[1], [2], [3]],
        "object": [{"a": 1}, {}, {}],
        "nothing": [None, None, None],
        "big": [10**30, 1, 2],
    }
    rows = [{"scores": [1, 2], "best": 0} | {k: v[i] for k, v in values.items()} for i in range(3)]
    got = read(save(tmp_path, as_json_lines(rows))).fields
    assert set(got) == {"number", "flag", "mixed", "markup", "big"}
    assert np.array_equal(got["number"], [1.5, np.nan, 2], equal_nan=True)
    assert got["flag"].tolist() == ["true", "false", "(missing)"]
    assert got["mixed"].tolist() == ["x", "3", "(missing)"]
    assert got["markup"].tolist() == values["markup"]
    assert got["big"].tolist() == [1e30, 1, 2]


def test_fields_that_some_records_lack(tmp_path):
    rows = [{"scores": [1, 2], "best": 0, "kind": "a"}, {"scores": [1, 2], "best": 0}]
    assert read(save(tmp_path, as_array(rows))).fields["kind"].tolist() == ["a", "(missing)"]


def test_long_prompts_serve_as_instances_without_being_kept(tmp_path):
    prompts = ["same beginning " * 60 + str(i) for i in range(3)]
    rows = [{"instance": p, "score": s, "best": s == 1} for p in prompts for s in (0, 1)]
    got = read(save(tmp_path, as_json_lines(rows)))
    assert len(set(got.ids)) == 3
    assert max(map(len, got.ids)) == 16


def test_wide_parquet_types(tmp_path):
    scores = np.arange(12.0).reshape(4, 3)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(scores.astype(np.float32).ravel()), 3)
    large = pa.array(scores.tolist(), pa.large_list(pa.float64()))
    integers = pa.array(scores.astype(int).tolist(), pa.list_(pa.int16()))
    for column in (fixed, large, integers):
        table = pa.table({"scores": column, "best": pa.array([0, 1, 2, 0], pa.int8())})
        table = table.append_column("kind", pa.array(["a", "b", "a", None]).dictionary_encode())
        path = tmp_path / "f.parquet"
        pq.write_table(table, path)
        got = read(path)
        assert got.scores.dense().tolist() == scores.tolist()
        assert got.fields["kind"].tolist() == ["a", "b", "a", "(missing)"]


def test_a_parquet_text_column_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "f.parquet"
    texts = [f"{i} " * 500 for i in range(20)]
    pq.write_table(pa.table({"scores": [[1.0, 2.0]] * 20, "best": [0] * 20, "prompt": texts}), path)
    asked = []
    real = pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile, "read", lambda self, columns: asked.extend(columns) or real(self, columns=columns)
    )
    assert read(path).fields == {}
    assert set(asked) == {"scores", "best"}


def test_progress_reaches_the_size_of_the_file(tmp_path):
    path = save(
        tmp_path,
        as_json_lines(ROWS * 5000)
        .replace(b', "id": "a"', b"")
        .replace(b', "id": "b"', b"")
        .replace(b', "id": "c"', b""),
    )
    seen = []
    read(path, progress=lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert len(seen) > 2
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert {t for _, t in seen} == {size}


def test_the_record_of_an_input_is_json(tmp_path):
    record = read(save(tmp_path, as_array(ROWS), "m.json"), model="my model").info.record()
    assert json.loads(json.dumps(record)) == record
    assert {"path", "sha256", "format", "n_instances", "n_items", "n_skipped", "outcome", "items"} <= set(record)
    assert (record["model"], record["n_items"], record["settings"]) == ("my model", [2, 4], {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"score_list": "scores"}}, "did you mean 'scores'"),
        ({"columns": {"scores": "scoers"}}, "did you mean 'scores'"),
        ({"on_error": "ignore"}, "allowed: stop, skip"),
        ({"ties": "same"}, "allowed: unknown, equal"),
        ({"items": "labeled"}, "did you mean 'labelled'"),
        ({"max_candidates": 1}, "at least 2"),
        ({"aggregate": "min"}, "step probabilities"),
    ],
)
def test_unknown_options_are_usage_errors(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        read(save(tmp_path, as_array(ROWS)), **options)


def test_max_candidates_can_be_raised(tmp_path):
    row = {"scores": list(range(5000)), "best": 0}
    path = save(tmp_path, as_array([row]))
    with pytest.raises(DataError, match="5000 candidates; at most 4096"):
        read(path)
    assert read(path, max_candidates=5000).info.n_items == (5000, 5000)


def test_numbers_in_csv_cells(tmp_path):
    path = save(tmp_path, b"chosen,rejected,tag\n 1.5 ,+2,1_0\n.5,-1e-2,x\n")
    got = read(path)
    assert got.scores.dense().tolist() == [[1.5, 2.0], [0.5, -0.01]]
    assert got.fields["tag"].tolist() == ["1_0", "x"]
    with pytest.raises(DataError, match="line 2, field 'chosen': is text '1_0'"):
        read(save(tmp_path, b"chosen,rejected\n1_0,2\n"))


def test_quoted_newlines_do_not_shift_the_line_numbers(tmp_path):
    path = save(tmp_path, b'prompt,chosen,rejected\n"a\nb\nc",1,2\n\n"d",x,2\n')
    with pytest.raises(DataError, match="line 6, field 'chosen'"):
        read(path)


def test_large_integers_are_taken_as_floats_and_exactly_where_possible(tmp_path):
    got = read(save(tmp_path, as_array([{"scores": [2**53, -(2**60)], "best": 0}])))
    assert got.scores.values.tolist() == [float(2**53), -math.ldexp(1, 60)]


def test_parquet_instances_of_any_type(tmp_path):
    path = tmp_path / "f.parquet"
    rest = {"score": [1.0, 2.0, 3.0, 4.0], "rank": [1, 2, 2, 1]}
    coded = pa.chunked_array([pa.array(["y", "x"]).dictionary_encode(), pa.array(["x", "y"]).dictionary_encode()])
    pq.write_table(pa.table({"instance": coded, **rest}), path)
    got = read(path)
    assert got.ids.tolist() == ["y", "x"]
    assert got.scores.dense().tolist() == [[1, 4], [2, 3]]
    for odd in (pa.array([[1], [1], [2], [2]]), pa.array([{"a": 1}] * 4), pa.array([True, True, False, False])):
        pq.write_table(pa.table({"instance": odd, **rest}), path)
        with pytest.raises(DataError, match="row 1, field 'instance'"):
            read(path)
    pq.write_table(
        pa.table({"instance": pa.array([7, 7, None, 8]), "score": [1.0, 2, 3, 4], "rank": [1, 2, 1, 1]}), path
    )
    got = read(path, on_error="skip")
    assert got.ids.tolist() == [7]
    assert got.info.n_skipped == 2
