"""The result of each case: what its job answered, or why it failed, next to the truth.

The processes that score masks import this module, so it imports neither scikit-learn nor anything
that needs it.
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
from evaluation.schema import HpvCase, SegmentationCase, SurvivalCase
from evaluation.scoring_rules import ScoringRules
from evaluation.segmentation import LesionCounts, score_masks
from evaluation.truth import CaseTruth
from shared.editions import Edition
from shared.errors import InputError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Entry:
    """A case to score: its truth, and its job, if any."""

    truth: CaseTruth
    job: Job | None


def segmentation_case(
    entry: Entry, *, input_dir: Path, edition: Edition, rules: ScoringRules
) -> tuple[SegmentationCase, LesionCounts]:
    """Score the label map of a case; parameters as for `evaluate`.

    Returns
    -------
    The result, and the lesion counts under other rules.

    Raises
    ------
    InputError
        If the true label map cannot be read.
    """
    mask_path = entry.truth.mask
    assert mask_path is not None, "only patients with a mask are scored"
    try:
        grid, truth = read_grid(mask_path), read_labels(mask_path)
    except InputError as error:
        raise InputError(f"ground truth of {entry.truth.case_id}: {error}") from None
    mask, failure = _answer(entry, input_dir, partial(read_mask, edition=edition, truth=grid))
    labels, counts = score_masks(
        np.zeros_like(truth) if mask is None else mask,
        truth,
        grid=grid,
        rules=rules,
        failed=mask is None,
    )
    return SegmentationCase(labels=labels, **_common_fields(entry, failure)), counts


def survival_case(entry: Entry, input_dir: Path, edition: Edition) -> SurvivalCase:
    """Read the risk of a case; parameters as for `evaluate`."""
    truth = entry.truth
    assert truth.time_days is not None, "only patients with an outcome are scored"
    assert truth.event is not None
    risk, failure = _answer(entry, input_dir, partial(read_risk, edition=edition))
    common = _common_fields(entry, failure)
    return SurvivalCase(risk=risk, time_days=truth.time_days, event=truth.event, **common)


def hpv_case(entry: Entry, input_dir: Path, edition: Edition) -> HpvCase:
    """Read the decision of a case; parameters as for `evaluate`."""
    assert entry.truth.hpv is not None, "only patients with an HPV status are scored"
    answer, failure = _answer(
        entry,
        input_dir,
        lambda output: (read_decision(output, edition), read_probability(output)),
    )
    decision, probability = answer or (None, None)
    common = _common_fields(entry, failure)
    return HpvCase(decision=decision, truth=entry.truth.hpv, probability=probability, **common)


def _answer(
    entry: Entry, input_dir: Path, read: Callable[[Path], Answer]
) -> tuple[Answer | None, str | None]:
    """Return what the job answered, or None and why the case counts as failed."""
    if entry.job is None:
        return None, "no job has this case"
    if not entry.job.succeeded:
        return None, f"the job ended as '{entry.job.status}'"
    try:
        return read(output_folder(input_dir, entry.job)), None
    except InputError as error:
        return None, str(error)


def _common_fields(entry: Entry, failure: str | None) -> dict[str, Any]:
    """Return the fields that the results of all tasks have."""
    return {
        "case_id": entry.truth.case_id,
        "pk": entry.job.pk if entry.job else None,
        "centre": entry.truth.centre,
        "field_of_view": entry.truth.field_of_view,
        "failure": failure,
    }
