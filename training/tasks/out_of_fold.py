"""Out-of-fold predictions, by models that were not trained on the patient.

Task 2 can learn from them, and their scores are not optimistic.

`RUNS/segmentation/out_of_fold/<ID>.npz` holds, on the region's grid of the patient in the cache,

- `labels`: uint8, [z, y, x], after the rules of the configuration;
- `probabilities`: uint8, [GTVp, GTVn; z, y, x], 255 is certain (background is the rest);
- `fold`: the name of the fold that held the patient out.

`scores.csv` in the same folder has one row for each patient with a label map; masks are compared on
the CT's own grid. `RUNS/hpv/out_of_fold/logits.csv` has one row for each patient, fold and kind of
model, with the logit of the HPV status and the truth. A patient with a known status has the fold
that held the patient out; a patient with an unknown status has all folds, because no model was
trained on the patient. `RUNS/survival/out_of_fold/risks.csv` has the risk of each patient with
follow-up in the same form, standardised as in serving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.special import expit
from tqdm import tqdm

from shared.conventions import Label, LabelVolume, Volume
from shared.errors import InputError
from shared.files import locked, whole, write_whole
from shared.metrics.segmentation import detections, dice, overlap
from shared.models.card import MemberKind
from shared.postprocessing.restore import restore
from shared.postprocessing.rules import label_map
from shared.preprocessing.pipeline import Prepared
from training.cohort.cache import PreparedPatient
from training.cohort.preparation import read_labels
from training.config import SegmentationSettings

FOLDER: Final = "out_of_fold"
SCORES: Final = "scores.csv"
LOGITS: Final = "logits.csv"
RISKS: Final = "risks.csv"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The content of one patient's file.

    Attributes
    ----------
    labels : label map on the region's grid, [z, y, x].
    probabilities : probabilities of background, GTVp and GTVn, shape (3, z, y, x), to 1/255.
    """

    fold: str
    labels: LabelVolume
    probabilities: Volume


def write(
    folder: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    *,
    predict: Callable[[Prepared], Volume],
    settings: SegmentationSettings,
) -> None:
    """Segment patients, write a file for each, and add their scores to the table.

    Parameters
    ----------
    patients : patients whom the fold held out, or who are in no fold because they have no label
        map.
    predict : returns the probabilities of the fold's network for a prepared case, shape
        (3, z, y, x).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for patient in tqdm(patients, desc=f"fold {fold}: predicting", unit="patient"):
        prepared = patient.prepared()
        probabilities = predict(prepared)
        labels = label_map(
            probabilities,
            prepared.pet_suv,
            spacing_mm=prepared.undo.region.spacing_mm[0],
            min_component_mm3=settings.min_component_mm3,
            rules=settings.rules,
        )
        with whole(folder / f"{patient.patient_id}.npz") as draft:
            np.savez_compressed(
                draft,
                labels=labels,
                probabilities=np.round(probabilities[1:] * 255).astype(np.uint8),
                fold=np.array(fold),
            )
        if patient.patient.labels is not None:
            scores = _scores(patient, labels)
            rows.append({"PatientID": patient.patient_id, "fold": fold, **scores})
    path = folder / SCORES
    table = pd.DataFrame(rows).set_index("PatientID")
    with locked(path):
        if path.exists():
            before = pd.read_csv(path, dtype={"PatientID": str, "fold": str}, index_col="PatientID")
            table = pd.concat([before.drop(table.index, errors="ignore"), table])
        write_whole(path, table.sort_index().to_csv())


def read(folder: Path, patient_id: str) -> Prediction:
    """Read one patient's file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    require(folder, [patient_id])
    with np.load(folder / f"{patient_id}.npz") as arrays:
        lesions = arrays["probabilities"].astype(np.float32) / 255
        background = np.clip(1 - lesions.sum(axis=0), 0, 1)
        return Prediction(
            fold=str(arrays["fold"]),
            labels=arrays["labels"],
            probabilities=np.concatenate([background[None], lesions]),
        )


def require(folder: Path, patient_ids: Sequence[str]) -> None:
    """Raise InputError if a patient has no file."""
    for name in patient_ids:
        path = folder / f"{name}.npz"
        if not path.is_file():
            raise InputError(
                f"expected an out-of-fold prediction in {path}, found none; train all folds of "
                "Task 1"
            )


def masks(runs: Path) -> Callable[[PreparedPatient], LabelVolume]:
    """Return a function that reads the out-of-fold label map of a patient."""
    folder = runs / "segmentation" / FOLDER
    return lambda patient: read(folder, patient.patient_id).labels


