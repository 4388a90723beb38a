"""Out-of-fold predictions, by models that were not trained on the patient.

Tasks 2 and 3 can learn from them, and their scores are not optimistic.

`RUNS/segmentation/out_of_fold/<ID>.npz` holds, on the grid of the patient's region in the cache,

- `labels`: uint8, shape (z, y, x), after the rules of the configuration;
- `probabilities`: uint8, shape (2, z, y, x), of GTVp and GTVn; 255 means a probability of 1. The
  background has the rest;
- `fold`: the name of the fold that held the patient out.

`scores.csv` in the same folder has one row for each patient with a label map; masks are compared on
the CT's own grid. `RUNS/hpv/out_of_fold/logits.csv` has one row for each patient, fold and kind of
model, with the logit of the HPV status and the truth. A patient with a known status has rows of the
fold that held the patient out. A patient with an unknown status has rows of all folds, because no
model was trained on the patient. `RUNS/survival/out_of_fold/risks.csv` has the same form: the risk
of each patient with follow-up, standardised as in serving, and the outcome.

If a fold has several kinds of models, the functions that read a table return their weighted sum
(`weights.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
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
from shared.postprocessing.restore import SegmentedRegion, restore
from shared.postprocessing.rules import Rules, label_map
from shared.preprocessing.pipeline import Prepared
from training.cohort.cache import PreparedPatient
from training.cohort.preparation import read_labels
from training.tasks.weights import HPV_WEIGHING, RISK_WEIGHING, Weighing, Weights

FOLDER: Final = "out_of_fold"
SCORES: Final = "scores.csv"
LOGITS: Final = "logits.csv"
RISKS: Final = "risks.csv"


@dataclass(frozen=True, kw_only=True)
class Prediction(SegmentedRegion):
    """The content of one patient's file; probabilities are rounded to 1/255."""

    fold: str


def write(
    folder: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    *,
    predict: Callable[[Prepared], Volume],
    min_component_mm3: Mapping[str, float],
    rules: Rules,
) -> None:
    """Segment patients, write a file for each, and add their scores to the table.

    Parameters
    ----------
    patients : patients whom the fold held out, or who are in no fold because they have no label
        map.
    predict : returns the probabilities of the fold's network for a prepared case, shape
        (3, z, y, x).
    min_component_mm3, rules : the post-processing, see `label_map`.
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
            min_component_mm3=min_component_mm3,
            rules=rules,
        )
        with whole(folder / f"{patient.patient_id}.npz") as draft:
            np.savez_compressed(
                draft,
                labels=labels,
                probabilities=np.round(probabilities[1:] * 255).astype(np.uint8),
                fold=np.array(fold),
            )
        if patient.patient.labels is not None:
            segmented = SegmentedRegion(labels=labels, probabilities=probabilities)
            scores = _scores(patient, segmented)
            rows.append({"PatientID": patient.patient_id, "fold": fold, **scores})
    if not rows:
        return
    path = folder / SCORES
    table = pd.DataFrame(rows).set_index("PatientID")
    with locked(path):
        if path.exists():
            before = pd.read_csv(path, dtype={"PatientID": str, "fold": str}, index_col="PatientID")
            table = pd.concat([before.drop(table.index, errors="ignore"), table])
        write_whole(path, table.sort_index().to_csv())


def not_written(folder: Path, patients: Sequence[PreparedPatient]) -> list[PreparedPatient]:
    """Return the patients without a file, and those with a label map but without scores."""
    path = folder / SCORES
    scored = set(pd.read_csv(path, dtype={"PatientID": str})["PatientID"]) if path.exists() else ()
    return [
        p
        for p in patients
        if not (folder / f"{p.patient_id}.npz").is_file()
        or (p.patient.labels is not None and p.patient_id not in scored)
    ]


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
                "Task 1, with --folds so that each patient is held out once, or adopt a Task 1 "
                'model; or set masks = "true" in the configuration'
            )


def masks(runs: Path) -> Callable[[PreparedPatient], LabelVolume]:
    """Return a function that reads the out-of-fold label map of a patient."""
    folder = runs / "segmentation" / FOLDER
    return lambda patient: read(folder, patient.patient_id).labels


def with_masks(patients: Sequence[PreparedPatient], runs: Path) -> list[PreparedPatient]:
    """Return patients with their out-of-fold label maps instead of the true ones."""
    mask_of = masks(runs)
    return [replace(patient, labels=mask_of(patient)) for patient in patients]


def write_logits(
    folder: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    logits: Mapping[MemberKind, NDArray[np.float64]],
) -> None:
    """Write the logits of one fold's models for patients that they were not trained on.

    The true status is written with them.
    """
    rows = _rows(fold, patients, logits, "logit")
    status = {patient.patient_id: patient.patient.hpv for patient in patients}
    _write_fold(folder / LOGITS, rows.assign(**{"HPV Status": rows["PatientID"].map(status)}))


def write_risks(
    folder: Path,
    fold: str,
    patients: Sequence[PreparedPatient],
    risks: Mapping[MemberKind, NDArray[np.float64]],
) -> None:
    """Write the standardised risks of one fold's models for patients they were not trained on.

    The outcome is written with them.
    """
    rows = _rows(fold, patients, risks, "risk")
    outcomes = {p.patient_id: (p.patient.relapse, p.patient.rfs_days) for p in patients}
    relapse, days = zip(*(outcomes[name] for name in rows["PatientID"]), strict=True)
    _write_fold(folder / RISKS, rows.assign(Relapse=relapse, RFS=days))


def read_known_hpv(
    folder: Path, kinds: Sequence[MemberKind]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return out-of-fold probabilities and true statuses of all patients with a known status."""
    table = _read_table(folder / LOGITS).dropna(subset="HPV Status")
    status = table.groupby("PatientID")["HPV Status"].first()
    logits = _combined(table[table["kind"].isin(kinds)], "logit", ["HPV Status"], HPV_WEIGHING)
    return expit(logits.to_numpy()), status[logits.index].to_numpy(dtype=bool)


