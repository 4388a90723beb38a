"""From shapes to tissue maps: an image grid is painted slab by slab, so memory stays small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from training.phantom.anatomy import Organ, Tissue
from training.phantom.shapes import Array, Point, Pose, Shape

if TYPE_CHECKING:
    from training.phantom.tumour import Lesion

BARS_PRIMARY, BARS_NODE = np.uint8(1), np.uint8(2)  # bits of `Slab.barred`
SLAB_VOXELS = 3_000_000  # about 12 MB for each float32 array at work


@dataclass(frozen=True)
class Raster:
    """An image grid along the world's axes; all tuples are (x, y, z), in mm (LPS) or voxels."""

    origin_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]
    size_xyz: tuple[int, int, int]

    def axes(self, start: int = 0, stop: int | None = None) -> tuple[Array, Array, Array]:
        """Return the world coordinates of the voxel centres of slices [start, stop)."""
        x, y, z = (
            (o + s * np.arange(n))
            for o, s, n in zip(self.origin_mm, self.spacing_mm, self.size_xyz, strict=True)
        )
        return x, y, z[start:stop]


@dataclass(frozen=True)
class Slab:
    """Some slices of a painted image and the canonical coordinates of their voxels."""

    start: int
    tissue: npt.NDArray[np.uint8]  # (z, y, x)
    barred: npt.NDArray[np.uint8]  # (z, y, x), to whom beyond what the tissue says
    x: Array
    y: Array
    z: Array
    raster: Raster
    pose: Pose

    def box(self, shape: Shape) -> tuple[slice, slice, slice] | None:
        """Return the slices (z, y, x) of the slab that can hold the shape, or None."""
        lower, upper = shape.bounds()
        heights = self.z[:, 0, 0]
        inside = np.flatnonzero((heights >= lower[2]) & (heights <= upper[2]))
        if not len(inside):
            return None
        z_box = slice(int(inside[0]), int(inside[-1]) + 1)
        x0, x1, y0, y1 = self.pose.world_box((lower, upper), heights[z_box])
        plane = []
        for axis, (low, high) in enumerate(((x0, x1), (y0, y1))):
            origin, spacing = self.raster.origin_mm[axis], self.raster.spacing_mm[axis]
            start = max(int(np.ceil((low - origin) / spacing)), 0)
            stop = min(int(np.floor((high - origin) / spacing)) + 1, self.raster.size_xyz[axis])
            if start >= stop:
                return None
            plane.append(slice(start, stop))
        return z_box, plane[1], plane[0]

    def coordinates(self, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """Return canonical x, y, z of a box, broadcastable to its shape."""
        return self.x[box], self.y[box], self.z[box[0]]


class Anatomy(Protocol):
    """A patient without tumours: what painting, the scanners and the tumours ask of one."""

    @property
    def organs(self) -> tuple[Organ, ...]:
        """What is painted onto the ground, in this order."""
        ...

    @property
    def pose(self) -> Pose:
        """From canonical coordinates to the world."""
        ...

    @property
    def ct_hu(self) -> Array:
        """HU by tissue."""
        ...

    @property
    def pet_suv(self) -> Array:
        """SUV by tissue."""
        ...

    @property
    def metal_mm(self) -> tuple[Point, ...]:
        """Canonical centres of what throws streaks."""
        ...

    @property
    def grain(self) -> float:
        """Share of the scanner's CT noise to add: below 1 where `hu` is noisy already."""
        ...

    @property
    def z_range_mm(self) -> tuple[float, float]:
        """Lowest and highest canonical z that exists."""
        ...

    def ground(self, slab: Slab) -> None:
        """Write what lies under the organs into `slab.tissue` and `slab.barred`."""
        ...

    def hu(self, slab: Slab) -> Array:
        """Return the CT of a painted slab before blur and noise, in HU, shape (z, y, x)."""
        ...

    def offers(self, place: str, side: float) -> bool:
        """Return whether a lesion may sit at a site or level on a side (1 left, -1 right)."""
        ...

    def seat(self, rng: np.random.Generator, place: str, side: float, volume_ml: float) -> Point:
        """Draw the canonical centre of a lesion at a place that is on offer."""
        ...


def paint(body: Anatomy, lesions: Sequence[Lesion], raster: Raster, pose: Pose) -> Iterator[Slab]:
    """Yield the painted slabs of an image from its first slice to its last.

    Parameters
    ----------
    body, lesions
        What to paint; lesions come last and only into tissue they may fill.
    raster
        The image grid.
    pose
        Where the patient lies during this scan.
    """
    nx, ny, nz = raster.size_xyz
    step = max(SLAB_VOXELS // (nx * ny), 1)
    for start in range(0, nz, step):
        coordinates = pose.to_canonical(*raster.axes(start, start + step))
        tissue = np.zeros(coordinates[0].shape, dtype=np.uint8)
        barred = np.zeros_like(tissue)
        slab = Slab(start, tissue, barred, *coordinates, raster=raster, pose=pose)
        body.ground(slab)
        for organ in body.organs:
            box = slab.box(organ.shape)
            if box is None:
                continue
            target = tissue[box]
            mask = organ.shape.field(*slab.coordinates(box)) < 1
            if organ.inside:
                allowed = np.zeros(len(Tissue), dtype=bool)
                allowed[list(organ.inside)] = True
                mask &= allowed[target]
            target[mask] = organ.tissue
        for lesion in lesions:
            box = slab.box(lesion)
            if box is None:
                continue
            target = tissue[box]
            field = lesion.field(*slab.coordinates(box))
            mask = (field < 1) & lesion.may_fill(target, field, barred[box])
            target[mask] = lesion.tissue
            target[mask & (field < lesion.necrosis)] = lesion.core_tissue
        yield slab
