"""Read label maps: the grid from the header alone, and the voxels with their checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from shared.conventions import Label, LabelVolume
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.images import IMAGE_READERS, library_errors_in_log

GRID_TOLERANCE: Final = 1e-3
"""In millimetres, or of a cosine: a NIfTI truth stores its geometry in 32 bits."""
_READERS: Final = {**IMAGE_READERS, ".gz": "NiftiImageIO"}
_METAIMAGE_HEADER: Final = 1 << 16
"""The text header of a MetaImage ends within this number of bytes."""


def read_grid(path: Path) -> Grid:
    """Return the grid of a 3-D image with one value per voxel, from its header.

    Raises
    ------
    InputError
        If the file is not such an image.
    """
    with _readable(path) as reader:
        reader.ReadImageInformation()
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"expected a 3-D image with one value per voxel, found {path.name} with "
            f"{reader.GetDimension()} dimensions and {reader.GetNumberOfComponents()} value(s)"
        )
    return Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def read_labels(path: Path) -> LabelVolume:
    """Return the voxels of a label map, indexed [z, y, x].

    Raises
    ------
    InputError
        If the file cannot be read, its type is not an integer, or a value is not a label.
    """
    with _readable(path) as reader:
        image = reader.Execute()
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
    """Return how a grid differs from the expected one, or None if they are the same."""
    if grid.size_xyz != expected.size_xyz:
        return f"size {grid.size_xyz} instead of {expected.size_xyz}"
    for name in ("spacing_mm", "origin_mm", "direction"):
        ours, theirs = getattr(grid, name), getattr(expected, name)
        if not np.allclose(ours, theirs, rtol=0, atol=GRID_TOLERANCE):
            return f"{name} {_rounded(ours)} instead of {_rounded(theirs)}"
    return None


@contextmanager
def _readable(path: Path) -> Iterator[sitk.ImageFileReader]:
    """Provide a reader for a file; a file that it cannot read becomes an InputError."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[path.suffix.lower()])
    try:
        _reject_reference(path)
        with library_errors_in_log():
            yield reader
    except (RuntimeError, OSError):
        raise InputError(
            f"expected a readable image, but {path.name} is truncated or not an image"
        ) from None


def _reject_reference(path: Path) -> None:
    """Reject a MetaImage with its voxels in another file: that could be a file of the truth."""
    if path.suffix.lower() != ".mha":
        return
    with path.open("rb") as file:
        header = file.read(_METAIMAGE_HEADER)
    for line in header.split(b"\n"):
        key, _, value = line.partition(b"=")
        if key.strip().lower() == b"elementdatafile":
            if value.strip().upper() == b"LOCAL":
                return
            break
    raise InputError(f"expected the voxels of {path.name} in the file itself, found a reference")


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
