"""The command line: exit codes, one-line errors, orders of options, whole outputs, and what importing costs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc
from prefcal.cli import main

FAST = ("--draws", "99")


def write_scores(path: Path, *, seed: int = 0, n: int = 60, m: int = 4, scale: float = 1.0) -> Path:
    """A score file of a model whose scores are ``scale`` times the truth, with a field to group by."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, m))
    best = pc.PlackettLuce(scores).sample(1, rng)[:, 0, 0]
    rows = [
        {"scores": (scale * s).tolist(), "best": int(b), "subset": "even" if i % 2 == 0 else "odd"}
        for i, (s, b) in enumerate(zip(scores, best, strict=True))
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def scores(tmp_path) -> Path:
    return write_scores(tmp_path / "model.jsonl")


def run(*arguments: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """The command in its own process."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; from prefcal.cli import main; sys.exit(main())", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, timeout=120,
    )  # fmt: skip


def notions_of(path: Path) -> list[str]:
    return list(dict.fromkeys(r["notion"] for r in json.loads(path.read_text())["results"]))


def assert_refused(capsys, *arguments: object, match: str) -> str:
    """Exit 2, nothing on stdout, one line on stderr that says ``match``."""
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("prefcal audit: error: ")
    assert re.search(match, lines[0]), lines[0]
    return lines[0]


def test_no_command_prints_help(capsys):
    assert main([]) == 0
    assert "audit" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["theory", "--help"], ["demo", "--help"]])
def test_help(capsys, arguments):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: prefcal")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"prefcal {pc.__version__}"


@pytest.mark.parametrize("arguments", [["nothing"], ["audit", "--nothing"], ["audit", "x", "--bins", "many"]])
def test_unknown_commands_and_options(capsys, arguments):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error:" in err
    assert "Traceback" not in err


def test_audit_prints_a_summary_and_ends_with_0(capsys, scores):
    assert main(["audit", str(scores), *FAST]) == 0
    out, _ = capsys.readouterr()
    assert "sub-2" in out
    assert "top-1:confidence" in out
    assert "\x1b" not in out  # not a terminal: no colour


def test_quiet_prints_nothing(capsys, scores):
    assert main(["audit", str(scores), *FAST, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_json_on_stdout_instead_of_the_summary(capsys, scores):
    assert main(["audit", str(scores), *FAST, "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["inputs"][0]["path"] == str(scores)


@pytest.mark.parametrize(
    "arrange",
    [
        lambda p: ["--notion", "sub-2", "top-1", p],
        lambda p: [p, "--notion", "sub-2", "top-1"],
        lambda p: [p, "--notion", "sub-2", "--notion", "top-1"],
        lambda p: ["--notion", "sub-2", "--notion", "top-1", p],
        lambda p: ["--notion", "sub-2", p, "--notion", "top-1"],
        lambda p: ["--notion=sub-2", "--notion=top-1", p],
        lambda p: ["--notion", "sub-2", "top-1", "--model", f"model={p}"],
        lambda p: ["--model", f"model={p}", "--notion", "sub-2", "top-1"],
    ],
)
def test_options_and_paths_in_any_order(tmp_path, scores, arrange):
    out = tmp_path / "out.json"
    assert main(["audit", *arrange(str(scores)), *FAST, "--json", str(out), "--quiet"]) == 0
    assert notions_of(out) == ["sub-2", "top-1"]
    assert json.loads(out.read_text())["inputs"][0]["model"] == "model"


def test_paths_after_two_dashes(tmp_path, scores):
    out = tmp_path / "out.json"
    options = ["audit", "--json", str(out), *FAST, "--quiet", "--notion", "sub-2", "top-1", "--", str(scores)]
    assert main(options) == 0
    assert notions_of(out) == ["sub-2", "top-1"]


@pytest.mark.parametrize(
    "arrange",
    [
        lambda a, b: [a, b],
        lambda a, b: ["--notion", "sub-2", a, b],
        lambda a, b: ["--model", f"first={a}", f"second={b}"],
        lambda a, b: ["--model", f"first={a}", "--model", f"second={b}"],
        lambda a, b: [a, "--model", f"second={b}"],
        lambda a, b: ["--group", "subset", a, b],
        lambda a, b: ["--fail-if", "sub-2.ece > 0.9", a, b],
    ],
)
def test_several_models_in_one_call(tmp_path, scores, arrange):
    other = write_scores(tmp_path / "second.jsonl", seed=1)
    out = tmp_path / "out.json"
    assert main(["audit", *arrange(str(scores), str(other)), *FAST, "--json", str(out), "--quiet"]) == 0
    document = json.loads(out.read_text())
    models = [i["model"] for i in document["inputs"]]
    assert models[0] in ("model", "first")
    assert models[1] == "second"
    assert list(dict.fromkeys(r["model"] for r in document["results"])) == models


def test_two_files_with_one_name_need_names(capsys, tmp_path, scores):
    (tmp_path / "b").mkdir()
    other = write_scores(tmp_path / "b" / "model.jsonl", seed=1)
    assert_refused(capsys, "audit", scores, other, match=r"--model NAME=PATH")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "no score file"),
        (["nowhere.json"], "nowhere.json"),
        (["FILE", "--notion", "sub2"], "sub2.*sub-K"),
        (["FILE", "--notion", "sub-2:nothing"], "nothing"),
        (["FILE", "--notion", "sub-9"], "sub-9"),
        (["FILE", "--group", "subject"], "subset"),
        (["FILE", "--bins", "0"], "bins"),
        (["FILE", "--seed", "-1"], "seed"),
        (["FILE", "--draws", "5"], "draws"),
        (["FILE", "--tolerance", "2"], "tolerance"),
        (["FILE", "--tolerance", "nan"], "tolerance"),
        (["FILE", "--format", "nothing"], "format"),
        (["FILE", "--fail-if", "sub-2.ece"], "NOTION.NUMBER OP VALUE"),
        (["FILE", "--fail-if", "sub-2.nothing > 1"], "nothing"),
        (["FILE", "--fail-if", "full.ece > 1"], "no such result"),
        (["FILE", "--report", "nowhere/r.html"], "directory"),
        (["FILE", "--json", "nowhere/r.json"], "directory"),
        (["FILE", "--model", "name"], "NAME=PATH|name"),
        (["--model", "=FILE"], "NAME=PATH"),
        (["--model", "name="], "NAME=PATH"),
        (["FILE", "--report", "same", "--json", "same"], "same"),
        (["FILE", "--report", "-"], "report"),
        (["--notion", "sub-2", "nowhere.json"], "nowhere.json"),
        (["--group", "subset", "nowhere.json"], "nowhere.json"),
    ],
)
def test_bad_usage_and_bad_input_are_one_line_and_exit_2(capsys, tmp_path, monkeypatch, arguments, match):
    monkeypatch.chdir(tmp_path)
    write_scores(tmp_path / "scores.jsonl")
    before = sorted(p.name for p in tmp_path.iterdir())
    assert_refused(capsys, "audit", *[a.replace("FILE", "scores.jsonl") for a in arguments], match=match)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["a\nb.json", "a\x1b[31mb.json", "a\u202eb.json", "a\rb.json"])
def test_control_characters_of_names_do_not_reach_the_terminal(capsys, tmp_path, name):
    line = assert_refused(capsys, "audit", tmp_path / name, match="no such file")
    assert line.isprintable()


def test_debug_shows_the_traceback_and_still_ends_with_2(tmp_path):
    plain = run("audit", tmp_path / "nowhere.json")
    assert (plain.returncode, "Traceback" in plain.stderr) == (2, False)
    shown = run("audit", tmp_path / "nowhere.json", "--debug")
    assert "Traceback" in shown.stderr
    assert "no such file" in shown.stderr
    assert shown.returncode == 2


@pytest.mark.parametrize(("gate", "status"), [("sub-2.ece > 0", 1), ("sub-2.ece > 1", 0), ("sub-2.n_events < 1", 0)])
def test_gates_decide_the_exit_status(capsys, tmp_path, scores, gate, status):
    out = tmp_path / "out.json"
    assert main(["audit", str(scores), *FAST, "--fail-if", gate, "--json", str(out)]) == status
    printed, err = capsys.readouterr()
    assert ("gate failed" in err) == bool(status)
    assert (gate in err) == bool(status)
    assert "sub-2" in printed  # results are shown and written whether the gate fails or not
    assert notions_of(out)


def test_gates_of_a_miscalibrated_model(capsys, tmp_path):
    good = write_scores(tmp_path / "good.jsonl", n=800)
    bad = write_scores(tmp_path / "bad.jsonl", n=800, scale=4.0)
    gate = "top-1:confidence.verdict == miscalibrated"
    assert main(["audit", str(good), str(bad), "--quiet", *FAST, "--fail-if", gate]) == 1
    messages = [line for line in capsys.readouterr().err.splitlines() if "gate failed" in line]
    assert len(messages) == 1
    assert "bad" in messages[0]


def test_gates_on_groups(capsys, scores):
    assert main(["audit", str(scores), *FAST, "--group", "subset", "--fail-if", "sub-2[subset=even].ece > 0"]) == 1
    assert main(["audit", str(scores), *FAST, "--group", "subset", "--fail-if", "sub-2[subset=even].ece > 1"]) == 0
    capsys.readouterr()
    assert_refused(
        capsys,
        "audit",
        scores,
        *FAST,
        "--group",
        "subset",
        "--fail-if",
        "sub-2[subset=none].ece > 0",
        match="no such",
    )


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_group_may_be_called_like_something_that_exists(tmp_path, monkeypatch, scores, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "file":
        Path("subset").write_text("something else")
    else:
        Path("subset").mkdir()
    assert main(["audit", str(scores), *FAST, "--group", "subset", "--quiet", "--json", "out.json"]) == 0
    groups = [r["group"] for r in json.loads(Path("out.json").read_text())["results"]]
    assert {"subset": "even"} in groups


@pytest.mark.parametrize("broken", ["missing", "cut", "nan"])
def test_no_output_is_left_when_a_later_file_fails(capsys, tmp_path, scores, broken):
    bad = tmp_path / "bad.jsonl"
    if broken == "cut":
        bad.write_text(scores.read_text()[:-9])
    elif broken == "nan":
        bad.write_text('{"scores": [1, NaN], "best": 0}\n')
    report, out = tmp_path / "r.html", tmp_path / "o.json"
    assert main(["audit", str(scores), str(bad), *FAST, "--report", str(report), "--json", str(out)]) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.splitlines()[-1].startswith("prefcal audit: error: ")
    assert not report.exists()
    assert not out.exists()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write to")
@pytest.mark.parametrize("failing", ["report", "json"])
def test_outputs_come_all_or_none(capsys, tmp_path, scores, failing):
    """An output that cannot be written leaves the other one, and what was there before, as it was."""
    kept = tmp_path / "kept"
    kept.write_text("before")
    other = "json" if failing == "report" else "report"
    targets = [f"--{failing}", "/proc/nothing.out", f"--{other}", str(kept)]
    assert main(["audit", str(scores), *FAST, "--quiet", *targets]) == 2
    err = capsys.readouterr().err
    assert err.startswith("prefcal audit: error: ")
    assert "/proc" in err
    assert kept.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "model.jsonl"]


def test_outputs_have_ordinary_permissions(tmp_path, scores):
    out, report = tmp_path / "o.json", tmp_path / "r.html"
    assert main(["audit", str(scores), *FAST, "--quiet", "--json", str(out), "--report", str(report)]) == 0
    plain = tmp_path / "plain"
    plain.write_text("")
    assert out.stat().st_mode == report.stat().st_mode == plain.stat().st_mode


def test_same_input_same_bytes(tmp_path, monkeypatch, scores):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    texts = []
    for i in range(2):
        out, report = tmp_path / f"{i}.json", tmp_path / f"{i}.html"
        arguments = ["audit", str(scores), *FAST, "--group", "subset", "--json", str(out), "--report", str(report)]
        assert main([*arguments, "--quiet"]) == 0
        texts.append((out.read_bytes(), report.read_bytes()))
    assert texts[0] == texts[1]


def test_skipped_records_are_counted_in_the_result(capsys, tmp_path, scores):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(scores.read_text() + '{"scores": [1, null, "x"], "best": 0}\n')
    assert_refused(capsys, "audit", bad, match=r"bad\.jsonl")
    out = tmp_path / "o.json"
    assert main(["audit", str(bad), *FAST, "--on-error", "skip", "--json", str(out), "--quiet"]) == 0
    document = json.loads(out.read_text())
    assert document["inputs"][0]["n_skipped"] == 1
    assert document["inputs"][0]["n_instances"] == 60
    assert any("skipped" in w for w in document["warnings"])


def test_settings_reach_the_result(tmp_path, scores):
    out = tmp_path / "o.json"
    options = ["--bins", "10", "--tolerance", "0.1", "--seed", "5", "--draws", "123", "--weights", "instance"]
    assert main(["audit", str(scores), *options, "--json", str(out), "--quiet"]) == 0
    record = json.loads(out.read_text())["results"][0]
    wanted = {"bins": 10, "tolerance": 0.1, "seed": 5, "draws": 123, "weights": "instance"}
    assert {k: record["settings"][k] for k in wanted} == wanted
    h = pc.read(scores)
    direct = pc.audit(
        pc.PlackettLuce(h.scores), h.outcomes, items="exchangeable", bins=10, tolerance=0.1, seed=5, draws=123,
        weights="instance",
    )["sub-2"]  # fmt: skip
    assert record["value"] == direct.value
    assert record["p_value"] == direct.p_value


def test_numbers_are_grouped_by_quartiles(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"scores": rng.normal(size=3).tolist(), "best": 0, "length": float(x)} for x in rng.random(200)]
    rows[0]["length"] = None
    path, out = tmp_path / "m.jsonl", tmp_path / "o.json"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    code = main(["audit", str(path), *FAST, "--group", "length", "--notion", "sub-2", "--json", str(out), "--quiet"])
    assert code == 0
    records = [r for r in json.loads(out.read_text())["results"] if r["estimator"] == "ece" and r["group"]]
    sizes = [r["n_instances"] for r in records]
    assert sum(sizes) == 200
    assert all(40 <= s <= 60 for s in sizes if s > 1)
    assert len(records) == 5


def test_colour_obeys_no_color(monkeypatch, capsys, scores):
    """Even on a terminal: rich is told to emit codes, NO_COLOR takes the colours back."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["audit", str(scores), *FAST]) == 0
    monkeypatch.setenv("NO_COLOR", "1")
    capsys.readouterr()
    assert main(["audit", str(scores), *FAST]) == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", capsys.readouterr().out)


@pytest.mark.skipif(shutil.which("head") is None or os.name == "nt", reason="needs a POSIX shell with head")
@pytest.mark.parametrize("options", ["", "--json -"])
@pytest.mark.parametrize(("gate", "status"), [("", 0), ("--fail-if 'sub-2.ece > 0'", 1)])
def test_a_reader_that_goes_away_is_no_error(tmp_path, options, gate, status):
    many = tmp_path / "many.jsonl"
    write_scores(many, n=120)
    groups = "--group subset --notion sub-2 sub-3 top-1 full position top-1:confidence sub-3:confidence"
    command = (
        f"{{ {sys.executable} -c 'import sys; from prefcal.cli import main; sys.exit(main())' audit {many} "
        f"{options} {gate} --draws 99 --items labelled {groups.split(' --notion')[0]}; echo $? >&3; }} | head -c 1"
    )
    done = subprocess.run(
        ["bash", "-c", f"exec 3>{tmp_path / 'status'}; {command}"], capture_output=True, text=True, timeout=120
    )
    assert (tmp_path / "status").read_text().strip() == str(status)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def imported(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return {name for name in done.stderr.split() if name}


HEAVY = {
    "sklearn",
    "matplotlib",
    "scipy.stats",
    "pandas",
    "polars",
    "pyarrow",
    "torch",
    "jinja2",
    "rich",
    "playwright",
}


def test_import_loads_numpy_only():
    loaded = imported("import prefcal")
    baseline = imported("import numpy, importlib, typing")
    packages = {name.split(".")[0] for name in loaded - baseline}
    outside = {p for p in packages if p not in sys.stdlib_module_names and not p.startswith("_")}
    assert outside == {"prefcal"}


@pytest.mark.parametrize(
    "statement",
    [
        "from prefcal.cli import main\nmain(['--help'])",
        "from prefcal.cli import main\nmain(['audit', '--help'])",
        "from prefcal.cli import main\nmain(['--version'])",
        "from prefcal.cli import main\nmain([])",
    ],
)
def test_help_loads_nothing_heavy(statement):
    loaded = imported(statement)
    assert loaded.isdisjoint(HEAVY)
    assert "scipy" not in loaded


def test_an_audit_of_arrays_needs_no_heavy_library():
    statement = (
        "import prefcal as pc\npc.audit(pc.PlackettLuce([[1.0, 0.0, 2.0]] * 9), "
        "pc.Outcomes.from_ranks([[1, 2, 3]] * 9), draws=99)"
    )
    assert imported(statement).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "first", ["pc.Audit", "pc.Result", "pc.read", "__import__('prefcal.cli.audit')", "pc.Notion"]
)
def test_public_names_mean_the_same_in_whatever_order_they_load(first):
    statement = (
        f"import prefcal as pc\n{first}\nassert callable(pc.audit) and callable(pc.read) and callable(pc.lattice)\n"
        "for name in pc.__all__: getattr(pc, name)\n"
        "assert callable(pc.audit) and callable(pc.read) and callable(pc.lattice)"
    )
    imported(statement)


@pytest.mark.parametrize("items", ["1", "9", "x"])
def test_theory_refuses_impossible_numbers_of_items(capsys, items):
    assert main(["theory", "--items", items]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_theory_ends_with_0_when_all_checks_hold(capsys):
    assert main(["theory", "--items", "3"]) == 0
    assert "sub-2" in capsys.readouterr().out
