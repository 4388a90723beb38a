"""Label maps from files: their grid, without the voxels, and their voxels, checked."""

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
"""Millimetres, or cosine: a NIfTI truth holds its geometry in 32 bits."""
_READERS: Final = {**IMAGE_READERS, ".gz": "NiftiImageIO"}
_METAIMAGE_HEADER: Final = 1 << 16
"""Bytes of a MetaImage in which its text header ends."""


def read_grid(path: Path) -> Grid:
    """Return the grid of a 3-D image with one value a voxel, from its header.

    Raises
    ------
    InputError
        If it is none.
    """
    with _readable(path) as reader:
        reader.ReadImageInformation()
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"expected a 3-D image with one value a voxel, found {path.name} with "
            f"{reader.GetDimension()} dimensions and {reader.GetNumberOfComponents()} value(s)"
        )
    return Grid(reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())


def read_labels(path: Path) -> LabelVolume:
    """Return the voxels of a label map, indexed [z, y, x].

    Raises
    ------
    InputError
        If they cannot be read, are not whole numbers by type, or one of them is no label.
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


def grid_difference(found: Grid, expected: Grid) -> str | None:
    """Return how a grid differs from the expected one, or None where it is the same."""
    if found.size_xyz != expected.size_xyz:
        return f"size {found.size_xyz} instead of {expected.size_xyz}"
    for name in ("spacing_mm", "origin_mm", "direction"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        if not np.allclose(ours, theirs, rtol=0, atol=GRID_TOLERANCE):
            return f"{name} {_rounded(ours)} instead of {_rounded(theirs)}"
    return None


@contextmanager
def _readable(path: Path) -> Iterator[sitk.ImageFileReader]:
    """Give a reader for a file; what the reader cannot read becomes an InputError."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[path.suffix.lower()])
    try:
        _refuse_reference(path)
        with library_errors_in_log():
            yield reader
    except (RuntimeError, OSError):
        raise InputError(
            f"expected a readable image, found {path.name} that is truncated or no image"
        ) from None


def _refuse_reference(path: Path) -> None:
    """Refuse a MetaImage whose voxels are in another file: it could name one of the truth."""
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
