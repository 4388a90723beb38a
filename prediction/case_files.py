"""Read a case from image files or DICOM folders, and write it in the platform's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import SimpleITK as sitk

from shared.case import Case
from shared.clinical import ehr_of, parse_ehr
from shared.conventions import AIR_HU, NO_UPTAKE_SUV
from shared.editions import CURRENT
from shared.errors import InputError
from shared.files import write_whole
from shared.grand_challenge.images import read_image
from shared.grand_challenge.inputs import read_ehr

Source: TypeAlias = Path | str
"""A NIfTI, MetaImage or TIFF file, or a folder with a DICOM series."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A CT or a PET, with remarks from reading it.

    Attributes
    ----------
    image : CT in HU or PET in SUV or Bq/mL.
    remarks : what is unusual, and how a PET was converted to SUV.
    frame_of_reference : DICOM's identifier of the coordinates, which CT and PET of one session
        share; None if it is not stated.
    """

    image: sitk.Image
    remarks: tuple[str, ...] = ()
    frame_of_reference: str | None = None


DICOM_MAGIC: Final = (128, b"DICM")
"""Offset and content of the bytes that mark a DICOM file."""


def read_case_files(
    *,
    ct: Source,
    pet: Source,
    ehr: Source | Mapping[str, object] | None = None,
    ct_series: str | None = None,
    pet_series: str | None = None,
    weight_kg: float | None = None,
    suv_factor: float | None = None,
) -> Case:
    """Read a PET/CT of your own as a case.

    Parameters
    ----------
    ct : NIfTI, MetaImage (`.mha`) or TIFF file in HU, or a folder with DICOM slices.
    pet : NIfTI, MetaImage or TIFF file in SUV or Bq/mL, or a folder with DICOM slices, which are
        converted to SUV by body weight. It may be the folder of the CT.
    ehr : JSON file with the health record, or its content, such as `{"Age": 61}`. Any value may be
        missing; None means that all are.
    ct_series, pet_series : SeriesNumber or SeriesInstanceUID, if a folder has several series of the
        modality.
    weight_kg : body weight, if the DICOM PET does not state it.
    suv_factor : factor from the values of the PET to SUV, used instead of the DICOM tags: body
        weight in g divided by the dose in Bq at the time to which the PET is decay-corrected.

    Returns
    -------
    The case. Its remarks say what is unusual, and how the PET was converted to SUV.

    Raises
    ------
    InputError
        If a file cannot be read, if a folder does not have exactly one matching series, if the CT
        is not in HU, if a tag that is needed for SUV is missing, or if `weight_kg` or `suv_factor`
        is not above 0.
    """
    ct_scan = _read_ct(Path(ct), ct_series)
    pet_scan = _read_pet(Path(pet), series=pet_series, weight_kg=weight_kg, suv_factor=suv_factor)
    content, json_remarks = _read_ehr(ehr)
    clinical, ehr_remarks = parse_ehr(content)
    remarks = (*ct_scan.remarks, *pet_scan.remarks, *json_remarks, *ehr_remarks)
    frames = {ct_scan.frame_of_reference, pet_scan.frame_of_reference} - {None}
    if len(frames) > 1:
        remarks += ("CT and PET: not in one frame of reference; check that they fit together",)
    return Case(ct_hu=ct_scan.image, pet=pet_scan.image, clinical=clinical, remarks=remarks)


def read_dicom_pet(
    folder: Path,
    *,
    series: str | None = None,
    weight_kg: float | None = None,
    suv_factor: float | None = None,
) -> Scan:
    """Read a DICOM PET and convert it to SUV by body weight.

    Parameters
    ----------
    series, weight_kg, suv_factor : as `pet_series`, `weight_kg` and `suv_factor` of
        `read_case_files`.

    Returns
    -------
    The PET as float32. Its remarks state the factor and unusual tags.

    Raises
    ------
    InputError
        If the folder does not have exactly one matching series, or if a tag that is needed for SUV
        is missing.
    """
    with _pydicom_required(folder):
        from prediction.dicom_series import choose_series, find_series, read_volume
        from prediction.suv import suv_factors
    image, headers = read_volume(choose_series(find_series(folder, "PT"), series, "--pet-series"))
    if suv_factor is None:
        factors, remarks = suv_factors(headers, weight_kg=weight_kg)
    else:
        factors, remarks = np.full(len(headers), suv_factor), ()
    values = sitk.GetArrayFromImage(image) * factors[:, None, None]
    pet = sitk.GetImageFromArray(values.astype(np.float32))
    pet.CopyInformation(image)
    low, high = f"{factors.min():.6g}", f"{factors.max():.6g}"
    spread = low if low == high else f"{low} to {high}"
    return Scan(
        image=pet,
        remarks=(*remarks, f"PET: DICOM values multiplied by {spread}, which gives SUV"),
        frame_of_reference=headers[0].get("FrameOfReferenceUID"),
    )


def write_case_folder(case: Case, folder: Path) -> None:
    """Write a case in the platform's layout, below `input/` in a folder.

    The containers, `./test_containers.sh --case` and `python -m evaluation run` read this layout.

    Parameters
    ----------
    folder : a new folder, or one from an earlier call, whose files are replaced. The health record
        in it has no entry for a missing value.

    Raises
    ------
    OSError
        If a folder cannot be made or the health record cannot be written.
    RuntimeError
        If writing an image fails.
    """
    for socket, image in ((CURRENT.ct, case.ct_hu), (CURRENT.pet, case.pet)):
        path = folder / "input" / socket.path / f"{Path(socket.path).name}.mha"
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
    text = json.dumps(ehr_of(case.clinical), indent=2, allow_nan=False) + "\n"
    write_whole(folder / "input" / CURRENT.ehr.path, text)


def _read_ct(path: Path, series: str | None) -> Scan:
    if path.is_dir():
        with _pydicom_required(path):
            from prediction.dicom_series import choose_series, find_series, read_volume
        ct, headers = read_volume(choose_series(find_series(path, "CT"), series, "--ct-series"))
        scan = Scan(image=ct, frame_of_reference=headers[0].get("FrameOfReferenceUID"))
    else:
        _require_no_series(path, series, "--ct-series")
        scan = _read_file(path, "CT", AIR_HU)
    lowest = float(sitk.GetArrayViewFromImage(scan.image).min())
    if lowest >= 0:
        raise InputError(
            f"expected a CT in HU, with air at about -1000, in {path}, found a lowest value of "
            f"{lowest:g}; check that CT and PET are not swapped, or subtract 1024 from the values"
        )
    return scan


def _read_pet(
    path: Path, *, series: str | None, weight_kg: float | None, suv_factor: float | None
) -> Scan:
    for option, value in (("--weight-kg", weight_kg), ("--suv-factor", suv_factor)):
        if value is not None and not 0 < value < np.inf:
            raise InputError(f"expected a number above 0 for {option}, found {value:g}")
    if path.is_dir():
        return read_dicom_pet(path, series=series, weight_kg=weight_kg, suv_factor=suv_factor)
    _require_no_series(path, series, "--pet-series")
    if weight_kg is not None:
        raise InputError(
            f"expected a DICOM folder for --weight-kg, found the file {path}, which does not state "
            "the dose; give the factor to SUV with --suv-factor"
        )
    scan = _read_file(path, "PET", NO_UPTAKE_SUV)
    if suv_factor is None:
        return scan
    pet = sitk.Cast(scan.image, sitk.sitkFloat32) * suv_factor
    remark = f"PET: multiplied by {suv_factor:g}, which gives SUV"
    return Scan(image=pet, remarks=(*scan.remarks, remark))


@contextmanager
def _pydicom_required(folder: Path) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise InputError(
            f"expected the package pydicom to read the DICOM folder {folder}, found none; install "
            "the extra `prediction` of pyproject.toml"
        ) from None


def _require_no_series(path: Path, series: str | None, option: str) -> None:
    if series is not None:
        raise InputError(f"expected a DICOM folder for {option}, found {path}; omit the option")


def _read_file(path: Path, name: str, outside: float) -> Scan:
    """Return the 3-D scalar image of a file, with a remark if values are replaced.

    Parameters
    ----------
    name : name of the image, for messages.
    outside : value that replaces values that are not finite.
    """
    if not path.is_file():
        raise InputError(
            f"expected the {name} as a file or a DICOM folder at {path}, found none; "
            "correct the path"
        )
    place, mark = DICOM_MAGIC
    with path.open("rb") as file:
        if file.read(place + len(mark))[place:] == mark:
            raise InputError(
                f"expected the folder of a DICOM series for the {name}, found one of its "
                f"files; give {path.parent}"
            )
    image, remarks = read_image(path, name, outside)
    for key in image.GetMetaDataKeys():  # NIfTI's fields would cause warnings in a MetaImage
        image.EraseMetaData(key)
    return Scan(image=image, remarks=remarks)


def _read_ehr(ehr: Source | Mapping[str, object] | None) -> tuple[object, tuple[str, ...]]:
    if ehr is None or isinstance(ehr, Mapping):
        return ehr or {}, ()
    return read_ehr(Path(ehr), "EHR")
