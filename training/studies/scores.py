"""Score the repository's model folders on unseen patients, as the containers run them.

Masks are compared on the CT's own grid; Task 2 sees the masks and the HPV probability that Task 1
and Task 3 predict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from shared.case import Case
from shared.conventions import Label
from shared.errors import InputError
from shared.geometry import Grid
from shared.metrics.classification import balanced_accuracy
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import Statistic, bootstrap
from shared.models.card import Member, Score, load_card, require_same_preparation, write_card
from shared.models.hpv import HpvModel
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from shared.postprocessing.restore import restore
from shared.preprocessing.pipeline import prepare
from training.cohort.layout import PatientFiles
from training.tasks.segmentation import Totals


def evaluate(
    repository: Path, patients: Sequence[PatientFiles], cohort: str, write: bool
) -> dict[str, list[Score]]:
    """Run the three models on patients, print their scores, and write them into the cards if asked.

    Standard errors are those of a bootstrap over patients. `no_primary_found` is the share of the
    patients without a primary in whom none was found. Where a model folder holds networks and
    linear models, each kind is scored alone too.
    """
    folders = {
        "segmentation": repository / "task1_segmentation/model",
        "survival": repository / "task2_survival/model",
        "hpv": repository / "task3_hpv/model",
    }
    segmentation = SegmentationModel.load(folders["segmentation"])
    hpv = HpvModel.load(folders["hpv"])
    survival = SurvivalModel.load(folders["survival"])
    require_same_preparation(survival.card, segmentation.card, hpv.card)
    totals: list[Totals] = []
    none_found: list[bool] = []
    decisions: dict[str, list[tuple[bool, bool]]] = {}
    risks: dict[str, list[tuple[float, float, bool]]] = {}
    for patient in tqdm(patients, desc="evaluating"):
        if patient.labels is None:
            raise InputError(f"expected labels for patient {patient.patient_id}, found none")
        case = Case(
            ct_hu=sitk.ReadImage(str(patient.ct)),
            pet=sitk.ReadImage(str(patient.pet)),
            clinical=patient.clinical,
        )
        prepared = prepare(case, segmentation.card.preparation)
        labels = segmentation.segment(prepared)
        truth = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        found = sitk.GetArrayFromImage(restore(labels, prepared.undo))
        lesions = sitk.GetArrayFromImage(truth)
        total = Totals()
        total.add(found, lesions, Grid.of(truth).voxel_volume_mm3)
        totals.append(total)
        if not np.any(lesions == Label.GTVP):
            none_found.append(not np.any(found == Label.GTVP))
        said = list(hpv.outputs(prepared, case.clinical, labels))
        if patient.hpv is not None:
            for kind, outputs in by_kind(said).items():
                decision = hpv.combined(outputs).decision
                decisions.setdefault(kind, []).append((decision, patient.hpv))
        if patient.relapse is not None and patient.rfs_days is not None:
            clinical = replace(case.clinical, hpv=hpv.combined(said).probability)
            for kind, outputs in by_kind(survival.outputs(prepared, clinical, labels)).items():
                risk = survival.combined(outputs)
                risks.setdefault(kind, []).append((risk, patient.rfs_days, patient.relapse))

    scores = {
        "segmentation": [
            _score(name, _total(name, totals), len(totals), cohort)
            for name in Totals.of(totals).scores()
        ],
        "hpv": [
            _score(f"balanced_accuracy{kind}", _on(balanced_accuracy, rows), len(rows), cohort)
            for kind, rows in decisions.items()
        ],
        "survival": [
            _score(f"c_index{kind}", _on(concordance_index, rows), len(rows), cohort)
            for kind, rows in risks.items()
        ],
    }
    if none_found:
        share = _on(np.mean, [(none,) for none in none_found])
        scores["segmentation"].append(_score("no_primary_found", share, len(none_found), cohort))
    for task, measured in scores.items():
        for score in measured:
            error = score.standard_error
            print(
                f"{task:13} {score.metric:30} {score.value:.3f} ± "
                f"{'unknown' if error is None else f'{error:.3f}'} "
                f"({score.patients} patients: {cohort})"
            )
        if write:
            card = load_card(folders[task], task)
            write_card(folders[task], card.model_copy(update={"scores": tuple(measured)}))
    return scores


def by_kind(outputs: Iterable[tuple[Member, float]]) -> dict[str, list[tuple[Member, float]]]:
    """Return outputs of all members, and where they are of several kinds those of each kind.

    Returns
    -------
    By the suffix of the score's name, empty for all.
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
    measured = bootstrap(statistic, patients)
    return Score(
        metric=metric,
        value=measured.value,
        standard_error=measured.standard_error,
        patients=patients,
        cohort=cohort,
    )
