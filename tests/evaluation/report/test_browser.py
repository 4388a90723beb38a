"""The page in Chromium, opened from disk: no error on the console and no request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.evaluation.report.conftest import Reported

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium with chromedriver on the PATH; on Debian: chromium chromium-driver",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()


def open_page(browser: Chrome, page: Path) -> tuple[list[Any], list[str]]:
    """Open a page from disk; return the messages on the console, and all further requests."""
    browser.get(page.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    others = [url for url in requested if url != page.as_uri() and not url.startswith("data:")]
    assert page.as_uri() in requested
    return browser.get_log("browser"), others


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
