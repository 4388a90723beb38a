"""Find the series in a folder of DICOM files, and read one as a volume.

Positions come from ImagePositionPatient and ImageOrientationPatient, never from file names or slice
thickness. The slices must be evenly spaced and exactly above each other. A gantry tilt, a missing
slice or several time frames raise an error, because voxels would be in the wrong places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.images import library_errors_in_log

Modality: TypeAlias = Literal["CT", "PT"]

_KEYWORDS: Final = (
    *("SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality"),
    *("FrameOfReferenceUID", "ImageType", "NumberOfFrames"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "Rows", "Columns", "RescaleSlope", "RescaleIntercept", "Manufacturer"),
    *("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
    *("PatientWeight", "Units", "SUVType", "DecayCorrection", "CorrectedImage"),
    *("RadiopharmaceuticalInformationSequence", "FrameReferenceTime", "ActualFrameDuration"),
)
_PRIVATE: Final = (0x00090010, 0x0009100D, 0x70530010, 0x70531000, 0x70531009)
"""Tags of GE and Philips that are needed for SUV, and their creators."""
TAGS: Final = [*(Tag(keyword) for keyword in _KEYWORDS), *map(Tag, _PRIVATE)]
"""The tags that are read from each file. They are needed for the geometry or for SUV."""
UNEVEN: Final = 0.05
"""Largest deviation of a step between slices from the median step, as a fraction of that step. A
missing slice causes a deviation of 1. Rounding the positions to 0.1 mm causes a smaller deviation
than this limit."""
TILT: Final = 0.01
"""Largest sideways shift from slice to slice, as a fraction of the step: half a degree."""
SAME_DIRECTION: Final = 1e-3
"""Largest difference between direction cosines, or pixel spacings in mm, that count as equal; they
may be rounded. Slices that are less than this number of mm apart count as at the same position."""
INT16: Final = (-(2**15), 2**15 - 1)


@dataclass(frozen=True, kw_only=True)
class Series:
    """The slices of one series.

    Attributes
    ----------
    files, headers : the files, and for each file those of its tags that are in `TAGS`; in the same
        order.
    """

    files: tuple[Path, ...]
    headers: tuple[Dataset, ...]

    @property
    def uid(self) -> str:
        """The identifier of the series."""
        return str(self.headers[0].SeriesInstanceUID)

    @property
    def number(self) -> str:
        """The number that the scanner shows; may be empty, and need not be unique."""
        value = self.headers[0].get("SeriesNumber")
        return "" if value is None else str(value)

    @property
    def description(self) -> str:
        """Number of slices, and what the scanner calls the series."""
        name = str(self.headers[0].get("SeriesDescription") or "without description")
        return f"{name}, {len(self.files)} slices"


def find_series(folder: Path, modality: Modality) -> list[Series]:
    """Return the series of a modality in a folder and its subfolders, sorted by number.

    Localisers, copies of a slice and files without voxels or position are left out.

    Raises
    ------
    InputError
        If there is none; the message says what the folder contains.
    """
    slices: dict[str, dict[str, tuple[Path, Dataset]]] = {}
    others: dict[str, int] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = _read_header(path)
        if header is None:
            continue
        kind = str(header.get("Modality", "other"))
        is_localiser = "LOCALIZER" in (header.get("ImageType") or ())
        if kind != modality or is_localiser or "Rows" not in header:
            others[kind] = others.get(kind, 0) + 1
            continue
        uid = str(header.get("SeriesInstanceUID"))
        slices.setdefault(uid, {})[str(header.get("SOPInstanceUID", path))] = (path, header)
    if not slices:
        counts = ", ".join(f"{count} of {kind}" for kind, count in sorted(others.items()))
        raise InputError(
            f"expected DICOM files of a {modality} series in {folder}, found {counts or 'none'}; "
            f"give the folder with the {modality} slices, or a NIfTI file"
        )
    found = []
    for files in slices.values():
        paths, headers = zip(*files.values(), strict=True)
        found.append(Series(files=paths, headers=headers))
    return sorted(found, key=lambda series: (len(series.number), series.number, series.uid))


def _read_header(path: Path) -> Dataset | None:
    """Return the tags of a file that are needed; None if it is not a DICOM file."""
    with disable_value_validation():  # users need no warnings; the needed values are checked later
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except (InvalidDicomError, OSError):
            return None
        for _ in header.iterall():  # pydicom converts, and validates, a value when it is used
            pass
    return header


def choose_series(series: Sequence[Series], wanted: str | None, option: str) -> Series:
    """Return the only series, or the series with a number or identifier.

    Parameters
    ----------
    wanted : the SeriesNumber or SeriesInstanceUID; None if there should be only one series.
    option : the name of the option for `wanted`, for messages.

    Raises
    ------
    InputError
        If no series matches, or several do. The message lists the series and says how to choose.
    """
    numbers = [each.number for each in series]
    names = [each.number if numbers.count(each.number) == 1 else each.uid for each in series]
    matches = [each for each in series if wanted in (None, each.number, each.uid)]
    if len(matches) == 1:
        return matches[0]
    listed = "; ".join(
        f"{name or each.uid} ({each.description})" for name, each in zip(names, series, strict=True)
    )
    asked = "one series" if wanted is None else f"one series {wanted}"
    raise InputError(
        f"expected {asked}, found {len(matches)} among {listed}; choose one with {option} and its "
        "number or identifier"
    )


def read_volume(series: Series) -> tuple[sitk.Image, tuple[Dataset, ...]]:
    """Return the volume of a series, and the headers of its slices in the order of the index z.

    Returns
    -------
    The image, with the rescale slope and intercept of each slice applied. It is int16 if its values
    are whole numbers in the range of int16, else float32. Slices are stacked along their normal.

    Raises
    ------
    InputError
        If the slices are not evenly spaced and above each other, or if voxels cannot be read.
    """
    order, grid = _stack(series)
    files = [str(series.files[index]) for index in order]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        with library_errors_in_log():
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"expected readable slices in {series.files[0].parent}, but they are damaged or "
            f"compressed in an unknown way ({str(error).splitlines()[-1].strip()}); export the "
            "series again"
        ) from None
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection(grid.direction)
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    headers = tuple(series.headers[index] for index in order)
    return _as_whole_numbers(image, headers), headers


def _as_whole_numbers(image: sitk.Image, headers: Sequence[Dataset]) -> sitk.Image:
    """Return an image as int16 if that keeps all values, else unchanged."""
    scales = [
        float(header.get(tag) or 0)
        for header in headers
        for tag in ("RescaleSlope", "RescaleIntercept")
    ]
    if not all(scale.is_integer() for scale in scales):
        return image
    extremes = sitk.MinimumMaximumImageFilter()
    extremes.Execute(image)
    if extremes.GetMinimum() < INT16[0] or extremes.GetMaximum() > INT16[1]:
        return image
    whole: sitk.Image = sitk.Cast(image, sitk.sitkInt16)
    return whole


def _stack(series: Series) -> tuple[list[int], Grid]:
    """Return the order of the slices along their normal, and the grid of the volume."""
    where = f"series {series.number or series.uid} ({series.description})"
    first = series.headers[0]
    if any(int(header.get("NumberOfFrames") or 1) > 1 for header in series.headers):
        raise InputError(
            f"expected one slice per file in {where}, found an enhanced file with all slices; "
            "convert it to NIfTI, for example with dcm2niix"
        )
    if len(series.files) < 2:
        raise InputError(f"expected at least two slices in {where}; give the folder of all slices")
    orientations, spacings, positions = (
        _vectors(series, tag, where)
        for tag in ("ImageOrientationPatient", "PixelSpacing", "ImagePositionPatient")
    )
    sizes = {(header.Rows, header.Columns) for header in series.headers}
    if (
        len(sizes) > 1
        or np.ptp(orientations, axis=0).max() > SAME_DIRECTION
        or np.ptp(spacings, axis=0).max() > SAME_DIRECTION
    ):
        raise InputError(
            f"expected slices of one size, spacing and orientation in {where}, found several; "
            "export the axial slices alone"
        )
    row, column = orientations[0, :3], orientations[0, 3:]
    normal = np.cross(row, column)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(positions[order], axis=0)
    rises = steps @ normal
    step = float(np.median(rises))
    if step < SAME_DIRECTION or rises.min() < SAME_DIRECTION:
        raise InputError(
            f"expected one slice at each position in {where}, found several, as in a scan with "
            "time frames; export one frame"
        )
    if np.abs(rises - step).max() > UNEVEN * step:
        gap = int(np.argmax(np.abs(rises - step)))
        raise InputError(
            f"expected slices {step:.2f} mm apart in {where}, found {rises[gap]:.2f} mm between "
            f"slices {gap + 1} and {gap + 2}; export the series again with all its slices"
        )
    sideways = np.linalg.norm(steps - rises[:, None] * normal, axis=1).max()
    if sideways > TILT * step:
        raise InputError(
            f"expected slices above each other in {where}, found a shift of {sideways:.2f} mm from "
            "slice to slice, as with a tilted gantry; resample the scan first, for example with "
            "dcm2niix"
        )
    rise_mm = float(heights[order[-1]] - heights[order[0]]) / (len(order) - 1)
    row_mm, column_mm = map(float, spacings[0])  # between rows, and between columns
    grid = Grid(
        (int(first.Columns), int(first.Rows), len(order)),
        (column_mm, row_mm, rise_mm),
        tuple(positions[order[0]].tolist()),
        tuple(np.stack([row, column, normal], axis=1).ravel().tolist()),
    )
    return [int(index) for index in order], grid


def _vectors(series: Series, tag: str, where: str) -> NDArray[np.float64]:
    """Return the numbers in a tag of all slices, shape (slices, numbers)."""
    try:
        return np.array([header[tag].value for header in series.headers], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"expected {tag} in every slice of {where}, found a slice without it; export the "
            "series again"
        ) from None
