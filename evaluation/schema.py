"""What crosses the evaluation's boundaries: `predictions.json` comes, `metrics.json` goes.

`rules.json`, where there is one, is `Rules`.

`metrics.json` is one of `SegmentationMetrics`, `SurvivalMetrics` and `HpvMetrics`, told apart by
`task`. Its parts:

- `aggregates`: the scores of all cases, by name, each an `Estimate` with its 95 % interval;
  `ranked` names those that the challenge ranks by. A leaderboard reads, for example,
  `aggregates.c_index.value`.
- `groups`: the same scores by centre, by field of view and, for Task 1, by the volume of a label
  in the truth of a patient, all its lesions together.
- `lesions_by_volume_ml`, for Task 1: which lesions are found, by the volume of the single lesion.
- `alternatives`: what a score would be under the choices that the organisers have left open.
- `results`: one entry a case, sorted by case, failed and missing ones included. The aggregates
  follow from these alone, so two files can be compared without the masks.

A score that cannot be computed (one class only, no comparable pair) is null, never NaN.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from shared.errors import InputError
from shared.metrics.calibration import CalibrationBin
from shared.metrics.segmentation import MIN_IOU, Connectivity, Matching
from shared.metrics.surface import TOLERANCE_MM
from shared.metrics.uncertainty import SAMPLES
from shared.schema import Strict

Task: TypeAlias = Literal["segmentation", "survival", "hpv"]
"""The tasks by the names that model cards use."""
FieldOfView: TypeAlias = Literal["head_neck", "whole_body"]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Read = TypeVar("Read")


class _Foreign(BaseModel):
    """A record of the platform's: it may grow keys that concern no one here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Socket(_Foreign):
    """What an input or output is, and where it lies below the job's folder."""

    slug: str
    relative_path: str


class ImageName(_Foreign):
    """An image on the platform."""

    name: str


class Value(_Foreign):
    """One input or output of a job; older files call its socket an interface."""

    socket: Socket = Field(validation_alias=AliasChoices("socket", "interface"))
    image: ImageName | None = None


class Prediction(_Foreign):
    """One entry of `predictions.json`: a job of the algorithm on one case."""

    pk: str
    status: str = "Succeeded"
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


class Rules(Strict):
    """The choices that the organisers have left open, as `aggregates` makes them.

    Attributes
    ----------
    both_empty, one_empty : DSC of a label that neither, or exactly one, of the two masks has.
    min_iou : what the IoU of a found and a true lesion must exceed (the challenge's own).
    connectivity : of the voxels of a lesion.
    matching : how lesions are paired where several would do.
    tolerance_mm : of the surface DSC.
    bootstrap_samples : resamples of each interval.
    """

    both_empty: Fraction = 1.0
    one_empty: Fraction = 0.0
    min_iou: Fraction = MIN_IOU
    connectivity: Connectivity = 26
    matching: Matching = "greedy"
    tolerance_mm: NonNegativeFloat = TOLERANCE_MM
    bootstrap_samples: PositiveInt = SAMPLES


class Estimate(Strict):
    """A score and how sure it is.

    Attributes
    ----------
    value : null where it cannot be computed.
    low, high : 95 % percentile interval of a bootstrap over patients; null where too few resamples
        have a score.
    standard_error : of the same bootstrap.
    patients : how many the score is of; HD95, for one, is only of those where both masks have the
        label.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    patients: NonNegativeInt


Estimates: TypeAlias = dict[str, Estimate]


class Group(Strict):
    """Part of the cases, and its scores."""

    patients: NonNegativeInt
    aggregates: Estimates


class CaseResult(Strict):
    """What every task says of a case.

    Attributes
    ----------
    case_id : name of the CT without its suffix, which the truth goes by.
    pk : the job; null where no job has the case.
    centre : by the truth's table, else by the case's name; null where neither tells.
    field_of_view : likewise by the table, else by the extent of the mask.
    failure : why the case counts as failed; null where it was answered.
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
    iou : the highest intersection over union with a found lesion; 0 where none touches it.
    found : whether it is matched, one to one, by a found lesion.
    """

    volume_mm3: NonNegativeFloat
    iou: Fraction
    found: bool


class LabelScores(Strict):
    """What one label of one case scores.

    Attributes
    ----------
    dice : by the stated rule also where a mask is empty.
    shared_mm3, prediction_mm3, truth_mm3 : volumes, the terms of the aggregated DSC.
    true_positives, false_positives, false_negatives : lesions, the terms of the aggregated F1.
    hd95_mm, surface_dice : null unless both masks have the label.
    lesions : the true lesions, largest first.
    false_positives_mm3 : volumes of found lesions that match none, largest first.
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
    """A case of Task 1; `labels` by name, GTVp and GTVn."""

    labels: dict[str, LabelScores]


