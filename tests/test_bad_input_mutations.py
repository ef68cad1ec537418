"""Nothing but clean numbers or a clear error ever comes out of a reader."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prefcal import PrefcalError, UsageError
from prefcal.data.readers import read

ODD = [
    None,
    True,
    "",
    "x",
    [],
    {},
    [[]],
    [None],
    ["a"],
    [[1]],
    {"a": 1},
    -1,
    10**400,
    float("nan"),
    float("inf"),
    1.5,
]


def mutations(value):
    """The value with one part replaced by something odd or taken away, in every place."""
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            yield from (value | {key: odd} for odd in ODD)
            yield from (value | {key: inner} for inner in mutations(value[key]))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield value[:i] + value[i + 1 :]
            yield from ([*value[:i], odd, *value[i + 1 :]] for odd in ODD)
            yield from ([*value[:i], inner, *value[i + 1 :]] for inner in mutations(value[i]))


@pytest.mark.parametrize(
    "rows",
    [
        [
            {"scores": [1, 2], "best": 0, "id": "a", "g": "x"},
            {"scores": [3, 2, 1], "best": [1, 2], "id": "b", "g": "y"},
        ],
        [{"scores": [1, 2, 3], "ranks": [1, None, 2]}, {"scores": [3, 2], "ranks": [1, 1]}],
        [{"scores": [1, 2], "ratings": [0.5, 2]}, {"scores": [3, 2], "ratings": [1, None]}],
        [{"scores": [1, 2], "chosen": 0, "rejected": [1]}],
        [{"chosen": 1, "rejected": [0.5]}],
        [{"instance": 1, "score": s, "rank": r, "id": r} for s, r in ((0.5, 1), (1.5, 2))],
        [{"instance": 1, "score": s, "best": r} for s, r in ((0.5, True), (1.5, False))],
        [{"problem": "p", "solution_reference": ["chosen", "x"], "score": [1.5, 2]}],
        [{"problem": "p", "solution_reference": ["chosen", "x"], "score": [[0.5, 0.2], [0.3]]}],
        [{"problem": "p", "solution_reference": ["x", "y"], "score": ["A", None], "chosen_position": ["A", "B"]}],
        [{"scores": [[1], [2], [3]], "num_correct": 2, "id": "0", "subset": "s", "results": 1}],
        [{"scores_chosen": 1.5, "scores_rejected": 0.5, "subset": "s", "id": 3, "results": 1}],
        {
            "scores_chosen": [1.5, 1],
            "scores_rejected": [0.5, 2],
            "subset": ["s", "t"],
            "id": [3, 4],
            "results": [1, 0],
        },
        [{"score_chosen": [1, 2], "score_rejected": [0, 1]}],
        [{"chosen_reward": 1, "reject_reward": 0, "category_path": "a/b", "pair_uid": "u"}],
        [{"label": 1, "results": [{"score_1": ["5", "stop"], "score_2": ["6", "stop"]}]}],
        [{"idx": 0, "annotator1": 0, "annotator2": 1, "annotator3": 2, "cmp_key": "a_b"}],
    ],
    ids=lambda rows: "-".join(list(rows[0] if isinstance(rows, list) else rows)[:4]),
)
def test_nothing_but_clean_numbers_or_a_clear_error_ever_comes_out(tmp_path, rows):
    path = tmp_path / "input.json"
    aggregate = "prod" if isinstance(rows, list) and "[[" in json.dumps(rows) and "problem" in rows[0] else None
    path.write_text(json.dumps(rows))
    assert len(read(path, aggregate=aggregate)) >= 1
    refused: list[PrefcalError] = []
    for value in mutations(rows):
        path.write_text(json.dumps(value))
        for on_error in ("stop", "skip"):
            try:
                got = read(path, on_error=on_error, aggregate=aggregate)
            except PrefcalError as error:
                refused.append(error)
                continue
            assert got.scores is None or (np.isfinite(got.scores.values).all() and got.scores.sizes.min() >= 2)
            assert got.outcomes.sizes.tolist() == got.sizes.tolist()
            assert all(len(column) == len(got) for column in got.fields.values())
            assert got.info.n_skipped == 0 or on_error == "skip"
    assert refused
    assert all(str(error).isprintable() for error in refused)
    assert all(isinstance(error, UsageError) or path.name in str(error) for error in refused)
