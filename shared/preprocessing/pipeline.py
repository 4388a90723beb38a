"""`prepare` turns a case into the region that every network starts from.

Training and serving call this one function. Only the region is resampled at full resolution, so
the cost does not grow with the scan. The record `Undo` maps the region back to the CT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.case import Case
from shared.conventions import AIR_HU, NO_UPTAKE_SUV, Volume
from shared.directions import straighten
from shared.geometry import Grid, resample
from shared.preprocessing.pet_units import suv_scale
from shared.preprocessing.region import BODY_HU, Localisation, Preparation, find_region

CT_RANGE_HU: Final = (-1024.0, 3071.0)
"""The range of a 12-bit CT. Padding is below this range. In CTs with an extended range, metal
is above it."""


@dataclass(frozen=True)
class Undo:
    """The grids that are needed to map a result back to the CT.

    Attributes
    ----------
    region : grid of the prepared volumes.
    ct : the CT's own grid, exactly as its file states it; the mask is written on it.
    """

    region: Grid
    ct: Grid


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A case on the region's grid.

    Attributes
    ----------
    ct_hu : CT, float32, shape `undo.region.shape_zyx`. Only the box around the body in the
        common field of view of CT and PET is interpolated. All voxels outside this box or outside
        the CT have the HU of air.
    pet_suv : PET, float32, same shape, not negative; 0 outside the PET and outside the box.
    body : bool, same shape; true where the CT is above `BODY_HU`, so not air.
    undo : the record that maps a result back to the CT's grid.
    remarks : lines for the log about anything unusual in the case, and how the region was found.
    """

    ct_hu: Volume
    pet_suv: Volume
    body: NDArray[np.bool_]
    undo: Undo
    remarks: tuple[str, ...]


def prepare(case: Case, preparation: Preparation) -> Prepared:
    """Find the head-and-neck region of a case and resample CT and PET onto it.

    Axes that are almost orthonormal are replaced by the nearest orthonormal ones, with a remark.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    ct_image, ct_remarks = straighten(case.ct_hu, "CT")
    pet_image, pet_remarks = straighten(case.pet, "PET")
    localisation = find_region(ct_image, pet_image, preparation)
    scale, remark = suv_scale(localisation.coarse_pet, localisation.coarse_body)
    remarks = [*case.remarks, *ct_remarks, *pet_remarks, localisation.remark]
    if remark:
        remarks.append(remark)
    ct_hu = _on_region(ct_image, localisation, preparation, AIR_HU, CT_RANGE_HU)
    pet_suv = _on_region(pet_image, localisation, preparation, NO_UPTAKE_SUV)
    pet_suv *= np.float32(scale)
    np.maximum(pet_suv, NO_UPTAKE_SUV, out=pet_suv)
    return Prepared(
        ct_hu=ct_hu,
        pet_suv=pet_suv,
        body=ct_hu > BODY_HU,
        undo=Undo(localisation.region, Grid.of(case.ct_hu)),
        remarks=tuple(remarks),
    )


def _on_region(
    image: sitk.Image,
    localisation: Localisation,
    preparation: Preparation,
    outside: float,
    clamp: tuple[float, float] | None = None,
) -> Volume:
    """Return an image on the region's grid; all voxels outside the body's box are `outside`."""
    region, box = localisation.region, localisation.body_box
    if box.is_empty:
        return np.full(region.shape_zyx, outside, np.float32)
    part = resample(
        image,
        region.cropped(box),
        interpolation=preparation.interpolation,
        outside=outside,
        clamp=clamp,
    )
    volume = np.full(region.shape_zyx, outside, np.float32)
    volume[box.slices_zyx()] = sitk.GetArrayViewFromImage(part)
    return volume