class SurvivalCase(CaseResult):
    """A case of Task 2.

    Attributes
    ----------
    risk : higher = earlier recurrence, whatever the edition's sign; null where it failed.
    time_days : to recurrence or to the end of follow-up.
    event : whether recurrence was observed.
    """

    risk: float | None
    time_days: NonNegativeFloat
    event: bool


class HpvCase(CaseResult):
    """A case of Task 3.

    Attributes
    ----------
    decision : null where it failed.
    truth : whether the disease is HPV-positive.
    probability : where the job's folder holds one, see `evaluation.outputs`; else null.
    """

    decision: bool | None
    truth: bool
    probability: Fraction | None


class _Metrics(Strict):
    """What every `metrics.json` holds.

    Attributes
    ----------
    edition : name of the challenge's year.
    rules : the open choices as they were made for `aggregates`.
    failure_rule : how a failed or missing case is scored, in words.
    ranked : names of the aggregates that the challenge ranks by.
    groups : by kind ("centre", "field_of_view", "gtvp_volume_ml", "gtvn_volume_ml"), then by name.
    alternatives : by score, then by the rule that it would be of.
    cases, failed : how many were scored, failed ones included, and how many of these failed.
    unscored : cases of jobs for which this task has no truth, such as an unknown HPV status.
    """

    format: Literal[1] = 1
    edition: str
    rules: Rules
    failure_rule: str
    ranked: tuple[str, ...]
    cases: NonNegativeInt
    failed: NonNegativeInt
    unscored: tuple[str, ...]
    aggregates: Estimates
    groups: dict[str, dict[str, Group]]
    alternatives: dict[str, dict[str, float | None]]


class LesionGroup(Strict):
    """True lesions of about one volume, of all cases together.

    Attributes
    ----------
    lesions : how many.
    sensitivity : fraction of them that is found; its `patients` are those who have such a lesion.
    """

    lesions: NonNegativeInt
    sensitivity: Estimate


class SegmentationMetrics(_Metrics):
    """`metrics.json` of Task 1.

    Attributes
    ----------
    lesions_by_volume_ml : by label, then by the volume of the single lesion; volumes that no lesion
        has are left out. (The volumes of `groups` are of all of a patient's lesions together.)
    """

    task: Literal["segmentation"] = "segmentation"
    lesions_by_volume_ml: dict[str, dict[str, LesionGroup]]
    results: tuple[SegmentationCase, ...]


class SurvivalMetrics(_Metrics):
    """`metrics.json` of Task 2."""

    task: Literal["survival"] = "survival"
    results: tuple[SurvivalCase, ...]


class HpvMetrics(_Metrics):
    """`metrics.json` of Task 3; `calibration` is empty where no case has a probability."""

    task: Literal["hpv"] = "hpv"
    calibration: tuple[CalibrationBin, ...]
    results: tuple[HpvCase, ...]


Metrics: TypeAlias = SegmentationMetrics | SurvivalMetrics | HpvMetrics

_PREDICTIONS: TypeAdapter[tuple[Prediction, ...]] = TypeAdapter(tuple[Prediction, ...])
_RULES: TypeAdapter[Rules] = TypeAdapter(Rules)
_METRICS: TypeAdapter[Metrics] = TypeAdapter(Annotated[Metrics, Field(discriminator="task")])


def read_predictions(path: Path) -> tuple[Prediction, ...]:
    """Read `predictions.json`, its jobs in the file's order.

    Raises
    ------
    InputError
        If the file is missing or is no list of jobs.
    """
    return _read(path, _PREDICTIONS, "a list of jobs with pk, inputs and outputs")


def read_rules(path: Path) -> Rules:
    """Read rules: a JSON object with some of the fields of `Rules`, the others at their defaults.

    Raises
    ------
    InputError
        If the file is missing, is no such object, or has a field that is none.
    """
    return _read(path, _RULES, f"a JSON object with some of {', '.join(Rules.model_fields)}")


def read_metrics(path: Path) -> Metrics:
    """Read a `metrics.json` of this package.

    Raises
    ------
    InputError
        If the file is missing or is none.
    """
    return _read(path, _METRICS, "a metrics.json that `python -m evaluation` has written")


def write_metrics(path: Path, metrics: Metrics) -> None:
    """Write `metrics.json`: strict JSON, the same bytes for the same metrics."""
    text = json.dumps(metrics.model_dump(mode="json"), indent=2, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _read(path: Path, kind: TypeAdapter[Read], expected: str) -> Read:
    try:
        return kind.validate_json(path.read_bytes())
    except OSError:
        raise InputError(f"expected {path}, found no such file; it should be {expected}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"expected {path} to be {expected}, found otherwise at {where}: {first['msg']}"
        ) from None
