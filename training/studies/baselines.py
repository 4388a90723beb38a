"""Baselines: simple models for comparison with the networks, in the same folds.

The models are a ridge Cox model for Task 2 and a logistic regression for Task 3. Each one is fitted
to the record, to the lesion measures, and to both. In each fold it is fitted to the same patients
as the network, and scored on the held-out patients. Lesions are the true lesions or, as in serving,
those that Task 1 predicts (out of fold).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import expit

from shared.clinical import ClinicalRecord
from shared.conventions import LabelVolume
from shared.errors import InputError
from shared.lesions import MEASURES
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import roc_auc
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import Interval, bootstrap, mean_over_groups
from shared.preprocessing.region import Preparation
from training.cohort.cache import PreparedPatient
from training.cohort.folds import FOLDS, Fold, HoldOut
from training.config import load_configuration
from training.loop.fit import RESULT, FitResult
from training.records import read_record
from training.tasks.base import Task
from training.tasks.linear import BalancedLogistic, RidgeCox
from training.tasks.planning import learnable, make_folds
from training.tasks.prognosis import measures_of
from training.tasks.segmentation import model_for

MaskOf: TypeAlias = Callable[[PreparedPatient], LabelVolume | None]
"""Returns the label map of a patient on the region's grid; None if there is none."""

NETWORK: Final = "network"
CHOSEN: Final = "network at the epoch that these patients chose"
OPTIMISM: Final = "optimism of that choice"


@dataclass(frozen=True)
class Metric:
    """A score of predictions.

    Attributes
    ----------
    columns : columns of predictions and outcomes that `function` takes, in order.
    within_folds : whether the score is the mean over folds, weighted by patients, because the
        models of different folds may predict on different scales; otherwise it is computed from
        all patients together.
    result : name of the score in a network's `result.json`; None if the file has no such score.
    """

    name: str
    function: Callable[..., float]
    columns: tuple[str, ...]
    within_folds: bool
    result: str | None


@dataclass(frozen=True)
class Baselines:
    """The baselines of a task.

    Attributes
    ----------
    inputs : for each model, the columns of `table_of` that it takes.
    predict : fits a model to the first table, and returns columns of predictions for the second;
        the third argument names the input columns.
    metrics : the scores of the predictions.
    """

    inputs: Mapping[str, tuple[str, ...]]
    predict: Callable[[pd.DataFrame, pd.DataFrame, Sequence[str]], dict[str, object]]
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class Row:
    """One row of the comparison.

    Attributes
    ----------
    held_out : score of all held-out patients, whom the model of their fold was not fitted to.
    by_fold : score of the held-out patients of each fold; None if it cannot be computed.
    unseen : score, on each further cohort, of a model that was fitted to all patients.
    """

    metric: str
    model: str
    held_out: Interval
    by_fold: Mapping[str, float | None]
    unseen: Mapping[str, Interval]


def _cox(fitted: pd.DataFrame, others: pd.DataFrame, columns: Sequence[str]) -> dict[str, object]:
    chosen = list(columns)
    model = RidgeCox().fit(fitted[chosen], fitted["rfs_days"], fitted["relapse"].astype(bool))
    return {"risk": model.risk(others[chosen])}


def _logistic(
    fitted: pd.DataFrame, others: pd.DataFrame, columns: Sequence[str]
) -> dict[str, object]:
    chosen = list(columns)
    model = BalancedLogistic().fit(fitted[chosen], fitted["hpv_status"].astype(bool))
    logit = model.logit(others[chosen])
    return {"probability": expit(logit), "decision": logit >= 0}


_PAPER: Final = load_configuration("paper")
_WITHOUT_HPV: Final = tuple(key for key in _PAPER.survival.clinical if key != "hpv")

BASELINES: Final = {
    "survival": Baselines(
        {
            "clinical": _PAPER.survival.clinical,
            "clinical without HPV": _WITHOUT_HPV,
            "lesions": MEASURES,
            "clinical, lesions": (*_PAPER.survival.clinical, *MEASURES),
            "clinical without HPV, lesions": (*_WITHOUT_HPV, *MEASURES),
        },
        _cox,
        (Metric("C-index", concordance_index, ("risk", "rfs_days", "relapse"), True, "c_index"),),
    ),
    "hpv": Baselines(
        {
            "clinical": _PAPER.hpv.clinical,
            "lesions": MEASURES,
            "clinical, lesions": (*_PAPER.hpv.clinical, *MEASURES),
        },
        _logistic,
        (
            Metric(
                "balanced accuracy",
                balanced_accuracy,
                ("decision", "hpv_status"),
                False,
                "balanced_accuracy",
            ),
            Metric("AUC", roc_auc, ("probability", "hpv_status"), True, "auc"),
        ),
    ),
}


