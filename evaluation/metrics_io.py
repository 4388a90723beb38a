"""Reads, writes and summarises `metrics.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Tag, TypeAdapter

from evaluation import strict_json
from evaluation.schema import TaskMetrics
from evaluation.tasks.discovery import AnyTaskMetrics
from shared.files import write_whole
from shared.schema import Strict
from shared.tasks import TaskName

METRICS: Final = "metrics.json"


class SubmissionMetrics(Strict):
    """Metrics of a submission that answers several tasks.

    Attributes
    ----------
    edition : name of the edition.
    tasks : the metrics of each task, as in the file of a submission that answers only this task.
    without_truth : tasks that the submission answers but for which no case has a truth.
    """

    format: Literal[1] = 1
    edition: str
    tasks: dict[TaskName, AnyTaskMetrics]
    without_truth: tuple[TaskName, ...] = ()


MetricsFile: TypeAlias = TaskMetrics | SubmissionMetrics
"""The content of a `metrics.json`."""


def _kind(value: Any) -> str:
    has_tasks = "tasks" in value if isinstance(value, dict) else hasattr(value, "tasks")
    return "several tasks" if has_tasks else "one task"


_FILE: TypeAdapter[MetricsFile] = TypeAdapter(
    Annotated[
        Annotated[AnyTaskMetrics, Tag("one task")]
        | Annotated[SubmissionMetrics, Tag("several tasks")],
        Discriminator(_kind),
    ]
)


def metrics_by_task(file: MetricsFile) -> dict[TaskName, TaskMetrics]:
    """Return the metrics of each scored task."""
    return file.tasks if isinstance(file, SubmissionMetrics) else {file.task: file}


def read_metrics(path: Path) -> MetricsFile:
    """Read a `metrics.json` written by this package.

    Raises
    ------
    InputError
        If the file is missing or holds something else.
    """
    return strict_json.read(path, _FILE, "a metrics.json that the evaluation has written")


def write_metrics(path: Path, metrics: MetricsFile) -> None:
    """Write `metrics.json`: strict JSON, the same bytes for the same metrics."""
    text = json.dumps(metrics.model_dump(mode="json"), indent=2, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text + "\n")


def summary(file: MetricsFile) -> list[str]:
    """Return lines for the log: the ranked scores, and which cases failed and why."""
    lines = [line for metrics in metrics_by_task(file).values() for line in _lines(metrics)]
    if isinstance(file, SubmissionMetrics):
        lines += [f"{task}: not scored: no ground truth" for task in file.without_truth]
    return lines


def _lines(metrics: TaskMetrics) -> list[str]:
    lines = [f"{metrics.task}, {metrics.edition}: {metrics.cases} cases, {metrics.failed} failed"]
    for name in metrics.ranked:
        score = metrics.aggregates[name]
        if score.value is None:
            lines.append(f"{name}: not available")
        elif score.low is None or score.high is None:
            lines.append(f"{name}: {score.value:.4f}")
        else:
            lines.append(f"{name}: {score.value:.4f} ({score.low:.4f} to {score.high:.4f})")
    failures = ((result.case_id, result.failure) for result in metrics.results)
    return lines + [f"failed: {case_id}: {why}" for case_id, why in failures if why]
