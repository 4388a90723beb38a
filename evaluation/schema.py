"""The part of `metrics.json` that all tasks share.

If a submission answers one task, its `metrics.json` is the record of this task. Each task extends
`TaskMetrics`: see `SegmentationMetrics`, `SurvivalMetrics` and `HpvMetrics` in `evaluation.tasks`.
The key `task` tells the records apart. If a submission answers several tasks, `metrics.json` is a
`SubmissionMetrics` of `evaluation.metrics_io`, and its key `tasks` holds the record of each task. A
leaderboard reads, for example, `aggregates.c_index.value` or
`tasks.survival.aggregates.c_index.value`.

The parts of one task's metrics:

- `aggregates`: the scores of all cases by name, each an `Estimate` with its 95 % interval;
  `ranked` names the scores that the challenge ranks by.
- `groups`: the same scores by centre, by field of view and by any other grouping that the task
  defines.
- `alternatives`: the values of a score under other rules that the organisers might choose.
- `results`: one entry for each case, including failed and missing cases, sorted by case. The
  aggregates follow from these entries alone, so two files can be compared without the masks.

A score that cannot be computed (one class only, no comparable pair) is null, never NaN.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import NonNegativeInt, SerializerFunctionWrapHandler, model_serializer

from evaluation.scoring_rules import ScoringRules
from shared.schema import Strict
from shared.tasks import TaskName

FieldOfView: TypeAlias = Literal["head_neck", "whole_body"]


class Estimate(Strict):
    """A score and its uncertainty.

    Attributes
    ----------
    value : the score; null if it cannot be computed.
    low, high : 95 % percentile interval of a bootstrap over patients; null if the score can be
        computed for too few resamples.
    standard_error : standard error from the same bootstrap.
    patients : number of patients that the score is computed from. HD95, for example, uses only the
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
    """The part of a case's result that all tasks share.

    Attributes
    ----------
    case_id : name of the CT without its suffix, which is also the name in the ground truth.
    pk : the platform's identifier of the job; null if there is no job for this case.
    centre : the centre from the table of the ground truth or from the name of the case; null if
        unknown.
    field_of_view : the field of view from the table or from the extent of the mask; null if
        unknown.
    failure : why the case counts as failed; null if the job gave a valid answer.
    """

    case_id: str
    pk: str | None
    centre: str | None
    field_of_view: FieldOfView | None
    failure: str | None


class TaskMetrics(Strict):
    """The metrics of one task; the subclass of each task narrows `task` and `results`.

    Attributes
    ----------
    edition : name of the edition.
    rules : the scoring rules that `aggregates` was computed with.
    failure_rule : how a failed or missing case is scored, in words.
    ranked : names of the aggregates that the challenge ranks by.
    cases, failed : number of scored cases, and number of failed cases among them.
    unscored : cases that have a job but no truth for this task, for example because the HPV status
        is unknown.
    aggregates : the scores of all cases.
    groups : the groups by grouping ("centre", "field_of_view" or one that the task defines), then
        by name.
    alternatives : for each score, its value under each alternative rule.
    results : the result of each case. This key is the last in the file, because it is the longest.
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
    task: TaskName
    results: tuple[CaseResult, ...]

    @model_serializer(mode="wrap")
    def _results_last(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialise(self)
        return {name: fields[name] for name in fields if name != "results"} | {
            "results": fields["results"]
        }
