"""Opens pages in Debian's Chromium, from disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium: Final = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium with chromedriver on the PATH; on Debian: chromium chromium-driver",
)
ARGUMENTS: Final = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL 2 without a GPU
)  # fmt: skip


def start_chromium(width: int = 1280, height: int = 900) -> Chrome:
    """Start the browser; the caller quits it."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    driver.set_window_size(width, height)
    return driver


def open_page(browser: Chrome, page: Path) -> None:
    """Clear the browser's logs, and open a page from disk."""
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page.as_uri())


def logged(browser: Chrome, page: Path) -> tuple[list[Any], list[str]]:
    """Return the console's messages since a page was opened, and all requests for other files."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    others = [url for url in requested if url != page.as_uri() and not url.startswith("data:")]
    assert page.as_uri() in requested
    return browser.get_log("browser"), others
