"""Reads label maps: their grid, and their voxels with checks."""

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
"""Tolerance in mm, or of a cosine; it is needed because NIfTI stores geometry in 32 bits."""


def read_grid(path: Path) -> Grid:
    """Return the grid of a 3-D image with one value per voxel.

    Raises
    ------
    InputError
        If the file is not such an image.
    """
    return open_image(path).grid


def read_labels(path: Path) -> LabelVolume:
    """Return the voxels of a label map, indexed [z, y, x].

    Raises
    ------
    InputError
        If the file cannot be read, its type is not an integer, or a value is not a label.
    """
    image = open_image(path).read()
    values: NDArray[np.generic] = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"expected a label map of whole numbers, found {values.dtype}")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < min(Label) or highest > max(Label):
        raise InputError(
            f"expected the labels {', '.join(str(int(label)) for label in Label)}, found values "
            f"from {lowest} to {highest}"
        )
    return np.array(values, dtype=np.uint8)


def grid_difference(grid: Grid, expected: Grid) -> str | None:
    """Return how a grid differs from the expected grid, or None if they agree."""
    if grid.size_xyz != expected.size_xyz:
        return f"size {grid.size_xyz} instead of {expected.size_xyz}"
    for name in ("spacing_mm", "origin_mm", "direction"):
        ours, theirs = getattr(grid, name), getattr(expected, name)
        if not np.allclose(ours, theirs, rtol=0, atol=GRID_TOLERANCE):
            return f"{name} {_rounded(ours)} instead of {_rounded(theirs)}"
    return None


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
