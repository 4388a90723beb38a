"""One run and its page for all tests of the report: scoring and drawing take seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from evaluation.report.page import Sources, write_report
from evaluation.schema import Metrics
from tests.evaluation.report.made import make_run


@dataclass(frozen=True)
class Reported:
    """A run, its metrics by task, and the folder of its report."""

    run: Path
    metrics: dict[str, Metrics]
    out: Path

    @property
    def page(self) -> Path:
        return self.out / "report.html"


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("report")
    run, out = folder / "run", folder / "out"
    metrics = make_run(run)
    write_report(Sources(run, None, run / "ground_truth"), out, "A <made> run", 1)
    return Reported(run, metrics, out)
