"""Reads image grids, compares them, and reads and checks label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import Label, LabelVolume
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.images import open_image

GRID_TOLERANCE: Final = 1e-3
"""Largest difference, in mm or of a direction cosine, between grids that count as equal. They may
differ by rounding, because NIfTI stores them with 32 bits."""


def read_grid(path: Path) -> Grid:
    """Return the grid of a 3-D image with one value per voxel.

    Raises
    ------
    InputError
        If the file cannot be read, or is not a 3-D image with one value per voxel.
    """
    return open_image(path).grid


def read_labels(path: Path) -> LabelVolume:
    """Return the voxels of a label map, indexed [z, y, x].

    Raises
    ------
    InputError
        If the file cannot be read, its voxels are not integers, or a voxel is not a label.
    """
    image = open_image(path).read()
    values: NDArray[np.generic] = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"expected voxels of an integer type in {path.name}, found {values.dtype}")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < min(Label) or highest > max(Label):
        raise InputError(
            f"expected only the labels {', '.join(str(int(label)) for label in Label)} in "
            f"{path.name}, found values from {lowest} to {highest}"
        )
    return np.array(values, dtype=np.uint8)


def grid_difference(grid: Grid, expected: Grid) -> str | None:
    """Return the first difference from the expected grid in words, or None if they agree."""
    if grid.size_xyz != expected.size_xyz:
        return f"size (x, y, z) {grid.size_xyz} instead of {expected.size_xyz}"
    for name in ("spacing_mm", "origin_mm", "direction"):
        found, wanted = getattr(grid, name), getattr(expected, name)
        if not np.allclose(found, wanted, rtol=0, atol=GRID_TOLERANCE):
            return f"{name} {_rounded(found)} instead of {_rounded(wanted)}"
    return None


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
