"""The limits on the header of an image, which are checked before the voxels are read.

The limits are wide. They accept every real scan, and refuse only headers that are damaged or meant
to exhaust the memory.
"""

from __future__ import annotations

import math
from typing import Final

from shared.directions import LARGEST_DEVIATION, deviation
from shared.geometry import Grid
from shared.regular_files import FileError

MOST_VOXELS: Final = 2**29
"""Largest number of voxels: a CT of 512x512x2048 voxels."""
SPACING_MM: Final = (0.01, 100.0)
LARGEST_EXTENT_MM: Final = 5000.0
"""Largest extent along an axis, more than twice the length of a patient table."""
FARTHEST_ORIGIN_MM: Final = 1e6
"""Largest coordinate of the origin; up to this value, 64 bits hold a position to 1e-9 mm."""


def require_size(size_xyz: tuple[int, ...]) -> None:
    """Raise FileError if an image of this size has no voxel or too many."""
    if min(size_xyz) < 1 or math.prod(size_xyz) > MOST_VOXELS:
        size = " x ".join(map(str, size_xyz))
        raise FileError(f"has a size of {size} voxels (allowed: 1 to {MOST_VOXELS} in total)")


def require_plausible(grid: Grid) -> None:
    """Raise FileError if the geometry of an image cannot be that of a scan."""
    require_size(grid.size_xyz)
    low, high = SPACING_MM
    if not all(low <= spacing <= high for spacing in grid.spacing_mm):
        raise FileError(
            f"has a spacing of {_text(grid.spacing_mm)} mm (allowed: {low:g} to {high:g} mm)"
        )
    sides = zip(grid.size_xyz, grid.spacing_mm, strict=True)
    if any(size * spacing > LARGEST_EXTENT_MM for size, spacing in sides):
        raise FileError(
            f"has {' x '.join(map(str, grid.size_xyz))} voxels of {_text(grid.spacing_mm)} mm "
            f"(allowed: an extent of {LARGEST_EXTENT_MM:g} mm)"
        )
    if not all(abs(position) <= FARTHEST_ORIGIN_MM for position in grid.origin_mm):
        raise FileError(
            f"has its origin at {_text(grid.origin_mm)} mm "
            f"(allowed: up to {FARTHEST_ORIGIN_MM:g} mm away)"
        )
    if not all(map(math.isfinite, grid.direction)):
        raise FileError(f"has the direction matrix {_text(grid.direction)}")
    if deviation(grid.direction) > LARGEST_DEVIATION:
        raise FileError(
            f"has the direction matrix {_text(grid.direction)}, which is sheared or scaled "
            f"(allowed: a deviation of {LARGEST_DEVIATION:g} from orthonormal)"
        )


def _text(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
