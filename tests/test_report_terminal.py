"""The terminal says what the page says, in any width, with and without colour and Unicode."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from fabricated_audits import ALL, HOSTILE, FakeAudit, grouped, large, one_model
from prefcal.report.summary import summarize
from prefcal.report.terminal import render_terminal


class Stream(io.StringIO):
    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding


def printed(audit, *, width: int = 80, encoding: str = "utf-8", full: bool = False, **console) -> str:
    stream = Stream(encoding)
    render_terminal(audit, Console(file=stream, width=width, **console), full=full)
    return stream.getvalue()


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("width", [80, 130])
def test_lines_fit_and_are_plain(name, width):
    text = printed(ALL[name](), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert not re.search(r"\bnan\b|\bNone\b", text)


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_same_content_as_the_page(name):
    audit = ALL[name]()
    squeezed = re.sub(r"\s+", "", printed(audit, full=True))
    s = summarize(audit)
    parts = [s.title, s.version, *s.warnings, *(text for f in s.findings for text in (f.title, f.text))]
    parts += [f"{node.name}" for p in s.pictures for node in p.refuted]
    parts += [text for i in s.inputs for text in (i.path, i.sha256, *i.skipped, *i.notes)]
    parts += [meaning for _, meaning in s.definitions]
    for part in parts:
        assert re.sub(r"\s+", "", part) in squeezed, part


def test_short_form_says_how_much_more_there_is():
    assert "the HTML report shows all" in printed(large())
    assert "the HTML report shows all" not in printed(large(), full=True)


def test_markup_in_names_is_text():
    text = printed(grouped(), force_terminal=True, color_system="standard")
    assert HOSTILE in text
    assert r"esc\x1b[31m" in text
    assert "\x1b[31m nul" not in text


def test_verdicts_are_told_by_word_and_sign():
    text = printed(one_model())
    assert "✗ miscalibrated" in text
    assert "+ calibrated" not in text
    assert "x miscalibrated" in printed(one_model(), encoding="ascii")


@pytest.mark.parametrize("name", sorted(ALL))
def test_ascii_console(name):
    printed(ALL[name](), encoding="ascii").encode("ascii")


def test_colour_only_on_terminals_that_want_it():
    assert "\x1b[" in printed(one_model(), force_terminal=True, color_system="standard")
    assert "\x1b[31m" not in printed(one_model(), force_terminal=True, no_color=True)


def test_no_color_and_pipes_in_a_real_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from fabricated_audits import one_model\nfrom rich.console import Console\n"
        "from prefcal.report.terminal import render_terminal\nrender_terminal(one_model(), Console())"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    run = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, check=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert b"\x1b" not in run.stdout
    assert b"skywork_llama3" in run.stdout


def test_an_empty_audit():
    assert "nothing could be audited" in printed(FakeAudit([]))