def measure(
    task: Task,
    patients: Sequence[PreparedPatient],
    *,
    runs: Path,
    hold_out: HoldOut,
    seed: int = 0,
    masks: MaskOf | None = None,
    unseen: Mapping[str, Sequence[PreparedPatient]] = MappingProxyType({}),
    unseen_masks: MaskOf | None = None,
    baselines: Mapping[str, Baselines] = BASELINES,
) -> list[Row]:
    """Score the baselines of a task, and its networks if the folds are those of its training run.

    Parameters
    ----------
    patients : the prepared patients of the whole cohort.
    runs : folder of runs.
    hold_out : the way to hold out patients; if none is chosen, the folds of the task's training run
        are used.
    masks, unseen_masks : the source of the lesions; by default the true label maps.
    unseen : further cohorts to score, by name.

    Raises
    ------
    HecktorError
        If the task has no baselines, or the patients or the training run do not allow the folds.
    """
    if task.name not in baselines:
        raise InputError(f"expected a task, one of {', '.join(baselines)}, found {task.name!r}")
    run_folds = runs / task.name / FOLDS
    is_of_run = not hold_out.is_chosen
    if is_of_run:
        if not run_folds.is_file():
            raise InputError(
                f"expected the folds of a training run in {run_folds}, found none; train first, or "
                "choose which patients to hold out"
            )
        hold_out = HoldOut(splits=run_folds)
    views = {p.patient_id: p for p in learnable(task, patients)}
    others = [p for p in patients if p.patient_id not in views]
    folds = make_folds(
        task, list(views.values()), others, hold_out=hold_out, shared=runs / "segmentation",
        seed=seed,
    ).folds  # fmt: skip
    in_folds = {name for fold in folds for name in (*fold.training, *fold.held_out)}
    table = table_of([views[name] for name in sorted(in_folds)], masks or true_mask)
    unseen_tables = {
        name: table_of(learnable(task, cohort), unseen_masks or true_mask)
        for name, cohort in unseen.items()
    }
    models = baselines[task.name]
    rows = compare(models, table, folds, unseen_tables)
    if is_of_run:
        rows += networks(models, runs / task.name, folds)
    order = [metric.name for metric in models.metrics]
    return sorted(rows, key=lambda row: order.index(row.metric))


def true_mask(patient: PreparedPatient) -> LabelVolume | None:
    """Return the label map of the data."""
    return None if patient.patient.labels is None else patient.labels


def masks_of_model(folder: Path, preparation: Preparation) -> MaskOf:
    """Return a function that segments patients with a Task 1 model.

    Parameters
    ----------
    folder : the model folder; its model was not trained on the patients.
    preparation : the preparation of the patients.

    Raises
    ------
    InputError
        If the model needs a different preparation.
    """
    model = model_for(folder, preparation)
    return lambda patient: model.segment(patient.prepared()).labels


