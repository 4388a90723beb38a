"""`prepare`: a case becomes the region that every network starts from.

Training and serving call this one function. Only the region is resampled at full resolution, so
the cost does not grow with the scan; the record `Undo` leads from the region back to the CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.case import Case
from shared.conventions import AIR_HU, NO_UPTAKE_SUV, Volume
from shared.geometry import Grid, resample
from shared.preprocessing.region import BODY_HU, Preparation, find_region
from shared.preprocessing.uptake import suv_scale

CT_RANGE_HU: Final = (-1024.0, 3071.0)
"""The range of a 12-bit CT. Padding lies below it, metal in extended-range CTs above."""


@dataclass(frozen=True)
class Undo:
    """Where a prepared volume came from.

    Attributes
    ----------
    region : grid of the prepared volumes.
    ct : the CT's own grid, on which results must land.
    """

    region: Grid
    ct: Grid


@dataclass(frozen=True)
class Prepared:
    """A case on the region's grid.

    Attributes
    ----------
    ct_hu : float32, shape of `undo.region.shape_zyx`; air where the region leaves the CT, and
        beyond the box around the body, where only couch and air are and nothing is interpolated.
    pet_suv : float32, same shape, not negative; 0 where the region leaves the PET or that box.
    body : bool, same shape; whether the CT shows anything but air.
    undo : the way back to the CT's grid.
    remarks : what was noticed, for the log.
    """

    ct_hu: Volume
    pet_suv: Volume
    body: NDArray[np.bool_]
    undo: Undo
    remarks: tuple[str, ...]


def prepare(case: Case, preparation: Preparation) -> Prepared:
    """Find the head-and-neck region of a case and resample CT and PET onto it.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    found = find_region(case.ct_hu, case.pet, preparation)
    scale, remark = suv_scale(found.coarse_pet, found.coarse_body)
    remarks = [*case.remarks, found.remark]
    if remark:
        remarks.append(remark)
    ct_hu = np.full(found.region.shape_zyx, AIR_HU, np.float32)
    pet_suv = np.full(found.region.shape_zyx, NO_UPTAKE_SUV, np.float32)
    if not found.body_box.is_empty:
        inside = found.body_box.slices_zyx()
        grid = found.region.cropped(found.body_box)
        ct = resample(case.ct_hu, grid, preparation.interpolation, AIR_HU, CT_RANGE_HU)
        pet = resample(case.pet, grid, preparation.interpolation, NO_UPTAKE_SUV)
        ct_hu[inside] = sitk.GetArrayViewFromImage(ct)
        suv = pet_suv[inside]
        np.multiply(sitk.GetArrayViewFromImage(pet), np.float32(scale), out=suv)
        np.maximum(suv, NO_UPTAKE_SUV, out=suv)
    undo = Undo(found.region, Grid.of(case.ct_hu))
    return Prepared(ct_hu, pet_suv, ct_hu > BODY_HU, undo, tuple(remarks))
