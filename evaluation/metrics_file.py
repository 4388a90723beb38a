"""`metrics.json`: its name, reading, writing, and a summary of it for the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Discriminator, Field, Tag, TypeAdapter

from evaluation import strict_json
from evaluation.schema import Metrics, MetricsFile, SubmissionMetrics, metrics_by_task

METRICS: Final = "metrics.json"


def _kind(value: Any) -> str:
    has_tasks = "tasks" in value if isinstance(value, dict) else hasattr(value, "tasks")
    return "several tasks" if has_tasks else "one task"


_ONE_TASK = Annotated[Metrics, Field(discriminator="task")]
_FILE: TypeAdapter[MetricsFile] = TypeAdapter(
    Annotated[
        Annotated[_ONE_TASK, Tag("one task")] | Annotated[SubmissionMetrics, Tag("several tasks")],
        Discriminator(_kind),
    ]
)


def read_metrics(path: Path) -> MetricsFile:
    """Read a `metrics.json` of this package.

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
    path.write_text(text + "\n", encoding="utf-8")


def summary(file: MetricsFile) -> list[str]:
    """Return lines for the log: the ranked scores, and which cases failed and why."""
    lines = [line for metrics in metrics_by_task(file).values() for line in _lines(metrics)]
    if isinstance(file, SubmissionMetrics):
        lines += [f"{task}: not scored, no case has a truth" for task in file.without_truth]
    return lines


def _lines(metrics: Metrics) -> list[str]:
    lines = [f"{metrics.task}, {metrics.edition}: {metrics.cases} cases, {metrics.failed} failed"]
    for name in metrics.ranked:
        score = metrics.aggregates[name]
        if score.value is None:
            lines.append(f"{name}: none")
        elif score.low is None or score.high is None:
            lines.append(f"{name}: {score.value:.4f}")
        else:
            lines.append(f"{name}: {score.value:.4f} ({score.low:.4f} to {score.high:.4f})")
    failures = ((result.case_id, result.failure) for result in metrics.results)
    return lines + [f"failed: {case_id}: {why}" for case_id, why in failures if why]
