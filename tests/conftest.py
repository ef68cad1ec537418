"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data that ``PREFCAL_DATA`` names; tests that need it skip without it."""
    folder = os.environ.get("PREFCAL_DATA")
    if not folder:
        pytest.skip("PREFCAL_DATA is not set: no real data to test on")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"PREFCAL_DATA={folder} is not a folder")
    return path
