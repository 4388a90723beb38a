"""Read the platform's image files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import SimpleITK as sitk

from shared.errors import InputError

IMAGE_READERS: Final = {".mha": "MetaImageIO", ".tif": "TIFFImageIO", ".tiff": "TIFFImageIO"}
"""SimpleITK's reader for each suffix of the platform's image files, in lower case."""


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder, sorted by name; empty if the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_READERS)


def read_image(path: Path, slug: str, outside: float) -> tuple[sitk.Image, tuple[str, ...]]:
    """Read one 3-D scalar image.

    Parameters
    ----------
    slug : slug of the input socket, for messages.
    outside : value that replaces NaN and infinity.

    Returns
    -------
    The image, and a remark if values were replaced.

    Raises
    ------
    InputError
        If the file cannot be read, is not 3-D, has several values per voxel, or has no finite
        value.
    """
    try:
        with library_errors_in_log():
            image = sitk.ReadImage(str(path), imageIO=IMAGE_READERS[path.suffix.lower()])
    except RuntimeError:
        raise InputError(
            f"expected a readable image for {slug}, but {path} is truncated or not an image; "
            "write it again, for example with SimpleITK"
        ) from None
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or components != 1:
        raise InputError(
            f"expected a 3-D image with one value per voxel for {slug}, found {path} with "
            f"{image.GetDimension()} dimensions and {components} value(s) per voxel; "
            "provide one scalar volume"
        )
    values = sitk.GetArrayViewFromImage(image)
    if not np.issubdtype(values.dtype, np.floating):
        return image, ()
    is_finite = np.isfinite(values)
    count = values.size - int(np.count_nonzero(is_finite))
    if count == 0:
        return image, ()
    if count == values.size:
        raise InputError(
            f"expected numbers in {path} for {slug}, found NaN or infinity in every voxel; "
            "convert the image again"
        )
    repaired = sitk.GetImageFromArray(np.where(is_finite, values, values.dtype.type(outside)))
    repaired.CopyInformation(image)
    return repaired, (f"{slug}: {count} voxels are not finite and are replaced by {outside:g}",)


@contextmanager
def library_errors_in_log() -> Iterator[None]:
    """Redirect stderr to stdout, also for C libraries, because users see stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    original = os.dup(2)
    os.dup2(1, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
