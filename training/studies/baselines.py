"""The honest rivals: simple models in the folds of the networks, which have to beat them.

A ridge Cox model for Task 2 and a logistic regression for Task 3, each fitted to the record, to
measures of the lesions, and to both, on the patients that a fold's network was trained on, and
scored on those it never saw. Lesions are the true ones, or those that Task 1 predicts for patients
it has not seen, as serving will meet them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
from shared.models.segmentation import SegmentationModel
from shared.preprocessing.region import Preparation
from training.cohort.cache import Cached
from training.cohort.folds import FILE, Fold
from training.config import Origin, load_configuration
from training.loop.fit import RESULT
from training.tasks import out_of_fold
from training.tasks.hpv import Hpv
from training.tasks.linear import BalancedLogistic, RidgeCox
from training.tasks.prognosis import measures_of
from training.tasks.survival import Survival
from training.train import Options, Task, make_folds, prepared, seen_of

MaskOf: TypeAlias = Callable[[Cached], LabelVolume | None]
"""From a patient to a label map on the region's grid; None where there is none."""

NETWORK: Final = "network, chosen on these patients"


@dataclass(frozen=True)
class Metric:
    """A score of predictions.

    Attributes
    ----------
    columns : those of the predictions that it takes, in order.
    within_folds : whether it is the mean over folds, weighted by patients, since predictions of
        models that were fitted apart need not share a scale; otherwise it is that of all together.
    result : its name in the `result.json` of a network; None where that does not have it.
    """

    name: str
    function: Callable[..., float]
    columns: tuple[str, ...]
    within_folds: bool
    result: str | None


@dataclass(frozen=True)
class Rivals:
    """The simple models of a task.

    Attributes
    ----------
    inputs : for each model, by its name, the columns of `table_of` that it takes.
    predict : from patients fitted on, others, and these columns to columns of predictions.
    """

    inputs: Mapping[str, tuple[str, ...]]
    predict: Callable[[pd.DataFrame, pd.DataFrame, Sequence[str]], dict[str, object]]
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    Attributes
    ----------
    held_out : over the patients of all folds, each scored by the model that did not see it.
    by_fold : the same for each fold's patients; None where they have no score.
    unseen : for each further cohort, by its name, by a model fitted on all patients.
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


_BUT_HPV: Final = tuple(key for key in Survival.clinical_keys if key != "hpv")

RIVALS: Final = {
    "survival": Rivals(
        {
            "clinical": Survival.clinical_keys,
            "clinical but HPV": _BUT_HPV,
            "lesions": MEASURES,
            "clinical, lesions": (*Survival.clinical_keys, *MEASURES),
            "clinical but HPV, lesions": (*_BUT_HPV, *MEASURES),
        },
        _cox,
        (Metric("C-index", concordance_index, ("risk", "rfs_days", "relapse"), True, "c_index"),),
    ),
    "hpv": Rivals(
        {
            "clinical": Hpv.clinical_keys,
            "lesions": MEASURES,
            "clinical, lesions": (*Hpv.clinical_keys, *MEASURES),
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
            Metric("AUC", roc_auc, ("probability", "hpv_status"), True, None),
        ),
    ),
}


def measure(
    task: Task,
    cohort: Path,
    runs: Path,
    options: Options,
    masks: Origin,
    unseen: Sequence[Path],
    segmentation: Path,
) -> list[Row]:
    """Compare the simple models of a task, and its networks where the folds are those of its run.

    Parameters
    ----------
    runs : folder of runs; its cache is made or used. The folds are those of the task's run in it,
        unless the options ask for others.
    unseen : further cohorts to score on; their caches go into `RUNS/unseen`.
    segmentation : Task 1 model folder that segments them where masks are predicted.

    Raises
    ------
    HecktorError
        If the task has no rivals, or cohort, options or run do not fit.
    """
    if task.name not in RIVALS:
        raise InputError(f"expected a task, one of {', '.join(RIVALS)}, found {task.name!r}")
    repeated = [name for name, count in Counter(p.name for p in unseen).items() if count > 1]
    if repeated:
        raise InputError(
            f"expected unseen cohorts with names of their own, found two {repeated[0]}"
        )
    of_run = runs / task.name / FILE
    if options.folds is None and not options.by_centre and options.splits is None:
        if not of_run.is_file():
            raise InputError(
                f"expected the folds of a run in {of_run}, found none; train first, or give "
                "--folds, --by-centre or --splits"
            )
        options = replace(options, splits=of_run)
    everyone = prepared(cohort, runs, options)
    patients = {p.files.patient_id: p for p in seen_of(task, cohort, everyone)}
    others = {p.files.patient_id for p in everyone} - set(patients)
    folds = make_folds(task, patients, options, others).folds
    known = {name for fold in folds for name in (*fold.fitted, *fold.held_out)}
    mask_of: MaskOf = true_mask
    mask_of_unseen: MaskOf = true_mask
    if masks == "predicted":
        mask_of = out_of_fold.masks(runs)
        if unseen:
            preparation = load_configuration(options.configuration).preparation
            mask_of_unseen = masks_of_model(segmentation, preparation)
    table = table_of([patients[name] for name in sorted(known)], mask_of)
    further = {
        path.name: table_of(
            seen_of(task, path, prepared(path, runs / "unseen" / path.name, options)),
            mask_of_unseen,
        )
        for path in unseen
    }
    rivals = RIVALS[task.name]
    rows = compare(rivals, table, folds, further)
    if options.splits == of_run:
        rows += networks(rivals, runs / task.name, folds)
    order = [metric.name for metric in rivals.metrics]
    return sorted(rows, key=lambda row: order.index(row.metric))


