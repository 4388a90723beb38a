"""What `metrics.json` holds for every task.

A submission that answers one task has the metrics of this task. Each task extends `TaskMetrics`:
see `SegmentationMetrics`, `SurvivalMetrics` and `HpvMetrics` in `evaluation.tasks`; the key `task`
tells them apart. A submission that answers several tasks has `SubmissionMetrics` of
`evaluation.metrics_io`, where `tasks` holds the same records by task. Leaderboards read, for
example, `aggregates.c_index.value` or `tasks.survival.aggregates.c_index.value`.

The parts of one task's metrics:

- `aggregates`: the scores of all cases, by name, each an `Estimate` with its 95 % interval;
  `ranked` names those that the challenge ranks by.
- `groups`: the same scores by centre, by field of view and by what the task adds.
- `alternatives`: what a score would be under the choices that the organisers have left open.
- `results`: one entry for each case, sorted by case, failed and missing ones included. The
  aggregates follow from these alone, so two files can be compared without the masks.

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


class TaskMetrics(Strict):
    """What the metrics of every task hold; a task narrows `task` and `results`.

    Attributes
    ----------
    edition : name of the challenge's year.
    rules : the open choices, as `aggregates` makes them.
    failure_rule : how a failed or missing case is scored, in words.
    ranked : names of the aggregates that the challenge ranks by.
    groups : by kind ("centre", "field_of_view", and what the task adds), then by name.
    alternatives : by score, then by the other rule.
    cases, failed : number of scored cases, failed ones included, and number of failed ones.
    unscored : cases that have a job but no truth for this task, such as an unknown HPV status.
    results : the last key in the file, since it is the longest.
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
