"""What `metrics.json` holds.

A submission that answers one task has the metrics of this task: one of `SegmentationMetrics`,
`SurvivalMetrics` and `HpvMetrics`, told apart by `task`. A submission that answers several tasks
has `SubmissionMetrics`, where `tasks` holds the same records by task. Leaderboards read, for
example, `aggregates.c_index.value` or `tasks.survival.aggregates.c_index.value`.

The parts of one task's metrics:

- `aggregates`: the scores of all cases, by name, each an `Estimate` with its 95 % interval;
  `ranked` names those that the challenge ranks by.
- `groups`: the same scores by centre, by field of view and, for segmentation, by the volume of a
  label in the truth of a patient, all its lesions together.
- `lesions_by_volume_ml`, for segmentation: how many lesions are detected, by the volume of the
  single lesion.
- `alternatives`: what a score would be under the choices that the organisers have left open.
- `results`: one entry for each case, sorted by case, failed and missing ones included. The
  aggregates follow from these alone, so two files can be compared without the masks.

A score that cannot be computed (one class only, no comparable pair) is null, never NaN.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from evaluation.scoring_rules import Fraction, ScoringRules
from shared.metrics.calibration import CalibrationBin
from shared.schema import Strict
from shared.tasks import TaskName

FieldOfView: TypeAlias = Literal["head_neck", "whole_body"]


class Estimate(Strict):
    """A score and its uncertainty.

    Attributes
    ----------
    value : null if it cannot be computed.
    low, high : 95 % percentile interval of a bootstrap over patients; null if too few resamples
        have a score.
    standard_error : from the same bootstrap.
    patients : number of patients that the score is computed from. HD95, for example, needs
        patients with the label in both masks.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    patients: NonNegativeInt


Estimates: TypeAlias = dict[str, Estimate]


class Group(Strict):
    """Some of the cases, and their scores."""

    patients: NonNegativeInt
    aggregates: Estimates


class CaseResult(Strict):
    """What the result of a case holds for every task.

    Attributes
    ----------
    case_id : name of the CT without its suffix, which is also the name in the ground truth.
    pk : the job; null if no job has this case.
    centre : from the table of the ground truth, else from the name of the case; null if unknown.
    field_of_view : from the table, else from the extent of the mask; null if unknown.
    failure : why the case counts as failed; null if it was answered.
    """

    case_id: str
    pk: str | None
    centre: str | None
    field_of_view: FieldOfView | None
    failure: str | None


class Lesion(Strict):
    """One true lesion.

    Attributes
    ----------
    iou : the highest intersection over union with a predicted lesion; 0 if none overlaps.
    found : whether a predicted lesion is matched to it, one to one.
    """

    volume_mm3: NonNegativeFloat
    iou: Fraction
    found: bool


class LabelScores(Strict):
    """The scores of one label of one case.

    Attributes
    ----------
    dice : follows the rules if a mask is empty.
    shared_mm3, prediction_mm3, truth_mm3 : volumes, the terms of the aggregated DSC.
    true_positives, false_positives, false_negatives : lesions, the terms of the aggregated F1.
    hd95_mm, surface_dice : null unless both masks have the label.
    lesions : the true lesions, largest first.
    false_positives_mm3 : volumes of the predicted lesions without a match, largest first.
    """

    dice: Fraction
    shared_mm3: NonNegativeFloat
    prediction_mm3: NonNegativeFloat
    truth_mm3: NonNegativeFloat
    true_positives: NonNegativeInt
    false_positives: NonNegativeInt
    false_negatives: NonNegativeInt
    hd95_mm: NonNegativeFloat | None
    surface_dice: Fraction | None
    lesions: tuple[Lesion, ...]
    false_positives_mm3: tuple[NonNegativeFloat, ...]


class SegmentationCase(CaseResult):
    """Result of a case for segmentation; `labels` by name, GTVp and GTVn."""

    labels: dict[str, LabelScores]


