"""Reads a CT with its labels and turns it into a `Scan` on which patients are built.

A CT on which no patient can be built is rejected with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from shared.errors import InputError
from shared.geometry import Grid, bounding_slices
from training.phantom.real.labels import CT_SUFFIX, LABELS_SUFFIX, Structure, UnusableError
from training.phantom.real.landmarks import BODY_HU, LandmarkedCt
from training.phantom.real.masks import GRID_MM, Mask, largest_component, remove_thin_parts
from training.phantom.real.neck import Neck, Seats, TissueMap
from training.phantom.real.tissues import map_tissues
from training.phantom.slab import BARS_NODE, BARS_PRIMARY

# OpenKBP blanks everything that no beam reaches, except cord and brainstem. Where the blank part
# begins, the area of the axial section drops abruptly.
WHOLE_MM2, MAX_SHRINKAGE, VERTEX_MM2 = 6000, 0.7, 800
LOWEST_MM, HIGHEST_MM = -140.0, 20.0
"""Heights that the CT must reach, below the larynx and above the nasopharynx."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A CT on a grid of `GRID_MM` in canonical coordinates; arrays are (z, y, x)."""

    name: str
    ct_hu: npt.NDArray[np.int16]
    tissue: TissueMap
    barriers: TissueMap  # see `slab.Slab`
    first_mm: npt.NDArray[np.float64]  # canonical x, y, z of voxel 0
    seats: Seats

    @property
    def last_mm(self) -> npt.NDArray[np.float64]:
        """Canonical x, y, z of the last voxel."""
        return self.first_mm + GRID_MM * (np.array(self.tissue.shape[::-1]) - 1)


def read_scan(folder: Path, name: str) -> Scan:
    """Read one CT with its labels.

    Raises
    ------
    InputError
        If the labels are not on the grid of the CT, or the axes are oblique.
    UnusableError
        If cord or PTV70 is missing, the CT shows too little of the neck, or there is no place for a
        primary or for a node.
    """
    ct, labels = (
        sitk.DICOMOrient(sitk.ReadImage(str(folder / f"{name}{suffix}")), "LPS")
        for suffix in (CT_SUFFIX, LABELS_SUFFIX)
    )
    if not ct.IsSameImageGeometryAs(labels):
        raise InputError(
            f"expected {name}{LABELS_SUFFIX} on the grid of {name}{CT_SUFFIX} in {folder}, found "
            f"{_describe_grid(labels)} and {_describe_grid(ct)}: resample the labels to the CT"
        )
    if not np.allclose(ct.GetDirection(), np.eye(3).ravel(), atol=1e-4):
        raise InputError(
            f"expected axes along the world's in {name}{CT_SUFFIX} in {folder}, found an oblique "
            "direction: resample it with its labels"
        )
    label = sitk.GetArrayViewFromImage(labels)
    for structure in (Structure.CORD, Structure.PTV70):
        if not (label == structure).any():
            raise UnusableError(f"{name}: no {structure.name} ({structure.value}) in its labels")
    grid, origin_mm = _choose_grid(name, ct, label)
    landmarked = LandmarkedCt(name, ct=ct, labels=labels, grid=grid, origin_mm=origin_mm)
    neck = Neck(landmarked)
    tissue = map_tissues(landmarked, neck)
    barriers = np.full(tissue.shape, BARS_PRIMARY | BARS_NODE, np.uint8)
    seats = neck.find_seats(tissue[neck.box], barriers[neck.box])
    return Scan(
        name=name,
        ct_hu=landmarked.hu.astype(np.int16),
        tissue=tissue,
        barriers=barriers,
        first_mm=landmarked.first_mm,
        seats=seats,
    )


def _describe_grid(image: sitk.Image) -> str:
    spacing = " × ".join(f"{s:g}" for s in image.GetSpacing())
    origin = ", ".join(f"{o:g}" for o in image.GetOrigin())
    return f"{' × '.join(map(str, image.GetSize()))} voxels of {spacing} mm from ({origin})"


def _choose_grid(
    name: str, ct: sitk.Image, label: TissueMap
) -> tuple[Grid, npt.NDArray[np.float64]]:
    """Return the fine grid around the patient, and the world point of the canonical origin."""
    spacing = np.array(ct.GetSpacing())
    # The opening removes the couch and the immobilisation mask.
    body = largest_component(remove_thin_parts(sitk.GetArrayViewFromImage(ct) > BODY_HU, (0, 1, 1)))
    low, high = _find_whole_sections(body, label, float(spacing[0] * spacing[1]))
    world = np.array(ct.GetOrigin())
    top = int(np.nonzero((label == Structure.CORD).any(axis=(1, 2)))[0][-1])
    y, x = (float(np.mean(i)) for i in np.nonzero(label[top] == Structure.CORD))
    origin_mm = world + spacing * [x, y, top]
    bottom_mm, top_mm = (float(world[2] + spacing[2] * z - origin_mm[2]) for z in (low, high))
    if bottom_mm > LOWEST_MM or top_mm < HIGHEST_MM:
        raise UnusableError(
            f"{name}: whole sections from {bottom_mm:.0f} to {top_mm:.0f} mm above the cord's top, "
            f"expected at least {LOWEST_MM:.0f} to {HIGHEST_MM:.0f}"
        )
    box = bounding_slices(body[low : high + 1])
    assert box is not None
    corner = np.array([box[2].start, box[1].start, 0]) * spacing + [0, 0, low * spacing[2]]
    extent = np.array([box[2].stop - box[2].start, box[1].stop - box[1].start, high - low + 1]) - 1
    size = np.floor(extent * spacing / GRID_MM).astype(int) + 1
    grid = Grid(tuple(size.tolist()), (GRID_MM,) * 3, tuple((world + corner).tolist()))
    return grid, origin_mm


def _find_whole_sections(body: Mask, label: TissueMap, voxel_mm2: float) -> tuple[int, int]:
    """Return the first and the last slice around PTV70 that show a complete section of the body."""
    area_mm2 = body.sum(axis=(1, 2)) * voxel_mm2
    middle = int(np.median(np.nonzero(label == Structure.PTV70)[0]))

    def last(step: int) -> int:
        z = middle
        while 0 <= z + step < len(area_mm2):
            here, there = area_mm2[z], area_mm2[z + step]
            if there < VERTEX_MM2 or (here > WHOLE_MM2 and there < MAX_SHRINKAGE * here):
                break
            z += step
        return z

    return last(-1), last(1)