def fit_hpv_weights(folder: Path, kinds: Sequence[MemberKind]) -> Weights:
    """Return the weights of Task 3's kinds of models that fit their out-of-fold logits best."""
    return _fit_weights(folder / LOGITS, kinds, ["HPV Status"], HPV_WEIGHING)


def fit_risk_weights(folder: Path, kinds: Sequence[MemberKind]) -> Weights:
    """Return the weights of Task 2's kinds of models that fit their out-of-fold risks best."""
    return _fit_weights(folder / RISKS, kinds, ["Relapse", "RFS"], RISK_WEIGHING)


def logits_of_kinds(folder: Path) -> pd.DataFrame:
    """Return the out-of-fold logits of all patients with a known status, a row for each.

    Returns
    -------
    A column for each kind of model, `together` (their weighted sum, as in
    `read_hpv_probabilities`), `fold`, and `HPV Status`.
    """
    return _of_kinds(folder / LOGITS, ["HPV Status"], HPV_WEIGHING)


def risks_of_kinds(folder: Path) -> pd.DataFrame:
    """Return what `logits_of_kinds` returns, for the risks and the outcomes of Task 2."""
    return _of_kinds(folder / RISKS, ["Relapse", "RFS"], RISK_WEIGHING)


def _of_kinds(path: Path, outcomes: list[str], weighing: Weighing) -> pd.DataFrame:
    table = _read_table(path).dropna(subset=outcomes)
    outputs, truth, folds = _by_patient(table, path.stem[:-1], outcomes)
    together = weighing.combine_unseen(outputs, truth, folds)
    return outputs.assign(together=together, fold=folds).join(truth)


def _fit_weights(
    path: Path, kinds: Sequence[MemberKind], outcomes: list[str], weighing: Weighing
) -> Weights:
    if len(kinds) == 1:
        return Weights()
    table = _read_table(path).dropna(subset=outcomes)
    outputs, truth, _ = _by_patient(table[table["kind"].isin(kinds)], path.stem[:-1], outcomes)
    return weighing.weights(outputs, truth)


def patients_of(path: Path) -> pd.DataFrame:
    """Return a row per patient of `logits.csv` or `risks.csv`, by ID: fold and outcome.

    A patient without an outcome may have rows of several folds; the result has one of them.
    """
    return _read_table(path).groupby("PatientID").first()


