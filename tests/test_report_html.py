"""The page: self-contained, escaped, deterministic, well built, accessible; in a real browser without a fault."""

from __future__ import annotations

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import prefcal.report.html as page_module
from fabricated_audits import ALL, CONTROL, HOSTILE, FakeAudit, FakeInput, grouped, large, one_model, scalar_result
from prefcal.report.html import render_html

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "circle", "rect", "line"}
STYLE = (Path(page_module.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


class Structure(HTMLParser):
    """Checks nesting while reading, and keeps what later checks need."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.svgs: list[dict[str, str | None]] = []
        self.heads: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.attributes |= set(values)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "p":
            assert "p" not in self.stack, "a paragraph in a paragraph"
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "svg":
            self.svgs.append(values)
        if tag == "th":
            self.heads.append(values)
        if tag == "a":
            self.links.append(values["href"])
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack, f"</{tag}> closes nothing"
            assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text.append(data)


@pytest.fixture(params=sorted(ALL))
def page(request) -> str:
    return render_html(ALL[request.param]())


def test_structure(page):
    s = Structure(page)
    assert s.headings.count(1) == 1
    assert s.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(s.headings, s.headings[1:], strict=False))
    assert len(s.ids) == len(set(s.ids))
    assert all(v.get("aria-hidden") == "true" or (v.get("role") == "img" and v.get("aria-label")) for v in s.svgs)
    assert all(v.get("scope") in ("col", "row") for v in s.heads)
    assert all(link[1:] in s.ids for link in s.links)
    assert '<html lang="en">' in page
    assert not s.tags & {"script", "iframe", "img", "object", "embed", "form"}
    assert not any(a.startswith("on") for a in s.attributes)


def test_nothing_is_fetched(page):
    assert not re.search(r"https?://|url\(|@import|src=", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize("name", sorted(ALL))
def test_same_input_same_bytes(name):
    assert render_html(ALL[name]()).encode() == render_html(ALL[name]()).encode()


def test_no_missing_value_is_printed_raw(page):
    text = " ".join(Structure(page).text)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|Undefined|Estimate\(", text)


def test_hostile_names_are_text():
    page = render_html(grouped())
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    text = "".join(Structure(page).text)
    assert HOSTILE in text
    assert not any(c in page for c in "\x1b\x00\u202e")
    assert r"esc\x1b[31m nul\x00 bidi\u202e" in text


@pytest.mark.parametrize(
    "place", ["model", "notion_field", "warning", "path", "metric", "coverage", "setting", "version"]
)
def test_every_place_is_escaped(place):
    bad = f'"><i x="{HOSTILE}{CONTROL}&amp;'
    r = scalar_result(bad if place == "model" else "m", n=200)
    g = scalar_result("m", n=50, group={bad if place == "notion_field" else "f": bad})
    if place == "metric":
        r.metrics[bad] = r.metrics["brier"]
    if place == "coverage":
        r.coverage[bad] = 3
    if place == "setting":
        r.settings[bad] = bad
    audit = FakeAudit(
        [r, g],
        [FakeInput(bad if place == "path" else "p", "m", settings={bad: bad} if place == "setting" else {})],
        [bad] if place == "warning" else [],
        version=bad if place == "version" else "1",
    )
    s = Structure(render_html(audit))
    assert "i" not in s.tags
    assert '"><i x="' in "".join(s.text)


def test_content_is_there():
    text = "".join(Structure(render_html(one_model())).text)
    for part in (
        "would fix most of it", "sub-2", "0.030", "results/skywork_llama3.json", one_model().inputs[0].sha256,
        "2 records were skipped", "record 7: scores empty", "best item unknown: 18", "novel", "prefcal 0.1.0",
        "Refuted as well", "SKCE", "null mean",
    ):  # fmt: skip
        assert part in text, part


def test_an_empty_audit_says_so():
    page = render_html(FakeAudit([], [FakeInput("a.json", "m")], ["every record was skipped"]))
    Structure(page)
    assert "nothing could be audited" in page
    assert "every record was skipped" in page


def test_long_parts_of_large_audits_fold():
    page = render_html(large())
    assert page.count("<details>") > 36  # one for each model and notion with groups, among others
    assert page.count("<details open>") <= 1


# ------------------------------------------------------------------------------------------------------ contrast


def _variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))


def _schemes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    light = _variables(blocks[0])
    return {"light": light, "dark": light | _variables(blocks[1]), "print": light | _variables(blocks[2])}


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_formula():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_has_contrast_aa(scheme):
    c = _schemes()[scheme]
    for text in ("text", "muted", "good", "bad", "unclear", "note", "link"):
        for ground in ("page", "panel"):
            assert contrast(c[text], c[ground]) >= 4.5, (text, ground)
    for fill in ("good", "bad", "unclear"):
        assert contrast(c["on-mark"], c[fill]) >= 4.5, fill
    for sign in ("none", "bar"):
        assert contrast(c[sign], c["page"]) >= 3, sign
    for sign in ("bad", "text", "muted"):  # marks over the band
        assert contrast(c[sign], c["band"]) >= 3, sign


# ------------------------------------------------------------------------------------------------- a real browser


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI must look at the report in a real browser")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    flags = (
        "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--no-first-run",
    )  # fmt: skip
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=list(flags))
        yield b
        b.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", sorted(ALL))
def test_in_chromium(browser, tmp_path, name, scheme):
    file = tmp_path / "report.html"
    file.write_bytes(render_html(ALL[name]()).encode())
    tab = browser.new_page(color_scheme=scheme)
    messages: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda m: messages.append(m.text))
    tab.on("pageerror", lambda e: messages.append(str(e)))
    tab.on("dialog", lambda d: messages.append("a dialog opened"))
    tab.on("request", lambda r: requests.append(r.url))
    for width in (360, 800, 1600):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.goto(file.as_uri())
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().width > 8)")
    assert messages == []
    assert {url for url in requests if not url.startswith("data:")} == {file.as_uri()}
    background, colour = tab.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    as_hex = lambda rgb: "#" + "".join(f"{int(v):02x}" for v in re.findall(r"\d+", rgb)[:3])  # noqa: E731
    assert (_luminance(as_hex(background)) < 0.1) == (scheme == "dark")
    assert contrast(as_hex(colour), as_hex(background)) >= 7
    tab.close()


def test_hostile_name_shows_as_text_in_chromium(browser):
    tab = browser.new_page()
    tab.set_content(render_html(grouped()))
    assert HOSTILE in tab.inner_text("main")
    assert tab.evaluate("document.scripts.length") == 0
    tab.close()


def test_print_shows_what_is_folded(browser):
    tab = browser.new_page()
    tab.emulate_media(media="print", color_scheme="dark")
    tab.set_content(render_html(one_model()))
    assert tab.locator("text=brier_uncertainty").first.bounding_box()["height"] > 0
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.set_viewport_size({"width": 690, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 690
    assert tab.evaluate("[...document.querySelectorAll('table')].every(t => t.getBoundingClientRect().right <= 691)")
    tab.close()
