"""The viewer pages of a report: written for the chosen cases, linked both ways, read from disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from evaluation.report.case_files import CaseFiles
from evaluation.report.page import write_report
from evaluation.report.task_section import Sources
from evaluation.report.viewer.pages import Viewers
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.segmentation import SegmentationMetrics
from shared.editions import CURRENT
from shared.errors import InputError
from tests.evaluation.report import chromium
from tests.evaluation.report.conftest import Reported

CHOSEN = "no_primary"


@pytest.fixture(scope="module")
def report(reported: Reported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a report with the viewer page of one case."""
    out = tmp_path_factory.mktemp("with_viewer")
    results = reported.results
    sources = Sources(results=results, cases=None, truth=results / "ground_truth")
    viewers = Viewers(out=out, page="report.html", chosen=[CHOSEN])
    return write_report(sources, out, title="x", count=0, viewers=viewers)


def test_only_the_chosen_case_has_a_page(report: Path) -> None:
    names = {path.name for path in (report.parent / "viewer").iterdir()}
    assert names == {"niivue.js", f"{CHOSEN}.html"}
    text = report.with_name("cases.html").read_text(encoding="utf-8")
    assert text.count('href="viewer/') == 2  # the thumbnail and the name
    assert f'<a href="viewer/{CHOSEN}.html">{CHOSEN}</a>' in text


@chromium.needs_chromium
def test_report_leads_to_the_viewer_and_back(browser: Chrome, report: Path) -> None:
    page = report.parent / "viewer" / f"{CHOSEN}.html"
    browser.get(report.as_uri())
    browser.find_element(By.LINK_TEXT, "All cases").click()
    link = browser.find_element(By.LINK_TEXT, CHOSEN)
    assert link.get_attribute("href") == page.as_uri()
    chromium.open_page(browser, page)
    WebDriverWait(browser, 100).until(lambda b: b.execute_script("return Boolean(window.viewer)"))
    console, requested = chromium.logged(browser, page)
    assert console == []
    assert requested == [page.with_name("niivue.js").as_uri()]
    browser.find_element(By.LINK_TEXT, "Report").click()
    assert browser.current_url == f"{report.as_uri()}#cases"


def test_report_without_viewer_has_no_link(reported: Reported) -> None:
    for page in (reported.page, reported.page.with_name("cases.html")):
        assert "viewer/" not in page.read_text(encoding="utf-8")


def test_unknown_case_is_refused_before_anything_is_written(
    reported: Reported, tmp_path: Path
) -> None:
    metrics = reported.metrics["task1_segmentation"]
    assert isinstance(metrics, SegmentationMetrics)
    viewers = Viewers(out=tmp_path, page="report.html", chosen=["nobody"])
    with pytest.raises(InputError, match="names of cases with a mask for --view, found nobody"):
        viewers.write(metrics.results, {}, rules=metrics.rules, edition=CURRENT)
    assert list(tmp_path.iterdir()) == []


def test_damaged_case_is_named_and_the_others_are_written(
    reported: Reported, tmp_path: Path
) -> None:
    metrics = reported.metrics["task1_segmentation"]
    assert isinstance(metrics, SegmentationMetrics)
    result = metrics.results[0]
    files = {
        result.case_id: CaseFiles(
            case_input=tmp_path / "no", truth=tmp_path / "no.nii.gz", output=tmp_path
        )
    }
    viewers = Viewers(out=tmp_path, page="report.html")
    pages, problems = viewers.write([result], files, rules=ScoringRules(), edition=CURRENT)
    assert pages == {}
    assert len(problems) == 1
    assert problems[0].startswith(f"{result.case_id}: ")