def table_of(patients: Sequence[PreparedPatient], mask_of: MaskOf) -> pd.DataFrame:
    """Return the inputs of the baselines and the outcomes, with one row for each patient ID.

    There is a column for each clinical value and for the logarithm of each lesion measure
    (`LesionMeasures.vector`); a missing value is NaN. Outcomes are `hpv_status`, `relapse` and
    `rfs_days`.
    """
    rows = {}
    for patient in patients:
        facts = patient.patient
        labels = mask_of(patient)
        measures = np.full(len(MEASURES), np.nan, np.float32)
        if labels is not None:
            measures = measures_of(patient, labels)
        rows[patient.patient_id] = {
            **vars(facts.clinical),
            **dict(zip(MEASURES, measures, strict=True)),
            "hpv_status": facts.hpv,
            "relapse": facts.relapse,
            "rfs_days": facts.rfs_days,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype(dict.fromkeys((*vars(ClinicalRecord()), *MEASURES), float))


def compare(
    baselines: Baselines,
    table: pd.DataFrame,
    folds: Sequence[Fold],
    unseen: Mapping[str, pd.DataFrame],
) -> list[Row]:
    """Fit and score each model in each fold and on other cohorts.

    Parameters
    ----------
    table : the table that `table_of` returns for all patients of the folds.
    unseen : tables of other cohorts by name, which a model that is fitted to `table` predicts.
    """
    rows = []
    for name, columns in baselines.inputs.items():
        parts = []
        for fold in folds:
            fitted, others = table.loc[list(fold.training)], table.loc[list(fold.held_out)]
            predicted = baselines.predict(fitted, others, columns)
            parts.append(others.assign(**predicted, fold=fold.name))
        held_out = pd.concat(parts)
        further = {
            cohort: others.assign(**baselines.predict(table, others, columns), fold=cohort)
            for cohort, others in unseen.items()
        }
        for metric in baselines.metrics:
            rows.append(
                Row(
                    metric.name,
                    name,
                    _score(metric, held_out),
                    {fold.name: _of_fold(metric, held_out, fold.name) for fold in folds},
                    {cohort: _score(metric, others) for cohort, others in further.items()},
                )
            )
    return rows


def networks(baselines: Baselines, run_folder: Path, folds: Sequence[Fold]) -> list[Row]:
    """Return the scores of a training run's networks; folds without a trained network are left out.

    Each metric has three rows: the score of the late weights, which no held-out patient has chosen;
    the score of the epoch that did best on the same patients; and the difference, the optimism of
    that choice. The mean over folds is weighted by patients.
    """
    sizes = {fold.name: len(fold.held_out) for fold in folds}
    paths = {fold.name: run_folder / f"fold{fold.name}" / RESULT for fold in folds}
    results = {name: read_record(FitResult, path) for name, path in paths.items() if path.is_file()}
    rows = []
    for metric in baselines.metrics:
        for model, scores in (
            (NETWORK, {name: result.late for name, result in results.items()}),
            (CHOSEN, {name: result.best for name, result in results.items()}),
            (OPTIMISM, {name: result.optimism for name, result in results.items()}),
        ):
            if metric.result is not None and scores:
                by_fold = {fold: each[metric.result] for fold, each in scores.items()}
                weights = [sizes[fold] for fold in by_fold]
                mean = float(np.average(list(by_fold.values()), weights=weights))
                interval = Interval(value=mean, low=None, high=None, standard_error=None)
                rows.append(Row(metric.name, model, interval, by_fold, {}))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Return the comparison as a table in Markdown; a missing score is a dash."""
    folds = list(dict.fromkeys(fold for row in rows for fold in row.by_fold))
    cohorts = list(dict.fromkeys(cohort for row in rows for cohort in row.unseen))
    header = ["", "model", "held out [95 %]", *(f"fold {fold}" for fold in folds)]
    header += [f"{cohort} [95 %]" for cohort in cohorts]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        single = (row.by_fold.get(fold) for fold in folds)
        lines.append(
            [
                row.metric,
                row.model,
                _format(row.held_out),
                *("–" if value is None else f"{value:.3f}" for value in single),
                *(_format(row.unseen.get(cohort)) for cohort in cohorts),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _score(metric: Metric, rows: pd.DataFrame) -> Interval:
    """Return a metric of predictions with its interval; NaN if it cannot be computed."""
    columns = [rows[column].to_numpy() for column in metric.columns]
    # Without a mean over folds, all patients are one group.
    groups = rows["fold"].to_numpy() if metric.within_folds else np.zeros(len(rows))
    try:
        statistic = mean_over_groups(metric.function, columns, groups)
        return bootstrap(statistic, len(rows), strata=groups)
    except ValueError:
        return Interval(value=float("nan"), low=None, high=None, standard_error=None)


def _of_fold(metric: Metric, rows: pd.DataFrame, fold: str) -> float | None:
    members = rows[rows["fold"] == fold]
    try:
        return metric.function(*(members[column].to_numpy() for column in metric.columns))
    except ValueError:
        return None


def _format(interval: Interval | None) -> str:
    return "–" if interval is None or np.isnan(interval.value) else f"{interval:.3f}"
