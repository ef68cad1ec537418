"""What the repository promises: README commands and code, versions, light imports, links."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import prefcal

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_examples_run_and_print_what_they_say(page, capsys):
    """A comment behind a print is what it prints."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        exec(compile(block, page.name, "exec"), {})
        printed = capsys.readouterr().out.split("\n")[:-1]
        promised = re.findall(r"^print\(.*?\)\s+# (.*)$", block, re.M)
        assert printed[: len(promised)] == promised


def test_readme_score_file_is_read(tmp_path):
    """The two records of the README are a score file."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    records = re.findall(r'^    (\{"scores".*\})$', text, re.M)
    assert len(records) == 2
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(records) + "\n", encoding="utf-8")
    file = prefcal.read(path)
    assert file.outcomes.sizes.tolist() == [3, 2]
    assert file.fields["subset"].tolist() == ["math", "chat"]


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    assert citation is not None
    assert prefcal.__version__ == project["version"] == citation[1]
    assert f"## {prefcal.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", prefcal.__all__)
def test_public_names_load(name):
    assert getattr(prefcal, name) is not None


def test_names_stay_what_they_are_after_submodules_load():
    """A submodule must not take the place of a public function."""
    code = "import prefcal as pc, prefcal.auditing, prefcal.cli.audit; pc.Audit; assert callable(pc.audit), pc.audit"
    subprocess.run([sys.executable, "-c", code], check=True)


ROOMS = ["errors", "views", "data", "datasets", "distributions", "rankers", "notions", "result", "estimators"]
ROOMS += ["recalibration", "conformal", "decisions", "audited", "auditing", "comparing", "grouping"]
ROOMS += ["mending", "planning", "report", "studies", "cli"]


@pytest.mark.parametrize("path", sorted((ROOT / "src/prefcal").rglob("*.py")), ids=lambda p: p.stem)
def test_rooms_import_only_rooms_to_their_left(path):
    """See ARCHITECTURE.md; imports inside functions and for type checking only are free."""
    parts = path.relative_to(ROOT / "src/prefcal").with_suffix("").parts
    if parts == ("__init__",):
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("prefcal."):
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("prefcal.")]
        else:
            continue
        for name in names:
            assert ROOMS.index(name.split(".")[1]) <= ROOMS.index(parts[0]), f"{path.name} imports {name}"


def test_no_path_of_a_machine_is_committed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(?<![\w.])/(work|farm|root)/")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in (".png", ".gz") or not path.is_file() or path == Path(__file__):
            continue
        assert not pattern.search(path.read_text(encoding="utf-8")), name