class SurvivalCase(CaseResult):
    """Result of a case for survival.

    Attributes
    ----------
    risk : higher = earlier recurrence, whatever the sign of the edition; null if the case failed.
    time_days : to recurrence or to the end of follow-up.
    event : whether recurrence was observed.
    """

    risk: float | None
    time_days: NonNegativeFloat
    event: bool


class HpvCase(CaseResult):
    """Result of a case for HPV status.

    Attributes
    ----------
    decision : null if the case failed.
    truth : whether the disease is HPV-positive.
    probability : if the job's folder holds one, see `evaluation.outputs`; else null.
    """

    decision: bool | None
    truth: bool
    probability: Fraction | None


class _Metrics(Strict):
    """What the metrics of every task hold.

    Attributes
    ----------
    edition : name of the challenge's year.
    rules : the open choices, as `aggregates` makes them.
    failure_rule : how a failed or missing case is scored, in words.
    ranked : names of the aggregates that the challenge ranks by.
    groups : by kind ("centre", "field_of_view", "gtvp_volume_ml", "gtvn_volume_ml"), then by name.
    alternatives : by score, then by the other rule.
    cases, failed : number of scored cases, failed ones included, and number of failed ones.
    unscored : cases that have a job but no truth for this task, such as an unknown HPV status.
    """

    format: Literal[1] = 1
    edition: str
    rules: ScoringRules
    failure_rule: str
    ranked: tuple[str, ...]
    cases: NonNegativeInt
    failed: NonNegativeInt
    unscored: tuple[str, ...]
    aggregates: Estimates
    groups: dict[str, dict[str, Group]]
    alternatives: dict[str, dict[str, float | None]]


class LesionGroup(Strict):
    """The true lesions of one range of volumes, from all cases.

    Attributes
    ----------
    lesions : number of lesions.
    sensitivity : fraction of them that is detected; its `patients` are those with such a lesion.
    """

    lesions: NonNegativeInt
    sensitivity: Estimate


class SegmentationMetrics(_Metrics):
    """Metrics of segmentation.

    Attributes
    ----------
    lesions_by_volume_ml : by label, then by the volume of the single lesion; ranges without a
        lesion are left out. (The volumes of `groups` are those of all lesions of a patient.)
    """

    task: Literal["segmentation"] = "segmentation"
    lesions_by_volume_ml: dict[str, dict[str, LesionGroup]]
    results: tuple[SegmentationCase, ...]


class SurvivalMetrics(_Metrics):
    """Metrics of recurrence-free survival."""

    task: Literal["survival"] = "survival"
    results: tuple[SurvivalCase, ...]


class HpvMetrics(_Metrics):
    """Metrics of HPV status; `calibration` is empty if no case has a probability."""

    task: Literal["hpv"] = "hpv"
    calibration: tuple[CalibrationBin, ...]
    results: tuple[HpvCase, ...]


Metrics: TypeAlias = SegmentationMetrics | SurvivalMetrics | HpvMetrics
"""Metrics of one task."""


class SubmissionMetrics(Strict):
    """Metrics of a submission that answers several tasks.

    Attributes
    ----------
    edition : name of the challenge's year.
    tasks : the metrics of each task, as in the file of a submission that answers it alone.
    without_truth : tasks that the submission answers, but for which no case has a truth.
    """

    format: Literal[1] = 1
    edition: str
    tasks: dict[TaskName, Annotated[Metrics, Field(discriminator="task")]]
    without_truth: tuple[TaskName, ...] = ()


MetricsFile: TypeAlias = Metrics | SubmissionMetrics
"""What a `metrics.json` may hold."""


def metrics_by_task(file: MetricsFile) -> dict[TaskName, Metrics]:
    """Return the metrics of each scored task."""
    return file.tasks if isinstance(file, SubmissionMetrics) else {file.task: file}
