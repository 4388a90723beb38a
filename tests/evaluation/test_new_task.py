"""The evaluation of a new task needs only new files: a scoring and a section of the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.report.sections import section_of
from evaluation.tasks.discovery import scoring_of
from shared.errors import InputError
from tests.evaluation.submission import Submission

ROOT = Path(__file__).parents[2]

SCORING = """
from typing import Literal

from evaluation.outputs import read_number
from evaluation.schema import CaseResult, TaskMetrics
from evaluation.scoring import mean
from evaluation.tasks.base import TaskScoring


class StageCase(CaseResult):
    stage: float | None
    truth: float


class StageMetrics(TaskMetrics):
    task: Literal["stage"] = "stage"
    results: tuple[StageCase, ...]


class StageScoring(TaskScoring[float, StageCase]):
    task = "stage"
    metrics = StageMetrics
    ranked = ("accuracy",)
    failure_rule = "wrong"
    truth_columns = {"Stage": "stage"}

    def truth_of(self, case):
        return case.number("Stage")

    def score(self, entries, submission):
        path = submission.edition.outputs["stage"].path
        results = []
        for entry in entries:
            stage, failure = entry.read(lambda output: read_number(output, path))
            fields = entry.common_fields(failure)
            results.append(StageCase(stage=stage, truth=entry.truth, **fields))
        return StageMetrics(
            alternatives={}, results=results, **self.common_parts(results, submission)
        )

    def scores_of(self, results):
        return {"accuracy": mean([float(r.stage == r.truth) for r in results])}


SCORING = StageScoring()
"""

SECTION = """
from dataclasses import dataclass

from evaluation.report.numbers import Measure
from evaluation.report.task_section import Details, TaskSection


@dataclass(frozen=True)
class StageDetails(Details):
    text: str


class StageSection(TaskSection):
    title = "Tumour stage"
    template = "stage_section.html.j2"
    measures = {"accuracy": Measure("Accuracy of the stage")}

    def details(self, metrics, request):
        return StageDetails("the details of the stage")


SECTION = StageSection()
"""

TEMPLATE = """{% macro details(section) %}<p>{{ section.details.text }}</p>{% endmacro %}
{% macro terms(section) %}<dt>Stage</dt><dd>1 to 4</dd>{% endmacro %}
"""

SCRIPT = """
from dataclasses import replace
from pathlib import Path

from evaluation.compare import describe_files
from evaluation.metrics_io import read_metrics
from evaluation.report.page import write_report
from evaluation.report.task_section import Sources
from evaluation.running.ground_truth import COLUMNS
from evaluation.running.score_command import score_results
from shared.editions import CURRENT
from shared.tasks import Algorithm, Output

output = Output(task="stage", slug="stage", path="stage.json")
algorithm = Algorithm(name="task4_stage", outputs=(output,))
edition = replace(CURRENT, algorithms=(*CURRENT.algorithms, algorithm))
results = Path("results")
score_results(results, results / "ground_truth", workers=1, edition=edition)
metrics = read_metrics(results / "task4_stage" / "metrics.json")
print(type(metrics).__name__, metrics.aggregates["accuracy"].value, metrics.results[0].stage)
print("\\n".join(describe_files({"a": metrics, "b": metrics})))
print(COLUMNS[-1])
sources = Sources(results=results, cases=None, truth=results / "ground_truth")
write_report(sources, results / "page", title="x", count=0, edition=edition)
"""


def test_new_task_is_scored_compared_and_reported(tmp_path: Path) -> None:
    for package in ("shared", "evaluation"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    registry = tmp_path / "shared/tasks.py"
    text = registry.read_text()
    assert text.count('"hpv"]') == 1
    registry.write_text(text.replace('"hpv"]', '"hpv", "stage"]'))
    (tmp_path / "evaluation/tasks/stage.py").write_text(SCORING)
    (tmp_path / "evaluation/report/stage_section.py").write_text(SECTION)
    (tmp_path / "evaluation/report/stage_section.html.j2").write_text(TEMPLATE)
    submission = Submission(tmp_path / "submission")
    for number, stage in enumerate((1, 2, 3, 4)):
        submission.add_truth(f"MDA-{number}", Stage=stage)
        output = submission.add_job(f"MDA-{number}", "hpv")
        (output / "stage.json").write_text(json.dumps(min(stage, 3)))
        socket = {"slug": "stage", "relative_path": "stage.json"}
        submission.jobs[-1]["outputs"] = [{"socket": socket}]
    submission.write()
    shutil.copytree(submission.input, tmp_path / "results/task4_stage")
    shutil.copytree(submission.truth, tmp_path / "results/ground_truth")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "StageMetrics 0.75 1.0" in lines
    assert "1.5. a: accuracy 0.7500" in lines
    assert lines[-1] == "Stage"
    page = (tmp_path / "results/page/report.html").read_text()
    for words in ("Tumour stage", "Accuracy of the stage", "the details of the stage", "1 to 4"):
        assert words in page


def test_task_without_files_is_an_error() -> None:
    with pytest.raises(InputError, match=r"found stage; to score it, add evaluation/tasks/stage"):
        scoring_of("stage")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"found none; add evaluation/report/stage_section\.py"):
        section_of("stage")  # type: ignore[arg-type]
