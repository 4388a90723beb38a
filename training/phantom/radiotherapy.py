"""The planning CT and the dose of a patient treated with radiotherapy.

The planning CT is one more scan of the same body, on a day and a grid of its own. The dose is not a
plan for a machine but has the form of one: the prescription in the gross disease and a margin, an
elective level around it, and a steep but finite fall outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import SimpleITK as sitk
from scipy.special import ndtr

from training.phantom.anatomy import Tissue
from training.phantom.painting import Anatomy, Raster, paint
from training.phantom.scanner import Protocol, image_of, scan_ct
from training.phantom.shapes import Array
from training.phantom.tumour import Lesion

PRESCRIPTIONS_GY: Final = (66.0, 69.96, 70.0)
ELECTIVE_GY: Final = 54.0
MARGIN_MM, MARGIN_FALL_MM = 8.0, 3.0
"""Where the dose around gross disease has fallen half-way to the elective one, and how steeply."""
ELECTIVE_MM, ELECTIVE_FALL_MM = 30.0, 8.0
DOSE_MM: Final = 3.0
"""Voxel size of dose grids, as planning systems commonly write them."""
SET_UP_MM: Final = 4.0
"""Standard deviation of where the patient lies, against the day of the PET/CT."""
_OUTSIDE: Final = (Tissue.AIR, Tissue.COUCH_SHELL, Tissue.COUCH_FOAM)
_GROSS: Final = (Tissue.GTVP, Tissue.GTVP_CORE, Tissue.GTVN, Tissue.GTVN_CORE)


@dataclass(frozen=True)
class Plan:
    """What a few patients of Task 2 have beside PET/CT.

    Attributes
    ----------
    ct_hu : int16, planning CT.
    dose_gy : float32, on a coarser grid of the same patient position.
    """

    ct_hu: sitk.Image
    dose_gy: sitk.Image


def plan_treatment(
    rng: np.random.Generator, body: Anatomy, lesions: Sequence[Lesion], protocol: Protocol
) -> Plan:
    """Scan the patient again for planning, and lay the dose around the gross disease.

    Parameters
    ----------
    protocol : of the PET/CT; the planning CT has its pixels, and slices of about 3 mm.
    """
    pose = body.pose.shifted(tuple(rng.normal(0, SET_UP_MM, 3).tolist()))
    slice_mm = max(2.5, 1.3 * protocol.ct.spacing_mm[0])
    planning = replace(protocol, ct=_resliced(protocol.ct, slice_mm))
    ct_hu, _ = scan_ct(rng, body, lesions, planning, pose)
    raster = _isotropic(protocol.ct, DOSE_MM)
    tissue = np.concatenate([slab.tissue for slab in paint(body, lesions, raster, pose)])
    dose = _dose(tissue, float(rng.choice(PRESCRIPTIONS_GY)))
    return Plan(ct_hu, image_of(dose, raster))


def _dose(tissue: np.ndarray, prescription_gy: float) -> Array:
    """Return the dose in Gy; 0 outside the body."""
    gross = sitk.GetImageFromArray(_is_any(tissue, _GROSS).astype(np.uint8))
    # a tenth of the memory that scipy's distance transform takes
    distance = sitk.SignedMaurerDistanceMap(gross, squaredDistance=False)
    distance_mm = DOSE_MM * np.maximum(sitk.GetArrayViewFromImage(distance), 0)
    boost = (prescription_gy - ELECTIVE_GY) * ndtr((MARGIN_MM - distance_mm) / MARGIN_FALL_MM)
    elective = ELECTIVE_GY * ndtr((ELECTIVE_MM - distance_mm) / ELECTIVE_FALL_MM)
    dose: Array = np.where(_is_any(tissue, _OUTSIDE), np.float32(0), boost + elective)
    return dose.astype(np.float32, copy=False)


def _is_any(tissue: np.ndarray, kinds: Sequence[Tissue]) -> np.ndarray:
    """Return where the tissue is one of the kinds."""
    chosen = np.zeros(len(Tissue), dtype=bool)
    chosen[list(kinds)] = True
    return chosen[tissue]


def _resliced(raster: Raster, slice_mm: float) -> Raster:
    nx, ny, nz = raster.size_xyz
    sx, sy, sz = raster.spacing_mm
    return Raster(raster.origin_mm, (sx, sy, slice_mm), (nx, ny, max(round(nz * sz / slice_mm), 1)))


def _isotropic(raster: Raster, mm: float) -> Raster:
    size = tuple(
        max(round(n * s / mm), 1) for n, s in zip(raster.size_xyz, raster.spacing_mm, strict=True)
    )
    return Raster(raster.origin_mm, (mm, mm, mm), size)  # type: ignore[arg-type]