def write_logits(
    folder: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    logits: Mapping[MemberKind, NDArray[np.float64]],
) -> None:
    """Write the logits of one fold's models for patients that they were not trained on."""
    rows = _rows(fold, patients, logits, "logit")
    status = {patient.patient_id: patient.patient.hpv for patient in patients}
    _write_fold(folder / LOGITS, rows.assign(**{"HPV Status": rows["PatientID"].map(status)}))


def write_risks(
    folder: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    risks: Mapping[MemberKind, NDArray[np.float64]],
) -> None:
    """Write the standardised risks of one fold's models for patients they were not trained on."""
    write_values(folder / RISKS, fold, patients, values=risks, column="risk")


def write_values(
    path: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    *,
    values: Mapping[MemberKind, NDArray[np.float64]],
    column: str,
) -> None:
    """Write a number for each patient and model of one fold to a table that all folds share.

    Parameters
    ----------
    column : name of the column with the numbers.
    """
    _write_fold(path, _rows(fold, patients, values, column))


def read_known_hpv(
    folder: Path, kinds: Sequence[MemberKind]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return out-of-fold probabilities and true statuses of all patients with a known status.

    As in serving, the probability is the logistic function of the mean logit of all kinds of
    models.
    """
    table = _read_table(folder / LOGITS).dropna(subset="HPV Status")
    table = table[table["kind"].isin(kinds)]
    patients = table.groupby("PatientID").agg({"logit": "mean", "HPV Status": "first"})
    return expit(patients["logit"].to_numpy()), patients["HPV Status"].to_numpy(dtype=bool)


def read_hpv_probabilities(folder: Path, patient_ids: Sequence[str]) -> list[float]:
    """Return the out-of-fold probabilities of HPV+ of patients.

    As in serving, a probability is the logistic function of the mean logit.

    Raises
    ------
    InputError
        If a patient has no logit.
    """
    logits = read_means(folder / LOGITS, patient_ids, column="logit", task_number=3)
    return [float(expit(logit)) for logit in logits]


def read_risks(folder: Path, patient_ids: Sequence[str]) -> list[float]:
    """Return the mean out-of-fold risks of patients.

    Raises
    ------
    InputError
        If a patient has no risk.
    """
    return read_means(folder / RISKS, patient_ids, column="risk", task_number=2)


def read_means(
    path: Path, patient_ids: Sequence[str], *, column: str, task_number: int
) -> list[float]:
    """Return the means over all models for patients, from a table that `write_values` wrote.

    Raises
    ------
    InputError
        If a patient is not in the table.
    """
    means = _read_table(path).groupby("PatientID")[column].mean() if path.is_file() else {}
    missing = [name for name in patient_ids if name not in means]
    if missing:
        raise InputError(
            f"expected an out-of-fold {column} of {missing[0]} in {path}, found none; train all "
            f"folds of Task {task_number}"
        )
    return [float(means[name]) for name in patient_ids]


def _rows(
    fold: str,
    patients: Sequence[PreparedPatient],
    outputs: Mapping[MemberKind, NDArray[np.float64]],
    name: str,
) -> pd.DataFrame:
    rows = [
        (patient.patient_id, fold, kind, value)
        for kind, values in outputs.items()
        for patient, value in zip(patients, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["PatientID", "fold", "kind", name])


def _write_fold(path: Path, rows: pd.DataFrame) -> None:
    """Write one fold's rows to a table; they replace earlier rows of the same fold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = rows.astype({"HPV Status": "boolean"} if "HPV Status" in rows else {})
    with locked(path):
        if path.exists():
            before = _read_table(path)
            rows = pd.concat([before[~before["fold"].isin(rows["fold"])], rows])
        write_whole(path, rows.sort_values(["PatientID", "fold", "kind"]).to_csv(index=False))


def _read_table(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype={"PatientID": str, "fold": str})
    return table.astype({"HPV Status": "boolean"} if "HPV Status" in table else {})


def _scores(patient: PreparedPatient, labels: LabelVolume) -> dict[str, float]:
    """Return the terms of the challenge's scores, on the CT's grid."""
    prediction = sitk.GetArrayFromImage(restore(labels, patient.undo))
    truth = sitk.GetArrayFromImage(read_labels(patient.patient))
    nodes = overlap(
        prediction, truth, Label.GTVN, voxel_volume_mm3=patient.undo.ct.voxel_volume_mm3
    )
    lesions = detections(prediction, truth, Label.GTVN)
    return {
        "gtvp_dice": dice(prediction, truth, Label.GTVP),
        "gtvn_shared_mm3": nodes.shared_mm3,
        "gtvn_found_mm3": nodes.prediction_mm3,
        "gtvn_true_mm3": nodes.truth_mm3,
        "gtvn_true_positives": lesions.true_positives,
        "gtvn_false_positives": lesions.false_positives,
        "gtvn_false_negatives": lesions.false_negatives,
    }
