"""What the help of the commands says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prefcal.cli import main
from prefcal.recalibration import METHODS


def test_the_help_of_recalibrate_lists_every_registered_method(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # or names would be cut at their hyphens
    assert main(["recalibrate", "--help"]) == 0
    shown = capsys.readouterr().out
    text = " ".join(shown[shown.index("--method M ") :].split("--save")[0].split())
    listed = {m.strip() for m in text.split("one of ")[1].split(",")}
    assert listed == set(METHODS) - {"auto"}


@pytest.mark.parametrize("words", [["--help"], ["audit", "--help"], ["apply", "--help"]])
def test_other_help_loads_no_map(words):
    code = (
        "import sys; from prefcal.cli import main; main(sys.argv[1:]); "
        "print(sorted(m for m in sys.modules if m in ('numpy', 'scipy') or m.startswith('prefcal.recalibration')))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("command", ["recalibrate", "apply"])
def test_the_help_says_what_a_command_of_one_file_takes(command, capsys):
    assert main([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "the score file, of one model" in text
    assert ("get a map each" in text) == (command == "recalibrate")
