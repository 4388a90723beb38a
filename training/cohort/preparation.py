"""Reads and prepares one patient in the same way as a container reads and prepares a case."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.case import Case
from shared.conventions import Label, LabelVolume
from shared.errors import InputError
from shared.geometry import resample
from shared.preprocessing.pipeline import Undo, prepare
from shared.preprocessing.region import Preparation
from training.cohort.layout import Patient


@dataclass(frozen=True, kw_only=True)
class PreparedVolumes:
    """The volumes of one patient that the cache stores.

    Attributes
    ----------
    image : float16, shape (2, z, y, x): CT in HU and PET in SUV.
    labels : uint8, shape (z, y, x); all background if the patient has no label map.
    undo : how to map a volume back to the CT's grid.
    """

    image: NDArray[np.float16]
    labels: LabelVolume
    undo: Undo


def read_case(patient: Patient) -> Case:
    """Read a patient's CT, PET and record as a container reads a case.

    Raises
    ------
    InputError
        If an image file is damaged or cut short.
    """
    for path in (patient.ct, patient.pet):
        _require_whole(path)
    return Case(
        ct_hu=sitk.ReadImage(str(patient.ct)),
        pet=sitk.ReadImage(str(patient.pet)),
        clinical=patient.clinical,
    )


def read_labels(patient: Patient) -> sitk.Image:
    """Read a patient's label map, uint8.

    Raises
    ------
    InputError
        If the patient has no label map, or its file is damaged or cut short.
    """
    if patient.labels is None:
        raise InputError(f"expected a label map of patient {patient.patient_id}, found none")
    _require_whole(patient.labels)
    return sitk.ReadImage(str(patient.labels), sitk.sitkUInt8)


def prepare_patient(patient: Patient, preparation: Preparation) -> PreparedVolumes:
    """Prepare a patient's images, and resample the label map to the same region.

    Raises
    ------
    InputError
        If a file is damaged or cut short, CT and PET do not overlap, or an intensity does not fit
        into float16.
    RuntimeError
        From SimpleITK, if an image cannot be read.
    """
    case = read_case(patient)
    prepared = prepare(case, preparation)
    with np.errstate(over="ignore"):
        image = np.stack([prepared.ct_hu, prepared.pet_suv]).astype(np.float16)
    if not np.isfinite(image).all():
        raise InputError("an intensity is not finite or exceeds float16")
    labels = np.zeros(image.shape[1:], dtype=np.uint8)
    if patient.labels is not None:
        truth = read_labels(patient)
        truth.CopyInformation(case.ct_hu)  # `check_images` allows differences of 1 % of a voxel
        on_region = resample(
            truth, prepared.undo.region, interpolation="nearest", outside=Label.BACKGROUND
        )
        labels = sitk.GetArrayFromImage(on_region)
    return PreparedVolumes(image=image, labels=labels, undo=prepared.undo)


def _require_whole(path: Path) -> None:
    """Raise InputError if a file is cut short; SimpleITK would read zeros for the rest."""
    try:
        with gzip.open(path) as file:
            while file.read(2**24):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise InputError(f"{path.name} is damaged or cut short") from None
