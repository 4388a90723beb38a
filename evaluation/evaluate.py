"""The evaluation as a whole: each case of the truth is scored, then all of them together.

What the organisers have sent (jobs, truth) must be sound, or there is no result at all; what the
algorithm has written may be anything, and costs at most its own case. Masks are read, scored and
forgotten case by case, in as many processes as there are CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import SimpleITK as sitk

from evaluation import hpv, segmentation, survival
from evaluation.cases import Answer, Entry, hpv_case, segmentation_case, survival_case
from evaluation.jobs import Job, jobs_by_case, recognise_task
from evaluation.schema import (
    HpvMetrics,
    Metrics,
    Rules,
    SegmentationMetrics,
    SurvivalMetrics,
    Task,
    read_predictions,
    read_rules,
)
from evaluation.truth import Patient, read_truth
from shared.errors import InputError
from shared.tasks import Edition

PREDICTIONS: Final = "predictions.json"
RULES: Final = "rules.json"
"""Its name beside the truth."""
MOST_NAMED: Final = 5
"""Cases that an error names; more would bury what it says."""


class NoTruthError(InputError):
    """No case has a truth of the task."""


def evaluate(
    input_dir: Path,
    truth_dir: Path,
    edition: Edition,
    task: Task | None = None,
    rules: Rules | None = None,
    workers: int = 1,
) -> Metrics:
    """Score the jobs in a folder.

    Parameters
    ----------
    input_dir : holds `predictions.json` and, for each job, `<pk>/output`.
    truth_dir : the ground truth, see `evaluation.truth`.
    edition : names of outputs, and the sign of the risk.
    task : to score; by default the one that the jobs' outputs are of.
    rules : the open choices; by default those of `rules.json` beside the truth, else `Rules()`.
    workers : processes that read and score masks.

    Raises
    ------
    NoTruthError
        If no case has a truth of the task.
    InputError
        If jobs and truth do not fit together.
    """
    if rules is None:
        beside = truth_dir / RULES
        rules = read_rules(beside) if beside.is_file() else Rules()
    jobs = jobs_by_case(read_predictions(input_dir / PREDICTIONS), edition)
    patients = read_truth(truth_dir)
    _require_known(jobs, patients)
    task = task or recognise_task(jobs, edition)
    scored = {case_id: p for case_id, p in patients.items() if _has_truth(p, task)}
    if not scored:
        raise NoTruthError(
            f"expected the truth of {task} for at least one case in {truth_dir}, found none; "
            "add it, or score another task"
        )
    entries = [Entry(patient, jobs.get(case_id)) for case_id, patient in scored.items()]
    unscored = tuple(case_id for case_id in jobs if case_id not in scored)
    common: dict[str, Any] = {"edition": edition.name, "unscored": unscored}
    if task == "segmentation":
        read = partial(segmentation_case, input_dir=input_dir, edition=edition, rules=rules)
        results, others = zip(*_in_processes(read, entries, workers), strict=True)
        return SegmentationMetrics(
            alternatives=segmentation.alternatives(results, others, rules),
            lesions_by_volume_ml=segmentation.lesions_by_volume(results, rules),
            results=results,
            **common,
            **segmentation.SCORING.summary(results, rules),
        )
    if task == "survival":
        risks = tuple(survival_case(entry, input_dir, edition) for entry in entries)
        return SurvivalMetrics(
            alternatives=survival.alternatives(risks),
            results=risks,
            **common,
            **survival.SCORING.summary(risks, rules),
        )
    decisions = tuple(hpv_case(entry, input_dir, edition) for entry in entries)
    return HpvMetrics(
        alternatives=hpv.alternatives(decisions),
        calibration=hpv.calibration_bins(decisions),
        results=decisions,
        **common,
        **hpv.SCORING.summary(decisions, rules),
    )


def _require_known(jobs: Mapping[str, Job], patients: Mapping[str, Patient]) -> None:
    unknown = [case_id for case_id in jobs if case_id not in patients]
    if unknown:
        named = ", ".join(unknown[:MOST_NAMED]) + (", …" if len(unknown) > MOST_NAMED else "")
        raise InputError(
            f"expected the truth of every job's case, found none for {len(unknown)}: {named}; "
            "add them to the ground truth, under the name of the CT on the platform"
        )


def _has_truth(patient: Patient, task: Task) -> bool:
    return {
        "segmentation": patient.mask is not None,
        "survival": patient.event is not None,
        "hpv": patient.hpv is not None,
    }[task]


def _in_processes(
    function: Callable[[Entry], Answer], entries: Sequence[Entry], workers: int
) -> Iterator[Answer]:
    """Return what a function makes of each entry, in order."""
    if workers == 1 or len(entries) == 1:
        yield from map(function, entries)
        return
    # Spawned, not forked: a forked child has SimpleITK's locks but none of its threads.
    with ProcessPoolExecutor(
        workers, get_context("spawn"), sitk.ProcessObject.SetGlobalDefaultNumberOfThreads, (1,)
    ) as processes:
        yield from processes.map(function, entries)
