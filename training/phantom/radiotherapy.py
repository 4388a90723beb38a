"""The planning CT and the dose of a patient treated with radiotherapy.

The planning CT is another scan of the same body, on another day and grid. The dose imitates a
treatment plan: the prescription in gross disease with a margin, an elective dose around it, and a
steep fall outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import SimpleITK as sitk
from scipy.special import ndtr

from training.phantom.body import Body
from training.phantom.lesion import Lesion
from training.phantom.painting import paint
from training.phantom.scanner import ScanProtocol, scan_ct, to_image
from training.phantom.shapes import Array
from training.phantom.slab import Raster
from training.phantom.tissue import LESION_TISSUES, Tissue

PRESCRIPTIONS_GY: Final = (66.0, 69.96, 70.0)
ELECTIVE_GY: Final = 54.0
MARGIN_MM, MARGIN_FALL_MM = 8.0, 3.0
"""Distance from gross disease at which the dose is half-way between prescription and elective dose,
and the sigma of this fall."""
ELECTIVE_MM, ELECTIVE_FALL_MM = 30.0, 8.0
DOSE_MM: Final = 3.0
"""Voxel size of dose grids, a common choice of planning systems."""
SET_UP_MM: Final = 4.0
"""Standard deviation of the patient's position relative to the PET/CT."""
_OUTSIDE: Final = (Tissue.AIR, Tissue.COUCH_SHELL, Tissue.COUCH_FOAM)


@dataclass(frozen=True)
class Plan:
    """The planning CT and the dose that a few patients of Task 2 have.

    Attributes
    ----------
    ct_hu : planning CT, int16.
    dose_gy : dose, float32, on a coarser grid, with the patient in the pose of the planning CT.
    """

    ct_hu: sitk.Image
    dose_gy: sitk.Image


def plan_treatment(
    rng: np.random.Generator, body: Body, lesions: Sequence[Lesion], *, protocol: ScanProtocol
) -> Plan:
    """Scan the patient again for planning, and compute the dose.

    Parameters
    ----------
    protocol : the protocol of the PET/CT. The planning CT has the same pixels; its slices are at
        least 2.5 mm thick.
    """
    pose = body.pose.shifted(tuple(rng.normal(0, SET_UP_MM, 3).tolist()))
    slice_mm = max(2.5, 1.3 * protocol.ct.spacing_mm[0])
    planning = replace(protocol, ct=_with_slices(protocol.ct, slice_mm))
    ct_hu, _ = scan_ct(rng, body, lesions, protocol=planning, pose=pose)
    raster = _with_cubic_voxels(protocol.ct, DOSE_MM)
    tissue = np.concatenate(
        [slab.tissue for slab in paint(body, lesions, raster=raster, pose=pose)]
    )
    dose = _compute_dose(tissue, float(rng.choice(PRESCRIPTIONS_GY)))
    return Plan(ct_hu, to_image(dose, raster))


def _compute_dose(tissue: np.ndarray, prescription_gy: float) -> Array:
    """Return the dose in Gy; 0 outside the body."""
    gross = sitk.GetImageFromArray(_is_one_of(tissue, LESION_TISSUES).astype(np.uint8))
    # Takes a tenth of the memory of SciPy's distance transform.
    distance = sitk.SignedMaurerDistanceMap(gross, squaredDistance=False)
    distance_mm = DOSE_MM * np.maximum(sitk.GetArrayViewFromImage(distance), 0)
    boost = (prescription_gy - ELECTIVE_GY) * ndtr((MARGIN_MM - distance_mm) / MARGIN_FALL_MM)
    elective = ELECTIVE_GY * ndtr((ELECTIVE_MM - distance_mm) / ELECTIVE_FALL_MM)
    dose: Array = np.where(_is_one_of(tissue, _OUTSIDE), np.float32(0), boost + elective)
    return dose.astype(np.float32, copy=False)


def _is_one_of(tissue: np.ndarray, members: Sequence[Tissue]) -> np.ndarray:
    """Return where the tissue is one of `members`."""
    is_member = np.zeros(len(Tissue), dtype=bool)
    is_member[list(members)] = True
    return is_member[tissue]


def _with_slices(raster: Raster, slice_mm: float) -> Raster:
    nx, ny, nz = raster.size_xyz
    sx, sy, sz = raster.spacing_mm
    return Raster(raster.origin_mm, (sx, sy, slice_mm), (nx, ny, max(round(nz * sz / slice_mm), 1)))


def _with_cubic_voxels(raster: Raster, mm: float) -> Raster:
    size = tuple(
        max(round(n * s / mm), 1) for n, s in zip(raster.size_xyz, raster.spacing_mm, strict=True)
    )
    return Raster(raster.origin_mm, (mm, mm, mm), size)  # type: ignore[arg-type]
