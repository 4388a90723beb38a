"""Checks whether the axes of an image are orthonormal, and finds the nearest orthonormal axes.

A direction matrix with rounded numbers, such as 0.707, is not exactly orthonormal. The nearest
orthonormal matrix is the orthogonal factor of the polar decomposition (Higham 1986, "Computing the
polar decomposition"). Reflections are valid directions: a left-handed image stays left-handed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import SimpleITK as sitk

from shared.geometry import Grid

EXACT: Final = 1e-6
"""Largest deviation that counts as rounding: NIfTI stores directions in 32 bits."""

LARGEST_DEVIATION: Final = 1e-3
"""Images that deviate more are refused when they are read. Rounding to three decimals changes an
entry by at most 5e-4. A deviation of 1e-3 moves a voxel by 0.5 mm at a distance of 0.5 m."""


def nearest_orthonormal(direction: tuple[float, ...]) -> tuple[float, ...]:
    """Return the orthonormal 3x3 matrix that is nearest to a finite one; both are row-major."""
    left, _, right = np.linalg.svd(np.asarray(direction, dtype=np.float64).reshape(3, 3))
    return tuple((left @ right).ravel().tolist())


def deviation(direction: tuple[float, ...]) -> float:
    """Return the largest difference, over all entries, from the nearest orthonormal 3x3 matrix."""
    return float(np.abs(np.subtract(direction, nearest_orthonormal(direction))).max())


def straighten_grid(grid: Grid) -> Grid:
    """Return a grid with the nearest orthonormal axes; the same grid if its own are orthonormal."""
    if deviation(grid.direction) <= EXACT:
        return grid
    return replace(grid, direction=nearest_orthonormal(grid.direction))


def straighten(image: sitk.Image, name: str) -> tuple[sitk.Image, tuple[str, ...]]:
    """Return an image with the nearest orthonormal axes, and a remark if that changed them.

    Parameters
    ----------
    image : is not modified; its voxels are copied only if the axes change.
    name : name of the image, for the remark.
    """
    grid = Grid.of(image)
    straight = straighten_grid(grid)
    if straight is grid:
        return image, ()
    copy = sitk.Image(image)
    copy.SetDirection(straight.direction)
    return copy, (
        f"{name}: the directions of the axes deviate by {deviation(grid.direction):.1g} from "
        "orthonormal ones; the nearest orthonormal ones are used",
    )
