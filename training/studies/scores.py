"""Score the repository's model folders on unseen patients, as the containers run them.

Masks are compared on the CT's own grid. Task 2 sees the masks and the HPV probability that Tasks 1
and 3 predict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from shared.conventions import Label
from shared.editions import CURRENT
from shared.geometry import Grid
from shared.metrics.classification import balanced_accuracy
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import Statistic, bootstrap
from shared.models.card import Member, Score, load_card, write_card
from shared.models.chain import Answers, Chain
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import Undo
from shared.tasks import TASK_NAMES, TaskName
from training.cohort.layout import Patient
from training.cohort.preparation import read_case, read_labels
from training.tasks.discovery import TASKS
from training.tasks.segmentation import Totals


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What the chain answered about a cohort, next to the truth.

    Attributes
    ----------
    totals : overlaps and detections of Task 1, one entry per patient.
    absent_primaries : for each patient without a primary, whether none was predicted.
    decisions : decision and status of each patient whose HPV status is known, by the suffix of the
        score's name (see `by_kind`).
    risks : risk, days and event of each patient with follow-up, likewise by suffix.
    """

    totals: list[Totals] = field(default_factory=list)
    absent_primaries: list[bool] = field(default_factory=list)
    decisions: dict[str, list[tuple[bool, bool]]] = field(default_factory=dict)
    risks: dict[str, list[tuple[float, float, bool]]] = field(default_factory=dict)

    def add(self, patient: Patient, answers: Answers, chain: Chain, undo: Undo) -> None:
        """Add the answers about one patient."""
        assert answers.labels is not None
        assert chain.hpv is not None
        assert chain.survival is not None
        truth = read_labels(patient)
        lesions = sitk.GetArrayFromImage(truth)
        prediction = sitk.GetArrayFromImage(restore(answers.labels, undo))
        total = Totals()
        total.add(prediction, lesions, Grid.of(truth).voxel_volume_mm3)
        self.totals.append(total)
        if not np.any(lesions == Label.GTVP):
            self.absent_primaries.append(not np.any(prediction == Label.GTVP))
        if patient.hpv is not None:
            for suffix, outputs in by_kind(answers.hpv_outputs).items():
                decision = chain.hpv.combine(outputs).decision
                self.decisions.setdefault(suffix, []).append((decision, patient.hpv))
        if patient.relapse is not None and patient.rfs_days is not None:
            for suffix, outputs in by_kind(answers.risk_outputs).items():
                row = (chain.survival.combine(outputs), patient.rfs_days, patient.relapse)
                self.risks.setdefault(suffix, []).append(row)

    def scores(self, cohort: str) -> dict[TaskName, list[Score]]:
        """Return the scores of each task with bootstrap standard errors over patients."""
        segmentation = [
            _score(name, _total(name, self.totals), len(self.totals), cohort)
            for name in Totals.of(self.totals).scores()
        ]
        if self.absent_primaries:
            share = _on(np.mean, [(none,) for none in self.absent_primaries])
            count = len(self.absent_primaries)
            segmentation.append(_score("no_primary_found", share, count, cohort))
        return {
            "segmentation": segmentation,
            "hpv": [
                _score(
                    f"balanced_accuracy{suffix}", _on(balanced_accuracy, rows), len(rows), cohort
                )
                for suffix, rows in self.decisions.items()
            ],
            "survival": [
                _score(f"c_index{suffix}", _on(concordance_index, rows), len(rows), cohort)
                for suffix, rows in self.risks.items()
            ],
        }


def score_models(
    model_folders: Mapping[TaskName, Path], patients: Sequence[Patient], cohort: str, *, write: bool
) -> dict[TaskName, list[Score]]:
    """Run the three models on patients, print their scores and, if asked, write them to the cards.

    `no_primary_found` is the share of patients without a primary for whom none was predicted. If a
    model folder holds networks and linear models, each kind is also scored alone.

    Parameters
    ----------
    cohort : the patients, in words.

    Raises
    ------
    InputError
        If a patient has no label map.
    """
    chain = Chain.load(
        segmentation=model_folders["segmentation"],
        hpv=model_folders["hpv"],
        survival=model_folders["survival"],
    )
    scores = observe(chain, patients).scores(cohort)
    for task, task_scores in scores.items():
        for score in task_scores:
            error = score.standard_error
            print(
                f"{task:13} {score.metric:30} {score.value:.3f} ± "
                f"{'unknown' if error is None else f'{error:.3f}'} "
                f"({score.patients} patients: {cohort})"
            )
        if write:
            card = load_card(model_folders[task], TASKS[task].model_type.card_type)
            card = card.model_copy(update={"scores": tuple(task_scores)})
            write_card(model_folders[task], card)
    return scores


def observe(chain: Chain, patients: Sequence[Patient]) -> Observations:
    """Run all three models of a chain on patients, and return what they answered.

    Raises
    ------
    InputError
        If a patient has no label map.
    """
    observations = Observations()
    for patient in tqdm(patients, desc="evaluating"):
        case = read_case(patient)
        prepared = chain.prepare(case)
        answers = chain.answer(prepared, case.clinical)
        observations.add(patient, answers, chain, prepared.undo)
    return observations


def repository_models(repository: Path) -> dict[TaskName, Path]:
    """Return the model folders of a checkout, by task."""
    return {task: repository / CURRENT.algorithm(task).name / "model" for task in TASK_NAMES}


def by_kind(outputs: Iterable[tuple[Member, float]]) -> dict[str, list[tuple[Member, float]]]:
    """Return the outputs of all members and, if they are of several kinds, those of each kind.

    Returns
    -------
    By the suffix of the score's name, which is empty for all members.
    """
    everything = list(outputs)
    kinds = dict.fromkeys(member.kind for member, _ in everything)
    alone = {
        f"_{kind}_alone": [(m, value) for m, value in everything if m.kind == kind]
        for kind in (kinds if len(kinds) > 1 else ())
    }
    return {"": everything, **alone}


def _total(name: str, totals: Sequence[Totals]) -> Statistic:
    """Return one of Task 1's scores as a statistic of chosen cases."""
    return lambda chosen: Totals.of([totals[i] for i in chosen]).scores()[name]


def _on(metric: Callable[..., float], rows: Sequence[tuple[float, ...]]) -> Statistic:
    """Return a metric of columns as a statistic of chosen rows."""
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]
    return lambda chosen: metric(*(column[chosen] for column in columns))


def _score(metric: str, statistic: Statistic, patients: int, cohort: str) -> Score:
    """Return a statistic of all patients with its bootstrap standard error."""
    interval = bootstrap(statistic, patients)
    return Score(
        metric=metric,
        value=interval.value,
        standard_error=interval.standard_error,
        patients=patients,
        cohort=cohort,
    )
