"""The cases of each task: what a job has answered, or why it failed, beside the truth.

A process that scores masks imports this module, and so neither scikit-learn nor what needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from evaluation.images import read_grid, read_labels
from evaluation.jobs import Job, output_folder
from evaluation.outputs import read_decision, read_mask, read_probability, read_risk
from evaluation.schema import HpvCase, Rules, SegmentationCase, SurvivalCase
from evaluation.segmentation import Alternatives, score_masks
from evaluation.truth import Patient
from shared.errors import InputError
from shared.tasks import Edition

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Entry:
    """A case to score: its truth, and the job that has it, if any."""

    patient: Patient
    job: Job | None


def segmentation_case(
    entry: Entry, input_dir: Path, edition: Edition, rules: Rules
) -> tuple[SegmentationCase, Alternatives]:
    """Score the label map of a case; parameters as for `evaluate`.

    Returns
    -------
    The result, and the counts of lesions under other rules.

    Raises
    ------
    InputError
        If the true label map cannot be read.
    """
    assert entry.patient.mask is not None
    try:
        grid, truth = read_grid(entry.patient.mask), read_labels(entry.patient.mask)
    except InputError as error:
        raise InputError(f"ground truth of {entry.patient.case_id}: {error}") from None
    mask, failure = _answer(entry, input_dir, partial(read_mask, edition=edition, truth=grid))
    failed = mask is None
    labels, others = score_masks(
        np.zeros_like(truth) if mask is None else mask, truth, grid, rules, failed
    )
    return SegmentationCase(labels=labels, **_about(entry, failure)), others


def survival_case(entry: Entry, input_dir: Path, edition: Edition) -> SurvivalCase:
    """Read the risk of a case; parameters as for `evaluate`."""
    patient = entry.patient
    assert patient.time_days is not None
    assert patient.event is not None
    risk, failure = _answer(entry, input_dir, partial(read_risk, edition=edition))
    about = _about(entry, failure)
    return SurvivalCase(risk=risk, time_days=patient.time_days, event=patient.event, **about)


def hpv_case(entry: Entry, input_dir: Path, edition: Edition) -> HpvCase:
    """Read the decision of a case; parameters as for `evaluate`."""
    assert entry.patient.hpv is not None
    answer, failure = _answer(
        entry,
        input_dir,
        lambda output: (read_decision(output, edition), read_probability(output)),
    )
    decision, probability = answer or (None, None)
    about = _about(entry, failure)
    return HpvCase(decision=decision, truth=entry.patient.hpv, probability=probability, **about)


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
