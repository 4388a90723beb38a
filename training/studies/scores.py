"""Runs the repository's models on unseen patients as the containers do, and scores their answers.

Masks are compared on the CT's own grid. Task 2 takes the masks that Task 1 predicts and the HPV
probabilities that Task 3 predicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from shared.editions import CURRENT
from shared.metrics.uncertainty import Interval, Statistic, bootstrap, paired_difference
from shared.models.card import Score, load_card, write_card
from shared.models.chain import Chain
from shared.tasks import TaskName
from training.cohort.layout import Patient
from training.cohort.preparation import read_case
from training.tasks.base import ScoredCase, Task
from training.tasks.discovery import TASKS

Observations: TypeAlias = dict[TaskName, dict[str, list[Any]]]
"""For each task and metric, an entry for each patient with a known truth; see `Task.observe`."""


def score_models(
    model_folders: Mapping[TaskName, Path], patients: Sequence[Patient], cohort: str, *, write: bool
) -> dict[TaskName, list[Score]]:
    """Run the models of all tasks on patients, print the scores and, if `write`, store them.

    If a model folder holds networks and linear models, each kind is also scored alone, and the gain
    of all models over each kind is printed.

    Parameters
    ----------
    model_folders : the model folder of each task.
    cohort : description of the patients in words.
    write : whether to write the scores to the cards.

    Raises
    ------
    InputError
        If a patient has no label map.
    """
    models: dict[TaskName, Any] = {
        name: task.model_type.load(model_folders[name]) for name, task in TASKS.items()
    }
    chain = Chain(
        segmentation=models["segmentation"], hpv=models["hpv"], survival=models["survival"]
    )
    observations = observe(chain, models, patients)
    scores = scores_of(observations, cohort)
    for name, task_scores in scores.items():
        for score in task_scores:
            interval = Interval(
                value=score.value,
                low=score.low,
                high=score.high,
                standard_error=score.standard_error,
            )
            print(
                f"{name:13} {score.metric:30} {interval:.3f} ({score.patients} patients: {cohort})"
            )
        if write:
            card = load_card(model_folders[name], TASKS[name].model_type.card_type)
            card = card.model_copy(update={"scores": tuple(task_scores)})
            write_card(model_folders[name], card)
    for name, metric, alone, gain in gains_of(observations):
        print(f"{name:13} {metric} minus {alone}: {gain:+.3f}")
    return scores


def observe(
    chain: Chain, models: Mapping[TaskName, Any], patients: Sequence[Patient]
) -> Observations:
    """Run the models on patients, and return the observations that scores are computed from.

    Parameters
    ----------
    chain : the chain of the models.
    models : the models of all tasks.

    Raises
    ------
    InputError
        If a patient has no label map.
    """
    observations: Observations = {name: {} for name in models}
    for patient in tqdm(patients, desc="evaluating"):
        case = read_case(patient)
        prepared = chain.prepare(case)
        predictions = chain.predict(prepared, case.clinical)
        scored_case = ScoredCase(patient=patient, prepared=prepared, predictions=predictions)
        for name, model in models.items():
            for metric, observation in TASKS[name].observe(model, scored_case).items():
                observations[name].setdefault(metric, []).append(observation)
    return observations


def scores_of(observations: Observations, cohort: str) -> dict[TaskName, list[Score]]:
    """Return the scores of each task with bootstrap standard errors over patients."""
    return {
        name: [_score(TASKS[name], metric, rows, cohort) for metric, rows in by_metric.items()]
        for name, by_metric in observations.items()
    }


def gains_of(observations: Observations) -> Iterator[tuple[TaskName, str, str, Interval]]:
    """Yield how much all models together gain over each kind of models alone.

    Nothing is yielded for models of a single kind.

    Yields
    ------
    The task, the metric, its name for the kind alone (such as `auc_network_alone`), and the score
    of all models minus that of the kind, paired over patients.
    """
    for name, by_metric in observations.items():
        for metric, rows in by_metric.items():
            for alone in (other for other in by_metric if other.startswith(f"{metric}_")):
                yield (
                    name,
                    metric,
                    alone,
                    paired_difference(
                        _statistic(TASKS[name], metric, rows),
                        _statistic(TASKS[name], alone, by_metric[alone]),
                        len(rows),
                    ),
                )


def repository_models(repository: Path) -> dict[TaskName, Path]:
    """Return the model folders of a checkout, by task."""
    return {name: repository / CURRENT.algorithm(name).name / "model" for name in TASKS}


def _score(task: Task, metric: str, observations: Sequence[Any], cohort: str) -> Score:
    """Return a metric of all patients with its bootstrap standard error."""
    interval = bootstrap(_statistic(task, metric, observations), len(observations))
    return Score(
        metric=metric,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        standard_error=interval.standard_error,
        patients=len(observations),
        cohort=cohort,
    )


def _statistic(task: Task, metric: str, observations: Sequence[Any]) -> Statistic:
    """Return the function that scores the patients with given indices."""
    return lambda chosen: task.score(metric, [observations[i] for i in chosen])