def true_mask(patient: Cached) -> LabelVolume | None:
    """Return the label map of the data."""
    return None if patient.files.labels is None else patient.labels


def masks_of_model(folder: Path, preparation: Preparation) -> MaskOf:
    """Return how to segment patients that no network has seen.

    Parameters
    ----------
    folder : a Task 1 model folder.
    preparation : that of the patients.

    Raises
    ------
    InputError
        If the model takes another region.
    """
    model = SegmentationModel.load(folder)
    if model.card.preparation != preparation:
        raise InputError(
            f"expected a Task 1 model in {folder} for the region {preparation}, found one for "
            f"{model.card.preparation}; give another model folder or configuration"
        )
    return lambda patient: model.segment(patient.prepared())


def table_of(patients: Sequence[Cached], mask_of: MaskOf) -> pd.DataFrame:
    """Return what the rivals see and what became of the patients, one row each, by ID.

    Clinical values are columns by their keys, measures of lesions by their names as logarithms
    (`LesionMeasures.vector`); both NaN where missing. Outcomes are `hpv_status`, `relapse` and
    `rfs_days`.
    """
    rows = {}
    for patient in patients:
        files = patient.files
        labels = mask_of(patient)
        measures = np.full(len(MEASURES), np.nan, np.float32)
        if labels is not None:
            measures = measures_of(patient, labels)
        rows[files.patient_id] = {
            **vars(files.clinical),
            **dict(zip(MEASURES, measures, strict=True)),
            "hpv_status": files.hpv,
            "relapse": files.relapse,
            "rfs_days": files.rfs_days,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype(dict.fromkeys((*vars(ClinicalRecord()), *MEASURES), float))


def compare(
    rivals: Rivals,
    table: pd.DataFrame,
    folds: Sequence[Fold],
    unseen: Mapping[str, pd.DataFrame],
) -> list[Row]:
    """Fit and score each model in each fold, and on cohorts that no fold knows.

    Parameters
    ----------
    table : of `table_of`, with all patients of the folds.
    unseen : tables of other cohorts by their names, for models fitted on the whole table.
    """
    rows = []
    for name, columns in rivals.inputs.items():
        parts = []
        for fold in folds:
            fitted, others = table.loc[list(fold.fitted)], table.loc[list(fold.held_out)]
            predicted = rivals.predict(fitted, others, columns)
            parts.append(others.assign(**predicted, fold=fold.name))
        held_out = pd.concat(parts)
        further = {
            cohort: others.assign(**rivals.predict(table, others, columns), fold=cohort)
            for cohort, others in unseen.items()
        }
        for metric in rivals.metrics:
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


def networks(rivals: Rivals, run_folder: Path, folds: Sequence[Fold]) -> list[Row]:
    """Return what the networks of a run scored in its folds, without those not trained yet.

    Each is the epoch that did best on the very patients it is scored on here: an upper bound of
    what an unseen patient would be told. The mean over folds is weighted by patients.
    """
    sizes = {fold.name: len(fold.held_out) for fold in folds}
    found: dict[str, dict[str, float]] = {}
    for fold in folds:
        path = run_folder / f"fold{fold.name}" / RESULT
        if path.is_file():
            stated = json.loads(path.read_text(encoding="utf-8"))
            is_mean = stated["kept"] == "mean of weights"
            found[fold.name] = stated["averaged"] if is_mean else stated["best"]
    rows = []
    for metric in rivals.metrics:
        if metric.result is not None and found:
            by_fold = {fold: scores[metric.result] for fold, scores in found.items()}
            weights = [sizes[fold] for fold in by_fold]
            mean = float(np.average(list(by_fold.values()), weights=weights))
            interval = Interval(value=mean, low=None, high=None, standard_error=None)
            rows.append(Row(metric.name, NETWORK, interval, by_fold, {}))
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Return the comparison as a table in Markdown; a score that does not exist is a dash."""
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
                _words(row.held_out),
                *("–" if value is None else f"{value:.3f}" for value in single),
                *(_words(row.unseen.get(cohort)) for cohort in cohorts),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _score(metric: Metric, rows: pd.DataFrame) -> Interval:
    """Return a metric of predictions with its interval; NaN where they have none."""
    columns = [rows[column].to_numpy() for column in metric.columns]
    # All patients together are one group.
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


def _words(interval: Interval | None) -> str:
    return "–" if interval is None or np.isnan(interval.value) else f"{interval:.3f}"
