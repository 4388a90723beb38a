"""The evaluation as a whole: score each case of the ground truth, then all of them together.

What the organisers send (jobs, ground truth) must be sound, or there is no result at all. What the
algorithm has written may be anything, and costs at most its own case. Masks are read, scored and
forgotten case by case, in as many processes as there are CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import SimpleITK as sitk

from evaluation import hpv, segmentation, survival
from evaluation.answers import Answer, Entry, hpv_case, segmentation_case, survival_case
from evaluation.jobs import Job, answered_tasks, jobs_by_case
from evaluation.predictions import PREDICTIONS, read_predictions
from evaluation.schema import (
    HpvMetrics,
    Metrics,
    MetricsFile,
    SegmentationMetrics,
    SubmissionMetrics,
    SurvivalMetrics,
)
from evaluation.scoring_rules import ScoringRules, rules_of
from evaluation.truth import CaseTruth, read_truth
from shared.editions import Edition
from shared.errors import InputError
from shared.tasks import TaskName

MOST_NAMED: Final = 5
"""Cases that an error names; more would hide the message."""


class NoTruthError(InputError):
    """No case has a truth of a task that the submission answers."""


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
    input_dir : holds `predictions.json` and, for each job, `<pk>/output`.
    truth_dir : the ground truth, see `evaluation.truth`.
    edition : names the outputs and the sign of the risk.
    task : the only task to score; by default every task that the jobs' outputs answer.
    rules : the open choices; by default those that come with the ground truth.
    workers : processes that read and score masks.

    Returns
    -------
    The metrics of the task if one task is answered, else those of each task that has a truth.

    Raises
    ------
    NoTruthError
        If no case has a truth of any task to score.
    InputError
        If jobs and truth do not fit together.
    """
    jobs = jobs_by_case(read_predictions(input_dir / PREDICTIONS), edition)
    truths = read_truth(truth_dir)
    _require_truth_of_jobs(jobs, truths)
    tasks = answered_tasks(jobs, edition) if task is None else (task,)
    submission = _Submission(
        input_dir=input_dir,
        edition=edition,
        jobs=jobs,
        truths=truths,
        rules=rules_of(truth_dir) if rules is None else rules,
        workers=workers,
    )
    scorable = [name for name in tasks if any(_has_truth(truth, name) for truth in truths.values())]
    if not scorable:
        raise NoTruthError(
            f"expected the truth of {' or '.join(tasks)} for at least one case in {truth_dir}, "
            "found none; add it, or score another task"
        )
    metrics = {name: submission.score(name) for name in scorable}
    if len(tasks) == 1:
        return metrics[tasks[0]]
    without_truth = tuple(name for name in tasks if name not in scorable)
    return SubmissionMetrics(edition=edition.name, tasks=metrics, without_truth=without_truth)


@dataclass(frozen=True, kw_only=True)
class _Submission:
    """The jobs with their ground truth; attributes as the parameters of `evaluate`."""

    input_dir: Path
    edition: Edition
    jobs: Mapping[str, Job]
    truths: Mapping[str, CaseTruth]
    rules: ScoringRules
    workers: int

    def score(self, task: TaskName) -> Metrics:
        """Return the metrics of one task."""
        entries = [
            Entry(truth, self.jobs.get(case_id))
            for case_id, truth in self.truths.items()
            if _has_truth(truth, task)
        ]
        case_ids = {entry.truth.case_id for entry in entries}
        common: dict[str, Any] = {
            "edition": self.edition.name,
            "unscored": tuple(case_id for case_id in self.jobs if case_id not in case_ids),
        }
        if task == "segmentation":
            return self._segmentation(entries, common)
        if task == "survival":
            risks = tuple(survival_case(entry, self.input_dir, self.edition) for entry in entries)
            return SurvivalMetrics(
                alternatives=survival.alternatives(risks),
                results=risks,
                **common,
                **survival.SCORING.summary(risks, self.rules),
            )
        decisions = tuple(hpv_case(entry, self.input_dir, self.edition) for entry in entries)
        return HpvMetrics(
            alternatives=hpv.alternatives(decisions),
            calibration=hpv.calibration_bins(decisions),
            results=decisions,
            **common,
            **hpv.SCORING.summary(decisions, self.rules),
        )

    def _segmentation(
        self, entries: Sequence[Entry], common: Mapping[str, Any]
    ) -> SegmentationMetrics:
        score = partial(
            segmentation_case, input_dir=self.input_dir, edition=self.edition, rules=self.rules
        )
        results, counts = zip(*_in_processes(score, entries, self.workers), strict=True)
        return SegmentationMetrics(
            alternatives=segmentation.alternatives(results, counts, self.rules),
            lesions_by_volume_ml=segmentation.lesions_by_volume(results, self.rules),
            results=results,
            **common,
            **segmentation.SCORING.summary(results, self.rules),
        )


def _require_truth_of_jobs(jobs: Mapping[str, Job], truths: Mapping[str, CaseTruth]) -> None:
    unknown = [case_id for case_id in jobs if case_id not in truths]
    if unknown:
        names = ", ".join(unknown[:MOST_NAMED]) + (", …" if len(unknown) > MOST_NAMED else "")
        raise InputError(
            f"expected the truth of every job's case, found none for {len(unknown)}: {names}; "
            "add them to the ground truth, under the name of the CT on the platform"
        )


def _has_truth(truth: CaseTruth, task: TaskName) -> bool:
    return {
        "segmentation": truth.mask is not None,
        "survival": truth.event is not None,
        "hpv": truth.hpv is not None,
    }[task]


def _in_processes(
    function: Callable[[Entry], Answer], entries: Sequence[Entry], workers: int
) -> Iterator[Answer]:
    """Return the function's result for each entry, in order."""
    if workers == 1 or len(entries) == 1:
        yield from map(function, entries)
        return
    # Spawned, not forked: a forked child has SimpleITK's locks but none of its threads.
    with ProcessPoolExecutor(
        workers, get_context("spawn"), sitk.ProcessObject.SetGlobalDefaultNumberOfThreads, (1,)
    ) as processes:
        yield from processes.map(function, entries)
