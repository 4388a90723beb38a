"""Small patients in memory, with a ball and a cube for lesions, and a configuration for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import SimpleITK as sitk

from shared.clinical import ClinicalRecord
from shared.conventions import Label
from shared.geometry import Grid
from shared.preprocessing.pipeline import Undo
from training.cohort.cache import PreparedPatient
from training.cohort.folds import Fold
from training.cohort.layout import Patient
from training.config import Configuration, load_configuration
from training.tasks.base import FoldTraining

TINY = Path(__file__).with_name("tiny.toml")
SHAPE = (24, 24, 24)
GRID = Grid(SHAPE, (6.0, 6.0, 6.0), (0.0, 0.0, 0.0))


def configuration(
    epochs: int = 2,
    averaging: int | None = None,
    network: Mapping[str, Any] = MappingProxyType({"filters": (4, 8, 8)}),
    **task1: Any,
) -> Configuration:
    """Return a configuration of a few steps with crops and windows of 16 voxels.

    Parameters
    ----------
    network : settings of the Task 1 network that replace those of `tiny.toml`; if they name another
        architecture, they replace the whole table.
    task1 : settings that replace those of `[segmentation]`.
    """
    fields = load_configuration(str(TINY)).model_dump()
    mean = {"epochs": averaging, "learning_rate": 1e-3, "keep": "always"} if averaging else None
    changes = {
        "window_zyx": (16, 16, 16),
        "crop_zyx": (16, 16, 16),
        "epochs": epochs,
        "averaging": mean,
        **task1,
    }
    fields["segmentation"] |= changes
    if "architecture" not in network:
        network = {**tiny_network(), **network}
    fields["segmentation"]["network"] = network
    fields["preparation"]["size_xyz"] = SHAPE
    for other in ("hpv", "survival"):
        fields[other]["window_zyx"] = (16, 16, 16)
    return Configuration.model_validate(fields)


def tiny_network() -> dict[str, Any]:
    """Return the Task 1 network of `tiny.toml` without its strides; the filters determine them."""
    network = load_configuration(str(TINY)).segmentation.network
    return network.model_dump(exclude={"strides"})


def make_patient(
    number: int,
    centre: str = "MDA",
    folder: Path | None = None,
    *,
    hpv: bool | None = None,
    relapse: bool | None = None,
    days: float | None = None,
) -> PreparedPatient:
    """Return a patient with a ball as GTVp and a cube as GTVn, both bright in the PET.

    Parameters
    ----------
    folder : where the label map is written; None writes nothing.
    days : days of follow-up.
    """
    rng = np.random.default_rng(number)
    labels = np.zeros(SHAPE, np.uint8)
    z, y, x = np.indices(SHAPE)
    c = rng.integers(7, 11, 3)
    labels[(z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2 < 12] = Label.GTVP
    a, b, d = rng.integers(15, 18, 3)
    labels[a : a + 4, b : b + 4, d : d + 4] = Label.GTVN
    ct = rng.normal(30, 20, SHAPE)
    pet = rng.uniform(0, 1, SHAPE) + np.where(labels == Label.GTVP, 9, 0) + 5 * (labels == 2)
    image = np.stack([ct, pet]).astype(np.float16)
    patient_id = f"{centre}-{number:03d}"
    path = Path("nowhere") if folder is None else folder / f"{patient_id}.nii.gz"
    if folder is not None:
        sitk.WriteImage(GRID.image(labels), str(path))
    return PreparedPatient(
        patient=Patient(
            patient_id=patient_id,
            ct=path,
            pet=path,
            labels=path,
            clinical=ClinicalRecord(age=50.0 + number, gender=1.0),
            hpv=hpv,
            relapse=relapse,
            rfs_days=days,
        ),
        image=image,
        labels=labels,
        undo=Undo(GRID, GRID),
        max_suv=float(image[1].max()),
    )


def with_facts(patient: PreparedPatient, **facts: Any) -> PreparedPatient:
    """Return a patient with other values in the cohort's tables."""
    return dataclasses.replace(patient, patient=dataclasses.replace(patient.patient, **facts))


def without_labels(patient: PreparedPatient) -> PreparedPatient:
    """Return a patient without a label map."""
    return dataclasses.replace(with_facts(patient, labels=None), labels=patient.labels * 0)


def names_of(patients: Sequence[PreparedPatient]) -> tuple[str, ...]:
    """Return the IDs of patients."""
    return tuple(patient.patient_id for patient in patients)


def fold_training(
    settings: Configuration,
    patients: Sequence[PreparedPatient],
    held_out: Sequence[PreparedPatient],
    **changes: Any,
) -> FoldTraining:
    """Return the training of fold 0 of a task, on these patients."""
    fold = Fold(name="0", training=names_of(patients), held_out=names_of(held_out))
    training = FoldTraining(
        fold=fold, configuration=settings, patients=patients, held_out=held_out, runs=Path()
    )
    return dataclasses.replace(training, **changes)
