"""The scores of training runs on held-out patients, leave-one-centre-out first.

Each patient is predicted by models that were not trained on the patient, with weights that the
patient has not chosen. The score with one centre held out after another is closest to the score to
expect at hidden centres, so it is the headline. In folds of mixed centres, models are also trained
on other patients of the same centres.

Each score comes with the optimism of the best epoch: the network's score at the epoch that did best
on the held-out patients, minus the score of the late weights on the same patients. It is the mean
over the folds, weighted by their numbers of patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from shared.errors import InputError
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import roc_auc
from shared.metrics.segmentation import Detections, Overlap
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import Interval, Statistic, bootstrap, mean_over_groups
from shared.tasks import TaskName
from training.cohort.folds import FOLDS, LEAVE_ONE_CENTRE_OUT, Folds, read_folds
from training.export.record import RUN, read_run
from training.loop.fit import RESULT, FitResult
from training.records import read_record
from training.tasks import out_of_fold
from training.tasks.segmentation import scores_of

HEADLINE: Final = "leave one centre out"
MIXED: Final = "folds of mixed centres"

Statistics: TypeAlias = Mapping[str, Statistic]
"""Statistics by the name of their metric in `result.json`."""


@dataclass(frozen=True, kw_only=True)
class HeldOutScore:
    """One score of a training run on its held-out patients.

    Attributes
    ----------
    folds : `HEADLINE` or `MIXED`.
    optimism : the optimism of the network's best epoch; None without a network.
    """

    task: TaskName
    metric: str
    folds: str
    patients: int
    score: Interval
    optimism: float | None


def held_out_scores(runs: Sequence[Path]) -> list[HeldOutScore]:
    """Return the scores of all tasks trained in some folders of runs, the headline first.

    A task counts as trained once all its folds are. A task that was trained on everybody has no
    score.

    Raises
    ------
    InputError
        If no task is trained.
    """
    scores = [
        score
        for folder in runs
        for name, table in _TABLES.items()
        if (folder / name / FOLDS).is_file()
        for score in _of_run(name, folder / name, table)
    ]
    if not scores:
        raise InputError(
            f"expected a task with held-out patients whose folds are all trained in "
            f"{', '.join(map(str, runs))}, found none; train first"
        )
    return sorted(scores, key=lambda score: score.folds != HEADLINE)


def markdown(scores: Sequence[HeldOutScore]) -> str:
    """Return scores as a table in Markdown, with a remark if the headline is missing."""
    lines = [
        "| held out | task | score | [95 %] | patients | optimism of the best epoch |",
        "|---|---|---|---|---|---|",
    ]
    for each in scores:
        optimism = "–" if each.optimism is None else f"{each.optimism:+.3f}"
        lines.append(
            f"| {each.folds} | {each.task} | {each.metric} | {each.score:.3f} | {each.patients} "
            f"| {optimism} |"
        )
    if all(each.folds != HEADLINE for each in scores):
        lines += [
            "",
            "These models were trained on other patients of the same centres. Expect lower scores "
            "at hidden centres: train with --by-centre in another folder of runs, and give that "
            "folder too.",
        ]
    return "\n".join(lines)


def _of_run(name: TaskName, run_folder: Path, file: str) -> list[HeldOutScore]:
    folds = read_folds(run_folder)
    if not folds.holds_out:
        return []
    path = run_folder / out_of_fold.FOLDER / file
    if not path.is_file():
        return []
    statistics, count, predicted = _STATISTICS[name](path)
    # An adopted Task 1 model, which has no run.json, outlines all lesions.
    if name == "segmentation" and (run_folder / RUN).is_file():
        statistics = scores_of(read_run(run_folder).configuration.segmentation.lesions, statistics)
    if predicted != {fold.name for fold in folds.folds}:
        return []
    return [
        HeldOutScore(
            task=name,
            metric=metric,
            folds=HEADLINE if LEAVE_ONE_CENTRE_OUT in folds.how else MIXED,
            patients=count,
            score=bootstrap(statistic, count),
            optimism=_optimism(run_folder, folds, metric),
        )
        for metric, statistic in statistics.items()
    ]


def _optimism(run_folder: Path, folds: Folds, metric: str) -> float | None:
    values, sizes = [], []
    for fold in folds.folds:
        path = run_folder / f"fold{fold.name}" / RESULT
        if path.is_file():
            values.append(read_record(FitResult, path).optimism[metric])
            sizes.append(len(fold.held_out))
    return float(np.average(values, weights=sizes)) if values else None


def _segmentation(path: Path) -> tuple[Statistics, int, set[str]]:
    table = pd.read_csv(path, dtype={"PatientID": str, "fold": str})

    def sums(chosen: Any, *columns: str) -> list[float]:
        return [float(table[column].to_numpy()[chosen].sum()) for column in columns]

    volumes = ("gtvn_shared_mm3", "gtvn_found_mm3", "gtvn_true_mm3")
    counts = ("gtvn_true_positives", "gtvn_false_positives", "gtvn_false_negatives")
    statistics: Statistics = {
        "gtvp_dice": lambda chosen: float(table["gtvp_dice"].to_numpy()[chosen].mean()),
        "gtvn_aggregated_dice": lambda chosen: Overlap(*sums(chosen, *volumes)).dice(),
        "gtvn_aggregated_f1": lambda chosen: Detections(*map(int, sums(chosen, *counts))).f1(),
    }
    return statistics, len(table), set(table["fold"])


def _hpv(path: Path) -> tuple[Statistics, int, set[str]]:
    patients = out_of_fold.patients_of(path).dropna(subset="HPV Status")
    probability = np.array(out_of_fold.read_hpv_probabilities(path.parent, list(patients.index)))
    truth = patients["HPV Status"].to_numpy(dtype=bool)
    statistics: Statistics = {
        "balanced_accuracy": lambda c: balanced_accuracy(probability[c] >= 0.5, truth[c]),
        "auc": mean_over_groups(roc_auc, (probability, truth), patients["fold"]),
    }
    return statistics, len(patients), set(patients["fold"])


def _survival(path: Path) -> tuple[Statistics, int, set[str]]:
    patients = out_of_fold.patients_of(path)
    columns = (
        np.array(out_of_fold.read_risks(path.parent, list(patients.index))),
        patients["RFS"].to_numpy(float),
        patients["Relapse"].to_numpy(dtype=bool),
    )
    c_index = mean_over_groups(concordance_index, columns, patients["fold"])
    return {"c_index": c_index}, len(patients), set(patients["fold"])


_TABLES: Final[Mapping[TaskName, str]] = {
    "segmentation": out_of_fold.SCORES,
    "hpv": out_of_fold.LOGITS,
    "survival": out_of_fold.RISKS,
}
_STATISTICS: Final = {"segmentation": _segmentation, "hpv": _hpv, "survival": _survival}
