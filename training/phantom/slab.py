"""Image grids and their slabs, which hold a few slices at a time, so that memory stays small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.phantom.pose import Pose
from training.phantom.shapes import Array, Shape

BARS_PRIMARY, BARS_NODE = np.uint8(1), np.uint8(2)
"""Bits of `Slab.barriers`."""


@dataclass(frozen=True)
class Raster:
    """An image grid along the world's axes; tuples are (x, y, z), in mm (LPS) or voxels."""

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


@dataclass(frozen=True, kw_only=True)
class Slab:
    """Some consecutive slices of an image and the canonical coordinates of their voxels."""

    start: int  # index of the first slice
    tissue: npt.NDArray[np.uint8]  # (z, y, x)
    barriers: npt.NDArray[np.uint8]  # (z, y, x); the bits say which lesions may not grow here
    x: Array
    y: Array
    z: Array
    raster: Raster
    pose: Pose

    def box(self, shape: Shape) -> tuple[slice, slice, slice] | None:
        """Return the part (z, y, x) of the slab that the shape may cover; None if there is none."""
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
        """Return canonical x, y, z in a box, broadcastable to its shape."""
        return self.x[box], self.y[box], self.z[box[0]]
