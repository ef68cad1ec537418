"""Make the README's picture: the top of a real report, as Chromium shows it. Needs PREFCAL_DATA and Chromium."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from prefcal.audited import Audit
from prefcal.cli.audit import audit_scores
from prefcal.data.readers import read
from prefcal.datasets import find
from prefcal.datasets.reward_models import rewardmath_classifiers


def main() -> None:
    """Audit one reward model and take the picture."""
    (file,) = (f for f in rewardmath_classifiers() if f.name.startswith("skywork"))
    path = find(file)
    if path is None:
        raise SystemExit("set PREFCAL_DATA to a data mirror")
    audit: Audit = audit_scores(
        read(path, model="Skywork-Reward-Llama-3.1-8B"), notions=["sub-2", "top-1:confidence", "top-1:rankwise"]
    )
    target = Path(__file__).with_name("report.png")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        audit.report(page_file)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 2000}, device_scale_factor=1)
        page.goto(page_file.as_uri())
        page.screenshot(path=target)
        browser.close()
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
