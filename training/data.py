"""The challenge's training data: indexed, prepared once into a cache, and read from there.

The cache holds what `shared.preprocessing.prepare` makes of each patient, in HU and SUV, as
uncompressed float16 that is memory-mapped: a crop reads only its own pages. Intensities are scaled
when a sample is drawn, so one cache serves every configuration of one `Preparation`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray
from tqdm import tqdm

from shared.case import Case
from shared.clinical import FIELDS, ClinicalRecord, parse_ehr
from shared.conventions import Label, LabelVolume
from shared.errors import InputError
from shared.geometry import Grid, resample
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation

TASKS: Final = (1, 2, 3)
_CACHE_CARD: Final = "preparation.json"


@dataclass(frozen=True)
class PatientFiles:
    """One patient of the challenge's layout.

    Attributes
    ----------
    labels : None where Task 1 does not have the patient.
    hpv : HPV status, None where unknown.
    relapse, rfs_days : recurrence observed, and time to it or to the end of follow-up; None where
        Task 2 does not have the patient.
    """

    patient_id: str
    ct: Path
    pet: Path
    labels: Path | None
    clinical: ClinicalRecord
    hpv: bool | None
    relapse: bool | None
    rfs_days: float | None


def index_cohort(folder: Path) -> list[PatientFiles]:
    """List the patients of a folder in the challenge's layout, by ID.

    A patient may appear under several tasks: images are those of the first, labels those of
    Task 1, outcomes those of each task's table.

    Raises
    ------
    InputError
        If there is no table, or a patient of a table has no images.
    """
    rows: dict[str, dict[str, object]] = {}
    folders: dict[str, Path] = {}
    for task in TASKS:
        table = folder / f"HECKTOR_2025_Training_Task_{task}.csv"
        if not table.is_file():
            table = folder / f"Task {task}" / table.name
        if not table.is_file():
            continue
        for row in pd.read_csv(table).to_dict("records"):
            patient_id = str(row["PatientID"])
            rows.setdefault(patient_id, {}).update({str(k): v for k, v in row.items()})
            images = folder / f"Task {task}" / patient_id
            if patient_id not in folders and images.is_dir():
                folders[patient_id] = images
    if not rows:
        raise InputError(
            f"expected HECKTOR_2025_Training_Task_N.csv in {folder} or its folders Task N, found "
            "none; give the folder that holds the challenge's training data"
        )
    return [_patient(folder, patient_id, rows[patient_id], folders) for patient_id in sorted(rows)]


def _patient(
    folder: Path, patient_id: str, row: dict[str, object], folders: dict[str, Path]
) -> PatientFiles:
    images = folders.get(patient_id, folder / "Task 1" / patient_id)
    ct, pet = images / f"{patient_id}__CT.nii.gz", images / f"{patient_id}__PT.nii.gz"
    for path in (ct, pet):
        if not path.is_file():
            raise InputError(f"expected {path} for patient {patient_id}, found none")
    labels = folder / "Task 1" / patient_id / f"{patient_id}.nii.gz"
    names = {field.ehr_name for field in FIELDS}
    clinical, _ = parse_ehr({name: value for name, value in row.items() if name in names})
    hpv, relapse, rfs = (row.get(name) for name in ("HPV Status", "Relapse", "RFS"))
    return PatientFiles(
        patient_id,
        ct,
        pet,
        labels if labels.is_file() else None,
        clinical,
        None if pd.isna(hpv) else bool(hpv),
        None if pd.isna(relapse) else bool(relapse),
        None if pd.isna(rfs) else float(str(rfs)),
    )


@dataclass(frozen=True)
class Cached:
    """One prepared patient.

    Attributes
    ----------
    image : float16, shape (2, z, y, x): CT in HU and PET in SUV, memory-mapped.
    labels : uint8, shape (z, y, x), memory-mapped; background where the patient has none.
    """

    files: PatientFiles
    image: NDArray[np.float16]
    labels: LabelVolume


def build_cache(
    patients: Sequence[PatientFiles], folder: Path, preparation: Preparation, workers: int
) -> list[Cached]:
    """Prepare the patients that the cache does not hold yet, and open them all.

    Raises
    ------
    InputError
        If the folder holds a cache of another preparation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / _CACHE_CARD
    stated = preparation.model_dump(mode="json")
    if card.exists() and json.loads(card.read_text(encoding="utf-8")) != stated:
        raise InputError(
            f"expected a cache for {stated} in {folder}, found one for another preparation; "
            "give another folder or delete this one"
        )
    card.write_text(json.dumps(stated), encoding="utf-8")
    missing = [p for p in patients if not _image_path(folder, p).exists()]
    if missing:
        work = partial(_prepare_into, folder=folder, preparation=preparation)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(tqdm(pool.map(work, missing), total=len(missing), desc="preparing"))
    return [
        Cached(
            patient,
            np.load(_image_path(folder, patient), mmap_mode="r"),
            np.load(_labels_path(folder, patient), mmap_mode="r"),
        )
        for patient in patients
    ]


def _image_path(folder: Path, patient: PatientFiles) -> Path:
    return folder / f"{patient.patient_id}.image.npy"


def _labels_path(folder: Path, patient: PatientFiles) -> Path:
    return folder / f"{patient.patient_id}.labels.npy"


def _prepare_into(patient: PatientFiles, folder: Path, preparation: Preparation) -> None:
    """Write one patient; the image last, so that a stopped run leaves no half patient."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    case = Case(sitk.ReadImage(str(patient.ct)), sitk.ReadImage(str(patient.pet)), patient.clinical)
    prepared = prepare(case, preparation)
    image = np.stack([prepared.ct_hu, prepared.pet_suv]).astype(np.float16)
    labels = np.zeros(image.shape[1:], dtype=np.uint8)
    if patient.labels is not None:
        truth = sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)
        if Grid.of(truth) != prepared.undo.ct:
            raise InputError(f"expected {patient.labels} on the grid of {patient.ct.name}")
        on_region = resample(truth, prepared.undo.region, "nearest", Label.BACKGROUND)
        labels = sitk.GetArrayFromImage(on_region)
    np.save(_labels_path(folder, patient), labels)
    temporary = folder / f"{patient.patient_id}.partial.npy"
    np.save(temporary, image)
    temporary.replace(_image_path(folder, patient))
