"""Writes one patient's files of a raw data set of nnU-Net v2.

Worker processes import this module, so it imports neither torch nor Lightning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.files import whole
from shared.geometry import Grid

IMAGES: Final = "imagesTr"
LABELS: Final = "labelsTr"
FILE_ENDING: Final = ".nii.gz"


def image_file(folder: Path, patient_id: str, channel: int) -> Path:
    """Return the path of a channel of a patient's image in the folder of a data set."""
    return folder / IMAGES / f"{patient_id}_{channel:04d}{FILE_ENDING}"


def labels_file(folder: Path, patient_id: str) -> Path:
    """Return the path of a patient's label map in the folder of a data set."""
    return folder / LABELS / f"{patient_id}{FILE_ENDING}"


def write_patient(
    patient_id: str, region: Grid, *, image: Path, labels: Path, folder: Path
) -> None:
    """Write a patient's files, the label map last: if it exists, all files are complete.

    Parameters
    ----------
    region : the grid of the arrays.
    image, labels : the patient's files in the cache.
    folder : the data set's folder.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for k, volume in enumerate(np.load(image, mmap_mode="r")):
        _write(volume.astype(np.float32), region, image_file(folder, patient_id, k))
    _write(np.load(labels), region, labels_file(folder, patient_id))


def _write(volume: NDArray[Any], region: Grid, path: Path) -> None:
    with whole(path) as draft:
        sitk.WriteImage(region.image(volume), str(draft), useCompression=True, compressionLevel=1)
