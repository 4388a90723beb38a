"""Results and their page, shared by all tests of the report, because they take seconds to make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from evaluation.report.page import write_report
from evaluation.report.task_section import Sources
from evaluation.schema import TaskMetrics
from tests.evaluation.report.chromium import start_chromium
from tests.evaluation.report.example import make_results


@dataclass(frozen=True)
class Reported:
    """Results, their metrics by algorithm, and the folder of the report."""

    results: Path
    metrics: dict[str, TaskMetrics]
    out: Path

    @property
    def page(self) -> Path:
        return self.out / "report.html"


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("report")
    results, out = folder / "results", folder / "out"
    metrics = make_results(results)
    sources = Sources(results=results, cases=None, truth=results / "ground_truth")
    write_report(sources, out, title="An <example>", count=1)
    return Reported(results, metrics, out)


@pytest.fixture(scope="session")
def browser() -> Iterator[Chrome]:
    driver = start_chromium()
    yield driver
    driver.quit()
