"""Runs the whole evaluation: it scores each case of the ground truth, then all cases together.

If the files of the organisers (jobs, ground truth) are invalid, there is no result. If an output of
the algorithm is invalid, only its own case fails. `evaluation.tasks` defines the scoring of each
task.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from evaluation import isolation
from evaluation.jobs import Job, answered_tasks, jobs_by_case
from evaluation.metrics_io import MetricsFile, SubmissionMetrics
from evaluation.predictions import PREDICTIONS, read_predictions
from evaluation.schema import TaskMetrics
from evaluation.scoring_rules import ScoringRules, rules_of
from evaluation.tasks.base import Entry, Submission, TaskScoring, Truth
from evaluation.tasks.discovery import SCORINGS, scoring_of
from evaluation.truth import CaseTruth, read_truth
from shared.editions import Edition
from shared.errors import InputError, one_line
from shared.tasks import TaskName

MOST_NAMED: Final = 5
"""Number of cases that an error names; more names would hide the message."""


class NoTruthError(InputError):
    """No case has a truth for any task to score."""


def evaluate(
    input_dir: Path,
    truth_dir: Path,
    edition: Edition,
    *,
    task: TaskName | None = None,
    rules: ScoringRules | None = None,
    workers: int = 1,
) -> MetricsFile:
    """Score the jobs in a folder.

    Parameters
    ----------
    input_dir : folder with `predictions.json` and, for each job, `<pk>/output`.
    truth_dir : folder of the ground truth, see `evaluation.truth`.
    edition : defines the names of the outputs and the sign of the risk.
    task : the only task to score; by default every task that the jobs' outputs answer.
    rules : the scoring rules; by default those that come with the ground truth.
    workers : number of processes that read and score masks.

    Returns
    -------
    The metrics of the task if there is one task to score, else those of each task with a truth.

    Raises
    ------
    NoTruthError
        If no case has a truth for any task to score.
    InputError
        If the jobs or the ground truth are invalid, or a job's case is not in the ground truth.
    """
    isolation.preload(__name__)
    jobs = jobs_by_case(read_predictions(input_dir / PREDICTIONS), edition)
    cases = read_truth(truth_dir)
    _require_truth_of_jobs(jobs, cases)
    tasks = answered_tasks(jobs, edition) if task is None else (task,)
    scorings = {name: scoring_of(name) for name in tasks}
    # The truth of every task is read, because the whole table must be valid.
    truths = {name: _truths(scoring, cases) for name, scoring in SCORINGS.items()}
    scorable = [name for name in tasks if truths[name]]
    if not scorable:
        raise NoTruthError(
            f"expected the truth of {' or '.join(tasks)} for at least one case in {truth_dir}, "
            "found none; add it, or score another task"
        )
    submission = Submission(
        edition=edition,
        jobs=jobs,
        rules=rules_of(truth_dir) if rules is None else rules,
        workers=workers,
    )
    metrics: dict[TaskName, TaskMetrics] = {}
    for name in scorable:
        entries = [
            Entry(
                case=cases[case_id],
                truth=truth,
                job=jobs.get(case_id),
                input_dir=input_dir,
            )
            for case_id, truth in truths[name].items()
        ]
        metrics[name] = scorings[name].score(entries, submission)
    if len(tasks) == 1:
        return metrics[tasks[0]]
    without_truth = tuple(name for name in tasks if name not in scorable)
    return SubmissionMetrics(edition=edition.name, tasks=metrics, without_truth=without_truth)


def _truths(scoring: TaskScoring[Truth, Any], cases: Mapping[str, CaseTruth]) -> dict[str, Truth]:
    """Return the truth of a task by case; cases without a truth are left out."""
    truths = {case_id: scoring.truth_of(case) for case_id, case in cases.items()}
    return {case_id: truth for case_id, truth in truths.items() if truth is not None}


def _require_truth_of_jobs(jobs: Mapping[str, Job], cases: Mapping[str, CaseTruth]) -> None:
    unknown = [case_id for case_id in jobs if case_id not in cases]
    if unknown:
        names = ", ".join(unknown[:MOST_NAMED]) + (", …" if len(unknown) > MOST_NAMED else "")
        raise InputError(
            f"expected the truth of every job's case, found none for {len(unknown)}: "
            f"{one_line(names)}; "
            "add them to the ground truth, under the name of the CT on the platform"
        )
