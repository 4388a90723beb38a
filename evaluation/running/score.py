"""Scores what a run has left, task by task, as the evaluation container does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from evaluation.__main__ import METRICS, summary
from evaluation.evaluate import NoTruthError, evaluate
from evaluation.running.store import PREDICTIONS
from evaluation.running.tasks import TASKS
from evaluation.running.truth import GROUND_TRUTH
from evaluation.schema import Metrics, Rules, read_rules, write_metrics
from shared.errors import InputError
from shared.resources import granted_cpus
from shared.tasks import CURRENT

WORKERS: Final = granted_cpus()
RULES_HELP: Final = "JSON file of the open choices (default: rules.json beside the truth, if any)."


def score(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
    truth: Annotated[
        Path | None, typer.Option(help="Ground truth (default: ground_truth in the run's folder).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read masks.")] = WORKERS,
    rules: Annotated[Path | None, typer.Option(help=RULES_HELP)] = None,
) -> None:
    """Score each task of a run and write metrics.json into its folder.

    A task that no case has the truth of is left out.
    """
    chosen = None if rules is None else read_rules(rules)
    for metrics in score_run(folder, truth or folder / GROUND_TRUTH, workers, chosen).values():
        print("\n".join(summary(metrics)), flush=True)


def score_run(
    folder: Path, truth: Path, workers: int, rules: Rules | None = None
) -> dict[str, Metrics]:
    """Score each task of a run, and write and return its metrics by the task's name.

    A task that no case has the truth of is named and left out.

    Raises
    ------
    InputError
        If there is no run, no task of it has a truth, or jobs and truth do not fit together.
    """
    found = [task for task in TASKS if (folder / task.name / PREDICTIONS).is_file()]
    if not found:
        raise InputError(
            f"expected task1_segmentation/{PREDICTIONS} or another task's in {folder}, found none; "
            "give the folder of `python -m evaluation run`"
        )
    scores: dict[str, Metrics] = {}
    skipped: list[NoTruthError] = []
    for task in found:
        path = folder / task.name / METRICS
        try:
            metrics = evaluate(folder / task.name, truth, CURRENT, rules=rules, workers=workers)
        except NoTruthError as error:
            path.unlink(missing_ok=True)  # of an earlier truth
            skipped.append(error)
            print(f"{task.name}: not scored: {error}", flush=True)
            continue
        write_metrics(path, metrics)
        scores[task.name] = metrics
    if not scores:
        raise skipped[0]
    return scores
