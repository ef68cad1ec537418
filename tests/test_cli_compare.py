"""prefcal compare: files joined by their records, named models, the page."""

from __future__ import annotations

import json

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main


def simulated(seed: int, n: int = 400, m: int = 4):
    rng = np.random.default_rng([7, seed, n])
    scores = rng.normal(size=(n, m))
    return scores, pc.Outcomes.from_orders(pc.PlackettLuce(scores).sample(1, rng)[:, 0])


def write(path, scores, best, ids):
    lines = [json.dumps({"id": i, "scores": s, "best": b}) for i, s, b in zip(ids, scores, best, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def test_command_joins_files_by_id(tmp_path, capsys):
    scores, y = simulated(8, n=60)
    best = y.dense().argmin(axis=1).tolist()
    ids = [f"q{i}" for i in range(60)]
    order = np.random.default_rng(0).permutation(60)
    write(tmp_path / "a.jsonl", scores.tolist(), best, ids)
    write(tmp_path / "b.jsonl", (2 * scores).tolist(), best, ids)
    write(tmp_path / "c.jsonl", (2 * scores)[order].tolist(), [best[i] for i in order], [ids[i] for i in order])
    documents = []
    for second in ("b", "c"):
        arguments = [
            "compare",
            str(tmp_path / "a.jsonl"),
            "--model",
            f"second={tmp_path / second}.jsonl",
            "--json",
            "-",
        ]
        assert main(arguments) == 0
        documents.append(json.loads(capsys.readouterr().out))
    for part in ("standings", "differences", "n_instances"):
        assert documents[0][part] == documents[1][part]
    assert [i["model"] for i in documents[0]["inputs"]] == ["a", "second"]
    assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    assert "a − b" in capsys.readouterr().out


def test_command_refuses_other_data(tmp_path, capsys):
    scores, y = simulated(9, n=20)
    best = y.dense().argmin(axis=1).tolist()
    ids = [f"q{i}" for i in range(20)]
    write(tmp_path / "a.jsonl", scores.tolist(), best, ids)
    write(tmp_path / "b.jsonl", scores.tolist(), [(b + 1) % 4 for b in best], ids)
    write(tmp_path / "c.jsonl", scores.tolist(), best, ["other", *ids[1:]])
    write(tmp_path / "d.jsonl", scores[:10].tolist(), best[:10], ids[:10])
    for other, words in (("b", "outcomes are not those"), ("c", "'q0'"), ("d", "10 instances")):
        assert main(["compare", str(tmp_path / "a.jsonl"), str(tmp_path / f"{other}.jsonl")]) == 2
        assert words in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "a.jsonl")]) == 2
    assert "at least two" in capsys.readouterr().err


def test_records_and_clusters_of_files_are_matched(tmp_path, capsys):
    """Votes: several records of one forecast; rows of the second file in another order, under the same ids."""
    from prefcal.cli.compare import compare_files, same_instances
    from prefcal.data.source import InputInfo, ScoreFile

    rng = np.random.default_rng(3)
    scores = rng.normal(size=(40, 3))
    y = pc.Outcomes.from_pairs([(i, *rng.permutation(3)[:2]) for i in range(40) for _ in range(1 + i % 3)], n_items=3)
    info = InputInfo("p", "0" * 64, "wide", 40, (3, 3), 0, "votes", "exchangeable", "a")
    ids = np.array([f"q{i}" for i in range(40)])
    clusters = np.arange(40) // 4
    one = ScoreFile(pc.PlackettLuce(scores).scores, None, y, {}, ids, info, clusters)
    order = rng.permutation(40)
    place = np.argsort(order)
    moved = np.argsort(place[y.instance], kind="stable")
    other_y = pc.Outcomes(y.ranks.take(moved), y.ties, place[y.instance][moved])
    two = ScoreFile(
        pc.PlackettLuce(2 * scores[order]).scores, None, other_y, {}, ids[order], info, 9 - clusters[order]
    )
    assert same_instances({"a": one, "b": two})["b"].tolist() == place.tolist()
    found = compare_files({"a": one, "b": two}, notions=["sub-2"])
    expected = pc.compare(
        {"a": pc.PlackettLuce(scores), "b": pc.PlackettLuce(2 * scores)},
        y, notions="sub-2", items="exchangeable", clusters=clusters,
    )  # fmt: skip
    assert found.differences == expected.differences
    assert found.n_instances == {"sub-2": 10}
    assert found.settings["clusters"] is True
    loose = ScoreFile(two.scores, None, other_y, {}, ids[order], info, None)
    with pytest.raises(pc.DataError, match="clusters are not those"):
        same_instances({"a": one, "b": loose})
    wrong = ScoreFile(
        two.scores, None, pc.Outcomes(y.ranks, y.ties, other_y.instance), {}, ids[order], info, clusters
    )
    with pytest.raises(pc.DataError, match="outcomes are not those"):
        same_instances({"a": one, "b": wrong})


def test_command_writes_the_page(tmp_path, capsys):
    scores, y = simulated(8, n=60)
    best = y.dense().argmin(axis=1).tolist()
    ids = [f"q{i}" for i in range(60)]
    for name, c in (("a", 1.0), ("b", 3.0)):
        write(tmp_path / f"{name}.jsonl", (c * scores).tolist(), best, ids)
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    page, document = tmp_path / "page.html", tmp_path / "page.json"
    assert main(["compare", *files, "--report", str(page), "--json", str(document)]) == 0
    captured = capsys.readouterr()
    assert f"wrote {page}" in captured.err
    text = page.read_text()
    record = json.loads(document.read_text())
    for source in record["inputs"]:
        assert source["sha256"] in text
    assert "a against b" in text
    assert "a against b" in captured.out
    assert main(["compare", *files, "--report", str(tmp_path)]) == 2
    assert "is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arrange",
    [
        lambda a, b: [a, f"second={b}"],
        lambda a, b: [f"first={a}", "--model", f"second={b}"],
        lambda a, b: ["--notion", "sub-2", f"first={a}", f"second={b}"],
    ],
)
def test_a_model_may_be_named_in_front_of_its_path(arrange, tmp_path):
    scores, y = simulated(8, n=60)
    best, ids = y.dense().argmin(axis=1).tolist(), [f"q{i}" for i in range(60)]
    a, b = tmp_path / "a.jsonl", tmp_path / "x=b.jsonl"
    for path, c in ((a, 1.0), (b, 3.0)):
        write(path, (c * scores).tolist(), best, ids)
    out = tmp_path / "out.json"
    assert main(["compare", *arrange(str(a), str(b)), "--json", str(out)]) == 0
    assert [i["model"] for i in json.loads(out.read_text())["inputs"]][1] == "second"
    assert main(["compare", str(a), str(b), "--json", str(out)]) == 0  # the name of a file may hold a "="
    assert [i["model"] for i in json.loads(out.read_text())["inputs"]] == ["a", "x=b"]


def test_a_name_without_a_file_is_refused(tmp_path, capsys):
    scores, y = simulated(8, n=60)
    write(tmp_path / "a.jsonl", scores.tolist(), y.dense().argmin(axis=1).tolist(), [f"q{i}" for i in range(60)])
    assert main(["compare", str(tmp_path / "a.jsonl"), f"second={tmp_path / 'none.jsonl'}"]) == 2
    assert "none.jsonl" in capsys.readouterr().err
