"""The page of all cases: its numbers, and sorting and filtering in Chromium."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from evaluation.report.page import write_report
from evaluation.report.task_section import Sources
from tests.evaluation.report import chromium
from tests.evaluation.report.conftest import Reported
from tests.evaluation.report.example import FAILED
from tests.evaluation.report.test_page import Page, look_up

DOUBTED = "CHUM-000"


@pytest.fixture(scope="module")
def cases(reported: Reported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page for results in which the log of one case states doubts."""
    folder = tmp_path_factory.mktemp("cases")
    shutil.copytree(reported.results, folder / "results")
    results = reported.metrics["task3_hpv"].results
    (case,) = (result for result in results if result.case_id == DOUBTED)
    log = folder / "results" / "task3_hpv" / str(case.pk) / "stdout.txt"
    log.write_text("doubt: metal: <b> near a lesion\ndoubt: field of view: short\n")
    truth = folder / "results/ground_truth"
    sources = Sources(results=folder / "results", cases=None, truth=truth)
    return write_report(sources, folder / "out", title="x", count=0).with_name("cases.html")


def test_every_scored_case_has_a_row_with_its_numbers(reported: Reported, cases: Path) -> None:
    page = Page(cases.read_text(encoding="utf-8"))
    shown = {path: value for path, value, _ in page.numbers}
    assert page.links == ["report.html"]
    for path, value in shown.items():
        expected = look_up(reported.results, path)
        assert value == "" if expected is None else float(value) == expected
    ids = {r.case_id for metrics in reported.metrics.values() for r in metrics.results}
    text = cases.read_text(encoding="utf-8")
    assert text.count('<th scope="row">') == len(ids) == 64
    masks = reported.metrics["task1_segmentation"].results
    for index in range(len(masks)):
        assert f"task1_segmentation/results/{index}/labels/GTVn/dice" in shown
    for key in ("probability", "truth"):
        assert f"task3_hpv/results/0/{key}" in shown


def test_failures_and_doubts_stand_in_the_row_of_their_case(cases: Path) -> None:
    rows = re.findall(r"<tr (.*?)</tr>", cases.read_text(encoding="utf-8"), re.DOTALL)
    (failed,) = (row for row in rows if FAILED in row)
    (doubted,) = (row for row in rows if DOUBTED in row)
    assert 'data-doubts=""' in failed
    assert "data-failed" in failed
    assert "<b>Failed.</b> Segmentation: " in failed
    assert 'data-doubts="field of view|metal"' in doubted
    assert "<p>field of view: short</p><p>metal: &lt;b&gt; near a lesion</p>" in doubted
    assert "data-failed" not in doubted


def test_page_has_the_same_bytes_when_written_again(reported: Reported, tmp_path: Path) -> None:
    sources = Sources(results=reported.results, cases=None, truth=reported.results / "ground_truth")
    first, again = (
        write_report(sources, tmp_path / name, title="x", count=0).with_name("cases.html")
        for name in "ab"
    )
    assert first.read_bytes() == again.read_bytes()


class Table:
    """The table in the browser."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def set(self, name: str, value: str) -> None:
        """Change a filter."""
        element = self.browser.find_element(By.ID, name)
        if element.tag_name == "select":
            Select(element).select_by_visible_text(value)
        else:
            element.clear()
            element.send_keys(value)

    def sort(self, heading: str) -> None:
        """Press the button of a heading, by keyboard."""
        buttons = self.browser.find_elements(By.CSS_SELECTOR, "thead button")
        (button,) = (each for each in buttons if each.text.split(" ▲")[0] == heading)
        button.send_keys(Keys.ENTER)

    def shown(self) -> list[str]:
        """Return the names of the visible cases in their order."""
        script = (
            "return [...document.querySelectorAll('tbody tr')].filter(r => r.offsetParent)"
            ".map(r => r.querySelector('th').textContent.trim())"
        )
        names: list[str] = self.browser.execute_script(script)
        count = self.browser.find_element(By.ID, "count").text
        assert count == f"{len(names)} of 64 cases"
        return names


@pytest.fixture
def table(browser: Chrome, cases: Path) -> Table:
    chromium.open_page(browser, cases)
    return Table(browser)


@chromium.needs_chromium
def test_page_opens_without_errors_and_requests(table: Table, cases: Path) -> None:
    assert table.shown() == sorted(table.shown(), key=str.casefold)
    assert chromium.logged(table.browser, cases) == ([], [])


@chromium.needs_chromium
def test_rows_are_sorted_by_number_with_empty_cells_last(table: Table, reported: Reported) -> None:
    results = reported.metrics["task2_survival"].model_dump()["results"]
    risks = {r["case_id"]: r["risk"] for r in results if r["risk"] is not None}
    ascending = sorted(risks, key=lambda name: risks[name])
    for expected in (ascending, ascending[::-1]):
        table.sort("Risk")
        assert table.shown()[: len(risks)] == expected
    table.sort("Case")
    assert table.shown() == sorted(table.shown(), key=str.casefold)


@chromium.needs_chromium
def test_filters_work_together_and_are_reset(table: Table, reported: Reported) -> None:
    results = reported.metrics["task3_hpv"].model_dump()["results"]
    high = {r["case_id"] for r in results if (r["probability"] or 0) >= 0.5}
    table.set("centre", "USZ")
    assert {name[:3] for name in table.shown()} == {"USZ"}
    table.set("column", "HPV probability")
    table.set("least", "0.5")
    assert set(table.shown()) == {name for name in high if name.startswith("USZ")}
    table.set("case", "usz-0")
    assert table.shown()
    table.browser.find_element(By.ID, "show-all").click()
    assert len(table.shown()) == 64
    for doubt, expected in (("Any doubt", [DOUBTED]), ("metal", [DOUBTED])):
        table.set("doubt", doubt)
        assert table.shown() == expected
    table.set("doubt", "No doubt")
    assert len(table.shown()) == 63
    table.browser.find_element(By.ID, "failed").click()
    assert FAILED in table.shown()
    assert len(table.shown()) == 2
