"""The page in Chromium, opened from disk: no error on the console and no further request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.evaluation.report import chromium
from tests.evaluation.report.conftest import Reported

pytestmark = chromium.needs_chromium


def open_page(browser: Chrome, page: Path) -> tuple[list[object], list[str]]:
    """Open a page from disk; return the console's messages and all requests for other files."""
    chromium.open_page(browser, page)
    return chromium.logged(browser, page)


def test_page_opens_without_errors_and_requests(browser: Chrome, reported: Reported) -> None:
    console, requested = open_page(browser, reported.page)
    assert console == []
    assert requested == []
    assert browser.title == "An <example>"
    for section in ("summary", "segmentation", "survival", "hpv", "failures", "method"):
        assert browser.find_element(By.ID, section).is_displayed()
    images = browser.find_elements(By.TAG_NAME, "img")
    script = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert len(images) >= 10
    assert browser.execute_script(script)


def test_numbers_in_the_browser_equal_metrics_json(browser: Chrome, reported: Reported) -> None:
    open_page(browser, reported.page)
    numbers = "[...document.querySelectorAll('data')]"
    script = f"return {numbers}.map(d => [d.dataset.path, d.value, d.textContent])"
    shown = {path: (value, text) for path, value, text in browser.execute_script(script)}
    for name, metrics in reported.metrics.items():
        for score in metrics.ranked:
            estimate = metrics.aggregates[score]
            for part in ("value", "low", "high"):
                expected = getattr(estimate, part)
                value, text = shown[f"{name}/aggregates/{score}/{part}"]
                assert float(value) == expected
                assert float(text) == pytest.approx(expected, abs=0.0005001)


@pytest.mark.parametrize("width", [1280, 900, 480])
def test_nothing_is_wider_than_the_screen(browser: Chrome, reported: Reported, width: int) -> None:
    browser.set_window_size(width, 900)
    open_page(browser, reported.page)
    script = "return [document.documentElement.scrollWidth, window.innerWidth]"
    page_width, window_width = browser.execute_script(script)
    browser.set_window_size(1280, 900)
    assert page_width <= window_width


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("<script>undefinedFunction()</script>", "undefinedFunction"),
        ('<img alt="x" src="missing.png">', "missing.png"),
        ('<img alt="x" src="http://127.0.0.1:9/x.png">', "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("guarded", [True, False])
def test_broken_page_is_detected(
    browser: Chrome, reported: Reported, tmp_path: Path, broken: str, words: str, guarded: bool
) -> None:
    text = reported.page.read_text(encoding="utf-8").replace("</main>", f"{broken}</main>")
    if not guarded:  # without the policy that forbids requests
        text = text.replace("Content-Security-Policy", "x-nothing")
    page = tmp_path / "broken.html"
    page.write_text(text, encoding="utf-8")
    console, requested = open_page(browser, page)
    assert console
    if not guarded:
        assert words in json.dumps([console, requested])
    if "src" in broken and not guarded:
        assert any(words in url for url in requested)
