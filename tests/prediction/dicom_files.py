"""Write series of DICOM slices for the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
)
from pydicom.valuerep import DSfloat

from shared.geometry import Grid

SERIES_UID = "1.2.826.0.1.3680043.8.498.7"
STORAGE = {"CT": CTImageStorage, "PT": PositronEmissionTomographyImageStorage}
INJECTED_MBQ = 350.0
WEIGHT_KG = 70.0
HALF_LIFE_S = 6586.2
"""The half-life of fluorine-18."""

Change = Callable[[int, Dataset], None]
"""Changes the header of a slice, given the index of the slice in the volume."""


def write_series(
    folder: Path,
    stored_zyx: NDArray[np.int16],
    grid: Grid,
    *,
    modality: str = "PT",
    uid: str = SERIES_UID,
    number: int = 1,
    slopes: NDArray[np.float64] | None = None,
    change: Change = lambda index, header: None,
) -> None:
    """Write a volume as a series whose file names are in the reverse order of the positions.

    Parameters
    ----------
    slopes : rescale slope of each slice; 1 by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    matrix = np.asarray(grid.direction).reshape(3, 3)
    for index, plane in enumerate(stored_zyx):
        header = Dataset()
        header.SOPClassUID = STORAGE[modality]
        header.SOPInstanceUID = f"{uid}.{index + 1}"
        header.SeriesInstanceUID = uid
        header.SeriesNumber = number
        header.SeriesDescription = f"{modality} of a test"
        header.Modality = modality
        header.ImageOrientationPatient = decimals(*matrix[:, 0], *matrix[:, 1])
        place = grid.world_mm(np.array([[0.0, 0.0, index]]))[0]
        header.ImagePositionPatient = decimals(*place)
        # In this tag, the distance between rows comes first.
        header.PixelSpacing = decimals(grid.spacing_mm[1], grid.spacing_mm[0])
        header.SliceThickness = 99.0  # wrong on purpose, because it must not be used
        header.Rows, header.Columns = plane.shape
        (header.RescaleSlope,) = decimals(1.0 if slopes is None else slopes[index])
        header.RescaleIntercept = -1024.0 if modality == "CT" else 0.0
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 1
        header.PixelData = np.ascontiguousarray(plane, dtype="<i2").tobytes()
        if modality == "PT":
            add_uptake_tags(header)
        change(index, header)
        _save(header, folder / f"{len(stored_zyx) - index:03d}.dcm")


def decimals(*values: float) -> list[DSfloat]:
    """Return numbers rounded to the 16 characters that DICOM allows."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def add_uptake_tags(header: Dataset) -> None:
    """Add the tags of a scan that began an hour after the injection."""
    header.Units, header.DecayCorrection = "BQML", "START"
    header.CorrectedImage = ["ATTN", "DECY", "SCAT"]
    header.PatientWeight = WEIGHT_KG
    header.SeriesDate = header.AcquisitionDate = "20250103"
    header.SeriesTime = header.AcquisitionTime = "110000"
    header.FrameReferenceTime, header.ActualFrameDuration = 0.0, 120_000
    tracer = Dataset()
    tracer.RadionuclideTotalDose = INJECTED_MBQ * 1e6
    tracer.RadionuclideHalfLife = HALF_LIFE_S
    tracer.RadiopharmaceuticalStartTime = "100000"
    header.RadiopharmaceuticalInformationSequence = [tracer]


def _save(header: Dataset, path: Path) -> None:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path, enforce_file_format=True)
