"""Finds the head-and-neck region of a scan on coarse images.

The landmark is the intracranial cavity, the large soft-tissue space that bone encloses in axial
slices. It looks the same with every scanner, reconstruction and contrast agent. Its lower end, the
skull base, determines where the region is; without a skull in view, the upper end of the scan does.
The search uses world coordinates (LPS) on a coarse grid, so the result does not depend on how the
file stores its axes. PET is not used, because the uptake of the brain varies and the brain may be
outside the field of view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import cc3d
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import AIR_HU, NO_UPTAKE_SUV, Volume
from shared.errors import InputError
from shared.geometry import Box, Grid, bounding_slices, resample
from shared.preprocessing.morphology import close_mask, open_mask
from shared.schema import Side, Spacing, Strict

BODY_HU: Final = -500.0
"""Threshold between air (-1000) and fat (-100)."""

COARSE_MM: Final = 4.0
"""Voxel size of the search. It is small compared with a neck; a whole-body scan takes 0.1 s."""

BONE_HU: Final = 150.0
"""Threshold for bone. Skull bone has 500 HU or more, so a coarse voxel counts as bone if bone fills
a quarter of it."""

BRAIN_HU: Final = (0.0, 90.0)
"""Range of the mean HU of a 12 mm cube of brain, with blood and contrast agent. In a neck, fat and
airways lower the mean below this range; in a jaw, bone raises it above."""

MIN_CAVITY_ML: Final = 60.0
"""Least volume that counts as a part of the cavity: a twentieth of an adult's intracranial volume
(1100 to 1700 ml), because a scan may show only a part of it."""

BODY_MARGIN_MM: Final = 12.0
"""Margin around the body on the coarse grid: three coarse voxels, for skin, nose and ears."""

CAVITY_GAP_MM: Final = 40.0
"""Largest gap between two parts of the cavity. In a few slices, sinuses and orbits may open the
skull to the face, which splits the cavity."""

REGION_ABOVE_SKULL_BASE_MM: Final = 90.0
"""Height of the region's upper end above the skull base, so that orbits and nasal cavity are
inside. The skull base is 140 mm below the vertex; a region of 288 mm ends 30 mm below the
clavicles."""

NECK_BELOW_SKULL_BASE_MM: Final = 100.0
"""Length of the neck between skull base and shoulders. The centroid of the body at these heights is
the region's centre in x and y."""


class Preparation(Strict):
    """Size, spacing and interpolation of the region, a box along the world's axes.

    Voxels are isotropic.
    """

    spacing_mm: Spacing
    size_xyz: tuple[Side, Side, Side]
    interpolation: Literal["linear", "bspline"]

    @property
    def extent_mm(self) -> NDArray[np.float64]:
        """Edge lengths along x, y, z."""
        return np.asarray(self.size_xyz) * self.spacing_mm


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """The region of a scan, and the coarse images from which it was found.

    Attributes
    ----------
    region : grid of the region, along the world's axes.
    coarse_pet : PET on the coarse grid, in the unit of the file.
    coarse_body : body on the coarse grid, without the couch. This grid covers only the common field
        of view of CT and PET.
    body_box : the part of the region around `coarse_body`, with a margin; the whole region if no
        body is visible.
    remark : how the region was found, for the log.
    """

    region: Grid
    coarse_pet: Volume
    coarse_body: NDArray[np.bool_]
    body_box: Box
    remark: str


def find_region(ct_hu: sitk.Image, pet: sitk.Image, preparation: Preparation) -> Localisation:
    """Find the head-and-neck region of a PET/CT.

    Parameters
    ----------
    ct_hu, pet : images on their own grids.
    preparation : size and spacing of the region.

    Returns
    -------
    The region, and how it was found. The upper end of the region is 90 mm above the skull base. It
    is at the upper end of the common field of view of CT and PET if that is lower, or if no skull
    is in view. If the region would extend below the field of view, it is moved up as far as the
    upper end allows.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    low, high = _common_extent(ct_hu, pet)
    coarse = _coarse_grid(low, high)
    ct = sitk.GetArrayFromImage(resample(ct_hu, coarse, interpolation="linear", outside=AIR_HU))
    coarse_pet = sitk.GetArrayFromImage(
        resample(pet, coarse, interpolation="linear", outside=NO_UPTAKE_SUV)
    )
    body = _body(ct)
    base_mm = _skull_base_mm(_crop_to_body(ct, body), coarse)
    if base_mm is None:
        top_mm = high[2]
        centre = _centre_mm(body, coarse, top_mm - preparation.extent_mm[2], top_mm)
        remark = "region: no skull in view, placed at the upper end of the scan"
    else:
        top_mm = min(base_mm + REGION_ABOVE_SKULL_BASE_MM, high[2])
        centre = _centre_mm(body, coarse, base_mm - NECK_BELOW_SKULL_BASE_MM, base_mm)
        remark = f"region: placed by the skull base at z = {base_mm:.0f} mm"
    height_mm = preparation.extent_mm[2]
    top_mm = min(high[2], max(top_mm, low[2] + height_mm))
    middle = np.array([centre[0], centre[1], top_mm - height_mm / 2])
    first_voxel = middle - (preparation.extent_mm - preparation.spacing_mm) / 2
    x, y, z = (float(coordinate) for coordinate in first_voxel)
    spacing = preparation.spacing_mm
    region = Grid(preparation.size_xyz, (spacing, spacing, spacing), (x, y, z))
    return Localisation(
        region=region,
        coarse_pet=coarse_pet,
        coarse_body=body,
        body_box=_body_box(body, coarse, region),
        remark=remark,
    )


def _body_box(body: NDArray[np.bool_], coarse: Grid, region: Grid) -> Box:
    """Return the box of region voxels around the body, widened by `BODY_MARGIN_MM`."""
    slices = bounding_slices(body)
    if slices is None:
        return Box((0, 0, 0), region.size_xyz)
    z, y, x = slices
    body_grid = coarse.cropped(Box((x.start, y.start, z.start), (x.stop, y.stop, z.stop)))
    margin_vox = math.ceil(BODY_MARGIN_MM / region.spacing_mm[0])
    return region.box_around(body_grid, margin_vox)


def _common_extent(
    ct_hu: sitk.Image, pet: sitk.Image
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest world coordinates (x, y, z) that both images cover."""
    ct_low, ct_high = Grid.of(ct_hu).extent_mm()
    pet_low, pet_high = Grid.of(pet).extent_mm()
    low, high = np.maximum(ct_low, pet_low), np.minimum(ct_high, pet_high)
    if np.any(high <= low):
        raise InputError(
            "expected CT and PET to overlap, found CT from "
            f"{_point(ct_low)} to {_point(ct_high)} mm and PET from {_point(pet_low)} to "
            f"{_point(pet_high)} mm (LPS); check that both are of one visit and that their origins "
            "are unchanged"
        )
    return low, high


