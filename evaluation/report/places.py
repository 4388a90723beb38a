"""Where a lesion is, for a picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.geometry import Grid

PLANE_MM: Final = 2.0
"""Thickness of the axial planes that divide a lesion; the plane with the most voxels is shown."""


@dataclass(frozen=True, kw_only=True)
class LesionPlace:
    """Where a lesion is, and its size.

    Attributes
    ----------
    volume_ml : volume of the lesion.
    centre_mm : a world point (LPS) in the axial plane that shows most of the lesion.
    radius_mm : radius of a sphere of the same volume.
    """

    volume_ml: float
    centre_mm: tuple[float, float, float]
    radius_mm: float


def voxels_of_each(components: NDArray[np.integer[Any]]) -> list[NDArray[np.int64]]:
    """Return the voxels of each connected component in one pass over the volume.

    Parameters
    ----------
    components : numbered from 1 without gaps, as cc3d returns them, indexed [z, y, x]; 0 is
        background.

    Returns
    -------
    For each component in the order of the numbers, the indices of its voxels, shape (n, 3); empty
    without components.
    """
    voxels = np.argwhere(components)
    if not len(voxels):
        return []
    numbers = components[tuple(voxels.T)]
    order = np.argsort(numbers, kind="stable")
    return np.split(voxels[order], np.flatnonzero(np.diff(numbers[order])) + 1)


def place_of(voxels_zyx: NDArray[np.int64], grid: Grid) -> LesionPlace:
    """Return the place of a lesion.

    Parameters
    ----------
    voxels_zyx : indices of its voxels on the grid, shape (n, 3); at least one.
    """
    world = grid.world_mm(voxels_zyx[:, ::-1].astype(np.float64))
    planes = np.round(world[:, 2] / PLANE_MM).astype(int)
    values, counts = np.unique(planes, return_counts=True)
    inside = world[planes == values[np.argmax(counts)]]
    x, y, z = inside.mean(axis=0).tolist()
    volume_mm3 = len(voxels_zyx) * grid.voxel_volume_mm3
    return LesionPlace(
        volume_ml=volume_mm3 / 1000,
        centre_mm=(x, y, z),
        radius_mm=float((3 * volume_mm3 / (4 * np.pi)) ** (1 / 3)),
    )
