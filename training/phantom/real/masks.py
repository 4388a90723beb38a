"""Operations on masks of shape (z, y, x) with voxels of `GRID_MM`."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from shared.geometry import bounding_slices
from training.phantom.shapes import Array

Mask = npt.NDArray[np.bool_]
GRID_MM = 2.5
"""Voxel size of the grid on which real CTs are analysed."""


def dilate(mask: Mask, radius_zyx: Sequence[int]) -> Mask:
    """Dilate by a box of radii in voxels; the cost does not depend on the radii."""
    size = [2 * radius + 1 for radius in radius_zyx]
    return ndimage.maximum_filter(mask.view(np.uint8), size).view(bool)


def erode(mask: Mask, radius_zyx: Sequence[int]) -> Mask:
    """Erode by a box of radii in voxels; the cost does not depend on the radii."""
    size = [2 * radius + 1 for radius in radius_zyx]
    return ndimage.minimum_filter(mask.view(np.uint8), size).view(bool)


def remove_thin_parts(mask: Mask, radius_zyx: Sequence[int]) -> Mask:
    """Open the mask by a box of radii in voxels."""
    return dilate(erode(mask, radius_zyx), radius_zyx)


def largest_component(mask: Mask) -> Mask:
    """Return the largest part of the mask that is connected through faces."""
    return np.asarray(cc3d.largest_k(mask, k=1, connectivity=6) > 0)


def fill_slices(walls: Mask) -> Mask:
    """Return the walls and everything that they enclose in each axial slice."""
    space = np.pad(~walls, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    mask = np.empty(walls.shape, dtype=bool)
    for z, plane in enumerate(space):
        parts = cc3d.connected_components(plane, connectivity=4)
        mask[z] = (parts != parts[0, 0])[1:-1, 1:-1]
    return mask


def compute_depth_mm(mask: Mask) -> Array:
    """Return the distance to the outside of the mask; it is 0 outside.

    Everything past the edge of the image counts as outside.
    """
    depth = np.zeros(mask.shape, np.float32)
    box = bounding_slices(mask)
    if box is not None:
        depth[box] = (
            GRID_MM * ndimage.distance_transform_edt(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1]
        )
    return depth
