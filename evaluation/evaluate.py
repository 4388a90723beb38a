"""The evaluation as a whole: each case of the truth is scored, then all of them together.

What the organisers have sent (jobs, truth) must be sound, or there is no result at all; what the
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
from typing import Any, Final, TypeVar

import numpy as np
import SimpleITK as sitk

from evaluation import hpv, segmentation, survival
from evaluation.images import read_grid, read_labels
from evaluation.jobs import Job, jobs_by_case, output_folder, recognise_task
from evaluation.outputs import read_decision, read_mask, read_probability, read_risk
from evaluation.schema import (
    HpvCase,
    HpvMetrics,
    Metrics,
    Rules,
    SegmentationCase,
    SegmentationMetrics,
    SurvivalCase,
    SurvivalMetrics,
    Task,
    read_predictions,
)
from evaluation.truth import Patient, read_truth
from shared.errors import InputError
from shared.grand_challenge import Edition

PREDICTIONS: Final = "predictions.json"
MOST_NAMED: Final = 5
"""Cases that an error names; more would bury what it says."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Entry:
    """A case to score: its truth, and the job that has it, if any."""

    patient: Patient
    job: Job | None


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
    rules : the open choices.
    workers : processes that read and score masks.

    Raises
    ------
    InputError
        If jobs and truth do not fit together.
    """
    rules = rules or Rules()
    jobs = jobs_by_case(read_predictions(input_dir / PREDICTIONS), edition)
    patients = read_truth(truth_dir)
    _require_known(jobs, patients)
    task = task or recognise_task(jobs, edition)
    scored = {case_id: p for case_id, p in patients.items() if _has_truth(p, task)}
    if not scored:
        raise InputError(f"expected the truth of {task} for at least one case, found none")
    entries = [Entry(patient, jobs.get(case_id)) for case_id, patient in scored.items()]
    unscored = tuple(case_id for case_id in jobs if case_id not in scored)
    if task == "segmentation":
        return _segmentation(entries, unscored, input_dir, edition, rules, workers)
    if task == "survival":
        return _survival(entries, unscored, input_dir, edition, rules)
    return _hpv(entries, unscored, input_dir, edition, rules)


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


def _answer(
    entry: Entry, input_dir: Path, read: Callable[[Path], Answer]
) -> tuple[Answer | None, str | None]:
    """Return what a job has answered, or None and why the case counts as failed."""
    if entry.job is None:
        return None, "no job has this case"
    if not entry.job.succeeded:
        return None, f"the job ended as '{entry.job.status}'"
    try:
        return read(output_folder(input_dir, entry.job)), None
    except InputError as error:
        return None, str(error)


def _about(entry: Entry, failure: str | None) -> dict[str, Any]:
    """Return what every task says of a case."""
    return {
        "case_id": entry.patient.case_id,
        "pk": entry.job.pk if entry.job else None,
        "centre": entry.patient.centre,
        "field_of_view": entry.patient.field_of_view,
        "failure": failure,
    }


def _segmentation(
    entries: Sequence[Entry],
    unscored: tuple[str, ...],
    input_dir: Path,
    edition: Edition,
    rules: Rules,
    workers: int,
) -> SegmentationMetrics:
    score = partial(_score_masks, input_dir=input_dir, edition=edition, rules=rules)
    results, others = zip(*_in_processes(score, entries, workers), strict=True)
    return SegmentationMetrics(
        edition=edition.name,
        unscored=unscored,
        alternatives=segmentation.alternatives(results, others),
        results=results,
        **segmentation.SCORING.summary(results, rules),
    )


def _score_masks(
    entry: Entry, input_dir: Path, edition: Edition, rules: Rules
) -> tuple[SegmentationCase, segmentation.Alternatives]:
    assert entry.patient.mask is not None
    try:
        grid, truth = read_grid(entry.patient.mask), read_labels(entry.patient.mask)
    except InputError as error:
        raise InputError(f"ground truth of {entry.patient.case_id}: {error}") from None
    mask, failure = _answer(entry, input_dir, partial(read_mask, edition=edition, truth=grid))
    failed = mask is None
    labels, others = segmentation.score_masks(
        np.zeros_like(truth) if mask is None else mask, truth, grid, rules, failed
    )
    return SegmentationCase(labels=labels, **_about(entry, failure)), others


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


def _survival(
    entries: Sequence[Entry],
    unscored: tuple[str, ...],
    input_dir: Path,
    edition: Edition,
    rules: Rules,
) -> SurvivalMetrics:
    results = []
    for entry in entries:
        patient = entry.patient
        assert patient.time_days is not None
        assert patient.event is not None
        risk, failure = _answer(entry, input_dir, partial(read_risk, edition=edition))
        about = _about(entry, failure)
        results.append(
            SurvivalCase(risk=risk, time_days=patient.time_days, event=patient.event, **about)
        )
    return SurvivalMetrics(
        edition=edition.name,
        unscored=unscored,
        alternatives=survival.alternatives(results),
        results=tuple(results),
        **survival.SCORING.summary(results, rules),
    )


def _hpv(
    entries: Sequence[Entry],
    unscored: tuple[str, ...],
    input_dir: Path,
    edition: Edition,
    rules: Rules,
) -> HpvMetrics:
    results = []
    for entry in entries:
        assert entry.patient.hpv is not None
        answer, failure = _answer(
            entry,
            input_dir,
            lambda output: (read_decision(output, edition), read_probability(output)),
        )
        decision, probability = answer or (None, None)
        about = _about(entry, failure)
        results.append(
            HpvCase(decision=decision, truth=entry.patient.hpv, probability=probability, **about)
        )
    return HpvMetrics(
        edition=edition.name,
        unscored=unscored,
        alternatives=hpv.alternatives(results),
        calibration=hpv.calibration_bins(results),
        results=tuple(results),
        **hpv.SCORING.summary(results, rules),
    )