def read_hpv_probabilities(folder: Path, patient_ids: Sequence[str]) -> list[float]:
    """Return the out-of-fold probabilities of patients to be HPV-positive.

    A probability is the logistic function of the weighted logit. Kinds of models are weighted as in
    serving, but with weights that were not fitted to the patient. If several folds predict a
    patient, the mean of their logits counts.

    Raises
    ------
    InputError
        If a patient has no logit.
    """
    path = folder / LOGITS
    logits = _combined_of(path, "logit", ["HPV Status"], HPV_WEIGHING)
    return [float(expit(v)) for v in _chosen(logits, patient_ids, path=path, task_number=3)]


def read_risks(folder: Path, patient_ids: Sequence[str]) -> list[float]:
    """Return the out-of-fold risks of patients, weighted like the probabilities of Task 3.

    Raises
    ------
    InputError
        If a patient has no risk.
    """
    path = folder / RISKS
    risks = _combined_of(path, "risk", ["Relapse", "RFS"], RISK_WEIGHING)
    return _chosen(risks, patient_ids, path=path, task_number=2)


def _chosen(
    values: pd.Series | None, patient_ids: Sequence[str], *, path: Path, task_number: int
) -> list[float]:
    missing = [name for name in patient_ids if values is None or name not in values]
    if missing or values is None:
        raise InputError(
            f"expected an out-of-fold {path.stem[:-1]} of {missing[0]} in {path}, found none; "
            f"train all folds of Task {task_number}, with --folds so that each patient is held out "
            "once"
        )
    return [float(values[name]) for name in patient_ids]


def _combined_of(
    path: Path, column: str, outcomes: Sequence[str], weighing: Weighing
) -> pd.Series | None:
    """Return one number per patient of a table; None without a table."""
    if not path.is_file():
        return None
    return _combined_at(path, path.stat().st_mtime_ns, column, tuple(outcomes), weighing)


@lru_cache(maxsize=2)
def _combined_at(
    path: Path, modified_ns: int, column: str, outcomes: tuple[str, ...], weighing: Weighing
) -> pd.Series:
    del modified_ns  # part of the cache's key, so that a changed file is read again
    table = _read_table(path)
    if absent := sorted(set(outcomes) - set(table.columns)):
        raise InputError(
            f"expected the columns {' and '.join(outcomes)} in {path}, found no {absent[0]}; the "
            "file is of another version of this software: train in another folder of runs"
        )
    return _combined(table, column, outcomes, weighing)


def _combined(
    table: pd.DataFrame, column: str, outcomes: Sequence[str], weighing: Weighing
) -> pd.Series:
    """Return one number per patient, by ID: the mean over folds of the weighted kinds."""
    outputs, truth, folds = _by_patient(table, column, outcomes)
    return weighing.combine_unseen(outputs, truth, folds).groupby(level="PatientID").mean()


def _by_patient(
    table: pd.DataFrame, column: str, outcomes: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Return outputs (one column per kind), outcomes and folds, a row per patient and fold."""
    keys = ["PatientID", "fold"]
    outputs = table.pivot(index=keys, columns="kind", values=column)
    truth = table.groupby(keys)[list(outcomes)].first().loc[outputs.index]
    folds = pd.Series(outputs.index.get_level_values("fold"), index=outputs.index)
    return outputs, truth, folds


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
    rows = _typed(rows)
    with locked(path):
        if path.exists():
            before = _read_table(path)
            rows = pd.concat([before[~before["fold"].isin(rows["fold"])], rows])
        write_whole(path, rows.sort_values(["PatientID", "fold", "kind"]).to_csv(index=False))


def _read_table(path: Path) -> pd.DataFrame:
    return _typed(pd.read_csv(path, dtype={"PatientID": str, "fold": str}))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose outcomes have a type even if all are missing."""
    types = {"HPV Status": "boolean", "Relapse": "boolean", "RFS": float}
    return table.astype({name: types[name] for name in types if name in table})


def _scores(patient: PreparedPatient, segmented: SegmentedRegion) -> dict[str, float]:
    """Return the terms of the challenge's scores, on the CT's grid."""
    prediction = sitk.GetArrayFromImage(restore(segmented, patient.undo))
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
