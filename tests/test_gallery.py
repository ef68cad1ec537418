"""The documentation's pictures and tables: all there, small, the same on every run, true to the names in the JSON."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import prefcal as pc

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md"]
LARGEST = 60_000


def references() -> dict[str, set[str]]:
    """Picture file -> the pages that show it."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        for name in re.findall(r'(?:src|srcset)="(?:docs/)?gallery/([^"]+)"', page.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(page.name)
    return found


@pytest.fixture
def scripts(monkeypatch):
    """The folder of the scripts on the path, as when they are run."""
    monkeypatch.syspath_prepend(str(DOCS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in ("make_gallery", "gallery_estimators", "verdict_table"):
            del sys.modules[name]


def test_every_picture_is_there_small_and_shown():
    shown = references()
    there = {path.name: path.stat().st_size for path in (DOCS / "gallery").glob("*.svg")}
    assert len(shown) > 10
    assert set(shown) == set(there)
    assert max(there.values()) < LARGEST
    for name in shown:
        other = name.replace("-dark.", "-light.") if "-dark." in name else name.replace("-light.", "-dark.")
        assert shown[other] == shown[name], f"{name} is shown without {other}"


def test_links_of_the_page_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (DOCS / "estimators.md").read_text(encoding="utf-8"))
    assert len(targets) > 3
    for target in targets:
        assert (DOCS / target).exists(), target


def test_the_same_picture_gives_the_same_bytes(scripts, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    make, gallery = scripts("make_gallery"), scripts("gallery_estimators")
    for run in ("first", "second"):
        monkeypatch.setattr(make, "FOLDER", tmp_path / run)
        gallery.versus()
    for scheme in make.SCHEMES:
        name = f"estimators-versus-{scheme}.svg"
        once, again = ((tmp_path / run / name).read_bytes() for run in ("first", "second"))
        assert once == again
        assert make.SCHEMES[scheme]["page"].encode() in once
        assert b"Paired" in once  # text stays text
    assert (tmp_path / "first" / "estimators-versus-light.svg").read_bytes() != (
        tmp_path / "first" / "estimators-versus-dark.svg"
    ).read_bytes()


def test_the_pictures_of_the_page_are_those_of_the_script(scripts):
    pytest.importorskip("matplotlib")
    drawn = {f"estimators-{name}" for name in scripts("gallery_estimators").PICTURES}
    shown = {re.sub(r"-(dark|light)\.svg", "", n) for n, pages in references().items() if "estimators.md" in pages}
    assert drawn == shown


@pytest.fixture(scope="module")
def audit():
    rng = np.random.default_rng(0)
    truth = pc.PlackettLuce(rng.normal(size=(120, 3)))
    y = pc.Outcomes.from_orders(truth.sample(1, rng)[:, 0])
    notions = ["sub-2", "top-1:confidence", "full:canonical"]
    return pc.audit(truth, y, items="exchangeable", notions=notions, model="owner__three_reward")


def test_names_in_the_first_table_are_names_in_the_json(audit):
    table = re.search(r"\| question .*?\n\n", (DOCS / "estimators.md").read_text(encoding="utf-8"), re.DOTALL)
    rows = [line.split(" | ") for line in table[0].strip().splitlines()[2:]]
    assert len(rows) > 10
    records = audit.document()["results"]
    known = {r["estimator"] for r in records} | set(records[0])
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row[2])]
    for name in named:
        if name.startswith("pc."):
            assert hasattr(pc, name.removeprefix("pc.")), name
        elif not name.startswith("prefcal "):
            assert name in known, name
    assert {"smece", "mcb_brier", "hpd_ks", "skce", "detectable_temperature_above"} <= set(named)


def test_the_table_of_verdicts_is_what_the_audit_says(scripts, audit, monkeypatch, tmp_path):
    script = scripts("verdict_table")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: verdicts -->\nold\n<!-- end -->\nb\n<!-- table: mended -->\n<!-- end -->\nc\n")
    monkeypatch.setattr(script, "PAGE", page)
    document = audit.document()
    scalar = [r for r in document["results"] if r["notion"] != "full:canonical"]
    written = tmp_path / "verdicts.json", tmp_path / "mended.json"
    written[0].write_text(json.dumps({"results": scalar}))
    written[1].write_text(json.dumps({"before": scalar, "after": scalar}))
    script.main(*map(str, written))
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("a\n<!-- table: verdicts -->\n| model |")
    assert text.endswith("<!-- end -->\nc\n")
    r = audit["sub-2"]
    t = r.metrics["temperature"]
    (row,) = [x for x in text.split("b\n")[0].splitlines() if "| sub-2 |" in x]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["three", "sub-2"]
    assert cells[2] == f"{r.debiased:.3f} [{r.interval[0]:.3f}, {r.interval[1]:.3f}]".replace("-0.000", "0.000")
    assert cells[4] == r.verdict
    assert cells[5].startswith(f"{t.value:#.2g} [")
    assert text.count("| before |") == text.count("| after |") == 2
    script.main(*map(str, written))
    assert page.read_text() == text
    page.write_text("no place")
    with pytest.raises(SystemExit, match="verdicts"):
        script.main(*map(str, written))


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 3, "∞"),
        (-1e-18, 3, "0.000"),
        (-0.0004, 3, "0.000"),
        (0.0123, 3, "0.012"),
        (2.0, 0, "2.0"),
        (323.6, 0, "324"),
    ],
)
def test_numbers_of_the_table(scripts, value, digits, text):
    assert scripts("verdict_table").number(value, digits) == text