def _point(mm: NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{coordinate:.0f}" for coordinate in mm) + ")"


def _coarse_grid(low: NDArray[np.float64], high: NDArray[np.float64]) -> Grid:
    x, y, z = (max(1, int(n)) for n in np.ceil((high - low) / COARSE_MM))
    origin = low + COARSE_MM / 2
    return Grid((x, y, z), (COARSE_MM,) * 3, tuple(origin.tolist()))


def _body(ct_hu: Volume) -> NDArray[np.bool_]:
    """Return the largest object that is not air; an opening separates it from couch and tubes."""
    solid = open_mask(ct_hu > BODY_HU, (1, 1, 1))
    largest = cc3d.largest_k(solid, k=1, connectivity=6)
    return np.asarray(largest, dtype=bool)


def _crop_to_body(ct_hu: Volume, body: NDArray[np.bool_]) -> Volume:
    """Return a CT cropped to the body's bounding box in x and y, or all of it without a body."""
    box = bounding_slices(body)
    return ct_hu if box is None else ct_hu[:, box[1], box[2]]


def _skull_base_mm(ct_hu: Volume, coarse: Grid) -> float | None:
    """Return the world z of the intracranial cavity's lower end, or None if no cavity is in view.

    The cavity is the space that bone encloses in axial slices and that has the HU of brain. Other
    places may look the same (the ring of first ribs and sternum, artefacts of metal in teeth), but
    they are below the brain. The cavity therefore consists of the uppermost such space, and of the
    further ones below it that no large gap separates from it.
    """
    bone = close_mask(ct_hu > BONE_HU, (0, 2, 2))
    mean_hu = sitk.GetArrayFromImage(sitk.Mean(sitk.GetImageFromArray(ct_hu), [1, 1, 1]))
    brain = _enclosed(bone) & (mean_hu > BRAIN_HU[0]) & (mean_hu < BRAIN_HU[1])
    components = cc3d.connected_components(open_mask(brain, (1, 2, 2)), connectivity=6)
    statistics = cc3d.statistics(components)
    min_voxels = MIN_CAVITY_ML * 1000 / COARSE_MM**3
    spans = [
        (box[0].start, box[0].stop)
        for box, voxels in zip(
            statistics["bounding_boxes"][1:], statistics["voxel_counts"][1:], strict=True
        )
        if voxels >= min_voxels
    ]
    if not spans:
        return None
    spans.sort(key=lambda span: span[1], reverse=True)
    lowest = spans[0][0]
    for start, stop in spans[1:]:
        if (lowest - stop) * COARSE_MM <= CAVITY_GAP_MM:
            lowest = min(lowest, start)
    return float(coarse.origin_mm[2] + (lowest - 0.5) * COARSE_MM)


def _enclosed(walls: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the space that walls enclose in each axial slice, including the walls."""
    open_space = np.pad(~walls, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    enclosed = np.empty(walls.shape, dtype=bool)
    for z, plane in enumerate(open_space):
        parts = cc3d.connected_components(plane, connectivity=4)
        enclosed[z] = (parts != parts[0, 0])[1:-1, 1:-1]
    return enclosed


def _centre_mm(
    body: NDArray[np.bool_], coarse: Grid, low_mm: float, high_mm: float
) -> NDArray[np.float64]:
    """Return the world (x, y) of the body's centroid between two heights.

    Without a body between them, it is the centre of the common field of view.
    """
    z_mm = coarse.origin_mm[2] + np.arange(body.shape[0]) * COARSE_MM
    part = body[(z_mm >= low_mm) & (z_mm <= high_mm)]
    indices = np.argwhere(part)[:, ::-1] if part.any() else None
    middle = np.asarray(coarse.size_xyz) / 2 - 0.5 if indices is None else indices.mean(axis=0)
    centre: NDArray[np.float64] = np.asarray(coarse.origin_mm)[:2] + middle[:2] * COARSE_MM
    return centre
