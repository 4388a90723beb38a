"""Compares methods that were evaluated on the same cases, from their `metrics.json` alone.

`describe_files` ranks the methods as the challenge does. For each pair of methods it states the
differences of the ranked scores with their 95 % intervals. The bootstrap draws the same patients
for both methods, so a patient who is difficult for both does not widen the interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from evaluation.metrics_io import MetricsFile, metrics_by_task
from evaluation.schema import TaskMetrics
from evaluation.scoring import Score
from evaluation.tasks.discovery import scoring_of
from shared.errors import InputError
from shared.metrics.uncertainty import Interval, paired_difference
from shared.tasks import TASK_NAMES


def differences(first: TaskMetrics, second: TaskMetrics) -> dict[str, Interval | None]:
    """Return the ranked scores of the first method minus those of the second.

    Returns
    -------
    The difference of each score; None if the score of a method cannot be computed.

    Raises
    ------
    InputError
        If the methods were evaluated for different tasks, on different cases or by different rules.
    """
    _require_comparable(first, second)
    intervals: dict[str, Interval | None] = {}
    pairs = zip(_ranked(first).items(), _ranked(second).values(), strict=True)
    for (name, ours), theirs in pairs:
        try:
            intervals[name] = paired_difference(ours.statistic, theirs.statistic, first.cases)
        except ValueError:
            intervals[name] = None
    return intervals


def rank(methods: Mapping[str, TaskMetrics]) -> dict[str, float]:
    """Return the challenge's rank of each method, best first; a method without a score is last.

    Raises
    ------
    InputError
        If the methods were evaluated for different tasks, on different cases or by different rules.
    """
    first, *others = methods.values()
    for other in others:
        _require_comparable(first, other)
    scores = {name: _values(metrics) for name, metrics in methods.items()}
    return scoring_of(first.task).rank(scores)


def describe(methods: Mapping[str, TaskMetrics]) -> list[str]:
    """Return lines about one task: scores and ranks, then the differences of each pair."""
    lines = []
    for name, place in rank(methods).items():
        scores = (f"{score} {value:.4f}" for score, value in _values(methods[name]).items())
        lines.append(f"{place:g}. {name}: {', '.join(scores)}")
    for first, second in combinations(methods, 2):
        for score, interval in differences(methods[first], methods[second]).items():
            text = "none"
            if interval is not None:
                text = f"{interval.value:+.4f}"
                if interval.low is not None and interval.high is not None:
                    text += f" ({interval.low:+.4f} to {interval.high:+.4f})"
            lines.append(f"{first} - {second}: {score} {text}")
    return lines


def describe_files(files: Mapping[str, MetricsFile]) -> list[str]:
    """Return lines about each task that all methods answer, with a heading if there are several.

    Raises
    ------
    InputError
        If the methods have no task in common, or cannot be compared.
    """
    methods = {name: metrics_by_task(file) for name, file in files.items()}
    common = [task for task in TASK_NAMES if all(task in each for each in methods.values())]
    if not common:
        tasks = "; ".join(f"{name}: {', '.join(each)}" for name, each in methods.items())
        raise InputError(
            f"expected evaluations of the same task, found {tasks}; compare methods that answer "
            "the same task"
        )
    lines = []
    for task in common:
        lines += [f"{task}:"] if len(common) > 1 else []
        lines += describe({name: each[task] for name, each in methods.items()})
    return lines


def _ranked(metrics: TaskMetrics) -> dict[str, Score]:
    """Return the scores that the challenge ranks by, computed from all cases."""
    scores = scoring_of(metrics.task).scores_of(metrics.results)
    return {name: scores[name] for name in metrics.ranked}


def _values(metrics: TaskMetrics) -> dict[str, float]:
    values = {name: metrics.aggregates[name].value for name in metrics.ranked}
    return {name: float("nan") if value is None else value for name, value in values.items()}


def _require_comparable(first: TaskMetrics, second: TaskMetrics) -> None:
    ours, theirs = ({result.case_id for result in m.results} for m in (first, second))
    if first.task != second.task or ours != theirs:
        raise InputError(
            f"expected two evaluations of one task on the same cases, found {len(ours)} cases for "
            f"{first.task} and {len(theirs)} for {second.task}, {len(ours & theirs)} in common; "
            "evaluate both with the same ground truth"
        )
    rules, others = (m.rules.model_dump(exclude={"bootstrap_samples"}) for m in (first, second))
    if rules != others:
        names = ", ".join(name for name in rules if rules[name] != others[name])
        raise InputError(
            f"expected two evaluations by the same rules, found different values of {names}; "
            "evaluate both by the same rules"
        )
